//! The active phase: the watch read, which also shows which open runs are still active.

use super::base::Machine;
use super::state::{ActiveRead, NextStep, State};
use crate::model::Timestamp;
use crate::sync::cursor::{Cursor, Placed};
use crate::sync::page::{Entry, Listing, Page, Window};
use crate::sync::protocol::{Command, ReadFailure};

/// The most pages of active runs read in one poll.
const MAX_ACTIVE_READS: u32 = 100;

impl Machine {
    pub(super) fn after_forward(&mut self, now: Timestamp) -> Command {
        let watch_due = self
            .feed
            .watched_at
            // A time in the future was written before the clock was set back.
            .is_none_or(|at| at > now || now.since(at) >= self.settings.watch_interval);
        let active = self.unseen.values().filter(|active| **active).count();
        // Reading a single run costs one request too, and shows more.
        if watch_due || active > 1 {
            return self.read_active(ActiveRead {
                offset: 0,
                first: None,
                beyond: 0,
                pages: 0,
                since: now,
            });
        }
        self.after_active(now)
    }

    pub(super) fn read_active(&mut self, read: ActiveRead) -> Command {
        let window = Window {
            listing: Listing::Active,
            offset: read.offset,
            limit: self.settings.page_size,
        };
        self.state = State::Active(read);
        Command::read(vec![window])
    }

    pub(super) fn active(
        &mut self,
        read: ActiveRead,
        answer: Vec<Page>,
        now: Timestamp,
    ) -> Command {
        let Some(page) = answer.into_iter().next() else {
            return self.fail_poll(ReadFailure::Temporary, now);
        };
        self.mark_seen(&page);
        let largest = self.sizes.largest();
        self.sizes.given(page.len());
        let placed = Placed {
            place: read.offset,
            begins: false,
            page,
        };
        let mut feed = self.feed.clone();
        let next = if ends(&read, &placed, largest) {
            feed.watched_at = Some(read.since);
            NextStep::AfterActive
        } else {
            NextStep::Active(ActiveRead {
                offset: self.next_active(&read, &placed),
                first: first(&placed).map(str::to_owned),
                beyond: placed.end(),
                pages: read.pages + 1,
                since: read.since,
            })
        };
        let mut commit = self.empty_commit(feed, now);
        commit.add(placed);
        self.commit(commit, next)
    }

    /// Where the next page of active runs begins. Runs leave this list all the time, which shifts later ones to lower
    /// offsets, so pages overlap, at least from before the first entry that ties with the last.
    fn next_active(&self, read: &ActiveRead, placed: &Placed) -> u64 {
        let len = placed.page.len();
        let overlap = u64::from(self.settings.overlap).min(len / 2);
        let tail = Cursor::default().after(placed, 0).tail;
        let next = placed.end() - overlap.max(tail + 1).min(len);
        if next > read.offset {
            next
        } else {
            placed.end()
        }
    }
}

fn first(placed: &Placed) -> Option<&str> {
    placed.page.entries.first().and_then(Entry::id)
}

/// Whether the list of active runs ends with this page: it is short and `total` does not say otherwise, or it shows
/// nothing beyond the page before it, or that page again. An ended run on it means that the filter was ignored, and that the list is that of
/// all runs, which other reads are for.
fn ends(read: &ActiveRead, placed: &Placed, largest: u64) -> bool {
    let page = &placed.page;
    let is_short = page.len() < largest && !placed.claims_more();
    let is_filtered = page.runs().all(|seen| !seen.run.status.is_terminal());
    let is_repeated = read.first.is_some() && first(placed) == read.first.as_deref();
    is_short
        || is_repeated
        || page.entries.is_empty()
        || !is_filtered
        || placed.end() <= read.beyond
        || read.pages + 1 >= MAX_ACTIVE_READS
}
