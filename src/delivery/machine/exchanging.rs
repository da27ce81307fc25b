//! The machine's side of an exchange with the outbox.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::breaker::Admission;
use super::super::protocol::{Command, Notice, STORE_RETRY};
use super::super::state::{Backlog, Fetch, Outbox, Pending, Phase, Supply};
use super::{AHEAD, FALLBACK, MAX_READY_BYTES, Machine, runs_of};
use crate::model::{Due, EXCHANGE_CHUNK, Exchange, Exchanged, FetchLimits, Order};

impl Machine {
    /// Exchanges with the outbox what there is to exchange, unless an exchange is in flight or must wait.
    pub(super) fn begin_exchange(&mut self, now: Duration, commands: &mut Vec<Command>) {
        let retrying = match self.outbox {
            Outbox::Idle => false,
            Outbox::Unavailable { until } if now >= until => true,
            Outbox::Busy(_) | Outbox::Retrying(_) | Outbox::Unavailable { .. } => return,
        };
        let winding_down = self.is_winding_down(now);
        let backlog = self.backlog == Backlog::Copying && !winding_down;
        let set_aside = self
            .clearing
            .as_ref()
            .filter(|_| self.phase == Phase::Running)
            .map(|clearing| (clearing.which, clearing.why.clone()));
        // An outbox that failed may be all that is waited for, so a fetch does not require one that works.
        let limits = self.fetch_limits(now);
        let fetch = self.supply == Supply::MayHaveMore
            && self.unblocked().count() < self.capacity()
            && limits.events > 0
            && limits.bytes > 0
            && self.is_admitted(now);
        let look = self.look_wait(now).is_some_and(|wait| wait.is_zero());
        if self.settled.is_empty() && !backlog && set_aside.is_none() && !fetch && !look {
            return;
        }
        let exchange = Exchange {
            sink: self.settings.sink.clone(),
            backlog,
            settled: std::mem::take(&mut self.settled),
            pause: self.paused_for(now),
            set_aside,
            fetch: limits,
        };
        let pending = Pending {
            settled: exchange.settled.clone(),
            set_aside: exchange.set_aside.is_some(),
            fetch: match exchange.fetch.events {
                0 => Fetch::Nothing,
                _ => Fetch::Ready,
            },
        };
        if pending.fetch == Fetch::Ready {
            self.supply = Supply::Asked;
        }
        self.outbox = match retrying {
            true => Outbox::Retrying(pending),
            false => Outbox::Busy(pending),
        };
        commands.push(Command::Exchange(exchange));
    }

    /// How long until the outbox is asked whether deliveries were retried by hand; `None` unless the breaker is open, as
    /// what is due is looked for otherwise.
    pub(super) fn look_wait(&self, now: Duration) -> Option<Duration> {
        let is_open = matches!(self.breaker.admission(), Admission::Wait(_));
        let look_at = self.answered.saturating_add(FALLBACK);
        (is_open && !self.is_winding_down(now)).then(|| look_at.saturating_sub(now))
    }

    /// Events in flight at the most.
    fn capacity(&self) -> usize {
        self.settings.limits.batch * self.settings.limits.concurrency
    }

    /// The ready events that wait for no other of their run. Those that do must not keep others from being read: what
    /// they wait for may hang.
    fn unblocked(&self) -> impl Iterator<Item = &Due> {
        let busy = match self.settings.limits.order {
            Order::Stream => BTreeSet::new(),
            Order::Run => runs_of(&self.in_flight),
        };
        let ready = self.ready.iter();
        ready.filter(move |due| !busy.contains(due.run_id.as_str()))
    }

    /// What an exchange may fetch.
    fn fetch_limits(&self, now: Duration) -> FetchLimits {
        let ahead = match self.breaker.admission() {
            _ if self.is_winding_down(now) || self.clearing.is_some() => 0,
            Admission::Free => self.capacity() * AHEAD,
            // Events that have been ready for long may have been retried or dropped by hand meanwhile.
            Admission::Probe => self.settings.limits.batch,
            Admission::Wait(_) => 0,
        };
        let in_flight = self.in_flight.values().flat_map(|events| events.iter());
        let bytes: usize = self.unblocked().map(|due| due.payload.len()).sum();
        FetchLimits {
            order: self.settings.limits.order,
            events: ahead
                .saturating_sub(self.unblocked().count())
                .min((self.capacity() * AHEAD).saturating_sub(self.ready.len())),
            bytes: MAX_READY_BYTES.saturating_sub(bytes),
            except: in_flight.chain(&self.ready).map(|due| due.seq).collect(),
        }
    }

    /// The exchange in flight succeeded.
    pub(super) fn exchanged(
        &mut self,
        answer: Exchanged,
        now: Duration,
        commands: &mut Vec<Command>,
    ) {
        let pending = self.end_exchange(Outbox::Idle);
        self.answered = now;
        let known = self.retries.replace(answer.retries);
        let retried = known.is_some_and(|known| known != answer.retries);
        if retried && matches!(self.breaker.admission(), Admission::Wait(_)) {
            self.breaker.retried();
            self.supply = Supply::MayHaveMore;
        }
        // What was read ahead may have been retried by hand. It is read again, in order with what this answer brings.
        let is_outdated = retried && !self.ready.is_empty();
        if is_outdated {
            self.give_back();
        }
        self.backlog = match answer.live {
            true => Backlog::Done,
            // It may have left the configuration and come back, so that there is something to copy again.
            false => Backlog::Copying,
        };
        if answer.missed > 0 {
            commands.push(Command::Report(Notice::Missed {
                events: answer.missed,
            }));
        }
        if pending.set_aside {
            self.set_aside(answer.set_aside, commands);
        }
        if pending.fetch == Fetch::Ready && !is_outdated {
            // If something has happened since it was asked for, the answer may be outdated.
            if self.supply == Supply::Asked {
                self.supply = if answer.fetched.events.is_empty() {
                    Supply::NothingDue {
                        next_due: answer.fetched.next_due,
                        look_again: now.saturating_add(FALLBACK),
                    }
                } else {
                    Supply::MayHaveMore
                };
            }
            if self.ready.is_empty() {
                self.ready_since = now;
            }
            self.ready.extend(answer.fetched.events);
        }
    }

    /// The exchange in flight failed; its results are kept until another succeeds.
    pub(super) fn exchange_failed(&mut self, now: Duration) {
        let until = now.saturating_add(STORE_RETRY);
        let pending = self.end_exchange(Outbox::Unavailable { until });
        self.settled.splice(0..0, pending.settled);
        self.supply = Supply::MayHaveMore;
    }

    fn end_exchange(&mut self, then: Outbox) -> Pending {
        match std::mem::replace(&mut self.outbox, then) {
            Outbox::Busy(pending) | Outbox::Retrying(pending) => pending,
            outbox => panic!("no exchange is in flight: {outbox:?}"),
        }
    }

    /// Some deliveries were set aside; there are more if it was all that one exchange does.
    fn set_aside(&mut self, some: usize, commands: &mut Vec<Command>) {
        let Some(mut clearing) = self.clearing.take() else {
            return;
        };
        clearing.so_far += some;
        if some >= EXCHANGE_CHUNK {
            self.clearing = Some(clearing);
            return;
        }
        self.supply = Supply::MayHaveMore;
        if clearing.so_far > 0 {
            commands.push(Command::Report(Notice::GaveUp {
                events: clearing.so_far,
                error: clearing.why,
            }));
        }
    }

    /// Discards ready events, and those that a fetch in flight will return; they stay in the outbox. Once the sink may be
    /// attempted again, they are read again, in order.
    pub(super) fn give_back(&mut self) {
        self.ready.clear();
        if let Outbox::Busy(pending) | Outbox::Retrying(pending) = &mut self.outbox
            && pending.fetch == Fetch::Ready
        {
            pending.fetch = Fetch::Discard;
        }
        self.supply = Supply::MayHaveMore;
    }
}
