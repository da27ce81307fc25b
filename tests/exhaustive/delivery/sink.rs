//! One sink: its outbox, its receiver and its worker, and everything that can happen to it.

use std::time::Duration;

use apify_mirror::delivery::{DRAIN, Input, Mode};
use apify_mirror::model::{Due, SinkLimits};

use super::acts::{Act, Ending};
use super::outbox::Outbox;
use super::plans::Policy;
use super::receiver::Receiver;
use super::worker::{Exchanging, Progress, Worker};

/// How long a pass begins attempts.
const PASS: Duration = Duration::from_secs(20);

/// How long after a pass the next one begins by itself, in milliseconds.
const BETWEEN_PASSES: i64 = 60_000;

/// A sink.
#[derive(Clone)]
pub struct Sink {
    policy: &'static Policy,
    /// Which of the policy's limits hold.
    variant: usize,
    outbox: Outbox,
    receiver: Receiver,
    pub worker: Option<Worker>,
    /// When the next pass begins by itself.
    next_pass: i64,
}

impl Sink {
    pub fn new(policy: &'static Policy) -> Self {
        Self {
            policy,
            variant: 0,
            outbox: Outbox::new(),
            receiver: Receiver::default(),
            worker: None,
            next_pass: 0,
        }
    }

    fn limits(&self) -> SinkLimits {
        self.policy.limits[self.variant]
    }

    /// A commit raised the last event of `log`.
    pub fn raised(&mut self, log: &[&'static str], now: i64) {
        self.receiver.raised();
        self.outbox.raised(log, now);
        if let Some(worker) = &mut self.worker {
            worker.notified = true;
        }
    }

    /// When its worker is to be woken, or begins a pass.
    pub fn wake_at(&self) -> Option<i64> {
        let next_pass = self.policy.passes.then_some(self.next_pass);
        self.worker
            .as_ref()
            .map(|worker| worker.wake_at)
            .or(next_pass)
    }

    /// Whether an exchange has taken place that is not answered yet.
    pub fn is_about_to_be_answered(&self) -> bool {
        let exchanging = self
            .worker
            .as_ref()
            .and_then(|worker| worker.exchanging.as_ref());
        exchanging.is_some_and(|exchanging| exchanging.answer.is_some())
    }

    /// Its worker is gone.
    fn end_worker(&mut self, now: i64) {
        self.worker = None;
        self.next_pass = now + BETWEEN_PASSES;
    }

    /// Starts a worker.
    pub fn start(&mut self, log: &[&'static str], now: i64) -> Result<(), String> {
        let mode = match self.policy.passes {
            true => Mode::UntilNothingIsDue {
                deadline: PASS,
                grace: DRAIN,
            },
            false => Mode::UntilStopped,
        };
        let mut worker = Worker::new(self.limits(), self.policy.give_up_after, mode, now);
        if self.policy.failed_before > 0 {
            worker.tire(self.policy.failed_before, now);
            worker.notified = !log.is_empty();
        }
        self.worker = Some(worker);
        self.input(Input::Wake, log, now)
    }

    /// The process dies and is started again.
    pub fn crash(&mut self, log: &[&'static str], now: i64) -> Result<(), String> {
        self.end_worker(now);
        match self.outbox.removed || self.policy.passes {
            true => Ok(()),
            false => self.start(log, now),
        }
    }

    /// Names everything that can happen to it now.
    pub fn acts(&self, now: i64, may: &mut impl FnMut(Act)) {
        if let Some(worker) = &self.worker {
            self.acts_of_worker(worker, now, may);
        }
        let stops = self.worker.as_ref().is_some_and(|worker| worker.stopped);
        if self.policy.passes && self.worker.is_none() {
            may(Act::Start);
        }
        if self.policy.reloads {
            match self.outbox.removed {
                true => may(Act::Restore),
                false => may(Act::Leave),
            }
            if self.worker.is_some() && !stops {
                may(if self.outbox.removed {
                    Act::Stop
                } else {
                    Act::Change
                });
            }
        }
        if self.policy.by_hand && !self.outbox.rows.is_empty() {
            may(Act::Drop);
            if self
                .outbox
                .rows
                .iter()
                .any(|row| row.dead || row.attempts > 0)
            {
                may(Act::Retry);
            }
        }
    }

    fn acts_of_worker(&self, worker: &Worker, now: i64, may: &mut impl FnMut(Act)) {
        if now >= worker.wake_at {
            may(Act::Wake);
        }
        if worker.notified {
            may(Act::Notify);
        }
        match &worker.exchanging {
            None => {}
            Some(Exchanging { answer: None, .. }) if !self.policy.exchanges_fail => {
                may(Act::Exchange)
            }
            Some(Exchanging { answer: None, .. }) => [Act::Exchange, Act::Perform, Act::Fail]
                .into_iter()
                .for_each(&mut *may),
            Some(Exchanging {
                answer: Some(_), ..
            }) => [Act::Answer, Act::Fail].into_iter().for_each(&mut *may),
        }
        for (nth, (_, events)) in worker.in_flight.iter().enumerate() {
            for accepted in 0..=events.len() {
                may(Act::End(nth, Ending::Accepted(accepted)));
            }
            may(Act::End(nth, Ending::Lost));
            if !events.iter().all(|due| self.receiver.has(due.seq)) {
                may(Act::Take(nth));
            }
            if self.policy.refuses {
                for ending in [Ending::Rejected, Ending::Refused, Ending::Gone] {
                    may(Act::End(nth, ending));
                }
            }
        }
    }

    /// What happens to it next if nothing fails.
    pub fn kind(&self, now: i64) -> Option<Act> {
        if self.outbox.removed {
            return Some(Act::Restore);
        }
        let Some(worker) = &self.worker else {
            return (now >= self.next_pass).then_some(Act::Start);
        };
        if let Some(Exchanging { answer, .. }) = &worker.exchanging {
            return Some(if answer.is_some() {
                Act::Answer
            } else {
                Act::Exchange
            });
        }
        if let Some((_, events)) = worker.in_flight.first() {
            return Some(Act::End(0, Ending::Accepted(events.len())));
        }
        if worker.notified {
            return Some(Act::Notify);
        }
        (now >= worker.wake_at).then_some(Act::Wake)
    }

    /// Whether it has been sent everything that was not set aside.
    fn is_delivered(&self) -> bool {
        self.outbox.live && self.outbox.rows.iter().all(|row| row.dead)
    }

    /// Whether nothing is left to do.
    pub fn is_settled(&self) -> bool {
        let idle = |worker: &Worker| worker.is_idle() && !worker.stopped;
        self.is_delivered() && self.worker.as_ref().map_or(self.policy.passes, idle)
    }

    /// Lets something happen.
    ///
    /// # Errors
    /// When a rule is broken.
    pub fn act(&mut self, act: Act, log: &[&'static str], now: i64) -> Result<(), String> {
        match act {
            Act::Wake => self.input(Input::Wake, log, now),
            Act::Notify => {
                self.worker().notified = false;
                self.input(Input::Notified, log, now)
            }
            Act::Exchange => {
                self.perform(log, now)?;
                self.answer(log, now)
            }
            Act::Perform => self.perform(log, now),
            Act::Answer => self.answer(log, now),
            Act::Fail => self.fail(log, now),
            Act::Take(nth) => {
                let events = self.worker().in_flight[nth].1.clone();
                self.takes(&events, log)
            }
            Act::End(nth, ending) => self.end(nth, ending, log, now),
            Act::Leave | Act::Stop | Act::Change | Act::Restore => self.reload(act, log, now),
            Act::Start => self.start(log, now),
            Act::Retry => {
                let retried = self.outbox.retry(log, now);
                retried
                    .into_iter()
                    .for_each(|seq| self.receiver.retried(seq));
                Ok(())
            }
            Act::Drop => {
                let seq = self.outbox.drop_oldest(log, now);
                self.receiver.dropped(seq, now);
                Ok(())
            }
        }
    }

    fn worker(&mut self) -> &mut Worker {
        self.worker.as_mut().expect("it has a worker")
    }

    fn reload(&mut self, act: Act, log: &[&'static str], now: i64) -> Result<(), String> {
        let last = log.len() as i64;
        match act {
            Act::Leave => self.outbox.end(last),
            Act::Restore => self.outbox.register(last),
            Act::Change => self.variant = 1 - self.variant,
            _ => {}
        }
        match act {
            Act::Restore if self.worker.is_none() => self.start(log, now),
            Act::Stop | Act::Change => self.input(Input::Stop, log, now),
            _ => Ok(()),
        }
    }

    fn input(&mut self, input: Input, log: &[&'static str], now: i64) -> Result<(), String> {
        let Progress {
            attempted,
            finished,
        } = self.worker().input(input, now)?;
        let order = self.limits().order;
        for due in attempted.iter().flat_map(|events| events.iter()) {
            self.receiver.attempted(due, order, &self.outbox, now)?;
        }
        if finished {
            self.end_worker(now);
            return match self.outbox.removed || self.policy.passes {
                true => Ok(()),
                false => self.start(log, now),
            };
        }
        // Nobody tells a worker what an operator does.
        match self.worker().is_free() && !self.policy.by_hand && self.outbox.has_due(order, now) {
            true => Err("sleeps although something is due".to_owned()),
            false => Ok(()),
        }
    }

    fn perform(&mut self, log: &[&'static str], now: i64) -> Result<(), String> {
        let exchange = self
            .worker()
            .exchanging
            .as_ref()
            .expect("one is in flight")
            .exchange
            .clone();
        for settled in &exchange.settled {
            self.receiver
                .judged(settled, &self.outbox, self.policy.give_up_after)?;
        }
        if let Some((apify_mirror::model::Overdue::All, _)) = exchange.set_aside
            && !self.receiver.gone
        {
            return Err("sets everything aside for a sink that is not gone".to_owned());
        }
        let answer = self.outbox.exchange(&exchange, log, now);
        self.receiver.cleared(&self.outbox);
        self.receiver.check_kept(&self.outbox)?;
        self.worker()
            .exchanging
            .as_mut()
            .expect("one is in flight")
            .answer = Some(answer);
        Ok(())
    }

    fn answer(&mut self, log: &[&'static str], now: i64) -> Result<(), String> {
        let worker = self.worker();
        let exchanging = worker.exchanging.take().expect("one is in flight");
        worker.recorded(&exchanging.exchange);
        self.input(
            Input::Exchanged(exchanging.answer.expect("it took place")),
            log,
            now,
        )
    }

    /// A pass that cannot exchange with the outbox ends.
    fn fail(&mut self, log: &[&'static str], now: i64) -> Result<(), String> {
        if self.policy.passes {
            self.end_worker(now);
            return Ok(());
        }
        self.worker().exchanging = None;
        self.input(Input::ExchangeFailed, log, now)
    }

    fn takes(&mut self, events: &[Due], log: &[&'static str]) -> Result<(), String> {
        let order = self.limits().order;
        events
            .iter()
            .try_for_each(|due| self.receiver.takes(due.seq, order, log))
    }

    fn end(
        &mut self,
        nth: usize,
        ending: Ending,
        log: &[&'static str],
        now: i64,
    ) -> Result<(), String> {
        let events = self.worker().in_flight[nth].1.clone();
        let taken = match ending {
            Ending::Accepted(taken) => taken,
            Ending::Lost => events.len(),
            Ending::Rejected | Ending::Refused | Ending::Gone => 0,
        };
        self.takes(&events[..taken], log)?;
        let outcomes = ending.outcomes(events.len());
        for (due, outcome) in events.iter().zip(&outcomes) {
            self.receiver.answered(due.seq, outcome, now);
        }
        let id = self.worker().ended(nth, &outcomes, now);
        self.input(Input::Completed { id, outcomes }, log, now)
    }

    /// Writes what decides how it goes on.
    pub fn write(&self, text: &mut String, now: i64) {
        let give_up_after = self.policy.give_up_after.as_millis() as i64;
        let gives_up = give_up_after < 3_600_000;
        text.push(if self.variant == 0 { 'A' } else { 'B' });
        self.outbox.write(text, now, gives_up);
        self.receiver
            .write(text, now, if gives_up { give_up_after } else { 0 });
        match &self.worker {
            Some(worker) => worker.write(text, now, gives_up),
            None => text.push_str(&(self.next_pass - now).max(0).to_string()),
        }
    }
}
