//! The machine's fields, and what every phase needs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::state::{NextStep, State};
use crate::model::Timestamp;
use crate::sync::diff::{Judgement, Observed, Source};
use crate::sync::page::{Entry, Page, Window};
use crate::sync::protocol::{Baseline, Command, Commit, FeedState, Outcome, Settings, Single};

/// One feed's state machine. See [the module](crate::sync) for its phases.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) settings: Settings,
    pub(super) feed: FeedState,
    pub(super) state: State,
    /// The largest page that the server gives, as far as is known.
    pub(super) page: u32,
    /// Open runs that this poll has not seen yet, and whether they were active.
    pub(super) unseen: BTreeMap<String, bool>,
    /// How the forward phase of this poll ended.
    pub(super) outcome: Outcome,
    /// Forward reads in this poll.
    pub(super) reads: u32,
    /// Polls begun.
    pub(super) polls: u64,
    /// Polls failed in a row.
    pub(super) failures: u32,
    /// When the answer now being judged was requested.
    pub(super) asked_at: Timestamp,
    /// What remains until the next poll after the current sleep.
    pub(super) until_poll: Duration,
    /// Whether an audit was requested that must not wait.
    pub(super) audit_requested: bool,
    /// Whether audits must wait for the next poll to succeed.
    pub(super) audit_blocked: bool,
    /// Pages read in the current audit.
    pub(super) audit_reads: u32,
    /// The end of the last page that an audit accepted.
    pub(super) audited: u64,
    /// The ids on that page.
    pub(super) audited_last: Vec<String>,
}

impl Machine {
    /// A machine that continues from `feed`.
    pub fn new(settings: Settings, feed: FeedState) -> Self {
        let page = settings.page_size;
        let audited = feed.audit.as_ref().map_or(0, |audit| audit.cursor.offset);
        Self {
            settings,
            feed,
            state: State::Asleep,
            page,
            unseen: BTreeMap::new(),
            outcome: Outcome::CaughtUp,
            reads: 0,
            polls: 0,
            failures: 0,
            asked_at: Timestamp::default(),
            until_poll: Duration::ZERO,
            audit_requested: false,
            audit_blocked: false,
            audit_reads: 0,
            audited,
            audited_last: Vec::new(),
        }
    }

    /// The feed's state as of the last commit.
    pub fn feed(&self) -> &FeedState {
        &self.feed
    }

    /// The offset that the audit in progress has reached, or else the one at which the last audit ended.
    pub fn audited(&self) -> u64 {
        self.audited
    }

    /// Removes the runs of a page from those this poll has not seen yet.
    pub(super) fn mark_seen(&mut self, page: &Page) {
        for id in page.entries.iter().filter_map(Entry::id) {
            self.unseen.remove(id);
        }
    }

    /// A commit that moves the feed to `feed` and stores no observations.
    pub(super) fn empty_commit(&self, feed: FeedState, now: Timestamp) -> Commit {
        let history = match feed.baseline {
            Some(baseline) if !self.settings.history_events => baseline,
            _ => Baseline::Nothing,
        };
        let judgement = Judgement {
            history,
            settle: self.settings.settle,
            now,
            asked_at: self.asked_at,
        };
        Commit {
            observed: Vec::new(),
            gone: Vec::new(),
            unreadable: Vec::new(),
            covered: None,
            feed,
            judgement,
            finished: false,
        }
    }

    pub(super) fn commit(&mut self, commit: Commit, next: NextStep) -> Command {
        self.state = State::Committing {
            feed: commit.feed.clone(),
            next,
        };
        Command::Commit(Box::new(commit))
    }

    /// Splits off as many of `remaining` as may be requested at once.
    pub(super) fn next_batch<T>(&self, remaining: &mut Vec<T>) -> Vec<T> {
        let size = remaining.len().min(self.settings.read_ahead.max(1));
        remaining.drain(..size).collect()
    }
}

/// Where to read again when a page does not join because entries before the cursor were deleted: `stride` before the
/// requested offset, or before the end of the list if the server reports one before that offset. `None` when offset 0
/// was requested and the server showed another page: there is no earlier offset to try.
pub(super) fn step_back(asked: &Window, shown: Option<&Page>, stride: u64) -> Option<u64> {
    let end = shown.map_or(asked.offset, |page| {
        let offset = page.offset.unwrap_or(asked.offset);
        offset.min(page.total.unwrap_or(offset))
    });
    (asked.offset > 0).then(|| asked.offset.min(end).saturating_sub(stride))
}

/// The entries of a page, as observations.
pub(super) fn listed(page: Page) -> impl Iterator<Item = Observed> {
    page.entries.into_iter().filter_map(|entry| match entry {
        Entry::Run(seen) => Some(Observed {
            seen,
            source: Source::List,
        }),
        Entry::Unreadable(_) => None,
    })
}

/// The answers to single reads: runs that exist, and ids of runs that do not.
pub(super) fn split_singles(runs: Vec<(String, Single)>) -> (Vec<Observed>, Vec<String>) {
    let (mut found, mut gone) = (Vec::new(), Vec::new());
    for (id, run) in runs {
        match run {
            Single::Found(seen) => found.push(Observed {
                seen: *seen,
                source: Source::Detail,
            }),
            Single::Gone => gone.push(id),
            Single::Failed => {}
        }
    }
    (found, gone)
}
