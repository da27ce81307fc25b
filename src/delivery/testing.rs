//! A world for one machine: an outbox in memory, a sink that answers as planned, and a clock that jumps ahead to
//! whatever comes next. Checks the machine's invariants at every step.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::machine::{AHEAD, Machine};
use super::protocol::{AttemptId, Command, Input, Mode, Next, Notice, Settings};
use crate::model::{
    AttemptOutcome, Due, EXCHANGE_CHUNK, Exchange, Exchanged, Fetched, Moment, Order, Overdue,
    Seed, Settled, SinkLimits, Timestamp, Verdict,
};

/// Runs independent of each other, one event at a time for each of four attempts.
pub const BY_RUN: SinkLimits = SinkLimits {
    order: Order::Run,
    batch: 1,
    concurrency: 4,
};

/// How long what is in flight may take when a pass ends.
pub const GRACE: Duration = Duration::from_secs(600);

/// A delivery as the outbox has it.
#[derive(Clone, Debug)]
pub struct Row {
    run_id: String,
    /// What the clock of failures was when it came.
    owed_at: Duration,
    due_at: Option<Timestamp>,
    attempts: u32,
    waited: Duration,
    /// When it was last attempted, and the wait that was scheduled then.
    last_attempt: Option<(Timestamp, Duration)>,
    pub dead: Option<String>,
}

/// What one sink is owed: the rules of the store's outbox, without a database.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    pub rows: BTreeMap<i64, Row>,
    /// Events of the backlog, as run ids.
    pub backlog: Vec<String>,
    last_seq: i64,
    /// The pending ones of each run.
    pending: HashMap<String, BTreeSet<i64>>,
    /// The clock of failures, what it was at the last delivery, and the last failure with the pause after it.
    failed: Duration,
    failed_at_delivery: Duration,
    last_failure: Option<(Timestamp, Duration)>,
    retries: u64,
    /// The size of every event's body.
    pub body: usize,
}

/// Of the time from `then` until `now`, what was scheduled.
fn gap(last: Option<(Timestamp, Duration)>, now: Timestamp) -> Duration {
    last.map_or(Duration::ZERO, |(then, scheduled)| {
        now.since(then).min(scheduled)
    })
}

impl Outbox {
    /// Adds an event of `run_id`: due at once, unless an earlier one of its run is pending.
    pub fn add(&mut self, run_id: &str, now: Timestamp) {
        self.last_seq += 1;
        let of_run = self.pending.entry(run_id.to_owned()).or_default();
        let waits = !of_run.is_empty();
        of_run.insert(self.last_seq);
        let row = Row {
            run_id: run_id.to_owned(),
            owed_at: self.failed,
            due_at: (!waits).then_some(now),
            attempts: 0,
            waited: Duration::ZERO,
            last_attempt: None,
            dead: None,
        };
        self.rows.insert(self.last_seq, row);
    }

    /// An operator drops a delivery.
    pub fn drop(&mut self, seq: i64, now: Timestamp) {
        if let Some(row) = self.rows.remove(&seq) {
            self.no_longer_pending(seq, &row.run_id);
            self.promote(&row.run_id, now);
        }
    }

    /// An operator retries a delivery.
    pub fn retry(&mut self, seq: i64, now: Timestamp) {
        let Some(row) = self.rows.get_mut(&seq) else {
            return;
        };
        (row.dead, row.attempts) = (None, 0);
        (row.waited, row.last_attempt) = (Duration::ZERO, None);
        let run_id = row.run_id.clone();
        self.retries += 1;
        self.failed_at_delivery = self.failed;
        self.last_failure = None;
        let of_run = self.pending.entry(run_id.clone()).or_default();
        of_run.insert(seq);
        for seq in of_run.iter() {
            self.rows.get_mut(seq).unwrap().due_at = None;
        }
        self.promote(&run_id, now);
    }

    pub fn pending(&self) -> usize {
        self.pending.values().map(BTreeSet::len).sum()
    }

    fn no_longer_pending(&mut self, seq: i64, run_id: &str) {
        self.pending
            .entry(run_id.to_owned())
            .or_default()
            .remove(&seq);
    }

    pub fn dead(&self) -> usize {
        self.rows.len() - self.pending()
    }

    /// Does what `exchange` asks for.
    pub fn exchange(&mut self, exchange: &Exchange, now: Timestamp) -> Exchanged {
        if exchange.backlog {
            let some = self.backlog.len().min(EXCHANGE_CHUNK);
            let runs: Vec<String> = self.backlog.drain(..some).collect();
            runs.iter().for_each(|run| self.add(run, now));
        }
        let live = self.backlog.is_empty();
        self.record(&exchange.settled, exchange.pause, now);
        let set_aside = match &exchange.set_aside {
            None => 0,
            Some((which, why)) => self.set_aside(*which, why, &exchange.fetch.except, now),
        };
        let fetched = self.fetch(exchange, now);
        Exchanged {
            live,
            retries: self.retries,
            set_aside,
            fetched,
            ..Exchanged::default()
        }
    }

    fn record(&mut self, settled: &[Settled], pause: Duration, now: Timestamp) {
        for Settled {
            seq,
            run_id,
            attempts,
            verdict,
            error,
            waited,
        } in settled
        {
            match (verdict, self.rows.get_mut(seq)) {
                (Verdict::Delivered, _) => {
                    self.rows.remove(seq);
                    self.no_longer_pending(*seq, run_id);
                }
                (_, None) => {}
                (_, Some(row)) if row.dead.is_some() || row.attempts != *attempts => {}
                (_, Some(row)) => {
                    row.attempts += 1;
                    row.waited = *waited;
                    match verdict {
                        Verdict::Retry { at } => {
                            row.due_at = row.due_at.map(|_| *at);
                            row.last_attempt = Some((now, at.since(now)));
                        }
                        _ => {
                            (row.due_at, row.dead) = (None, error.clone());
                            self.no_longer_pending(*seq, run_id);
                        }
                    }
                }
            }
            self.promote(run_id, now);
        }
        if settled.iter().any(|one| one.verdict == Verdict::Delivered) {
            self.failed_at_delivery = self.failed;
            self.last_failure = None;
        } else if !settled.is_empty() {
            self.failed += gap(self.last_failure, now);
            self.last_failure = Some((now, pause));
        }
    }

    fn promote(&mut self, run_id: &str, now: Timestamp) {
        let next = self.pending.get(run_id).and_then(BTreeSet::first);
        if let Some(row) = next.and_then(|seq| self.rows.get_mut(seq)) {
            row.due_at.get_or_insert(now);
        }
    }

    fn set_aside(
        &mut self,
        which: Overdue,
        why: &str,
        except: &HashSet<i64>,
        now: Timestamp,
    ) -> usize {
        let overdue = |row: &Row| match which {
            Overdue::All => true,
            Overdue::OwedFor(long) => {
                self.failed
                    .saturating_sub(row.owed_at.max(self.failed_at_delivery))
                    >= long
            }
        };
        let some: Vec<i64> = self
            .rows
            .iter()
            .filter(|(seq, row)| row.dead.is_none() && overdue(row) && !except.contains(seq))
            .map(|(seq, _)| *seq)
            .take(EXCHANGE_CHUNK)
            .collect();
        for seq in &some {
            let row = self.rows.get_mut(seq).unwrap();
            (row.due_at, row.dead) = (None, Some(why.to_owned()));
            let run_id = row.run_id.clone();
            self.no_longer_pending(*seq, &run_id);
            self.promote(&run_id, now);
        }
        some.len()
    }

    fn fetch(&self, exchange: &Exchange, now: Timestamp) -> Fetched {
        let limits = &exchange.fetch;
        let is_due = |row: &Row| match limits.order {
            Order::Stream => row.dead.is_none(),
            Order::Run => row.due_at.is_some_and(|due| due <= now),
        };
        let due = self
            .rows
            .iter()
            .filter(|(seq, row)| is_due(row) && !limits.except.contains(seq));
        let events: Vec<Due> = due
            .take(limits.events.min((limits.bytes / self.body.max(1)).max(1)))
            .map(|(seq, row)| Due {
                seq: *seq,
                id: format!("evt_{seq}"),
                run_id: row.run_id.clone(),
                payload: "x".repeat(self.body),
                observed_at: now,
                attempts: row.attempts,
                waited: row.waited + gap(row.last_attempt, now),
            })
            .collect();
        let later = self.rows.values().filter_map(|row| row.due_at);
        let next_due = later.filter(|due| *due > now).min();
        Fetched {
            next_due: next_due.filter(|_| limits.order == Order::Run),
            events,
        }
    }
}

/// What a sink answers, by event and number of the attempt.
pub type Plan = Box<dyn FnMut(&Due, u32) -> AttemptOutcome>;

/// A machine among what it deals with.
pub struct World {
    pub machine: Machine,
    pub settings: Settings,
    pub outbox: Outbox,
    pub now: Moment,
    pub plan: Plan,
    pub in_flight: BTreeMap<AttemptId, Arc<[Due]>>,
    pub exchange: Option<Exchange>,
    pub next: Next,
    pub notices: Vec<Notice>,
    /// Every event of every attempt, in order, with when it began.
    pub attempted: Vec<(i64, Duration)>,
    /// Every event that the sink took, in order.
    pub accepted: Vec<i64>,
    /// How many attempts were in flight when each began, itself included.
    pub at_once: Vec<usize>,
    pub exchanges: usize,
    tries: HashMap<i64, u32>,
}

pub fn failed() -> AttemptOutcome {
    AttemptOutcome::Failed {
        error: "not now".into(),
        retry_after: None,
    }
}

impl World {
    /// A sink that answers by `plan`, until it is stopped.
    pub fn new(
        limits: SinkLimits,
        plan: impl FnMut(&Due, u32) -> AttemptOutcome + 'static,
    ) -> Self {
        let settings = Settings {
            sink: "sink".into(),
            limits,
            give_up_after: Duration::from_secs(3_600),
            seed: Seed(1),
            mode: Mode::UntilStopped,
        };
        Self {
            machine: Machine::new(settings.clone()),
            settings,
            outbox: Outbox::default(),
            now: Moment {
                wall: Timestamp::from_millis(1_000_000_000),
                uptime: Duration::from_secs(100),
            },
            plan: Box::new(plan),
            in_flight: BTreeMap::new(),
            exchange: None,
            next: Next::Sleep {
                wait: Duration::ZERO,
            },
            notices: Vec::new(),
            attempted: Vec::new(),
            accepted: Vec::new(),
            at_once: Vec::new(),
            exchanges: 0,
            tries: HashMap::new(),
        }
    }

    /// Starts over with a new machine, as after a crash; `change` says what is different now.
    pub fn restart(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.machine = Machine::new(self.settings.clone());
        self.in_flight.clear();
        self.exchange = None;
        self.input(Input::Wake);
    }

    /// Has the machine finish when nothing is due, at the latest in `within`.
    pub fn drain(&mut self, within: Duration) {
        let deadline = self.now.uptime + within;
        self.restart(|settings| {
            settings.mode = Mode::UntilNothingIsDue {
                deadline,
                grace: GRACE,
            };
        });
    }

    /// Adds an event for each of the runs 0 to `runs`, `times` over, and notifies the machine.
    pub fn raise(&mut self, runs: usize, times: usize) {
        for _ in 0..times {
            for run in 0..runs {
                self.outbox.add(&format!("r{run}"), self.now.wall);
            }
        }
        self.input(Input::Notified);
    }

    /// Feeds the machine one input, and holds what it says to what it promises.
    pub fn input(&mut self, input: Input) {
        let step = self.machine.step(input, self.now);
        for command in step.commands {
            match command {
                Command::Report(notice) => self.notices.push(notice),
                Command::Exchange(exchange) => {
                    assert!(self.exchange.is_none(), "one exchange at a time");
                    self.exchanges += 1;
                    self.exchange = Some(exchange);
                }
                Command::Attempt { id, events } => self.attempt(id, events),
            }
        }
        let capacity = self.settings.limits.batch * self.settings.limits.concurrency;
        assert!(self.machine.held() <= capacity * (AHEAD + 1));
        if let Next::Sleep { wait } = step.next {
            assert!(wait >= Duration::from_millis(1), "{wait:?}");
        }
        self.next = step.next;
    }

    fn attempt(&mut self, id: AttemptId, events: Arc<[Due]>) {
        let SinkLimits {
            batch, concurrency, ..
        } = self.settings.limits;
        assert!((1..=batch).contains(&events.len()));
        let others: BTreeSet<i64> = self
            .in_flight
            .values()
            .flat_map(|of| of.iter())
            .map(|due| due.seq)
            .collect();
        for due in events.iter() {
            assert!(!others.contains(&due.seq), "{} twice at once", due.seq);
            let of_run = self.in_flight.values().flat_map(|of| of.iter());
            let alone = of_run.filter(|other| other.run_id == due.run_id).count() == 0;
            assert!(
                alone || self.settings.limits.order == Order::Stream,
                "another event of {} is in flight",
                due.run_id
            );
            self.attempted.push((due.seq, self.now.uptime));
        }
        assert!(self.in_flight.insert(id, events).is_none());
        assert!(self.in_flight.len() <= concurrency);
        self.at_once.push(self.in_flight.len());
    }

    /// The oldest attempt ends as planned. In a stream nothing is taken after what failed.
    pub fn complete(&mut self) {
        let id = *self.in_flight.keys().next().expect("an attempt in flight");
        self.complete_one(id);
    }

    pub fn complete_one(&mut self, id: AttemptId) {
        let events = self.in_flight.remove(&id).unwrap();
        let mut outcomes: Vec<AttemptOutcome> = Vec::new();
        for due in events.iter() {
            let tries = self.tries.entry(due.seq).or_default();
            *tries += 1;
            let holds_up = |outcome: &&AttemptOutcome| {
                matches!(
                    outcome,
                    AttemptOutcome::Failed { .. } | AttemptOutcome::Rejected { .. }
                )
            };
            let before = outcomes.iter().find(holds_up);
            let outcome = match (self.settings.limits.order, before) {
                (Order::Stream, Some(failure)) => failure.clone(),
                _ => (self.plan)(due, *tries),
            };
            if outcome == AttemptOutcome::Delivered {
                self.accepted.push(due.seq);
            }
            outcomes.push(outcome);
        }
        self.input(Input::Completed { id, outcomes });
    }

    /// The outbox answers.
    pub fn answer(&mut self) {
        let exchange = self.exchange.take().expect("an exchange in flight");
        let answer = self.outbox.exchange(&exchange, self.now.wall);
        self.input(Input::Exchanged(answer));
    }

    pub fn fail_exchange(&mut self) {
        self.exchange.take().expect("an exchange in flight");
        self.input(Input::ExchangeFailed);
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        self.now.uptime += time;
        self.now.wall = self.now.wall.plus(time);
    }

    /// Lets the next thing happen: answers first, then attempts, then time. Returns whether the machine continues.
    pub fn go_on(&mut self) -> bool {
        match self.next {
            Next::Finish => return false,
            Next::Sleep { .. } if self.exchange.is_some() => self.answer(),
            Next::Sleep { .. } if !self.in_flight.is_empty() => self.complete(),
            Next::Sleep { wait } => {
                self.pass(wait);
                self.input(Input::Wake);
            }
        }
        true
    }

    /// Goes on until `done`, or until the machine finishes.
    pub fn until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..50_000 {
            if done(self) || !self.go_on() {
                return;
            }
        }
        panic!("it does not come to an end: {:?}", self.machine);
    }

    /// Goes on until nothing is pending.
    pub fn until_empty(&mut self) {
        self.until(|world| world.outbox.pending() == 0);
        assert_eq!(self.outbox.pending(), 0);
    }

    /// How often an event was attempted.
    pub fn attempts(&self) -> usize {
        self.attempted.len()
    }
}
