//! Audits, one page at a time between polls. [`crate::sync::audit`] defines what a page proves.

use std::collections::BTreeSet;

use super::base::{Machine, unreadable};
use super::state::{AuditedPage, NextStep, State};
use crate::model::Timestamp;
use crate::sync::audit::{Audit, Covered};
use crate::sync::cursor::Placed;
use crate::sync::page::{Entry, Page};
use crate::sync::protocol::{Command, FeedState, Outcome, Single, Stall};
use crate::sync::walk::{Start, Step, Walk};

/// The most runs that an audit has seen since it last decided something; few in tests. There are only more if more than that
/// have equal starts, or the list is out of order.
const MAX_UNDECIDED: usize = if cfg!(test) { 10_000 } else { 100_000 };

/// The most pages of one audit. Only a list that grows as fast as it is read has more.
const MAX_AUDIT_READS: u32 = 100_000;

impl Machine {
    /// Reads the next page of the audit in progress, or the first page of a new one.
    pub(super) fn continue_audit(&mut self, now: Timestamp) -> Command {
        if self.feed.audit.is_none() {
            self.audit_reads = 0;
            self.audit_walk = None;
            self.audit_disordered = false;
            self.audited_last.clear();
        }
        let audit = self.feed.audit.get_or_insert_with(|| Audit::begin(now));
        let start = Start {
            back: 1,
            is_poll: false,
        };
        let walk = self
            .audit_walk
            .get_or_insert_with(|| Walk::new(audit.cursor.clone(), start, self.before.clone()));
        self.state = State::Audit;
        Command::read(walk.windows(self.sizes, 1, None, now).windows)
    }

    pub(super) fn audit_page(&mut self, pages: Vec<Page>, now: Timestamp) -> Command {
        self.audit_reads = self.audit_reads.saturating_add(1);
        let (Some(walk), Some(audit)) = (&mut self.audit_walk, &self.feed.audit) else {
            return self.fail_audit(now);
        };
        let mut accepted = Vec::new();
        let step = walk.take(pages, &mut self.sizes, &mut accepted);
        self.corrections += walk.take_corrections();
        let ends = step == Step::End;
        match step {
            Step::Stuck(stall) => return self.abandon_audit(stall, now),
            _ if self.audit_reads > MAX_AUDIT_READS => {
                return self.abandon_audit(Stall::NoProgress, now);
            }
            Step::ReadOn if accepted.is_empty() => return self.continue_audit(now),
            Step::ReadOn | Step::End => {}
        }
        // Only one window is requested at a time.
        let page = accepted.pop();
        self.audit_disordered |= page.as_ref().is_some_and(|page| !is_sorted(page));
        let gaps = audit.gaps(self.proof(page.as_ref()), ends);
        if self.audited_last.len() > MAX_UNDECIDED {
            return self.abandon_audit(Stall::Undecided, now);
        }
        let shown = page
            .as_ref()
            .map_or_else(BTreeSet::new, |page| ids(page).collect());
        let page = AuditedPage {
            remaining: page
                .iter()
                .flat_map(|placed| unreadable(&placed.page))
                .map(str::to_owned)
                .collect(),
            found: BTreeSet::new(),
            page,
            ends,
        };
        if gaps.is_empty() {
            return self.audit_singles(page, now);
        }
        let except = self.audited_last.union(&shown).cloned().collect();
        self.state = State::AuditUnseen(page);
        Command::LoadUnseen { gaps, except }
    }

    pub(super) fn audit_singles(&mut self, mut audited: AuditedPage, now: Timestamp) -> Command {
        if audited.remaining.is_empty() {
            return self.audit_commit(audited, now);
        }
        let batch = self.next_batch(&mut audited.remaining);
        self.state = State::AuditSingles(audited);
        Command::ReadRuns(batch)
    }

    /// Commits what single reads decide, before the page they belong to: they would take too much memory together. The audit's
    /// cursor stays until the page is committed. A run that is stored by this was on the page, if without a start or
    /// unreadable, so that the page does not prove it absent.
    pub(super) fn audit_runs(
        &mut self,
        mut audited: AuditedPage,
        runs: Vec<(String, Single)>,
        now: Timestamp,
    ) -> Command {
        let mut commit = self.empty_commit(self.feed.clone(), now);
        let shown = runs
            .iter()
            .filter(|(_, run)| matches!(run, Single::Found(_)));
        audited.found.extend(shown.map(|(id, _)| id.clone()));
        let page = audited.page.iter();
        let listed: BTreeSet<&str> = page.flat_map(|placed| unreadable(&placed.page)).collect();
        self.add_singles(&mut commit, runs, |id| listed.contains(id));
        self.commit(commit, NextStep::AuditSingles(Box::new(audited)))
    }

    /// The page, if what it does not show is proof.
    fn proof<'a>(&self, page: Option<&'a Placed>) -> Option<&'a Placed> {
        page.filter(|_| !self.audit_disordered)
    }

    /// Commits a page, once everything that it leaves undecided is committed, so that an interrupted audit leaves nothing
    /// undecided behind its cursor.
    fn audit_commit(&mut self, audited: AuditedPage, now: Timestamp) -> Command {
        let AuditedPage {
            page, ends, found, ..
        } = audited;
        let (Some(walk), Some(audit)) = (&self.audit_walk, &self.feed.audit) else {
            return self.fail_audit(now);
        };
        let proof = self.proof(page.as_ref());
        let decided = proof.map_or(audit.decided, |page| audit.decided_by(page));
        self.audited = walk.cursor.offset;
        let next = Audit {
            began_at: audit.began_at,
            cursor: walk.cursor.clone(),
            decided,
        };
        let (feed, outcome) = if ends {
            self.audited_last.clear();
            let feed = FeedState {
                audited_at: Some(now),
                ..self.feed_without_audit(now)
            };
            (feed, Outcome::Audited)
        } else {
            if decided > audit.decided {
                self.audited_last.clear();
            }
            self.audited_last
                .extend(page.as_ref().into_iter().flat_map(ids));
            let feed = FeedState {
                audit: Some(next),
                ..self.feed.clone()
            };
            (feed, Outcome::Auditing)
        };
        let mut commit = self.empty_commit(feed, now);
        commit.covered = self.proof(page.as_ref()).and_then(Covered::by);
        if let Some(page) = page {
            commit.add(page);
        }
        commit.readable = found;
        self.commit(commit, NextStep::EndAuditPage(outcome))
    }

    /// Reads singly what a page showed in a state that a list alone does not prove, then ends the page.
    pub(super) fn audit_confirm(
        &mut self,
        mut remaining: Vec<String>,
        outcome: Outcome,
        now: Timestamp,
    ) -> Command {
        if remaining.is_empty() {
            return self.sleep(outcome, now);
        }
        let batch = self.next_batch(&mut remaining);
        self.state = State::AuditConfirm { remaining, outcome };
        Command::ReadRuns(batch)
    }

    pub(super) fn audit_confirmed(
        &mut self,
        runs: Vec<(String, Single)>,
        remaining: Vec<String>,
        outcome: Outcome,
        now: Timestamp,
    ) -> Command {
        let mut commit = self.empty_commit(self.feed.clone(), now);
        // They are on the page that was committed.
        self.add_singles(&mut commit, runs, |_| false);
        self.commit(commit, NextStep::AuditConfirm { remaining, outcome })
    }

    /// Ends a page of an audit that could not be read. The audit goes on after the next poll, from its last commit.
    pub(super) fn fail_audit(&mut self, now: Timestamp) -> Command {
        self.audit_walk = None;
        self.sleep(Outcome::Failed, now)
    }

    /// Ends an audit that the server's answers make impossible. The next one starts from the beginning.
    fn abandon_audit(&mut self, stall: Stall, now: Timestamp) -> Command {
        let commit = self.empty_commit(self.feed_without_audit(now), now);
        self.commit(commit, NextStep::EndAuditPage(Outcome::Stalled(stall)))
    }

    fn feed_without_audit(&self, now: Timestamp) -> FeedState {
        FeedState {
            audit: None,
            audit_due_at: self.next_audit_due(now),
            ..self.feed.clone()
        }
    }
}

/// Whether the entries of a page come in the order of their starts.
fn is_sorted(page: &Placed) -> bool {
    page.page
        .entries
        .iter()
        .filter_map(Entry::started)
        .is_sorted()
}

fn ids(page: &Placed) -> impl Iterator<Item = String> {
    let ids = page.page.entries.iter().filter_map(Entry::id);
    ids.map(str::to_owned)
}
