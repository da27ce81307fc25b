//! A walk's fields, and which windows it reads.

use std::collections::BTreeSet;

use super::sizes::PageSizes;
use super::state::{Asked, FAR_BEYOND, Group, Last, Reading, Start, Step, ids};
use crate::model::{Mark, Timestamp};
use crate::sync::cursor::{Cursor, Placed};
use crate::sync::page::{Listing, Page, Window};
use crate::sync::protocol::Stall;

/// How often a walk may go back behind what it has accepted without getting any further.
const MAX_RETURNS: u32 = 10;

/// Windows to read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reads {
    /// All of them, in order.
    pub windows: Vec<Window>,
    /// How many of them, the first, were requested before and are not answered yet.
    pub begun: usize,
}

/// Reads a list forward.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Walk {
    /// Where it stands.
    pub cursor: Cursor,
    pub(super) reading: Reading,
    pub(super) start: Start,
    /// Windows that were requested and not answered, in order; they follow the page accepted last.
    ahead: Vec<Asked>,
    /// The most windows to request ahead, as far as that is limited: pages that were read ahead did not join.
    most_ahead: usize,
    /// The page accepted last.
    pub(super) last: Option<Last>,
    /// The ids of the list's first page, as this walk saw it.
    pub(super) first_page: Option<Vec<Option<Mark>>>,
    /// How far the pages accepted so far reach.
    pub(super) furthest: u64,
    pub(super) barren: u32,
    /// Whether the first page was not accepted.
    pub(super) stepped: bool,
    /// How often it went back behind a page that was accepted, since the watermark moved.
    pub(super) returns: u32,
    /// A group whose rounds are not over while its beginning is read again.
    pub(super) group: Option<Group>,
    /// Marks of entries without a start that certainly lie before the watermark.
    pub(super) before: BTreeSet<Mark>,
    /// Entries of groups that were gone past without being read completely.
    pub(super) missed: u64,
    /// How often it read further back, since that was last asked.
    pub(super) corrections: u64,
}

impl Walk {
    /// A walk from `cursor` on. `before` are entries that the walk before this one knew to lie before the watermark.
    pub fn new(cursor: Cursor, start: Start, before: BTreeSet<Mark>) -> Self {
        Self {
            cursor,
            reading: Reading::Idle,
            start,
            ahead: Vec::new(),
            most_ahead: usize::MAX,
            last: None,
            first_page: None,
            furthest: 0,
            barren: 0,
            stepped: false,
            returns: 0,
            group: None,
            before,
            missed: 0,
            corrections: 0,
        }
    }

    /// Entries without a start that certainly lie before the watermark.
    pub fn before(&self) -> &BTreeSet<Mark> {
        &self.before
    }

    /// Takes the number of entries that were gone past without being read.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// Takes the number of times that it read further back because a page did not join.
    pub fn take_corrections(&mut self) -> u64 {
        std::mem::take(&mut self.corrections)
    }

    /// What to read now, at once if possible. `ahead` is the most windows, `left` how many entries are expected after the
    /// cursor.
    pub fn windows(
        &mut self,
        sizes: PageSizes,
        ahead: usize,
        left: Option<u64>,
        now: Timestamp,
    ) -> Reads {
        let window = |offset| window(sizes, offset);
        let windows = match &mut self.reading {
            Reading::Idle => return self.read_forward(sizes, ahead, left, now),
            Reading::Forward { windows, .. } => {
                windows.iter_mut().for_each(|asked| asked.at = now);
                windows.iter().map(|asked| asked.window).collect()
            }
            Reading::FirstPage { .. } => vec![window(0)],
            Reading::PastEnd(window) => vec![*window],
            Reading::Group(group) => vec![window(group.next)],
            Reading::FarBeyond(_) => vec![Window {
                limit: 1,
                ..window(FAR_BEYOND)
            }],
        };
        Reads { windows, begun: 0 }
    }

    /// The pages after the one accepted last: those that were requested ahead, where they lead on, and more after them.
    fn read_forward(
        &mut self,
        sizes: PageSizes,
        ahead: usize,
        left: Option<u64>,
        now: Timestamp,
    ) -> Reads {
        let start = match &self.last {
            None => self.first_offset(),
            Some(_) => self.next_offset(),
        };
        let mut windows = std::mem::take(&mut self.ahead);
        let leads_on = |first: &Asked| {
            let end = first.window.offset.saturating_add(sizes.expected().into());
            first.window.offset <= start && end > self.cursor.offset
        };
        if self.last.is_none() || !windows.first().is_some_and(leads_on) {
            if !windows.is_empty() {
                // The page before them ended elsewhere than was expected, as those with equal starts do.
                self.most_ahead = 1;
            }
            windows.clear();
        }
        let most = match &self.last {
            None => 1,
            Some(_) => ahead.min(self.most_ahead),
        };
        let count = left.map_or(1, |left| left.div_ceil(sizes.stride()));
        let count = count.clamp(1, most.max(1) as u64);
        windows.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        let begun = windows.len();
        let mut next = windows.last().map_or(start, |last| {
            last.window.offset.saturating_add(sizes.stride())
        });
        while (windows.len() as u64) < count {
            windows.push(Asked {
                ahead: !windows.is_empty(),
                ..Asked::here(window(sizes, next), now)
            });
            next = next.saturating_add(sizes.stride());
        }
        let reads = Reads {
            windows: windows.iter().map(|asked| asked.window).collect(),
            begun,
        };
        let stride = self.start.back;
        self.reading = Reading::Forward { windows, stride };
        reads
    }

    /// When the first of the windows to read was requested first, where that was for a page that must join.
    pub fn asked_at(&self) -> Option<Timestamp> {
        match &self.reading {
            Reading::Forward { windows, .. } => windows.first().map(|asked| asked.at),
            _ => None,
        }
    }

    /// How many windows were requested, are not answered yet, and may lead on.
    pub fn ahead(&self) -> usize {
        self.ahead.len()
    }

    fn first_offset(&self) -> u64 {
        let Cursor { offset, tail, .. } = self.cursor;
        offset
            .saturating_sub(tail)
            .saturating_sub(self.start.back.max(1))
    }

    /// Where to read on after an accepted page: one entry before the first that ties with the last, or at the last one
    /// while the watermark is not reached.
    pub(super) fn next_offset(&self) -> u64 {
        let Cursor { offset, tail, .. } = self.cursor;
        let shown = self.last.as_ref().map_or(0, |last| last.ids.len());
        match tail {
            0 if shown == 1 => offset,
            tail => offset.saturating_sub(tail).saturating_sub(1),
        }
    }

    /// Takes the answer to [`Walk::windows`]: the pages of the first of them, in order, at least one. Accepted ones are added to `accepted`.
    pub fn take(
        &mut self,
        pages: Vec<Page>,
        sizes: &mut PageSizes,
        accepted: &mut Vec<Placed>,
    ) -> Step {
        match std::mem::replace(&mut self.reading, Reading::Idle) {
            Reading::Idle => Step::ReadOn,
            Reading::Forward { windows, stride } => {
                self.take_forward(windows, stride, pages, sizes, accepted)
            }
            Reading::FirstPage { windows, stride } => {
                self.first_page = Some(pages.first().map(ids).unwrap_or_default());
                self.reading = Reading::Forward { windows, stride };
                Step::ReadOn
            }
            Reading::PastEnd(window) => self.take_past_end(window, pages),
            Reading::Group(group) => self.take_group(group, pages, sizes, accepted),
            Reading::FarBeyond(group) => self.take_far_beyond(group, &pages),
        }
    }

    fn take_forward(
        &mut self,
        windows: Vec<Asked>,
        stride: u64,
        pages: Vec<Page>,
        sizes: &mut PageSizes,
        accepted: &mut Vec<Placed>,
    ) -> Step {
        let answered = pages.len();
        for (n, (asked, page)) in windows.iter().zip(pages).enumerate() {
            let window = &asked.window;
            if self.must_know_first_page(window, &page) {
                let windows = windows[n..].to_vec();
                self.reading = Reading::FirstPage { windows, stride };
                return Step::ReadOn;
            }
            let known = *sizes;
            sizes.given(page.len());
            let placed = self.place(window, page);
            if !self.joins(window, &placed) {
                if self.is_past_end(window, &placed.page) {
                    return Step::End;
                }
                if asked.ahead {
                    // The page before it ended elsewhere. What follows that is read alone, to begin with.
                    self.most_ahead = 1;
                    return Step::ReadOn;
                }
                return self.step_back(window, &placed, stride);
            }
            let is_another = placed.place != window.offset;
            if is_another && !self.cursor.is_reached_by(&placed.page) {
                // What it shows is accepted, but the cursor stays: the rest of the list would have to be read again.
                accepted.push(placed);
                return self.repeat(windows[n..].to_vec(), stride);
            }
            let after = self.accept(window, &placed, 0, known, sizes);
            let step = self.follow(after, &placed, 0);
            accepted.push(placed);
            if step != Step::ReadOn || self.reading != Reading::Idle {
                return step;
            }
            self.most_ahead = self.most_ahead.saturating_mul(2);
        }
        self.ahead = windows.into_iter().skip(answered).collect();
        Step::ReadOn
    }

    /// Reads further back when a page does not join because entries before the cursor were deleted: by what `total` says
    /// has vanished, then in doubling strides.
    fn step_back(&mut self, window: &Window, placed: &Placed, stride: u64) -> Step {
        if window.offset == 0 {
            return Step::Stuck(Stall::OtherPage);
        }
        if self.last.is_some() {
            self.returns += 1;
            if self.returns > MAX_RETURNS {
                return Step::Stuck(Stall::NoProgress);
            }
        }
        // A total is untrue that is smaller than what the page shows.
        let is_possible = |total: &u64| placed.page.entries.is_empty() || *total >= placed.end();
        let total = placed.page.total.filter(is_possible);
        let end = total.map_or(window.offset, |total| total.min(window.offset));
        let offset = end.saturating_sub(stride);
        // What was accepted before may have shifted.
        self.stepped = true;
        self.corrections += 1;
        self.last = None;
        self.furthest = 0;
        self.reading = Reading::Forward {
            windows: vec![Asked::here(
                Window { offset, ..*window },
                Timestamp::default(),
            )],
            stride: stride.saturating_mul(2).max(1),
        };
        Step::ReadOn
    }

    /// Asks once more for pages of which the server gave another.
    fn repeat(&mut self, windows: Vec<Asked>, stride: u64) -> Step {
        self.barren += 1;
        if self.barren > 1 {
            return Step::Stuck(Stall::OffsetIgnored);
        }
        self.reading = Reading::Forward { windows, stride };
        Step::ReadOn
    }

    /// Takes the answer to a read past a page that seemed to be the last although `total` says otherwise.
    fn take_past_end(&mut self, window: Window, pages: Vec<Page>) -> Step {
        let Some(page) = pages.into_iter().next() else {
            return Step::ReadOn;
        };
        if page.entries.is_empty() {
            return Step::End;
        }
        if self.is_first_page(&window, &page) {
            return Step::Stuck(Stall::OffsetIgnored);
        }
        // It has shifted since the page before.
        self.stepped = true;
        self.last = None;
        Step::ReadOn
    }
}

/// A page of the list at `offset`.
fn window(sizes: PageSizes, offset: u64) -> Window {
    Window {
        listing: Listing::All,
        offset,
        limit: sizes.asked(),
    }
}
