//! The state machine of one sink: `state × input × now → state, commands`.

mod exchanging;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::breaker::{Admission, CircuitBreaker};
use super::policy::{Attempt, judge};
use super::protocol::{AttemptId, Command, Input, Mode, Notice, Settings, Step};
use super::state::{Backlog, Clearing, Outbox, Phase, Supply};
use crate::model::{AttemptOutcome, Due, Moment, Order, Overdue, Settled, Timestamp, Verdict};

/// Batches read ahead for each that may be in flight: attempts must not wait while the outbox is written.
pub const AHEAD: usize = 8;
/// The most bytes of bodies that are ready, and of those that one exchange reads. One body more may be, however large.
pub const MAX_READY_BYTES: usize = 8 << 20;
/// How long a machine waits without looking for due events: other processes can change deliveries unnoticed.
pub const FALLBACK: Duration = Duration::from_secs(5);
/// How long what is in flight may take to end when the machine was asked to stop.
pub const DRAIN: Duration = Duration::from_millis(700);

/// How long events that were read ahead may be attempted without being read again: they may have been dropped by hand.
pub const FRESH: Duration = Duration::from_secs(1);

/// The least number of different runs that must fail in a row to open the circuit breaker.
const MIN_THRESHOLD: usize = 8;

/// One sink's state machine. See [the module](super) for its parts.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Settings,
    phase: Phase,
    breaker: CircuitBreaker,
    outbox: Outbox,
    supply: Supply,
    backlog: Backlog,
    /// What the outbox last said of retries by hand.
    retries: Option<u64>,
    /// When the outbox last answered, in uptime.
    answered: Duration,
    clearing: Option<Clearing>,
    /// Read, not attempted.
    ready: VecDeque<Due>,
    /// When the oldest of these were read, in uptime.
    ready_since: Duration,
    in_flight: BTreeMap<AttemptId, Arc<[Due]>>,
    /// The last attempt begun.
    last_attempt: AttemptId,
    /// The last attempt that was begun to find out whether the sink works again.
    probe: Option<AttemptId>,
    /// Judged, not part of an exchange yet.
    settled: Vec<Settled>,
}

impl Machine {
    /// A machine that has done nothing yet; [`Input::Wake`] begins.
    pub fn new(settings: Settings) -> Self {
        // In a stream one failure holds up everything, so there is no need to wait for others.
        let threshold = match settings.limits.order {
            Order::Stream => 1,
            Order::Run => settings.limits.concurrency.max(MIN_THRESHOLD),
        };
        Self {
            phase: Phase::Running,
            breaker: CircuitBreaker::new(threshold, settings.seed),
            outbox: Outbox::Idle,
            supply: Supply::MayHaveMore,
            backlog: Backlog::Copying,
            retries: None,
            answered: Duration::ZERO,
            clearing: None,
            ready: VecDeque::new(),
            ready_since: Duration::ZERO,
            in_flight: BTreeMap::new(),
            last_attempt: AttemptId::default(),
            probe: None,
            settled: Vec::new(),
            settings,
        }
    }

    /// How many events are in the machine's memory with their bodies: those ready and those in flight.
    pub fn held(&self) -> usize {
        let in_flight: usize = self.in_flight.values().map(|events| events.len()).sum();
        self.ready.len() + in_flight
    }

    /// Takes one input at `now` and says what to do next.
    ///
    /// # Panics
    /// When `input` answers a command that was not given, or a second time: a bug in the caller.
    pub fn step(&mut self, input: Input, now: Moment) -> Step {
        let mut commands = Vec::new();
        if self.phase != Phase::Finished {
            self.breaker.advance(now.uptime);
            self.supply.advance(now);
            self.take(input, now, &mut commands);
            self.begin_attempts(now.uptime, &mut commands);
            self.begin_exchange(now.uptime, &mut commands);
        }
        let next = self.next(now);
        Step { commands, next }
    }

    fn take(&mut self, input: Input, now: Moment, commands: &mut Vec<Command>) {
        match input {
            Input::Wake => {}
            Input::Notified => self.supply = Supply::MayHaveMore,
            Input::Completed { id, outcomes } => self.completed(id, outcomes, now, commands),
            Input::Exchanged(answer) => self.exchanged(answer, now.uptime, commands),
            Input::ExchangeFailed => self.exchange_failed(now.uptime),
            Input::Stop => {
                if self.phase == Phase::Running {
                    let until = now.uptime.saturating_add(DRAIN);
                    self.phase = Phase::Draining { until };
                }
            }
        }
    }

    /// Whether nothing more is begun, and all that was is to end.
    fn is_winding_down(&self, now: Duration) -> bool {
        match (self.phase, self.settings.mode) {
            (Phase::Draining { .. } | Phase::Finished, _) => true,
            (Phase::Running, Mode::UntilStopped) => false,
            (Phase::Running, Mode::UntilNothingIsDue { deadline, .. }) => {
                self.nothing_is_due() || !self.breaker.is_closed() || now >= deadline
            }
        }
    }

    fn nothing_is_due(&self) -> bool {
        self.ready.is_empty()
            && matches!(self.supply, Supply::NothingDue { .. })
            && self.backlog == Backlog::Done
            && self.clearing.is_none()
    }

    /// Whether the sink may be attempted, as far as it is not the outbox that forbids it.
    fn is_admitted(&self, now: Duration) -> bool {
        if self.is_winding_down(now) || self.clearing.is_some() {
            return false;
        }
        match self.breaker.admission() {
            Admission::Free => true,
            // What is settled is recorded before anything else is risked.
            Admission::Probe => self.settled.is_empty(),
            Admission::Wait(_) => false,
        }
    }

    /// Gets as much in flight as the sink takes.
    fn begin_attempts(&mut self, now: Duration, commands: &mut Vec<Command>) {
        while self.in_flight.len() < self.settings.limits.concurrency
            && !self.ready.is_empty()
            && self.outbox.is_available()
            && self.is_admitted(now)
        {
            if now.saturating_sub(self.ready_since) > FRESH {
                self.give_back();
                break;
            }
            let events = self.next_batch();
            if events.is_empty() {
                break;
            }
            self.last_attempt.0 += 1;
            let id = self.last_attempt;
            if self.breaker.admission() == Admission::Probe {
                self.breaker.probed(now);
                self.probe = Some(id);
            }
            self.in_flight.insert(id, Arc::clone(&events));
            commands.push(Command::Attempt { id, events });
        }
    }

    /// The oldest ready events that may be attempted now. Where runs are independent, a run with an event in flight has to
    /// wait: the outbox gives out one event of a run at a time, but when that one is dropped or another one retried by
    /// hand, it gives out the next although the first may still arrive.
    fn next_batch(&mut self) -> Arc<[Due]> {
        let batch = self.settings.limits.batch;
        if self.settings.limits.order == Order::Stream {
            let size = batch.min(self.ready.len());
            return self.ready.drain(..size).collect();
        }
        let busy = runs_of(&self.in_flight);
        let mut events: Vec<Due> = Vec::new();
        let mut place = 0;
        while events.len() < batch && place < self.ready.len() {
            let run_id = self.ready[place].run_id.as_str();
            let waits = busy.contains(run_id) || events.iter().any(|due| due.run_id == run_id);
            if waits {
                place += 1;
            } else {
                events.extend(self.ready.remove(place));
            }
        }
        events.into()
    }

    fn completed(
        &mut self,
        id: AttemptId,
        outcomes: Vec<AttemptOutcome>,
        now: Moment,
        commands: &mut Vec<Command>,
    ) {
        let Some(events) = self.in_flight.remove(&id) else {
            panic!("{id:?} is not in flight")
        };
        let missing = std::iter::repeat_with(|| AttemptOutcome::Failed {
            error: "the sink gave no outcome for this event".to_owned(),
            retry_after: None,
        });
        let outcomes = outcomes.into_iter().chain(missing);
        let ended: Vec<(&Due, AttemptOutcome)> = events.iter().zip(outcomes).collect();
        // Once recorded, it makes the next event of its run due.
        self.supply = Supply::MayHaveMore;
        let is_probe = self.probe == Some(id);
        self.judge_sink(&ended, is_probe, now, commands);
        for (due, outcome) in ended {
            self.settle(due, &outcome, now.wall, commands);
        }
    }

    /// What an attempt says of the sink as a whole.
    fn judge_sink(
        &mut self,
        ended: &[(&Due, AttemptOutcome)],
        is_probe: bool,
        now: Moment,
        commands: &mut Vec<Command>,
    ) {
        let was_closed = self.breaker.is_closed();
        let mut gone = None;
        let mut failures = Vec::new();
        for (due, outcome) in ended {
            match outcome {
                // A refusal is an answer too: the sink works.
                AttemptOutcome::Delivered | AttemptOutcome::Refused { .. } => {
                    self.breaker.succeeded()
                }
                AttemptOutcome::Gone { error } => {
                    self.breaker.succeeded();
                    gone = Some(error);
                }
                AttemptOutcome::Rejected { error } => failures.push((due, error, None)),
                AttemptOutcome::Failed { error, retry_after } => {
                    failures.push((due, error, *retry_after))
                }
            }
        }
        // Failures count last. A stream must not go on because a later event of the batch was accepted.
        for (due, _, retry_after) in &failures {
            self.breaker
                .failed(&due.run_id, is_probe, *retry_after, now.uptime);
        }
        if let Some(error) = gone {
            self.gone(error, commands);
        }
        match failures.last() {
            Some((_, error, _)) if !self.breaker.is_closed() => {
                if was_closed {
                    commands.push(Command::Report(self.opened(error, now.uptime)));
                }
                self.pause(error);
            }
            _ if !was_closed => commands.push(Command::Report(Notice::BreakerClosed)),
            _ => {}
        }
    }

    /// The sink never accepts anything any more.
    fn gone(&mut self, error: &str, commands: &mut Vec<Command>) {
        commands.push(Command::Report(Notice::SinkGone {
            error: error.to_owned(),
        }));
        self.clearing = Some(Clearing {
            which: Overdue::All,
            why: error.to_owned(),
            so_far: 0,
        });
        self.give_back();
    }

    fn opened(&self, error: &str, now: Duration) -> Notice {
        Notice::BreakerOpened {
            wait: self.paused_for(now),
            error: error.to_owned(),
        }
    }

    /// How long nothing is attempted, as the breaker is open.
    fn paused_for(&self, now: Duration) -> Duration {
        match self.breaker.admission() {
            Admission::Wait(until) => until.saturating_sub(now),
            Admission::Free | Admission::Probe => Duration::ZERO,
        }
    }

    /// The breaker is open: what the sink has been owed for too long is set aside, and the rest goes back.
    fn pause(&mut self, error: &str) {
        self.give_back();
        let which = Overdue::OwedFor(self.settings.give_up_after);
        self.clearing.get_or_insert_with(|| Clearing {
            which,
            why: error.to_owned(),
            so_far: 0,
        });
    }

    /// Decides what becomes of one event after an attempt.
    fn settle(
        &mut self,
        due: &Due,
        outcome: &AttemptOutcome,
        now: Timestamp,
        commands: &mut Vec<Command>,
    ) {
        let attempts = due.attempts.saturating_add(1);
        let attempt = Attempt {
            attempts,
            waited: due.waited,
            now,
            seed: self.settings.seed.of(&due.id),
        };
        let verdict = judge(outcome, attempt, self.settings.give_up_after);
        if let Some(error) = outcome.error() {
            let (event, error) = (due.id.clone(), error.to_owned());
            commands.extend(match verdict {
                Verdict::Delivered => None,
                Verdict::Retry { at } => Some(Command::Report(Notice::Retry {
                    event,
                    attempts,
                    at,
                    error,
                })),
                Verdict::SetAside => Some(Command::Report(Notice::SetAside {
                    event,
                    attempts,
                    error,
                })),
            });
        }
        self.settled.push(Settled {
            seq: due.seq,
            run_id: due.run_id.clone(),
            attempts: due.attempts,
            verdict,
            error: outcome.error().map(str::to_owned),
            waited: due.waited,
        });
    }
}

/// The runs that have an event in flight.
fn runs_of(in_flight: &BTreeMap<AttemptId, Arc<[Due]>>) -> BTreeSet<&str> {
    let events = in_flight.values().flat_map(|events| events.iter());
    events.map(|due| due.run_id.as_str()).collect()
}
