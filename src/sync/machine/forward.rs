//! The forward phase: pages from the cursor to the end of the list, judged by a [`Walk`].

use super::base::Machine;
use super::state::{NextStep, State};
use crate::model::Timestamp;
use crate::sync::cursor::Placed;
use crate::sync::diff::Baseline;
use crate::sync::page::Page;
use crate::sync::protocol::{Command, FeedState, Outcome, Stall};
use crate::sync::walk::{Reads, Start, Step, Walk};

/// The most list reads in the forward phase of one poll. The next poll continues at once.
const MAX_FORWARD_READS: u32 = 1_000;

/// The most polls in a row that reach that limit and continue at once although the watermark has not moved, as after a
/// step back to the beginning of a long list.
const MAX_BARREN_POLLS: u32 = 100;

impl Machine {
    /// Begins the forward phase `overlap` entries before the cursor, or `reach` entries if that is farther.
    pub(super) fn begin_forward(&mut self, reach: u64, now: Timestamp) -> Command {
        // Where pages are small, it would take several of them to read a larger overlap. And a first page as large as the
        // largest that was ever given would not show that the list ends with it.
        let short = self
            .sizes
            .largest()
            .saturating_sub(self.feed.cursor.tail + 1);
        let half = u64::from(self.sizes.expected() / 2);
        let overlap = u64::from(self.settings.overlap).min(half).min(short);
        let start = Start {
            back: overlap.max(reach).max(1),
            is_poll: true,
        };
        let watermark = self.feed.cursor.watermark.as_ref();
        self.poll_from = watermark.map(|watermark| watermark.started);
        self.walk = Some(Walk::new(
            self.feed.cursor.clone(),
            start,
            self.before.clone(),
        ));
        self.read_forward(now)
    }

    pub(super) fn read_forward(&mut self, now: Timestamp) -> Command {
        let Some(walk) = &mut self.walk else {
            return self.begin_forward(0, now);
        };
        let offset = walk.cursor.offset;
        let left = self.feed.total.map(|total| total.saturating_sub(offset));
        // At the limit, only what is read ahead already is waited for.
        let more = MAX_FORWARD_READS.saturating_sub(self.reads).max(1) as usize;
        let ahead = self.settings.read_ahead.min(more + walk.ahead());
        let Reads { windows, begun } = walk.windows(self.sizes, ahead, left, now);
        let new = u32::try_from(windows.len() - begun).unwrap_or(u32::MAX);
        self.reads = self.reads.saturating_add(new);
        self.state = State::Forward;
        Command::Read { windows, begun }
    }

    /// When the page that is awaited was requested first, where it was read ahead.
    pub(super) fn forward_asked_at(&self) -> Option<Timestamp> {
        let walk = self.walk.as_ref().filter(|_| self.state == State::Forward);
        walk.and_then(Walk::asked_at)
    }

    pub(super) fn forward(&mut self, pages: Vec<Page>, now: Timestamp) -> Command {
        let Some(mut walk) = self.walk.take() else {
            return self.begin_forward(0, now);
        };
        let mut accepted = Vec::new();
        let step = walk.take(pages, &mut self.sizes, &mut accepted);
        self.missed += walk.take_missed();
        self.corrections += walk.take_corrections();
        self.before.clone_from(walk.before());
        let at_limit = self.reads >= MAX_FORWARD_READS && walk.ahead() == 0;
        if accepted.is_empty() && step == Step::ReadOn && !at_limit {
            self.walk = Some(walk);
            return self.read_forward(now);
        }
        let is_history = self.baseline_after(&accepted) == Some(Baseline::Everything);
        let feed = self.feed_after(&walk, &accepted, step == Step::End, now);
        let next = match step {
            Step::End => NextStep::AfterForward,
            Step::Stuck(stall) => self.stall(stall),
            Step::ReadOn if at_limit => self.pause(&feed),
            Step::ReadOn => NextStep::Forward,
        };
        self.walk = Some(walk);
        if feed == self.feed && accepted.is_empty() {
            return self.follow(next, Vec::new(), now);
        }
        let mut commit = self.empty_commit(feed, now);
        // What the first sync finds last is history as well.
        if is_history && !self.settings.history_events {
            commit.judgement.history = Baseline::Everything;
        }
        for placed in accepted {
            self.mark_seen(&placed.page);
            commit.add(placed);
        }
        self.commit(commit, next)
    }

    fn feed_after(
        &mut self,
        walk: &Walk,
        accepted: &[Placed],
        ends: bool,
        now: Timestamp,
    ) -> FeedState {
        let total = accepted.iter().rev().find_map(|placed| placed.page.total);
        let mut feed = FeedState {
            cursor: walk.cursor.clone(),
            total: total.or(self.feed.total),
            complete: self.feed.complete || ends,
            baseline: self.baseline_after(accepted),
            ..self.feed.clone()
        };
        if feed.complete && feed.baseline == Some(Baseline::Everything) {
            let newest = feed.cursor.watermark.as_ref();
            feed.baseline =
                Some(newest.map_or(Baseline::Nothing, |newest| Baseline::UpTo(newest.started)));
        }
        if feed.complete && feed.audit_due_at.is_none() {
            feed.audit_due_at = self.first_audit_due(now);
        }
        feed
    }

    fn stall(&mut self, stall: Stall) -> NextStep {
        self.outcome = Outcome::Stalled(stall);
        NextStep::AfterForward
    }

    /// Ends the forward phase at its limit of reads. The next poll continues at once, unless nothing comes of that.
    fn pause(&mut self, feed: &FeedState) -> NextStep {
        let watermark = feed.cursor.watermark.as_ref();
        let moved = watermark.map(|watermark| watermark.started) > self.poll_from;
        self.barren_polls = if moved { 0 } else { self.barren_polls + 1 };
        if self.barren_polls >= MAX_BARREN_POLLS {
            return self.stall(Stall::NoProgress);
        }
        NextStep::EndPoll(Outcome::Behind)
    }
}
