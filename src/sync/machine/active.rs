//! The active phase: the watch read, which also shows which open runs are still active.

use super::base::{Machine, listed};
use super::state::{ActiveRead, NextStep, State};
use crate::model::Timestamp;
use crate::sync::page::{Listing, Page, Window};
use crate::sync::protocol::{Command, Commit, ReadFailure};

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
                beyond: 0,
                pages: 0,
                since: now,
            });
        }
        self.after_active(now)
    }

    pub(super) fn read_active(&mut self, read: ActiveRead) -> Command {
        self.state = State::Active(read);
        Command::Read(vec![Window {
            listing: Listing::Active,
            offset: read.offset,
            limit: self.settings.page_size,
        }])
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
        let end = page.end();
        // Stops at an ended run: a server that ignores the filter would otherwise make every poll read the whole list.
        let filtered = page.runs().all(|seen| !seen.run.status.is_terminal());
        let more = filtered
            && !page.reaches_end()
            && end > read.beyond
            && read.pages + 1 < MAX_ACTIVE_READS;
        let mut feed = self.feed.clone();
        let next = if more {
            // Runs leave this list all the time, which shifts later ones to lower offsets: pages overlap.
            let overlap = u64::from(self.settings.overlap).min(page.entries.len() as u64 / 2);
            NextStep::Active(ActiveRead {
                offset: end - overlap,
                beyond: end,
                pages: read.pages + 1,
                since: read.since,
            })
        } else {
            feed.watched_at = Some(read.since);
            NextStep::AfterActive
        };
        let commit = Commit {
            observed: listed(page).collect(),
            ..self.empty_commit(feed, now)
        };
        self.commit(commit, next)
    }
}
