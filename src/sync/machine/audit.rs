//! Audits, one page at a time between polls. [`crate::sync::audit`] defines what a page proves.

use super::base::{Machine, listed, split_singles, step_back};
use super::state::{AuditRead, AuditedPage, NextStep, State};
use crate::model::Timestamp;
use crate::sync::audit::{Audit, Covered};
use crate::sync::diff::Observed;
use crate::sync::page::{Listing, Page, Window};
use crate::sync::protocol::{Command, Commit, FeedState, Outcome, Single};

/// The most pages of one audit. Only a list that grows as fast as it is read has more.
const MAX_AUDIT_READS: u32 = 100_000;

impl Machine {
    /// Reads the next page of the audit in progress, or the first page of a new one.
    pub(super) fn continue_audit(&mut self, now: Timestamp) -> Command {
        if self.feed.audit.is_none() {
            self.audit_reads = 0;
        }
        let audit = self.feed.audit.get_or_insert_with(|| Audit::begin(now));
        let follows = audit.cursor.watermark.is_some();
        let offset = audit.cursor.offset.saturating_sub(u64::from(follows));
        self.read_audit(offset, 1, follows)
    }

    fn read_audit(&mut self, offset: u64, stride: u64, follows: bool) -> Command {
        let window = Window {
            listing: Listing::All,
            offset,
            limit: self.settings.page_size,
        };
        self.state = State::Audit(AuditRead {
            window,
            stride,
            follows,
        });
        Command::Read(vec![window])
    }

    pub(super) fn audit_page(
        &mut self,
        read: &AuditRead,
        pages: Vec<Page>,
        now: Timestamp,
    ) -> Command {
        self.audit_reads = self.audit_reads.saturating_add(1);
        let (Some(page), Some(audit)) = (pages.into_iter().next(), &self.feed.audit) else {
            return self.abandon_audit(now);
        };
        if !audit.cursor.joins(&page) {
            return match step_back(&read.window, Some(&page), read.stride) {
                Some(offset) => self.read_audit(offset, read.stride.saturating_mul(2), false),
                None => self.abandon_audit(now),
            };
        }
        let stalled = !page.reaches_end() && read.follows && page.end() <= audit.cursor.offset;
        if stalled || self.audit_reads > MAX_AUDIT_READS {
            return self.abandon_audit(now);
        }
        let gaps = audit.gaps(&page);
        if gaps.is_empty() {
            return self.audit_commit(page, Vec::new(), Vec::new(), now);
        }
        let mut except = self.audited_last.clone();
        except.extend(page.runs().map(|seen| seen.run.id.clone()));
        self.state = State::AuditUnseen { page };
        Command::LoadUnseen { gaps, except }
    }

    pub(super) fn audit_singles(&mut self, mut audited: AuditedPage, now: Timestamp) -> Command {
        if audited.remaining.is_empty() {
            return self.audit_commit(audited.page, audited.found, audited.gone, now);
        }
        let batch = self.next_batch(&mut audited.remaining);
        self.state = State::AuditSingles(audited);
        Command::ReadRuns(batch)
    }

    pub(super) fn audit_runs(
        &mut self,
        mut audited: AuditedPage,
        runs: Vec<(String, Single)>,
        now: Timestamp,
    ) -> Command {
        let (found, gone) = split_singles(runs);
        audited.found.extend(found);
        audited.gone.extend(gone);
        self.audit_singles(audited, now)
    }

    /// Commits a page and everything it decides at once, so that an interrupted audit leaves nothing undecided behind
    /// its cursor.
    fn audit_commit(
        &mut self,
        page: Page,
        found: Vec<Observed>,
        gone: Vec<String>,
        now: Timestamp,
    ) -> Command {
        let covered = Covered::by(&page);
        let audit = self.feed.audit.as_ref().map(|audit| audit.after(&page));
        self.audited = page.end();
        let (feed, outcome) = if page.reaches_end() {
            self.audited_last.clear();
            (
                FeedState {
                    audited_at: Some(now),
                    ..self.feed_without_audit(now)
                },
                Outcome::Audited,
            )
        } else {
            self.audited_last = page.runs().map(|seen| seen.run.id.clone()).collect();
            (
                FeedState {
                    audit,
                    ..self.feed.clone()
                },
                Outcome::Auditing,
            )
        };
        let mut observed = found;
        observed.extend(listed(page));
        let commit = Commit {
            observed,
            gone,
            covered,
            ..self.empty_commit(feed, now)
        };
        self.commit(commit, NextStep::EndAuditPage(outcome))
    }

    /// Ends an audit that the server's answers make impossible. The next one starts from the beginning.
    fn abandon_audit(&mut self, now: Timestamp) -> Command {
        let commit = self.empty_commit(self.feed_without_audit(now), now);
        self.commit(commit, NextStep::EndAuditPage(Outcome::Stalled))
    }

    fn feed_without_audit(&self, now: Timestamp) -> FeedState {
        FeedState {
            audit: None,
            audit_due_at: self.next_audit_due(now),
            ..self.feed.clone()
        }
    }
}
