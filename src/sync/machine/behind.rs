//! The last phases: open runs behind the cursor that are no longer active, read by page or singly, and the poll's end.

use std::ops::Bound;

use super::base::Machine;
use super::state::{NextStep, State};
use crate::model::Timestamp;
use crate::sync::cursor::Placed;
use crate::sync::page::{Page, Window};
use crate::sync::protocol::{Command, Commit, Outcome, Single};
use crate::sync::refresh;

/// The most runs read singly in one poll.
const MAX_SINGLE_READS: usize = 500;
/// The most single reads that may fail in one poll: each takes as long as its retries.
const MAX_FAILED_SINGLES: usize = 20;
/// From this many runs on, several may share a page, so their positions are worth estimating.
const MIN_RUNS_TO_LOCATE: usize = 3;

impl Machine {
    pub(super) fn after_active(&mut self, now: Timestamp) -> Command {
        if self.unseen.len() >= MIN_RUNS_TO_LOCATE {
            self.state = State::Locating;
            return Command::Locate(self.unseen.keys().cloned().collect());
        }
        self.read_behind(Vec::new(), 0, now)
    }

    pub(super) fn located(&mut self, distances: &[u64], now: Timestamp) -> Command {
        let page = self.sizes.expected();
        let windows = refresh::windows(distances, self.feed.cursor.offset, page);
        self.read_behind(windows, 0, now)
    }

    /// Reads `remaining`, of which the first `begun` were requested before.
    pub(super) fn read_behind(
        &mut self,
        remaining: Vec<Window>,
        begun: usize,
        now: Timestamp,
    ) -> Command {
        if remaining.is_empty() {
            return self.read_singles(self.singles_to_read(), now);
        }
        let most = self.settings.read_ahead.max(1);
        let windows: Vec<Window> = remaining.iter().copied().take(most).collect();
        let asked = windows.len();
        self.state = State::Behind { remaining, asked };
        Command::Read { windows, begun }
    }

    /// The runs to read singly. Each poll goes on after the run read last, so that every run is read eventually.
    fn singles_to_read(&self) -> Vec<String> {
        let after = self
            .last_single
            .as_ref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.unseen.range::<String, _>((after, Bound::Unbounded));
        let all = later.chain(&self.unseen).take(self.unseen.len());
        let ids = all.map(|(id, _)| id.clone());
        ids.take(MAX_SINGLE_READS).collect()
    }

    pub(super) fn behind(
        &mut self,
        pages: Vec<Page>,
        (mut remaining, asked): (Vec<Window>, usize),
        now: Timestamp,
    ) -> Command {
        let mut commit = self.empty_commit(self.feed.clone(), now);
        let begun = asked.saturating_sub(pages.len());
        let read = pages.len().min(remaining.len());
        for (window, page) in remaining.drain(..read).zip(pages) {
            self.mark_seen(&page);
            commit.add(Placed {
                place: window.offset,
                begins: false,
                page,
            });
        }
        self.commit(commit, NextStep::Behind { remaining, begun })
    }

    pub(super) fn read_singles(&mut self, mut remaining: Vec<String>, now: Timestamp) -> Command {
        if remaining.is_empty() || self.failed_singles >= MAX_FAILED_SINGLES {
            let commit = Commit {
                finished: self.outcome == Outcome::CaughtUp,
                ..self.empty_commit(self.feed.clone(), now)
            };
            return self.commit(commit, NextStep::EndPoll(self.outcome));
        }
        let batch = self.next_batch(&mut remaining);
        self.last_single = batch.last().cloned();
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
        let mut commit = self.empty_commit(self.feed.clone(), now);
        let listed = std::mem::take(&mut self.listed);
        self.failed_singles += self.add_singles(&mut commit, runs, |id| listed.contains(id));
        self.listed = listed;
        self.commit(commit, NextStep::Singles { remaining })
    }
}
