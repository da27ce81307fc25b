//! The last phases: open runs behind the cursor that are no longer active, read by page or singly, and the poll's end.

use super::base::{Machine, listed, split_singles};
use super::state::{NextStep, State};
use crate::model::Timestamp;
use crate::sync::page::{Page, Window};
use crate::sync::protocol::{Command, Commit, Outcome, Single};
use crate::sync::refresh;

/// The most runs read singly in one poll.
const MAX_SINGLE_READS: usize = 500;
/// From this many runs on, several may share a page, so their positions are worth estimating.
const MIN_RUNS_TO_LOCATE: usize = 3;

impl Machine {
    pub(super) fn after_active(&mut self, now: Timestamp) -> Command {
        if self.unseen.len() >= MIN_RUNS_TO_LOCATE {
            self.state = State::Locating;
            return Command::Locate(self.unseen.keys().cloned().collect());
        }
        self.read_behind(Vec::new(), now)
    }

    pub(super) fn located(&mut self, distances: &[u64], now: Timestamp) -> Command {
        let windows = refresh::windows(distances, self.feed.cursor.offset, self.page);
        self.read_behind(windows, now)
    }

    pub(super) fn read_behind(&mut self, mut remaining: Vec<Window>, now: Timestamp) -> Command {
        if remaining.is_empty() {
            let mut ids: Vec<String> = self.unseen.keys().cloned().collect();
            if ids.len() > MAX_SINGLE_READS {
                // Each poll starts at another run, so that every run is read eventually.
                let first = (self.polls as usize).wrapping_mul(MAX_SINGLE_READS) % ids.len();
                ids.rotate_left(first);
                ids.truncate(MAX_SINGLE_READS);
            }
            return self.read_singles(ids, now);
        }
        let batch = self.next_batch(&mut remaining);
        self.state = State::Behind { remaining };
        Command::Read(batch)
    }

    pub(super) fn behind(
        &mut self,
        pages: Vec<Page>,
        remaining: Vec<Window>,
        now: Timestamp,
    ) -> Command {
        let mut observed = Vec::new();
        for page in pages {
            self.mark_seen(&page);
            observed.extend(listed(page));
        }
        let commit = Commit {
            observed,
            ..self.empty_commit(self.feed.clone(), now)
        };
        self.commit(commit, NextStep::Behind { remaining })
    }

    pub(super) fn read_singles(&mut self, mut remaining: Vec<String>, now: Timestamp) -> Command {
        if remaining.is_empty() {
            let commit = Commit {
                finished: self.outcome == Outcome::CaughtUp,
                ..self.empty_commit(self.feed.clone(), now)
            };
            return self.commit(commit, NextStep::EndPoll(self.outcome));
        }
        let batch = self.next_batch(&mut remaining);
        self.state = State::Singles { remaining };
        Command::ReadRuns(batch)
    }

    pub(super) fn singles(
        &mut self,
        runs: Vec<(String, Single)>,
        remaining: Vec<String>,
        now: Timestamp,
    ) -> Command {
        for (id, _) in &runs {
            self.unseen.remove(id);
        }
        let (observed, gone) = split_singles(runs);
        let commit = Commit {
            observed,
            gone,
            ..self.empty_commit(self.feed.clone(), now)
        };
        self.commit(commit, NextStep::Singles { remaining })
    }
}
