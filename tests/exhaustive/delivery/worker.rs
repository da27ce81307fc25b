//! A real machine and everything it waits for, with the rules that its commands must keep.

use std::sync::Arc;
use std::time::Duration;

use apify_mirror::delivery::{
    AHEAD, AttemptId, Command, DRAIN, FRESH, Input, Machine, Mode, Next, Settings, Step,
};
use apify_mirror::model::{
    AttemptOutcome, Due, Exchange, Exchanged, Fetched, Moment, Order, Overdue, Seed, SinkLimits,
    Timestamp,
};

use super::breaker::Breaker;
use crate::canonical::{self, Number};

/// Wall clock at the beginning.
pub const EPOCH: i64 = 1_000_000_000;

/// An exchange in flight, and the answer once it took place.
#[derive(Clone, Debug)]
pub struct Exchanging {
    pub exchange: Exchange,
    pub answer: Option<Exchanged>,
}

/// Whether another exchange can be useful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Something happened since the last one began.
    Some,
    /// The one in flight covers everything that happened.
    Asked,
    /// The last one had no effect, and nothing has happened since.
    None,
}

/// What a step of a machine has led to.
pub struct Progress {
    /// The attempts that began.
    pub attempted: Vec<Arc<[Due]>>,
    pub finished: bool,
}

/// A machine and what it waits for. Times are in milliseconds of the wall clock.
#[derive(Clone, Debug)]
pub struct Worker {
    machine: Machine,
    /// Where the settings end in its text.
    settings_end: usize,
    limits: SinkLimits,
    /// Its uptime counts from here.
    born: i64,
    /// By the order in which they began.
    pub in_flight: Vec<(AttemptId, Arc<[Due]>)>,
    pub exchanging: Option<Exchanging>,
    pub notified: bool,
    pub wake_at: i64,
    /// Whether it was asked to stop.
    pub stopped: bool,
    /// When it must have finished; until then it may leave nothing behind.
    ends_by: Option<i64>,
    news: News,
    /// Events whose attempts ended and that no exchange has recorded.
    unrecorded: Vec<i64>,
    /// The last exchange failed.
    unavailable: bool,
    /// The sink is gone for good, and what it is owed is not set aside yet.
    gone: bool,
    breaker: Breaker,
    retries: Option<u64>,
}

impl Worker {
    /// A worker of which nothing was asked yet.
    pub fn new(limits: SinkLimits, give_up_after: Duration, mode: Mode, now: i64) -> Self {
        let settings = Settings {
            sink: "sink".to_owned(),
            limits,
            give_up_after,
            seed: Seed(1),
            mode,
        };
        let machine = Machine::new(settings);
        let settings_end = format!("{machine:?}")
            .find(", phase: ")
            .expect("the phase comes after the settings");
        Self {
            machine,
            settings_end,
            limits,
            born: now,
            in_flight: Vec::new(),
            exchanging: None,
            notified: false,
            wake_at: now,
            stopped: false,
            ends_by: pass_end(mode, now),
            news: News::Some,
            unrecorded: Vec::new(),
            unavailable: false,
            gone: false,
            breaker: Breaker::new(limits),
            retries: None,
        }
    }

    fn moment(&self, now: i64) -> Moment {
        Moment {
            wall: Timestamp::from_millis(now),
            uptime: Duration::from_millis((now - self.born) as u64),
        }
    }

    /// Lets attempts for so many other runs fail, whose events are then dropped by hand: the circuit breaker, which opens
    /// when eight runs in a row have failed, is then close to it.
    pub fn tire(&mut self, runs: usize, now: i64) {
        let due = |n: usize| Due {
            seq: 1_000 + n as i64,
            id: format!("x{n}"),
            run_id: format!("x{n}"),
            payload: "{}".to_owned(),
            observed_at: Timestamp::default(),
            attempts: 0,
            waited: Duration::ZERO,
        };
        let mut events: Vec<Due> = (0..runs).map(due).collect();
        let mut inputs = vec![Input::Wake];
        while let Some(input) = inputs.pop() {
            let Step { commands, next } = self.machine.step(input, self.moment(now));
            for command in commands {
                inputs.push(match command {
                    Command::Report(_) => continue,
                    Command::Attempt { id, .. } => Input::Completed {
                        id,
                        outcomes: Vec::new(),
                    },
                    Command::Exchange(exchange) => Input::Exchanged(Exchanged {
                        live: true,
                        fetched: Fetched {
                            events: match exchange.fetch.events {
                                0 => Vec::new(),
                                _ => std::mem::take(&mut events),
                            },
                            next_due: None,
                        },
                        ..Exchanged::default()
                    }),
                });
            }
            if let Next::Sleep { wait } = next {
                self.wake_at = now + wait.as_millis() as i64;
            }
        }
        (self.news, self.retries) = (News::None, Some(0));
        self.breaker.tire(runs);
    }

    /// Gives the machine an input, checks its commands and takes note of them.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub fn input(&mut self, input: Input, now: i64) -> Result<Progress, String> {
        self.note(&input, now);
        let Step { commands, next } = self.machine.step(input, self.moment(now));
        let mut attempted = Vec::new();
        for command in commands {
            match command {
                Command::Report(_) => {}
                Command::Exchange(exchange) => self.exchange(exchange)?,
                Command::Attempt { id, events } => {
                    self.attempt(id, &events, now)?;
                    attempted.push(events);
                }
            }
        }
        let most = self.limits.batch * self.limits.concurrency * (AHEAD + 1);
        if self.machine.held() > most {
            return Err(format!("{} events in memory", self.machine.held()));
        }
        let Next::Sleep { wait } = next else {
            let finished = true;
            return self.finish(now).map(|()| Progress {
                attempted,
                finished,
            });
        };
        let wait = wait.as_millis() as i64;
        if wait < 1 {
            return Err("the machine does not sleep".to_owned());
        }
        self.wake_at = now + wait;
        let late = self.ends_by.is_some_and(|at| self.wake_at > at + 1);
        match late {
            true => Err("sleeps longer than it may run".to_owned()),
            false => Ok(Progress {
                attempted,
                finished: false,
            }),
        }
    }

    fn note(&mut self, input: &Input, now: i64) {
        self.news = match input {
            Input::Exchanged(answer) => match self.news {
                News::Asked if answer.fetched.events.is_empty() && answer.set_aside == 0 => {
                    News::None
                }
                _ => News::Some,
            },
            _ => News::Some,
        };
        match input {
            Input::Stop => {
                self.stopped = true;
                self.ends_by = Some(now + DRAIN.as_millis() as i64);
            }
            Input::ExchangeFailed => self.unavailable = true,
            Input::Exchanged(answer) => {
                self.unavailable = false;
                let known = self.retries.replace(answer.retries);
                if known.is_some_and(|known| known != answer.retries) {
                    self.breaker.retried();
                }
            }
            Input::Wake | Input::Notified | Input::Completed { .. } => {}
        }
    }

    fn exchange(&mut self, exchange: Exchange) -> Result<(), String> {
        if self.exchanging.is_some() {
            return Err("two exchanges at once".to_owned());
        }
        let writes =
            !exchange.settled.is_empty() || exchange.backlog || exchange.set_aside.is_some();
        if !writes && self.news == News::None {
            return Err("an exchange after one without effect".to_owned());
        }
        let settled: Vec<i64> = exchange.settled.iter().map(|settled| settled.seq).collect();
        if settled != self.unrecorded {
            return Err(format!(
                "the exchange records {settled:?}, and {:?} have ended",
                self.unrecorded
            ));
        }
        let in_flight = self.in_flight.iter().flat_map(|(_, events)| events.iter());
        let fetches = exchange.fetch.events > 0;
        if fetches && self.stopped {
            return Err("reads events after it was stopped".to_owned());
        }
        if let Some(due) = in_flight
            .into_iter()
            .find(|due| !exchange.fetch.except.contains(&due.seq))
        {
            return Err(format!(
                "reads or sets aside event {}, which is in flight",
                due.seq
            ));
        }
        if fetches && exchange.fetch.except.is_empty() {
            self.news = News::Asked;
        }
        self.exchanging = Some(Exchanging {
            exchange,
            answer: None,
        });
        Ok(())
    }

    fn attempt(&mut self, id: AttemptId, events: &Arc<[Due]>, now: i64) -> Result<(), String> {
        if self.stopped {
            return Err("an attempt begins after the machine was stopped".to_owned());
        }
        if self.gone {
            return Err("an attempt begins although the sink is gone".to_owned());
        }
        if self.unavailable {
            return Err("an attempt begins while the outbox fails".to_owned());
        }
        self.breaker.attempt(id, now)?;
        self.in_flight.push((id, Arc::clone(events)));
        if self.in_flight.len() > self.limits.concurrency {
            return Err("too many attempts in flight".to_owned());
        }
        if events.is_empty() || events.len() > self.limits.batch {
            return Err(format!("a batch of {}", events.len()));
        }
        if !events.is_sorted_by_key(|due| due.seq) && self.limits.order == Order::Stream {
            return Err("a batch out of order".to_owned());
        }
        let all: Vec<&Due> = self
            .in_flight
            .iter()
            .flat_map(|(_, events)| events.iter())
            .collect();
        for (nth, due) in all.iter().enumerate() {
            let same = |other: &&&Due| match self.limits.order {
                Order::Stream => other.seq == due.seq,
                Order::Run => other.run_id == due.run_id,
            };
            if let Some(other) = all[..nth].iter().find(same) {
                return Err(format!(
                    "events {} and {} of {} are in flight",
                    other.seq, due.seq, due.run_id
                ));
            }
        }
        Ok(())
    }

    /// An attempt ends.
    pub fn ended(&mut self, nth: usize, outcomes: &[AttemptOutcome], now: i64) -> AttemptId {
        let (id, events) = self.in_flight.remove(nth);
        self.unrecorded.extend(events.iter().map(|due| due.seq));
        self.gone |= outcomes
            .iter()
            .any(|outcome| matches!(outcome, AttemptOutcome::Gone { .. }));
        self.breaker.ended(id, &events, outcomes, now);
        id
    }

    /// The outbox has answered: what the exchange recorded is recorded.
    pub fn recorded(&mut self, exchange: &Exchange) {
        self.gone &= !matches!(exchange.set_aside, Some((Overdue::All, _)));
        let settled = &exchange.settled;
        self.unrecorded
            .retain(|seq| !settled.iter().any(|settled| settled.seq == *seq));
    }

    fn finish(&self, now: i64) -> Result<(), String> {
        let in_time = self.ends_by.is_some_and(|at| now < at);
        let pending =
            !self.unrecorded.is_empty() || !self.in_flight.is_empty() || self.exchanging.is_some();
        match in_time && pending {
            true => Err("finishes before everything is recorded".to_owned()),
            false => Ok(()),
        }
    }

    /// Whether it waits for nothing but time.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
            && self.exchanging.is_none()
            && !self.notified
            && self.unrecorded.is_empty()
    }

    /// Whether it does nothing, and may attempt whatever is due that it was told of.
    pub fn is_free(&self) -> bool {
        let may_attempt = !self.stopped && !self.unavailable && !self.breaker.is_open();
        may_attempt && self.is_idle()
    }

    /// Writes what decides how it goes on, with times relative to now.
    pub fn write(&self, text: &mut String, now: i64, gives_up: bool) {
        use std::fmt::Write;
        let machine = format!("{:?}", self.machine);
        let machine = &machine[self.settings_end..];
        let in_flight: usize = self.in_flight.iter().map(|(_, events)| events.len()).sum();
        let nothing_ready = self.machine.held() == in_flight;
        let uptime = now - self.born;
        canonical::write(machine, text, |number| match number {
            Number::Duration("until" | "look_again", at) => (at - uptime).max(0),
            Number::Duration("answered", at) => (uptime - at).min(5_000),
            Number::Duration("ready_since", _) if nothing_ready => 0,
            Number::Duration("ready_since", at) => (uptime - at).min(FRESH.as_millis() as i64 + 1),
            Number::Duration("waited", waited) => {
                if gives_up {
                    waited
                } else {
                    0
                }
            }
            Number::Duration(_, other) => other,
            Number::Instant(_, at) => (at - now).max(0),
            Number::Wrapped("AttemptId", id) => self.rank(AttemptId(id as u64)),
            Number::Wrapped(_, other) | Number::Plain(_, other) => other,
        });
        if let Some(Exchanging { exchange, answer }) = &self.exchanging {
            let (pause, aside) = (exchange.pause.as_millis(), exchange.set_aside.is_some());
            let except = exchange
                .fetch
                .except
                .iter()
                .fold(0, |bits, seq| bits | 1_u64 << seq);
            let _ = write!(
                text,
                "x{}{aside}{},{except},{pause}",
                exchange.backlog, exchange.fetch.events
            );
            if let Some(answer) = answer {
                let fetched: Vec<_> = answer
                    .fetched
                    .events
                    .iter()
                    .map(|due| (due.seq, due.attempts))
                    .collect();
                let next = answer
                    .fetched
                    .next_due
                    .map(|due| (due.as_millis() - now).max(0));
                let _ = write!(
                    text,
                    "a{}{}{}{next:?}{fetched:?}",
                    answer.live, answer.retries, answer.set_aside
                );
            }
        }
        let ends = (self.stopped, self.ends_by.map(|at| at - now));
        let flags = (
            self.notified,
            self.news,
            self.unavailable,
            (self.wake_at - now).max(0),
            ends,
            self.retries,
        );
        let _ = write!(text, "{flags:?}{}{:?}", self.gone, self.unrecorded);
        self.breaker.write(text, now, |id| self.rank(id));
    }

    /// The place of an attempt among those in flight.
    fn rank(&self, id: AttemptId) -> i64 {
        self.in_flight
            .iter()
            .position(|(other, _)| *other == id)
            .map_or(-1, |nth| nth as i64)
    }
}

/// When a pass that begins at `now` must have finished.
fn pass_end(mode: Mode, now: i64) -> Option<i64> {
    match mode {
        Mode::UntilStopped => None,
        Mode::UntilNothingIsDue { deadline, grace } => {
            Some(now + (deadline + grace).as_millis() as i64)
        }
    }
}
