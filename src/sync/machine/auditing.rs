//! The part of the machine that carries an audit on between polls. What its pages prove is [`Audit`]'s business.

use std::time::Duration;

use super::super::audit::{Audit, Covered};
use super::super::diff::{Observed, Source};
use super::super::page::{Listing, Page, Seen, Window};
use super::super::protocol::{Command, Commit, FeedState, Outcome, State, Then};
use super::{Machine, listed, step_back};
use crate::model::Timestamp;

/// Time between two pages of an audit that nobody waits for; half the time between polls if that is less.
const PACE: Duration = Duration::from_secs(2);

/// The most pages of one audit; a list that goes on longer grows as fast as it is read.
const MAX_AUDIT_READS: u32 = 100_000;

impl Machine {
    /// Asks for an audit without delay, or for the one in progress to be finished without delay: from the end of the
    /// next poll on, until [`Outcome::Audited`].
    pub fn hurry_audit(&mut self) {
        self.hurry = true;
    }

    /// Up to which entry of the list the audit in progress, or else the last one, has come.
    pub fn audited(&self) -> u64 {
        self.audited
    }

    /// How long to wait with the next part of an audit; `None` when none is due.
    pub(super) fn audit_wait(&self, now: Timestamp) -> Option<Duration> {
        if !self.feed.complete || self.audit_barred {
            return None;
        }
        if self.hurry {
            return Some(Duration::ZERO);
        }
        let interval = self.settings.audit_interval?;
        let due = match self.feed.audit_due_at {
            // One that lies farther ahead than any that is written was written before the clock was set back, or under
            // another interval.
            Some(due) => due <= now || due.since(now) > interval.saturating_mul(2),
            None => true,
        };
        (self.feed.audit.is_some() || due).then_some(PACE.min(self.settings.poll_interval / 2))
    }

    /// When a feed's first audit is due: not all feeds' at once.
    pub(super) fn first_audit_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.settings
            .audit_interval
            .map(|interval| now.plus(self.settings.seed.part(interval, 0)))
    }

    pub(super) fn audit_on(&mut self, now: Timestamp) -> Command {
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
        self.state = State::Audit {
            window,
            stride,
            follows,
        };
        Command::Read(vec![window])
    }

    pub(super) fn audit_page(
        &mut self,
        pages: Vec<Page>,
        asked: Window,
        stride: u64,
        follows: bool,
        now: Timestamp,
    ) -> Command {
        self.audit_reads = self.audit_reads.saturating_add(1);
        let (Some(page), Some(audit)) = (pages.into_iter().next(), &self.feed.audit) else {
            return self.give_audit_up(now);
        };
        if !audit.cursor.joins(&page) {
            return match step_back(&asked, Some(&page), stride) {
                Some(offset) => self.read_audit(offset, stride.saturating_mul(2), false),
                None => self.give_audit_up(now),
            };
        }
        let stalled = !page.reaches_end() && follows && page.end() <= audit.cursor.offset;
        if stalled || self.audit_reads > MAX_AUDIT_READS {
            return self.give_audit_up(now);
        }
        let stretches = audit.gaps(&page);
        if stretches.is_empty() {
            return self.audit_commit(page, Vec::new(), Vec::new(), now);
        }
        let mut except = self.audited_last.clone();
        except.extend(page.items.iter().map(|seen| seen.run.id.clone()));
        self.state = State::AuditUnseen { page };
        Command::LoadUnseen { stretches, except }
    }

    pub(super) fn audit_singles(
        &mut self,
        page: Page,
        mut rest: Vec<String>,
        found: Vec<Observed>,
        gone: Vec<String>,
        now: Timestamp,
    ) -> Command {
        if rest.is_empty() {
            return self.audit_commit(page, found, gone, now);
        }
        let later = rest.split_off(rest.len().min(self.settings.read_ahead.max(1)));
        self.state = State::AuditSingles {
            page,
            rest: later,
            found,
            gone,
        };
        Command::ReadRuns(rest)
    }

    pub(super) fn audit_runs(
        &mut self,
        page: Page,
        rest: Vec<String>,
        mut found: Vec<Observed>,
        mut gone: Vec<String>,
        runs: Vec<(String, Option<Seen>)>,
        now: Timestamp,
    ) -> Command {
        for (id, run) in runs {
            match run {
                Some(seen) => found.push(Observed {
                    seen,
                    source: Source::Detail,
                }),
                None => gone.push(id),
            }
        }
        self.audit_singles(page, rest, found, gone, now)
    }

    /// One commit for a page and all that it decides, so that an audit that is interrupted leaves nothing undecided
    /// behind its cursor.
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
        self.audited_last = match page.reaches_end() {
            true => Vec::new(),
            false => page.items.iter().map(|seen| seen.run.id.clone()).collect(),
        };
        let (feed, outcome) = if page.reaches_end() {
            (
                FeedState {
                    audited_at: Some(now),
                    ..self.after_audit(now)
                },
                Outcome::Audited,
            )
        } else {
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
        self.commit(commit, Then::Rest(outcome))
    }

    /// The server does not show the list as a list: the next audit may fare better.
    fn give_audit_up(&mut self, now: Timestamp) -> Command {
        let commit = self.empty_commit(self.after_audit(now), now);
        self.commit(commit, Then::Rest(Outcome::Stalled))
    }

    fn after_audit(&self, now: Timestamp) -> FeedState {
        let wait = |interval| self.settings.seed.jittered(interval, self.polls);
        let audit_due_at = self
            .settings
            .audit_interval
            .map(|interval| now.plus(wait(interval)));
        FeedState {
            audit: None,
            audit_due_at,
            ..self.feed.clone()
        }
    }
}
