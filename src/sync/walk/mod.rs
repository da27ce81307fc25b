//! Reading a list forward from a cursor, page by page, so that no entry is skipped: polls and audits both do it.
//!
//! A [`Walk`] says which windows to read next and judges the answers: whether a page [joins](Cursor::joins), where it
//! lies, and whether the list ends with it. What an answer says of itself is believed only where its entries do not
//! contradict it.
//!
//! # Where the list ends
//!
//! 1. A page that is shorter than the largest this server has given ends it, if its `total` agrees.
//! 2. A read that shows nothing beyond the one before it ends it. Where `total` says that more follows, one more read
//!    past the end must show nothing either.
//! 3. The first read of a poll ends it if it is shorter than the largest page, reaches the watermark and does not move
//!    it. So a poll that finds nothing new takes one request, whatever `total` says.
//!
//! That all entries of a page are known is not the end: a watch read may have stored them ahead of the cursor. That
//! `total` equals the end of a full page is not either: a stale one can do so by chance.
//!
//! # Groups
//!
//! A page must begin strictly before the watermark, so entries with equal starts, or without any, that fill a page leave
//! no page to go on with. [`Group`] reads them by offset.

mod group;
mod sizes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::cursor::{Cursor, Placed};
use super::page::{Entry, Listing, Page, Window};
use super::protocol::Stall;
use group::Group;
pub(crate) use sizes::PageSizes;

/// A page at offset 0 with fewer entries than this is the whole list if its `total` agrees, though no server has been
/// seen to give larger ones: no server limits pages to that.
const SMALLEST_PAGE: u64 = 3;

/// A page of that many entries with equal starts, in the same order, is the same page.
const DISTINCT_PAGE: u64 = 8;

/// The most reads in a row that show nothing beyond those before them, or that are answered by another page than asked
/// for.
const MAX_BARREN: u32 = 10;

/// How to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// How many entries before the first that ties with the watermark to begin, at least 1.
    pub back: u64,
    /// Whether this is a poll, which another one follows, so that a first page without anything new ends it (rule 3).
    pub is_poll: bool,
}

/// Reads a list forward.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Walk {
    /// Where it stands.
    pub cursor: Cursor,
    reading: Reading,
    start: Start,
    /// The page accepted last.
    last: Option<Last>,
    /// The ids of the list's first page, as this walk saw it.
    first_page: Option<Vec<Option<String>>>,
    /// How far the pages accepted so far reach.
    furthest: u64,
    barren: u32,
    /// Whether the first page was not accepted.
    stepped: bool,
    /// A group whose rounds are not over while its beginning is read again.
    group: Option<Group>,
    /// Entries without a start that certainly lie before the watermark.
    before: BTreeSet<String>,
    /// Entries of groups that were gone past without being read completely.
    missed: u64,
}

/// What the next answer is for.
#[derive(Clone, Debug, PartialEq)]
enum Reading {
    /// Nothing is requested yet.
    Idle,
    /// Pages that must join.
    Forward { windows: Vec<Window>, stride: u64 },
    /// The first page of the list, to know whether the server gives it whatever is asked for.
    FirstPage { windows: Vec<Window>, stride: u64 },
    /// What lies past a page that seems to be the last.
    PastEnd(Window),
    /// The rest of a group.
    Group(Group),
}

/// The page accepted last.
#[derive(Clone, Debug, PartialEq)]
struct Last {
    asked: u64,
    place: u64,
    ids: Vec<Option<String>>,
}

impl Last {
    fn end(&self) -> u64 {
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
enum After {
    ReadOn,
    End,
    Stuck(Stall),
    PastEnd,
}

impl Walk {
    /// A walk from `cursor` on. `before` are entries that the walk before this one knew to lie before the watermark.
    pub fn new(cursor: Cursor, start: Start, before: BTreeSet<String>) -> Self {
        Self {
            cursor,
            reading: Reading::Idle,
            start,
            last: None,
            first_page: None,
            furthest: 0,
            barren: 0,
            stepped: false,
            group: None,
            before,
            missed: 0,
        }
    }

    /// Entries without a start that certainly lie before the watermark.
    pub fn before(&self) -> &BTreeSet<String> {
        &self.before
    }

    /// Takes the number of entries that were gone past without being read.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
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
    fn next_offset(&self) -> u64 {
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

    /// Whether nothing follows the page that was accepted last: it was asked for, and there was nothing.
    fn is_past_end(&self, window: &Window, page: &Page) -> bool {
        let follows = |last: &Last| last.end() == window.offset;
        page.entries.is_empty() && self.last.as_ref().is_some_and(follows)
    }

    /// Whether the server says that it gives another page than was asked for, it is not known yet whether that is true,
    /// and it matters: the page does not lead to the watermark.
    fn must_know_first_page(&self, window: &Window, page: &Page) -> bool {
        let says_another = page.offset.is_some_and(|offset| offset != window.offset);
        let leads_on = self.cursor.joins(page) && self.cursor.is_reached_by(page);
        window.offset > 0 && says_another && !leads_on && self.first_page.is_none()
    }

    /// Where a page lies: where it was asked for, unless its entries show that it is another one.
    fn place(&mut self, window: &Window, page: Page) -> Placed {
        if window.offset == 0 {
            self.first_page = Some(ids(&page));
            // Contradicted by an answer that claims to lie elsewhere, unless it shows the whole list by its own words.
            let elsewhere = page.offset.is_some_and(|offset| offset != 0);
            return Placed {
                place: 0,
                begins: !elsewhere || page.total == Some(page.len()),
                page,
            };
        }
        let is_first = self.is_first_page(window, &page);
        let repeated = self.last.as_ref().filter(|last| {
            last.asked != window.offset && is_distinct(&page) && last.ids == ids(&page)
        });
        let place = match repeated {
            _ if is_first => 0,
            Some(last) => last.place,
            None => window.offset,
        };
        Placed {
            place,
            begins: false,
            page,
        }
    }

    /// Whether the server gave the list's first page, though asked for another, and does not say otherwise.
    fn is_first_page(&self, window: &Window, page: &Page) -> bool {
        let (Some(first), ids) = (&self.first_page, ids(page)) else {
            return false;
        };
        let has_all = |more: &[Option<String>], fewer: &[Option<String>]| {
            fewer.iter().all(|id| more.contains(id))
        };
        page.offset != Some(window.offset)
            && ids
                .first()
                .is_some_and(|id| id.is_some() && first.first() == Some(id))
            && (has_all(first, &ids) || has_all(&ids, first))
    }

    fn joins(&self, window: &Window, placed: &Placed) -> bool {
        let page = &placed.page;
        if window.offset == 0 {
            return placed.begins || self.cursor.joins(page);
        }
        let first = page.entries.first().and_then(Entry::id);
        placed.place == 0
            || self.cursor.joins(page)
            || first.is_some_and(|first| self.before.contains(first))
    }

    /// Moves the cursor over a page of which the entries from `from` on count.
    fn accept(
        &mut self,
        window: &Window,
        placed: &Placed,
        from: usize,
        known: PageSizes,
        sizes: &mut PageSizes,
    ) -> After {
        let before = self.cursor.clone();
        // An entry strictly before the watermark is a better place to go on from than one without a start.
        let whole = before.after(placed, 0);
        let is_anchored = whole.anchor(&placed.page.entries).is_some();
        self.cursor = if is_anchored {
            whole
        } else {
            before.after(placed, from)
        };
        let moved = started(&self.cursor) > started(&before);
        let beyond = placed.end() > self.furthest || moved;
        let after = self.judge(window, placed, moved, known);
        match after {
            After::ReadOn => sizes.was_full(placed.page.len()),
            After::End if !beyond => sizes.was_not_full(),
            _ => {}
        }
        if !beyond {
            self.barren += 1;
        } else {
            self.barren = 0;
        }
        self.furthest = self.furthest.max(placed.end());
        self.last = Some(Last {
            asked: window.offset,
            place: placed.place,
            ids: ids(&placed.page),
        });
        after
    }

    /// Whether the list ends with an accepted page, by the rules of [the module](self).
    fn judge(&self, window: &Window, placed: &Placed, moved: bool, known: PageSizes) -> After {
        let (page, len) = (&placed.page, placed.page.len());
        let is_first = self.last.is_none() && self.start.is_poll && !self.stepped;
        if placed.begins {
            let tiny = len < SMALLEST_PAGE && len < u64::from(window.limit) && placed.agrees();
            let empty = len == 0 && page.total.is_none();
            if tiny || empty {
                return After::End;
            }
        }
        if len < known.largest() && placed.agrees() {
            return After::End;
        }
        // A group's next round begins with a page that was accepted before.
        if self.group.is_some() {
            return After::ReadOn;
        }
        if is_first && len < known.given_before() && !moved && self.cursor.is_reached_by(page) {
            return After::End;
        }
        let last = self.last.as_ref();
        let nothing_beyond = last.is_some_and(|last| placed.end() == last.end());
        if moved || (!nothing_beyond && self.barren < MAX_BARREN) {
            return After::ReadOn;
        }
        if !placed.claims_more() {
            return After::End;
        }
        if placed.place != window.offset {
            return After::Stuck(Stall::OffsetIgnored);
        }
        if self.barren >= MAX_BARREN {
            return After::Stuck(Stall::NothingBeyond);
        }
        After::PastEnd
    }

    /// What to do after a page was accepted, of which the entries from `from` on count.
    fn follow(&mut self, after: After, placed: &Placed, from: usize) -> Step {
        match after {
            After::End => return Step::End,
            After::Stuck(stall) => return Step::Stuck(stall),
            After::PastEnd => {
                self.reading = Reading::PastEnd(Window {
                    listing: Listing::All,
                    offset: placed.end(),
                    limit: 1,
                });
                return Step::ReadOn;
            }
            After::ReadOn => {}
        }
        let entries = placed.page.entries.get(from..).unwrap_or_default();
        let last = entries.iter().rev().find_map(Entry::started);
        let reached = self.cursor.is_reached_by(&placed.page);
        let stays = reached && self.next_offset() <= placed.place;
        // What the stretch leads up to may be the watermark: no later page would join.
        let ends_undated = entries
            .last()
            .is_some_and(|entry| entry.started().is_none());
        let is_next_round = self.group.as_ref().is_some_and(|group| group.is_at(last));
        let leads_nowhere = stays || last.is_none() || (ends_undated && !reached);
        if !entries.is_empty() && (leads_nowhere || is_next_round) {
            let older = |entry: &Entry| entry.started().is_some() && entry.started() < last;
            let anchor = entries.iter().rposition(older);
            self.enter_group(placed, from + anchor.map_or(0, |anchor| anchor + 1), last);
        }
        self.group = None;
        Step::ReadOn
    }

    /// Reads further back when a page does not join because entries before the cursor were deleted: by what `total` says
    /// has vanished, then in doubling strides.
    fn step_back(&mut self, window: &Window, placed: &Placed, stride: u64) -> Step {
        if window.offset == 0 {
            return Step::Stuck(Stall::OtherPage);
        }
        let end = placed
            .page
            .total
            .map_or(window.offset, |total| total.min(window.offset));
        let offset = end.saturating_sub(stride);
        // What was accepted before may have shifted.
        self.stepped = true;
        self.last = None;
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

fn started(cursor: &Cursor) -> Option<crate::model::Timestamp> {
    cursor.watermark.as_ref().map(|watermark| watermark.started)
}

/// Whether a page is unlikely to occur twice: not just a few entries with equal starts, or without any.
fn is_distinct(page: &Page) -> bool {
    let mut starts = page.entries.iter().map(Entry::started);
    let first = starts.next();
    page.len() >= DISTINCT_PAGE || starts.any(|started| Some(started) != first)
}

fn ids(page: &Page) -> Vec<Option<String>> {
    let id = |entry: &Entry| entry.id().map(str::to_owned);
    page.entries.iter().map(id).collect()
}

/// How many pages to read at once when `left` entries are expected.
fn pages(sizes: PageSizes, ahead: usize, left: Option<u64>) -> u64 {
    let step = u64::from(sizes.expected().saturating_sub(2).max(1));
    left.map_or(1, |left| left.div_ceil(step))
        .clamp(1, ahead.max(1) as u64)
}
