//! The forward phase: pages from the cursor to the end of the list, under the rule of
//! [`Cursor::joins`](crate::sync::cursor::Cursor::joins).

use super::base::{Machine, listed, step_back};
use super::state::{ForwardRead, NextStep, State};
use crate::model::Timestamp;
use crate::sync::cursor::Cursor;
use crate::sync::page::{Listing, Page, Window};
use crate::sync::protocol::{Command, Commit, FeedState, Outcome};

/// The most list reads in the forward phase of one poll. The next poll continues at once.
const MAX_FORWARD_READS: u32 = 1_000;

/// What accepting the pages of one answer, in order, leads to.
struct Accepted {
    cursor: Cursor,
    total: Option<u64>,
    /// How many of the pages join.
    count: usize,
    /// Whether the last of them reaches the end of the list.
    at_end: bool,
    /// Whether the last of them shows nothing beyond the page before it.
    stalled: bool,
}

impl Machine {
    /// The first read of a poll begins `overlap` entries before the cursor, or `reach` entries if that is farther.
    /// Later reads repeat only the watermark: with a larger overlap, a server with small pages would never catch up
    /// with a list that grows faster than a page less the overlap.
    pub(super) fn read_forward(&mut self, follows: bool, reach: u64) -> Command {
        let offset = self.feed.cursor.offset;
        // Where pages are small, it would take several of them to read a larger overlap.
        let overlap = u64::from(self.settings.overlap.min(self.page / 2));
        let back = if follows { 1 } else { overlap.max(reach) };
        let start = offset.saturating_sub(back);
        let ahead = match self.feed.total {
            Some(total) if follows => self.pages_ahead(total.saturating_sub(start)),
            _ => 1,
        };
        let step = u64::from(self.page.saturating_sub(1).max(1));
        let windows = (0..ahead)
            .map(|n| self.list_window(start.saturating_add(n * step)))
            .collect();
        self.read_windows(windows, overlap.max(1), follows)
    }

    /// How many pages to request at once when `left` entries are known to remain.
    fn pages_ahead(&self, left: u64) -> u64 {
        let pages = left.div_ceil(u64::from(self.page.saturating_sub(1).max(1)));
        pages.clamp(1, self.settings.read_ahead.max(1) as u64)
    }

    fn list_window(&self, offset: u64) -> Window {
        Window {
            listing: Listing::All,
            offset,
            limit: self.settings.page_size,
        }
    }

    fn read_windows(&mut self, windows: Vec<Window>, stride: u64, follows: bool) -> Command {
        self.reads = self
            .reads
            .saturating_add(u32::try_from(windows.len()).unwrap_or(u32::MAX));
        self.state = State::Forward(ForwardRead {
            windows: windows.clone(),
            stride,
            follows,
        });
        Command::Read(windows)
    }

    pub(super) fn forward(
        &mut self,
        read: &ForwardRead,
        pages: Vec<Page>,
        now: Timestamp,
    ) -> Command {
        self.learn_page_size(&pages);
        let accepted = self.accept(&pages, read.follows);
        if accepted.count == 0 {
            return self.read_further_back(read, pages.first(), now);
        }
        let mut observed = Vec::new();
        for page in pages.into_iter().take(accepted.count) {
            self.mark_seen(&page);
            observed.extend(listed(page));
        }
        let next = if accepted.at_end {
            NextStep::AfterForward
        } else if accepted.stalled {
            self.outcome = Outcome::Stalled;
            NextStep::AfterForward
        } else if self.reads >= MAX_FORWARD_READS {
            NextStep::EndPoll(Outcome::Behind)
        } else {
            NextStep::Forward {
                follows: true,
                reach: 0,
            }
        };
        let mut feed = FeedState {
            cursor: accepted.cursor,
            total: accepted.total,
            complete: self.feed.complete || accepted.at_end,
            ..self.feed.clone()
        };
        if feed.complete && feed.audit_due_at.is_none() {
            feed.audit_due_at = self.first_audit_due(now);
        }
        let commit = Commit {
            observed,
            ..self.empty_commit(feed, now)
        };
        self.commit(commit, next)
    }

    /// Accepts pages until one does not join, reaches the end of the list or shows nothing new.
    fn accept(&self, pages: &[Page], follows: bool) -> Accepted {
        let mut accepted = Accepted {
            cursor: self.feed.cursor.clone(),
            total: self.feed.total,
            count: 0,
            at_end: false,
            stalled: false,
        };
        for page in pages {
            if !accepted.cursor.joins(page) {
                break;
            }
            let next = accepted.cursor.after(page);
            accepted.at_end = page.reaches_end();
            accepted.stalled = !accepted.at_end
                && (follows || accepted.count > 0)
                && next.offset <= accepted.cursor.offset;
            accepted.cursor = next;
            accepted.total = page.total.or(accepted.total);
            accepted.count += 1;
            if accepted.at_end || accepted.stalled {
                break;
            }
        }
        accepted
    }

    /// Discards a page that does not join and reads again further back, with twice the stride.
    fn read_further_back(
        &mut self,
        read: &ForwardRead,
        shown: Option<&Page>,
        now: Timestamp,
    ) -> Command {
        let asked = read.windows.first();
        match asked.and_then(|asked| step_back(asked, shown, read.stride)) {
            Some(offset) => {
                let window = self.list_window(offset);
                self.read_windows(vec![window], read.stride.saturating_mul(2), false)
            }
            None => {
                self.outcome = Outcome::Stalled;
                self.after_forward(now)
            }
        }
    }

    /// A page that ends before the list does has the server's largest size, whatever `limit` the server reports.
    fn learn_page_size(&mut self, pages: &[Page]) {
        let Some(page) = pages.first() else { return };
        let given = if page.reaches_end() {
            page.limit
        } else {
            Some(page.entries.len() as u64)
        };
        if let Some(given) = given.filter(|given| *given > 0) {
            self.page = u32::try_from(given)
                .unwrap_or(u32::MAX)
                .min(self.settings.page_size);
        }
    }
}
