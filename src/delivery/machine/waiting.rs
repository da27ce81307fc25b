//! How long a machine waits after a step, and when it finishes.

use std::time::Duration;

use super::super::breaker::Admission;
use super::super::protocol::{Mode, Next};
use super::super::state::{Outbox, Phase, Supply};
use super::{FALLBACK, Machine};
use crate::model::Moment;

/// The shortest sleep.
const MIN_SLEEP: Duration = Duration::from_millis(1);

impl Machine {
    /// Until when what is in flight may end; `None` while more may begin.
    fn ends_by(&self, now: Duration) -> Option<Duration> {
        match (self.phase, self.settings.mode) {
            (Phase::Finished, _) => Some(Duration::ZERO),
            (Phase::Draining { until }, _) => Some(until),
            (Phase::Running, Mode::UntilStopped) => None,
            (Phase::Running, Mode::UntilNothingIsDue { deadline, grace }) => self
                .is_winding_down(now)
                .then(|| deadline.saturating_add(grace)),
        }
    }

    /// What follows on a step at `now`.
    pub(super) fn next(&mut self, now: Moment) -> Next {
        let ends_by = self.ends_by(now.uptime);
        if let Some(until) = ends_by {
            let all_recorded =
                self.in_flight.is_empty() && self.settled.is_empty() && !self.outbox.is_in_flight();
            if all_recorded || now.uptime >= until {
                self.phase = Phase::Finished;
                return Next::Finish;
            }
        }
        let waits = [
            self.due_wait(now),
            self.look_wait(now.uptime)
                .filter(|_| self.outbox.is_available() && !self.outbox.is_in_flight()),
            self.deadline_wait(now.uptime),
            self.outbox_wait(now.uptime),
            ends_by.map(|until| until.saturating_sub(now.uptime)),
        ];
        let wait = waits.into_iter().flatten().fold(FALLBACK, Duration::min);
        let wait = wait.max(MIN_SLEEP);
        Next::Sleep { wait }
    }

    /// How long until an attempt or a fetch may begin that cannot begin now.
    fn due_wait(&self, now: Moment) -> Option<Duration> {
        match (self.breaker.admission(), self.supply) {
            // What becomes due while the breaker is open has to wait for its end.
            (Admission::Wait(until), _) => Some(until.saturating_sub(now.uptime)),
            (
                _,
                Supply::NothingDue {
                    next_due,
                    look_again,
                },
            ) => {
                let look_again = look_again.saturating_sub(now.uptime);
                Some(next_due.map_or(look_again, |due| due.since(now.wall).min(look_again)))
            }
            (_, Supply::MayHaveMore | Supply::Asked) => None,
        }
    }

    /// How long until nothing more may begin.
    fn deadline_wait(&self, now: Duration) -> Option<Duration> {
        match self.settings.mode {
            Mode::UntilStopped => None,
            Mode::UntilNothingIsDue { deadline, .. } => {
                deadline.checked_sub(now).filter(|wait| !wait.is_zero())
            }
        }
    }

    /// How long until the outbox is tried again.
    fn outbox_wait(&self, now: Duration) -> Option<Duration> {
        match self.outbox {
            Outbox::Unavailable { until } => until.checked_sub(now).filter(|wait| !wait.is_zero()),
            Outbox::Idle | Outbox::Busy(_) | Outbox::Retrying(_) => None,
        }
    }
}
