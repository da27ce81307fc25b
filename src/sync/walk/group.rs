//! Entries with equal starts, or without any, that fill a page: they are read by offset.
//!
//! The order of equal starts may differ from answer to answer, and a deletion shifts later entries, so one pass over the
//! group may show one entry twice and another one never. It is read in rounds, each from an entry that certainly lies
//! before it, until as many different entries are known as it has places. Before the walk goes past it, a round must
//! also have shown nothing that the round before did not. After [`MAX_ROUNDS`], or one with more entries than are
//! remembered, it goes past, and counts what it may have missed; an audit finds that.
//!
//! Each page begins with an entry of the one before it. So the page that leads out of the group begins in the group, and
//! what it shows beyond is what follows. A page that begins elsewhere leads nowhere.

use std::collections::BTreeSet;

use super::base::Walk;
use super::sizes::PageSizes;
use super::state::{Asked, Group, Reading, Step, count};
use crate::model::{Mark, Timestamp};
use crate::sync::cursor::{Cursor, Placed};
use crate::sync::page::{Listing, Page, Window};
use crate::sync::protocol::Stall;

/// The most rounds over one group.
const MAX_ROUNDS: u32 = 5;

/// After this many pages in a row without any id, a read far beyond shows whether offsets are ignored.
const MAX_BLANK: u32 = 10;

/// Whether the walk goes past a group after this round, whatever it shows.
fn is_last_round(group: &Group) -> bool {
    group.round >= MAX_ROUNDS || group.is_full()
}

impl Walk {
    /// Begins a round over the group whose first entry is entry number `from` of an accepted page, and whose entries start
    /// `at` that instant or have no start.
    pub(super) fn enter_group(&mut self, page: &Placed, from: usize, at: Option<Timestamp>) {
        let known = self.group.take().filter(|group| group.at == at);
        let mut group = Group {
            at,
            from: page.place.saturating_add(from as u64),
            anchored: self.cursor.offset.saturating_sub(self.cursor.tail),
            next: page.end(),
            last: Mark::default(),
            read_to: page.place,
            ids: BTreeSet::new(),
            undated: BTreeSet::new(),
            nameless: 0,
            news: false,
            round: 1,
            places: None,
            whole: page.says_it_ends(),
            blank: 0,
            is_moving: false,
        };
        if let Some(known) = known {
            group.ids = known.ids;
            group.undated = known.undated;
            group.round = known.round + 1;
            group.places = known.places;
            group.is_moving = known.is_moving;
        }
        group.add(page, from, page.page.entries.len());
        self.reading = Reading::Group(group);
    }

    pub(super) fn take_group(
        &mut self,
        mut group: Group,
        pages: Vec<Page>,
        sizes: &mut PageSizes,
        accepted: &mut Vec<Placed>,
    ) -> Step {
        let Some(page) = pages.into_iter().next() else {
            return Step::ReadOn;
        };
        let known = *sizes;
        sizes.given(page.len());
        let window = Window {
            listing: Listing::All,
            offset: group.next,
            limit: sizes.asked(),
        };
        let placed = self.place(&window, page);
        if placed.place != window.offset {
            accepted.push(placed);
            return Step::Stuck(Stall::OffsetIgnored);
        }
        let entries = &placed.page.entries;
        let beyond = group.beyond(entries);
        let begins = group.begins(&placed.page);
        // Where no entry that can be recognised was repeated, nothing tells.
        let follows = begins || (entries.is_empty() && group.next >= group.read_to);
        group.add(&placed, 0, beyond.unwrap_or(entries.len()));
        let is_short = placed.page.len() < known.largest() && placed.agrees();
        let step = match beyond {
            Some(index) => self.end_round(group, &placed, (index, begins), known, sizes),
            None if entries.is_empty() || is_short => {
                self.end_of_list(group, placed.end(), follows, known.asked())
            }
            None => {
                self.cursor.offset = group.read_to;
                self.cursor.tail = group.read_to.saturating_sub(group.anchored);
                self.read_on_in(group, &placed)
            }
        };
        accepted.push(placed);
        step
    }

    /// Goes on after a page of the group. Entries that nothing tells from each other may be the same ones again and again.
    fn read_on_in(&mut self, mut group: Group, placed: &Placed) -> Step {
        let is_blank = placed.page.entries.iter().all(|entry| entry.id().is_none());
        group.blank = if is_blank { group.blank + 1 } else { 0 };
        self.reading = if group.blank >= MAX_BLANK && !group.is_moving {
            Reading::FarBeyond(group)
        } else {
            Reading::Group(group)
        };
        Step::ReadOn
    }

    /// Takes the answer to a read far beyond the end of any list, which shows something only if offsets are ignored.
    pub(super) fn take_far_beyond(&mut self, mut group: Group, pages: &[Page]) -> Step {
        if pages.iter().any(|page| !page.entries.is_empty()) {
            return Step::Stuck(Stall::OffsetIgnored);
        }
        group.is_moving = true;
        self.reading = Reading::Group(group);
        Step::ReadOn
    }

    /// Ends a round with a page whose entry number `index` lies beyond the group, and that certainly `begins` in it or not.
    fn end_round(
        &mut self,
        group: Group,
        placed: &Placed,
        (index, begins): (usize, bool),
        known: PageSizes,
        sizes: &mut PageSizes,
    ) -> Step {
        let end = placed.place.saturating_add(index as u64);
        let (places, read) = count(&group, end);
        let settled = read >= places && !group.news && group.places == Some(places);
        let is_done = settled && begins;
        if !is_done && !is_last_round(&group) {
            return self.next_round(group, places, known.asked());
        }
        if !begins {
            return Step::Stuck(Stall::NoProgress);
        }
        if !settled {
            self.missed += places.saturating_sub(read).max(1);
        }
        self.before = group.undated;
        let window = Window {
            listing: Listing::All,
            offset: placed.place,
            limit: known.asked(),
        };
        let after = self.accept(&window, placed, index, known, sizes);
        self.follow(after, placed, index)
    }

    /// Ends a round at the end of the list, with a page that certainly `follows` the one before it or not. As before the
    /// walk goes past a group, a round must have shown nothing new: a deletion and another order of equal starts
    /// between two pages can hide an entry from a round, and look like a list that ends there. Unless one page showed it
    /// all: then this one only confirms it, which is enough for a poll.
    fn end_of_list(&mut self, group: Group, end: u64, follows: bool, limit: u32) -> Step {
        let (places, read) = count(&group, end);
        let again = !group.news && group.places == Some(places);
        let at_once = self.start.is_poll && group.whole;
        let settled = read >= places && follows && (again || at_once);
        if !settled && !is_last_round(&group) {
            return self.next_round(group, places, limit);
        }
        self.cursor = Cursor {
            offset: end,
            tail: end.saturating_sub(group.anchored),
            watermark: self.cursor.watermark.clone(),
        };
        Step::End
    }

    /// Reads the group again, from the entry before it, which must join as any page.
    fn next_round(&mut self, mut group: Group, places: u64, limit: u32) -> Step {
        group.places = Some(places);
        self.cursor.offset = group.anchored;
        self.cursor.tail = 0;
        let window = Window {
            listing: Listing::All,
            offset: group.anchored.saturating_sub(1),
            limit,
        };
        self.reading = Reading::Forward {
            windows: vec![Asked::here(window, Timestamp::default())],
            stride: 1,
        };
        self.group = Some(group);
        Step::ReadOn
    }
}
