//! What a walk is about to read, and what an answer leads to.

use std::collections::BTreeSet;

use crate::model::{Mark, Timestamp};
use crate::sync::cursor::Placed;
use crate::sync::page::{Entry, Page, Window};
use crate::sync::protocol::Stall;

/// An offset beyond the end of any list.
pub(super) const FAR_BEYOND: u64 = 1_000_000_000;

/// How to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// How many entries before the first that ties with the watermark to begin, at least 1.
    pub back: u64,
    /// Whether this is a poll, which another one follows, so that a first page without anything new ends it (rule 3).
    pub is_poll: bool,
}

/// The most entries of a group that are remembered; few in tests. With more, the round that reads them is the last.
pub(super) const MAX_GROUP: usize = if cfg!(test) { 5_000 } else { 50_000 };

/// What the next answer is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    /// Nothing is requested yet.
    Idle,
    /// Pages that must join.
    Forward { windows: Vec<Asked>, stride: u64 },
    /// The first page of the list, to know whether the server gives it whatever is asked for.
    FirstPage { windows: Vec<Asked>, stride: u64 },
    /// What lies past a page that seems to be the last.
    PastEnd(Window),
    /// The rest of a group.
    Group(Group),
    /// What lies far beyond a group of which nothing can be recognised.
    FarBeyond(Group),
}

/// A window that was requested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Asked {
    pub window: Window,
    /// When it was requested first.
    pub at: Timestamp,
    /// Whether that was before the page before it was accepted: it lies where that page was expected to end.
    pub ahead: bool,
}

impl Asked {
    /// A window that lies where the pages before it have ended.
    pub fn here(window: Window, at: Timestamp) -> Self {
        let ahead = false;
        Self { window, at, ahead }
    }
}

/// The page accepted last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Last {
    pub asked: u64,
    pub place: u64,
    pub ids: Vec<Option<Mark>>,
}

impl Last {
    pub fn end(&self) -> u64 {
        self.place.saturating_add(self.ids.len() as u64)
    }
}

/// What an answer leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Read on.
    ReadOn,
    /// The list ends here.
    End,
    /// The answers lead nowhere.
    Stuck(Stall),
}

/// What follows an accepted page.
pub(super) enum After {
    ReadOn,
    End,
    Stuck(Stall),
    PastEnd,
}

/// A group that is being read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// The start that its entries have; `None` where they have none.
    pub at: Option<Timestamp>,
    /// The offset of its first entry, in this round.
    pub from: u64,
    /// The offset after the last entry that certainly started before it, from which each round begins.
    pub anchored: u64,
    /// The offset to read next.
    pub next: u64,
    /// What tells the entry read last, with which the next page should begin, from others.
    pub last: Mark,
    /// The offset up to which this round has read.
    pub read_to: u64,
    /// The ids known, of all rounds.
    pub ids: BTreeSet<Mark>,
    /// The marks of its entries without a start.
    pub undated: BTreeSet<Mark>,
    /// Entries of this round that have no id.
    pub nameless: u64,
    /// Whether this round has shown an entry that the rounds before have not.
    pub news: bool,
    /// Rounds begun.
    pub round: u32,
    /// How many places the group had in the round before.
    pub places: Option<u64>,
    /// Whether the round's first page ends the list by its own words.
    pub whole: bool,
    /// Pages in a row in which no entry has an id.
    pub blank: u32,
    /// Whether it is known that the server gives other entries for other offsets.
    pub is_moving: bool,
}

impl Group {
    /// Whether its entries start at this instant.
    pub fn is_at(&self, at: Option<Timestamp>) -> bool {
        self.at == at
    }

    /// Adds a page, of which the entries from `from` to `to` are the group's.
    pub fn add(&mut self, page: &Placed, from: usize, to: usize) {
        let entries = page.page.entries.iter().enumerate().take(to).skip(from);
        for (n, entry) in entries {
            // Only a page that entries shifted to shows others.
            if entry
                .started()
                .is_some_and(|started| Some(started) != self.at)
            {
                continue;
            }
            if self.is_full() {
                self.news = true;
                break;
            }
            if entry.started().is_none() {
                self.undated.insert(mark(entry));
            }
            match entry.id() {
                Some(id) => self.news |= self.ids.insert(Mark::of(id)),
                None => {
                    let is_repeated = page.place.saturating_add(n as u64) < self.read_to;
                    self.nameless += u64::from(!is_repeated);
                }
            }
        }
        let last = page.page.entries.len().saturating_sub(1);
        self.last = page.page.entries.last().map(mark).unwrap_or_default();
        self.next = page.place.saturating_add(last.max(1) as u64);
        self.read_to = page.end();
    }

    /// Whether it has as many entries as can be remembered.
    pub fn is_full(&self) -> bool {
        self.ids.len().max(self.undated.len()) >= MAX_GROUP
    }

    /// Whether a page certainly begins with an entry of the group.
    pub fn begins(&self, page: &Page) -> bool {
        page.entries
            .first()
            .is_some_and(|first| match first.started() {
                Some(started) => Some(started) == self.at,
                None => {
                    mark(first) == self.last
                        || first
                            .id()
                            .is_some_and(|id| self.ids.contains(&Mark::of(id)))
                }
            })
    }

    /// The index of the first entry beyond the group.
    pub fn beyond(&self, entries: &[Entry]) -> Option<usize> {
        entries
            .iter()
            .position(|entry| entry.started() > self.at && entry.started().is_some())
    }
}

/// How many places a group has that ends before `end`, and how many of its entries are known.
pub(super) fn count(group: &Group, end: u64) -> (u64, u64) {
    let places = end.saturating_sub(group.from);
    (places, group.ids.len() as u64 + group.nameless)
}

/// What tells an entry from others: its id, or what it looks like.
pub(super) fn mark(entry: &Entry) -> Mark {
    Mark::of(match entry {
        Entry::Run(seen) => &seen.run.id,
        Entry::Unreadable(item) => item.id.as_deref().unwrap_or(&item.body),
    })
}

/// The marks of the ids of the entries of a page, in order.
pub(super) fn ids(page: &Page) -> Vec<Option<Mark>> {
    let id = |entry: &Entry| entry.id().map(Mark::of);
    page.entries.iter().map(id).collect()
}
