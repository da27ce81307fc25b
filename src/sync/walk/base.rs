//! A walk's fields, and which windows it reads.

use std::collections::BTreeSet;

use super::sizes::PageSizes;
use super::state::{FAR_BEYOND, Group, Last, Reading, Start, Step, ids};
use crate::model::Mark;
use crate::sync::cursor::{Cursor, Placed};
use crate::sync::page::{Listing, Page, Window};
use crate::sync::protocol::Stall;

/// How often a walk may go back behind what it has accepted without getting any further.
const MAX_RETURNS: u32 = 10;

/// Reads a list forward.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Walk {
    /// Where it stands.
    pub cursor: Cursor,
    pub(super) reading: Reading,
    pub(super) start: Start,
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

    /// The windows to read now, at once if possible. `ahead` is the most of them, `left` how many entries are expected
    /// after the cursor.
    pub fn windows(&mut self, sizes: PageSizes, ahead: usize, left: Option<u64>) -> Vec<Window> {
        let window = |offset| Window {
            listing: Listing::All,
            offset,
            limit: sizes.asked(),
        };
        match &self.reading {
            Reading::Idle => {
                let (start, count) = match &self.last {
                    None => (self.first_offset(), 1),
                    Some(_) => (self.next_offset(), pages(sizes, ahead, left)),
                };
                // Two entries overlap, so that the second page begins strictly before the end of the first.
                let step = u64::from(sizes.expected().saturating_sub(2).max(1));
                let windows: Vec<Window> = (0..count)
                    .map(|n| window(start.saturating_add(n.saturating_mul(step))))
                    .collect();
                let stride = self.start.back;
                self.reading = Reading::Forward {
                    windows: windows.clone(),
                    stride,
                };
                windows
            }
            Reading::Forward { windows, .. } => windows.clone(),
            Reading::FirstPage { .. } => vec![window(0)],
            Reading::PastEnd(window) => vec![*window],
            Reading::Group(group) => vec![window(group.next)],
            Reading::FarBeyond(_) => vec![Window {
                limit: 1,
                ..window(FAR_BEYOND)
            }],
        }
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

    /// Takes the answer to [`Walk::windows`]: pages in order, at least one. Accepted ones are added to `accepted`.
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
        windows: Vec<Window>,
        stride: u64,
        pages: Vec<Page>,
        sizes: &mut PageSizes,
        accepted: &mut Vec<Placed>,
    ) -> Step {
        for (n, (window, page)) in windows.iter().zip(pages).enumerate() {
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
                if n > 0 {
                    break;
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
        }
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
            windows: vec![Window { offset, ..*window }],
            stride: stride.saturating_mul(2).max(1),
        };
        Step::ReadOn
    }

    /// Asks once more for pages of which the server gave another.
    fn repeat(&mut self, windows: Vec<Window>, stride: u64) -> Step {
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

/// How many pages to read at once when `left` entries are expected.
fn pages(sizes: PageSizes, ahead: usize, left: Option<u64>) -> u64 {
    let step = u64::from(sizes.expected().saturating_sub(2).max(1));
    left.map_or(1, |left| left.div_ceil(step))
        .clamp(1, ahead.max(1) as u64)
}
