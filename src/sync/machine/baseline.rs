//! The baseline: what the first read of the first sync says about history, and whether it can be believed.

use super::base::Machine;
use crate::model::Timestamp;
use crate::sync::cursor::Placed;
use crate::sync::diff::Baseline;
use crate::sync::page::{Entry, Listing, Page, Window};
use crate::sync::protocol::Command;

use super::state::State;

/// How many of the newest runs are read: one says what the baseline is, the others whether the order was kept.
const NEWEST: u32 = 10;

impl Machine {
    pub(super) fn read_newest(&mut self) -> Command {
        self.state = State::Baseline;
        Command::read(vec![Window {
            listing: Listing::Newest,
            offset: 0,
            limit: NEWEST,
        }])
    }

    /// Takes the answer to the read of the newest runs. It is stored with the first page.
    pub(super) fn baseline(&mut self, pages: &[Page], now: Timestamp) -> Command {
        let page = pages.first();
        self.feed.baseline = Some(page.map_or(Baseline::Everything, judge));
        self.newest = page
            .and_then(|page| page.entries.first())
            .and_then(Entry::id)
            .map(str::to_owned);
        self.begin_forward(0, now)
    }

    /// The baseline after these pages. If the list begins with the entry that was given as the newest, and may go on after
    /// it, the order that was asked for was ignored.
    pub(super) fn baseline_after(&self, accepted: &[Placed]) -> Option<Baseline> {
        let first_page = accepted.iter().find(|page| page.begins);
        let ignored = first_page.is_some_and(|page| {
            let first = page.page.entries.first().and_then(Entry::id);
            let is_alone = page.page.len() == 1 && page.agrees();
            first.is_some() && first == self.newest.as_deref() && !is_alone
        });
        match self.feed.baseline {
            Some(Baseline::UpTo(_)) if ignored => Some(Baseline::Everything),
            baseline => baseline,
        }
    }
}

/// What the answer to the read of the newest runs says about history. Where it cannot be trusted, everything that the
/// first sync finds is history: a missing event is better than a false one.
fn judge(page: &Page) -> Baseline {
    let Some(newest) = page.entries.first() else {
        let is_empty = page.total.is_none_or(|total| total == 0);
        return if is_empty {
            Baseline::Nothing
        } else {
            Baseline::Everything
        };
    };
    let starts = page.entries.iter().filter_map(Entry::started);
    let in_order = starts.is_sorted_by(|newer, older| newer >= older);
    match newest.started() {
        Some(newest) if in_order && page.desc != Some(false) => Baseline::UpTo(newest),
        _ => Baseline::Everything,
    }
}
