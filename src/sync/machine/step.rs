//! One step: which phase handles an input in which state.

use super::base::Machine;
use super::state::{AuditedPage, NextStep, State};
use crate::model::Timestamp;
use crate::sync::page::{Listing, Page, Window};
use crate::sync::protocol::{Baseline, Command, FeedState, Input, OpenRuns, Outcome};

impl Machine {
    /// Takes one input at the local time `now` and returns the next command.
    ///
    /// # Panics
    /// When `input` does not answer the last command: a bug in the caller, whatever the API does.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Command {
        let command = self.transition(input, now);
        // An audit judges a page together with the runs it reads singly afterwards: the page's own time counts.
        if matches!(command, Command::Read(_) | Command::ReadRuns(_))
            && !matches!(self.state, State::AuditSingles(_))
        {
            self.asked_at = now;
        }
        command
    }

    fn transition(&mut self, input: Input, now: Timestamp) -> Command {
        match (std::mem::replace(&mut self.state, State::Asleep), input) {
            (State::Asleep, Input::Wake) if self.until_poll.is_zero() => self.begin_poll(),
            (State::Asleep, Input::Wake) => self.continue_audit(now),
            (State::LoadingOpen, Input::Open(open)) => self.opened(open),
            (State::Baseline, Input::Pages(pages)) => self.baseline(&pages, now),
            (State::Forward(read), Input::Pages(pages)) => self.forward(&read, pages, now),
            (State::Active(read), Input::Pages(pages)) => self.active(read, pages, now),
            (State::Locating, Input::Located(distances)) => self.located(&distances, now),
            (State::Behind { remaining }, Input::Pages(pages)) => {
                self.behind(pages, remaining, now)
            }
            (State::Singles { remaining }, Input::Runs(runs)) => self.singles(runs, remaining, now),
            (State::Committing { feed, next }, Input::Committed { .. }) => {
                self.feed = feed;
                self.follow(next, now)
            }
            (State::Audit(read), Input::Pages(pages)) => self.audit_page(&read, pages, now),
            (State::AuditUnseen { page }, Input::Unseen(remaining)) => {
                let page = AuditedPage {
                    page,
                    remaining,
                    found: Vec::new(),
                    gone: Vec::new(),
                };
                self.audit_singles(page, now)
            }
            (State::AuditSingles(page), Input::Runs(runs)) => self.audit_runs(page, runs, now),
            (State::Audit(_) | State::AuditSingles(_), Input::Failed(_)) => {
                self.sleep(Outcome::Failed, now)
            }
            (
                State::Baseline
                | State::Forward(_)
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
        self.outcome = Outcome::CaughtUp;
        self.state = State::LoadingOpen;
        Command::LoadOpen {
            within: u64::from(self.page),
        }
    }

    fn opened(&mut self, open: OpenRuns) -> Command {
        self.unseen = open
            .runs
            .into_iter()
            .map(|run| (run.id, run.active))
            .collect();
        if self.feed.baseline.is_none() {
            self.state = State::Baseline;
            return Command::Read(vec![Window {
                listing: Listing::Newest,
                offset: 0,
                limit: 1,
            }]);
        }
        self.read_forward(false, open.reach)
    }

    fn baseline(&mut self, pages: &[Page], now: Timestamp) -> Command {
        // The maximum, in case the server ignored the requested order or limit.
        let newest = pages.iter().filter_map(Page::newest_start).max();
        let feed = FeedState {
            baseline: Some(newest.map_or(Baseline::Nothing, Baseline::UpTo)),
            ..self.feed.clone()
        };
        let commit = self.empty_commit(feed, now);
        self.commit(
            commit,
            NextStep::Forward {
                follows: false,
                reach: 0,
            },
        )
    }

    fn follow(&mut self, next: NextStep, now: Timestamp) -> Command {
        match next {
            NextStep::Forward { follows, reach } => self.read_forward(follows, reach),
            NextStep::AfterForward => self.after_forward(now),
            NextStep::Active(read) => self.read_active(read),
            NextStep::AfterActive => self.after_active(now),
            NextStep::Behind { remaining } => self.read_behind(remaining, now),
            NextStep::Singles { remaining } => self.read_singles(remaining, now),
            NextStep::EndPoll(outcome) => self.end_poll(outcome, now),
            NextStep::EndAuditPage(outcome) => self.sleep(outcome, now),
        }
    }
}
