//! How long a machine sleeps: until the next poll, or until the next page of an audit.

use std::time::Duration;

use super::base::Machine;
use super::state::State;
use crate::model::Timestamp;
use crate::sync::protocol::{Command, Outcome, ReadFailure};

/// The longest wait between polls that keep failing.
const MAX_FAILURE_WAIT: Duration = Duration::from_secs(300);
/// The wait before the next poll of a task that is unavailable, as a multiple of the poll interval.
const UNAVAILABLE_WAIT_FACTOR: u32 = 60;
/// The longest such wait.
const MAX_UNAVAILABLE_WAIT: Duration = Duration::from_secs(900);
/// Time between two pages of an audit that nobody waits for; half the poll interval if that is less.
const AUDIT_PACE: Duration = Duration::from_secs(2);

impl Machine {
    /// Requests an audit, which begins anew and is read without pauses after the next poll, until [`Outcome::Audited`].
    /// An audit in progress is dropped: what it has compared may have changed since.
    pub fn request_audit(&mut self) {
        self.audit_requested = true;
        self.feed.audit = None;
        self.audit_walk = None;
        self.audited = 0;
        self.audited_last.clear();
    }

    /// When a feed's first audit is due. The feeds' audits are spread over the interval.
    pub(super) fn first_audit_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.settings
            .audit_interval
            .map(|interval| now.plus(self.settings.seed.part(interval, 0)))
    }

    /// When the audit after one that ends at `now` is due.
    pub(super) fn next_audit_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.settings
            .audit_interval
            .map(|interval| now.plus(self.settings.seed.jittered(interval, self.polls)))
    }

    pub(super) fn end_poll(&mut self, outcome: Outcome, now: Timestamp) -> Command {
        self.failures = 0;
        self.walk = None;
        let nominal = if outcome == Outcome::Behind {
            Duration::ZERO
        } else {
            self.settings.poll_interval
        };
        self.schedule_poll(nominal);
        self.audit_blocked = outcome != Outcome::CaughtUp;
        self.sleep(outcome, now)
    }

    pub(super) fn fail_poll(&mut self, failure: ReadFailure, now: Timestamp) -> Command {
        self.failures = self.failures.saturating_add(1);
        // A baseline that is not stored is read again, to be judged by a page that comes right after it.
        if self.newest.take().is_some() {
            self.feed.baseline = None;
        }
        let usual = self.settings.poll_interval;
        let (factor, most) = match failure {
            ReadFailure::Temporary => (1 << (self.failures - 1).min(15), MAX_FAILURE_WAIT),
            ReadFailure::Unavailable => (UNAVAILABLE_WAIT_FACTOR, MAX_UNAVAILABLE_WAIT),
        };
        self.schedule_poll(usual.saturating_mul(factor).min(most.max(usual)));
        self.audit_blocked = true;
        self.sleep(Outcome::Failed, now)
    }

    fn schedule_poll(&mut self, nominal: Duration) {
        self.unseen.clear();
        self.until_poll = self.settings.seed.jittered(nominal, self.polls);
    }

    /// Sleeps until the next poll, or until the next page of an audit if that is due earlier.
    pub(super) fn sleep(&mut self, outcome: Outcome, now: Timestamp) -> Command {
        match outcome {
            Outcome::Audited => self.audit_requested = false,
            // The cause may have passed by the time the next poll succeeds.
            Outcome::Failed | Outcome::Stalled(_) => self.audit_blocked = true,
            Outcome::CaughtUp | Outcome::Behind | Outcome::Auditing => {}
        }
        let wait = self
            .audit_wait(now)
            .map_or(self.until_poll, |wait| wait.min(self.until_poll));
        self.until_poll -= wait;
        self.state = State::Asleep;
        Command::Sleep { wait, outcome }
    }

    /// How long to wait before the next page of an audit; `None` when no audit is due.
    fn audit_wait(&self, now: Timestamp) -> Option<Duration> {
        if !self.feed.complete || self.audit_blocked {
            return None;
        }
        if self.audit_requested {
            return Some(Duration::ZERO);
        }
        let interval = self.settings.audit_interval?;
        let due = match self.feed.audit_due_at {
            // A time more than two intervals ahead was written before the clock was set back, or under a longer interval.
            Some(due) => due <= now || due.since(now) > interval.saturating_mul(2),
            None => true,
        };
        (self.feed.audit.is_some() || due)
            .then_some(AUDIT_PACE.min(self.settings.poll_interval / 2))
    }
}
