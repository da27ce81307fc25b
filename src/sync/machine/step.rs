//! One step: which phase handles an input in which state.

use super::base::Machine;
use super::state::{NextStep, State};
use crate::model::Timestamp;
use crate::sync::protocol::{Command, Input, MAX_OPEN, OpenRuns, Outcome};

impl Machine {
    /// Takes one input at the local time `now` and returns the next command.
    ///
    /// # Panics
    /// When `input` does not answer the last command: a bug in the caller, whatever the API does.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Command {
        let command = self.transition(input, now);
        // An audit judges a page together with the runs it reads singly afterwards: the page's own time counts.
        self.asked_at = match &command {
            Command::Read { begun: 1.., .. } => self.forward_asked_at().unwrap_or(self.asked_at),
            Command::Read { .. } => now,
            Command::ReadRuns(_) if !matches!(self.state, State::AuditSingles(_)) => now,
            _ => self.asked_at,
        };
        command
    }

    fn transition(&mut self, input: Input, now: Timestamp) -> Command {
        match (std::mem::replace(&mut self.state, State::Asleep), input) {
            (State::Asleep, Input::Wake) if self.until_poll.is_zero() => self.begin_poll(),
            (State::Asleep, Input::Wake) => self.continue_audit(now),
            (State::LoadingOpen, Input::Open(open)) => self.opened(open, now),
            (State::Baseline, Input::Pages(pages)) => self.baseline(&pages, now),
            (State::Forward, Input::Pages(pages)) => self.forward(pages, now),
            (State::Active(read), Input::Pages(pages)) => self.active(read, pages, now),
            (State::Locating, Input::Located(distances)) => self.located(&distances, now),
            (State::Behind { remaining, asked }, Input::Pages(pages)) => {
                self.behind(pages, (remaining, asked), now)
            }
            (State::Singles { remaining }, Input::Runs(runs)) => self.singles(runs, remaining, now),
            (State::Committing { feed, next }, Input::Committed { unconfirmed }) => {
                self.feed = feed;
                self.newest = None;
                self.follow(next, unconfirmed, now)
            }
            (State::Audit, Input::Pages(pages)) => self.audit_page(pages, now),
            (State::AuditUnseen(mut page), Input::Unseen(unseen)) => {
                page.remaining.extend(unseen);
                self.audit_singles(page, now)
            }
            (State::AuditSingles(page), Input::Runs(runs)) => self.audit_runs(page, runs, now),
            (State::AuditConfirm { remaining, outcome }, Input::Runs(runs)) => {
                self.audit_confirmed(runs, remaining, outcome, now)
            }
            (State::Audit | State::AuditSingles(_), Input::Failed(_)) => self.fail_audit(now),
            // The page is committed. The next poll that shows such a run again confirms it.
            (State::AuditConfirm { outcome, .. }, Input::Failed(_)) => self.sleep(outcome, now),
            (
                State::Baseline
                | State::Forward
                | State::Active(_)
                | State::Behind { .. }
                | State::Singles { .. },
                Input::Failed(failure),
            ) => self.fail_poll(failure, now),
            (state, input) => panic!("{input:?} does not answer {state:?}"),
        }
    }

    fn begin_poll(&mut self) -> Command {
        self.polls += 1;
        self.reads = 0;
        self.failed_singles = 0;
        self.listed.clear();
        self.walk = None;
        self.outcome = Outcome::CaughtUp;
        self.state = State::LoadingOpen;
        // Less than a page, so that the page also shows what is new.
        Command::LoadOpen {
            within: u64::from(self.sizes.expected()) * 3 / 4,
            after: self.last_single.clone(),
        }
    }

    fn opened(&mut self, open: OpenRuns, now: Timestamp) -> Command {
        self.unseen = open
            .runs
            .into_iter()
            .map(|run| (run.id, run.active))
            .collect();
        if self.feed.baseline.is_none() {
            return self.read_newest();
        }
        self.begin_forward(open.reach, now)
    }

    pub(super) fn follow(
        &mut self,
        next: NextStep,
        unconfirmed: Vec<String>,
        now: Timestamp,
    ) -> Command {
        if let NextStep::EndAuditPage(outcome) = next {
            return self.audit_confirm(unconfirmed, outcome, now);
        }
        // What is left out shows itself again in a later poll.
        let room = MAX_OPEN.saturating_sub(self.unseen.len());
        let unconfirmed = unconfirmed.into_iter().map(|id| (id, false));
        self.unseen.extend(unconfirmed.take(room));
        match next {
            NextStep::Forward => self.read_forward(now),
            NextStep::AfterForward => self.after_forward(now),
            NextStep::Active(read) => self.read_active(read),
            NextStep::AfterActive => self.after_active(now),
            NextStep::Behind { remaining, begun } => self.read_behind(remaining, begun, now),
            NextStep::Singles { remaining } => self.read_singles(remaining, now),
            NextStep::EndPoll(outcome) => self.end_poll(outcome, now),
            NextStep::AuditSingles(page) => self.audit_singles(*page, now),
            NextStep::EndAuditPage(outcome) => self.sleep(outcome, now),
            NextStep::AuditConfirm { remaining, outcome } => {
                self.audit_confirm(remaining, outcome, now)
            }
        }
    }
}
