//! What one sink has received, and which answers it gave: what the deliveries are judged by.

use std::time::Duration;

use apify_mirror::delivery::{FRESH, MAX_REJECTIONS, MIN_WAIT};
use apify_mirror::model::{AttemptOutcome, Due, Order, Settled, Verdict};

use super::outbox::{Outbox, run_of};

/// What is known of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    received: bool,
    /// It was set aside or dropped at some time, so that later events may arrive first.
    excused: bool,
    /// It was recorded as delivered, or dropped by hand.
    done: bool,
    /// The sink said that it would never take it.
    refused: bool,
    /// When it was dropped by hand.
    dropped: Option<i64>,
    /// When an attempt failed first, since it was last retried by hand.
    failed: Option<i64>,
    /// When an attempt failed last.
    ended: i64,
}

/// One sink's side, by the number of the event less one. Times are in milliseconds of the wall clock.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    fates: Vec<Fate>,
    /// It has said that it is gone for good.
    pub gone: bool,
}

impl Receiver {
    /// A commit raised an event.
    pub fn raised(&mut self) {
        self.fates.push(Fate::default());
    }

    fn fate(&mut self, seq: i64) -> &mut Fate {
        &mut self.fates[seq as usize - 1]
    }

    pub fn has(&self, seq: i64) -> bool {
        self.fates[seq as usize - 1].received
    }

    /// The sink takes an event.
    ///
    /// # Errors
    /// When an earlier one, of its run or of all, should have come first.
    pub fn takes(&mut self, seq: i64, order: Order, log: &[&'static str]) -> Result<(), String> {
        let earlier = (1..seq)
            .filter(|earlier| order == Order::Stream || run_of(log, *earlier) == run_of(log, seq));
        for earlier in earlier {
            let fate = self.fates[earlier as usize - 1];
            if !fate.received && !fate.excused {
                return Err(format!("event {seq} is received before event {earlier}"));
            }
        }
        self.fate(seq).received = true;
        Ok(())
    }

    /// The sink answered for an event.
    pub fn answered(&mut self, seq: i64, outcome: &AttemptOutcome, now: i64) {
        let fate = self.fate(seq);
        fate.refused |= matches!(
            outcome,
            AttemptOutcome::Refused { .. } | AttemptOutcome::Gone { .. }
        );
        if *outcome != AttemptOutcome::Delivered {
            fate.failed.get_or_insert(now);
            fate.ended = now;
        }
        self.gone |= matches!(outcome, AttemptOutcome::Gone { .. });
    }

    /// An attempt at an event begins.
    ///
    /// # Errors
    /// When the event is not owed, or not yet due.
    pub fn attempted(
        &self,
        due: &Due,
        order: Order,
        outbox: &Outbox,
        now: i64,
    ) -> Result<(), String> {
        let fate = self.fates[due.seq as usize - 1];
        let seq = due.seq;
        match outbox.pending(seq) {
            None if fate
                .dropped
                .is_some_and(|at| now - at <= FRESH.as_millis() as i64) =>
            {
                Ok(())
            }
            None => Err(format!("event {seq} is attempted, and is not owed")),
            Some(row) if order == Order::Run && row.due.is_some_and(|due| due > now) => {
                Err(format!("event {seq} is attempted before it is due"))
            }
            Some(row) if row.attempts != due.attempts => Err(format!(
                "event {seq} is attempted as after {} attempts, not {}",
                due.attempts, row.attempts
            )),
            Some(_) => Ok(()),
        }
    }

    /// An exchange records what became of an event.
    ///
    /// # Errors
    /// When the verdict is not what the sink has answered.
    pub fn judged(
        &mut self,
        settled: &Settled,
        outbox: &Outbox,
        give_up_after: Duration,
    ) -> Result<(), String> {
        let seq = settled.seq;
        let counts = outbox
            .pending(seq)
            .is_some_and(|row| row.attempts == settled.attempts);
        let fate = self.fate(seq);
        match settled.verdict {
            Verdict::Delivered if !fate.received => {
                return Err(format!("event {seq} is recorded, and was not received"));
            }
            Verdict::Delivered => fate.done = true,
            Verdict::Retry { at } if at.as_millis() < fate.ended + MIN_WAIT.as_millis() as i64 => {
                return Err(format!("event {seq} is retried too early"));
            }
            Verdict::Retry { .. } => {}
            Verdict::SetAside => {
                let waited = fate.ended - fate.failed.unwrap_or(fate.ended);
                let old = waited >= give_up_after.as_millis() as i64;
                if counts && !old && !fate.refused && settled.attempts + 1 < MAX_REJECTIONS {
                    return Err(format!("event {seq} is given up too early"));
                }
                fate.excused |= counts;
            }
        }
        Ok(())
    }

    /// Events were set aside without an attempt.
    pub fn cleared(&mut self, outbox: &Outbox) {
        for row in outbox.rows.iter().filter(|row| row.dead) {
            self.fate(row.seq).excused = true;
        }
    }

    /// An operator retries an event: what the sink has answered counts no longer.
    pub fn retried(&mut self, seq: i64) {
        let fate = self.fate(seq);
        (fate.failed, fate.refused) = (None, false);
    }

    /// An operator drops an event.
    pub fn dropped(&mut self, seq: i64, now: i64) {
        let fate = self.fate(seq);
        (fate.excused, fate.done, fate.dropped) = (true, true, Some(now));
    }

    /// Checks that every event is still owed unless it is done.
    ///
    /// # Errors
    /// When one is lost.
    pub fn check_kept(&self, outbox: &Outbox) -> Result<(), String> {
        for (seq, fate) in (1..).zip(&self.fates) {
            let to_copy = !outbox.live && seq > outbox.position;
            if !fate.done && !to_copy && !outbox.rows.iter().any(|row| row.seq == seq) {
                return Err(format!("event {seq} is lost"));
            }
        }
        Ok(())
    }

    /// Writes what the checks of later steps depend on.
    pub fn write(&self, text: &mut String, now: i64, give_up_after: i64) {
        use std::fmt::Write;
        for fate in &self.fates {
            let flags = [fate.received, fate.excused, fate.done, fate.refused].map(u8::from);
            let dropped = fate
                .dropped
                .map(|at| (now - at).min(FRESH.as_millis() as i64 + 1));
            let _ = write!(text, "{flags:?}{dropped:?}");
            if let Some(first) = fate.failed.filter(|_| !fate.done && give_up_after > 0) {
                let _ = write!(
                    text,
                    "{},{}",
                    (now - first).min(give_up_after),
                    (now - fate.ended).min(1_000)
                );
            }
        }
        text.push(if self.gone { 'g' } else { '-' });
    }
}
