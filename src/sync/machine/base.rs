//! The machine's fields, and what every phase needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::state::{NextStep, State};
use crate::model::{Mark, Timestamp};
use crate::sync::cursor::Placed;
use crate::sync::diff::{Baseline, Judgement, Observed, Source};
use crate::sync::page::{Entry, Page};
use crate::sync::protocol::{Command, Commit, FeedState, MAX_OPEN, Outcome, Settings, Single};
use crate::sync::walk::{PageSizes, Walk};

/// How often an entry that a list shows unreadable is read singly, in one process.
const MAX_UNREADABLE_READS: u32 = 3;
/// The most such entries that are remembered.
const MAX_UNREADABLE: usize = 1_000;

/// One feed's state machine. See [the module](crate::sync) for its phases.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) settings: Settings,
    pub(super) feed: FeedState,
    pub(super) state: State,
    /// What is known of the server's pages.
    pub(super) sizes: PageSizes,
    /// The forward reads of this poll.
    pub(super) walk: Option<Walk>,
    /// The reads of the audit in progress.
    pub(super) audit_walk: Option<Walk>,
    /// Entries without a start that certainly lie before the watermark.
    pub(super) before: BTreeSet<Mark>,
    /// The run that the first read of the first sync showed as the newest, until the baseline is stored. Later on, whatever
    /// came before it in the list may have been deleted.
    pub(super) newest: Option<String>,
    /// Open runs that this poll has not seen yet, and whether they were active.
    pub(super) unseen: BTreeMap<String, bool>,
    /// The run read singly last, after which the next poll goes on.
    pub(super) last_single: Option<String>,
    /// How often each entry that a list showed unreadable was read singly.
    pub(super) unreadable: BTreeMap<String, u32>,
    /// Those of them that this poll has shown.
    pub(super) listed: BTreeSet<String>,
    /// Those of them that the last such read has shown.
    pub(super) readable: BTreeSet<String>,
    /// Single reads that failed in this poll.
    pub(super) failed_singles: usize,
    /// How the forward phase of this poll ended.
    pub(super) outcome: Outcome,
    /// Forward reads in this poll.
    pub(super) reads: u32,
    /// The watermark's start when this poll began.
    pub(super) poll_from: Option<Timestamp>,
    /// Polls in a row that reached the limit of reads without moving the watermark.
    pub(super) barren_polls: u32,
    /// Entries that were gone past although they could not all be read.
    pub(super) missed: u64,
    /// How often a poll or an audit read further back than its cursor says.
    pub(super) corrections: u64,
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
    /// Whether the audit in progress has seen entries out of order: then no page proves that a run is not listed.
    pub(super) audit_disordered: bool,
    /// The end of the last page that an audit accepted.
    pub(super) audited: u64,
    /// The ids that the audit has seen since it last decided something.
    pub(super) audited_last: BTreeSet<String>,
}

impl Machine {
    /// A machine that continues from `feed`.
    pub fn new(settings: Settings, feed: FeedState) -> Self {
        let sizes = PageSizes::new(settings.page_size);
        let audited = feed.audit.as_ref().map_or(0, |audit| audit.cursor.offset);
        Self {
            settings,
            feed,
            state: State::Asleep,
            sizes,
            walk: None,
            audit_walk: None,
            before: BTreeSet::new(),
            newest: None,
            unseen: BTreeMap::new(),
            last_single: None,
            unreadable: BTreeMap::new(),
            listed: BTreeSet::new(),
            readable: BTreeSet::new(),
            failed_singles: 0,
            outcome: Outcome::CaughtUp,
            reads: 0,
            poll_from: None,
            barren_polls: 0,
            missed: 0,
            corrections: 0,
            polls: 0,
            failures: 0,
            asked_at: Timestamp::default(),
            until_poll: Duration::ZERO,
            audit_requested: false,
            audit_blocked: false,
            audit_reads: 0,
            audit_disordered: false,
            audited,
            audited_last: BTreeSet::new(),
        }
    }

    /// The feed's state as of the last commit.
    pub fn feed(&self) -> &FeedState {
        &self.feed
    }

    /// Whether it keeps a page in memory beyond the commit that it asks for now: an audit commits what single reads show of a
    /// page before the page itself.
    pub fn keeps_page(&self) -> bool {
        let next = match &self.state {
            State::Committing { next, .. } => next,
            _ => return false,
        };
        matches!(next, NextStep::AuditSingles(_))
    }

    /// The offset that the audit in progress has reached, or else the one at which the last audit ended.
    pub fn audited(&self) -> u64 {
        self.audited
    }

    /// Takes the number of entries that forward reading went past although it could not read them all: more had the same
    /// start, or none, than a page holds, and their order kept changing. Audits find them.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// Takes the number of times that a poll or an audit read further back because a page did not join what was read before,
    /// as after deletions.
    pub fn take_corrections(&mut self) -> u64 {
        std::mem::take(&mut self.corrections)
    }

    /// Removes the runs of a page from those this poll has not seen yet, and adds those that the page shows unreadable: a
    /// single read may show more.
    pub(super) fn mark_seen(&mut self, page: &Page) {
        for id in unreadable(page) {
            if self.unreadable.len() >= MAX_UNREADABLE {
                self.unreadable.clear();
                self.readable.clear();
            }
            if self.listed.len() < MAX_OPEN {
                self.listed.insert(id.to_owned());
            }
            let reads = self.unreadable.entry(id.to_owned()).or_default();
            if *reads < MAX_UNREADABLE_READS && self.unseen.len() < MAX_OPEN {
                *reads += 1;
                self.unseen.insert(id.to_owned(), false);
            }
        }
        for seen in page.runs() {
            self.unseen.remove(&seen.run.id);
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
            details: self.settings.details,
            now,
            asked_at: self.asked_at,
        };
        Commit {
            observed: Vec::new(),
            gone: Vec::new(),
            unreadable: Vec::new(),
            readable: BTreeSet::new(),
            covered: None,
            feed,
            judgement,
            finished: false,
        }
    }

    /// Adds the answers to single reads to `commit`; returns how many runs could not be read. One that a list shows unreadable is not
    /// gone, whatever a single read says: `is_listed` tells which are.
    pub(super) fn add_singles(
        &mut self,
        commit: &mut Commit,
        runs: Vec<(String, Single)>,
        is_listed: impl Fn(&str) -> bool,
    ) -> usize {
        let mut failed = 0;
        for (id, run) in runs {
            match run {
                Single::Found(seen) => {
                    if self.unreadable.contains_key(&id) {
                        self.readable.insert(id);
                    }
                    commit.observed.push(Observed {
                        seen: *seen,
                        source: Source::Detail,
                    });
                }
                Single::Gone if !is_listed(&id) => commit.gone.push(id),
                Single::Gone | Single::Failed => {
                    self.readable.remove(&id);
                    failed += 1;
                }
            }
        }
        failed
    }

    pub(super) fn commit(&mut self, mut commit: Commit, next: NextStep) -> Command {
        let ids = commit
            .unreadable
            .iter()
            .filter_map(|(_, item)| item.id.as_ref());
        let readable = ids.filter(|id| self.readable.contains(*id));
        commit.readable.extend(readable.cloned());
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

/// The ids of the entries of a page that cannot be read otherwise.
pub(super) fn unreadable(page: &Page) -> impl Iterator<Item = &str> {
    page.entries.iter().filter_map(|entry| match entry {
        Entry::Unreadable(item) => item.id.as_deref(),
        Entry::Run(_) => None,
    })
}

impl Commit {
    /// Adds the entries of a page.
    pub(super) fn add(&mut self, placed: Placed) {
        for (place, entry) in (placed.place..).zip(placed.page.entries) {
            match entry {
                Entry::Run(seen) => self.observed.push(Observed {
                    seen,
                    source: Source::List,
                }),
                Entry::Unreadable(item) => self.unreadable.push((place, item)),
            }
        }
    }
}
