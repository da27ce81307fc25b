//! Whether a page is accepted, where it lies, and whether the list ends with it.

use super::base::Walk;
use super::sizes::PageSizes;
use super::state::{After, Last, Reading, Step, ids, mark};
use crate::model::{Mark, Timestamp};
use crate::sync::cursor::{Cursor, Placed};
use crate::sync::page::{Entry, Listing, Page, Window};
use crate::sync::protocol::Stall;

/// A page at offset 0 with fewer entries than this is the whole list if its `total` agrees, though no server has been
/// seen to give larger ones: no server limits pages to that.
const SMALLEST_PAGE: u64 = 3;

/// A page of that many entries with equal starts, in the same order, is the same page.
const DISTINCT_PAGE: u64 = 8;

/// The most reads in a row that show nothing beyond those before them, or that are answered by another page than asked
/// for.
const MAX_BARREN: u32 = 10;

impl Walk {
    /// Whether nothing follows the page that was accepted last: it was asked for, and there was nothing.
    pub(super) fn is_past_end(&self, window: &Window, page: &Page) -> bool {
        let follows = |last: &Last| last.end() == window.offset;
        page.entries.is_empty() && self.last.as_ref().is_some_and(follows)
    }

    /// Whether the server says that it gives another page than was asked for, it is not known yet whether that is true,
    /// and it matters: the page does not lead to the watermark, or lies past the end of the list by its `total`.
    pub(super) fn must_know_first_page(&self, window: &Window, page: &Page) -> bool {
        let says_another = page.offset.is_some_and(|offset| offset != window.offset);
        let end = window.offset.saturating_add(page.len());
        let leads_on = self.cursor.joins(page) && self.cursor.is_reached_by(page);
        let fits = leads_on && page.total.is_none_or(|total| end <= total);
        window.offset > 0 && says_another && !fits && self.first_page.is_none()
    }

    /// Where a page lies: where it was asked for, unless its entries show that it is another one.
    pub(super) fn place(&mut self, window: &Window, page: Page) -> Placed {
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
    pub(super) fn is_first_page(&self, window: &Window, page: &Page) -> bool {
        let (Some(first), ids) = (&self.first_page, ids(page)) else {
            return false;
        };
        let has_all = |more: &[Option<Mark>], fewer: &[Option<Mark>]| {
            fewer.iter().all(|id| more.contains(id))
        };
        page.offset != Some(window.offset)
            && ids
                .first()
                .is_some_and(|id| id.is_some() && first.first() == Some(id))
            && (has_all(first, &ids) || has_all(&ids, first))
    }

    pub(super) fn joins(&self, window: &Window, placed: &Placed) -> bool {
        let page = &placed.page;
        if window.offset == 0 {
            return placed.begins || self.cursor.joins(page);
        }
        placed.place == 0 || self.cursor.joins(page) || self.follows_stretch(page)
    }

    /// Whether a page begins with an entry without a start that certainly lies before the watermark. What has no id may
    /// look like another one, so such a page must lead to the watermark.
    fn follows_stretch(&self, page: &Page) -> bool {
        let first_start = page.entries.iter().find_map(Entry::started);
        let leads_on = first_start.is_some() && first_start == started(&self.cursor);
        let is_known = |first: &Entry| self.before.contains(&mark(first));
        page.entries
            .first()
            .is_some_and(|first| is_known(first) && (first.id().is_some() || leads_on))
    }

    /// Moves the cursor over a page of which the entries from `from` on count.
    pub(super) fn accept(
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
        self.barren = if beyond { 0 } else { self.barren + 1 };
        self.returns = if moved { 0 } else { self.returns };
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
        // By its own words as large as its server gives them.
        let is_full = page.limit.is_some_and(|limit| (1..=len).contains(&limit));
        if placed.begins {
            let is_short = len < SMALLEST_PAGE && len < u64::from(window.limit) && !is_full;
            let tiny = is_short && placed.agrees();
            let empty = len == 0 && page.total.is_none();
            if tiny || empty {
                return After::End;
            }
        }
        if len < known.largest() && !is_full && placed.agrees() {
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
        let is_another = placed.place != window.offset;
        if is_another && page.total.is_some() && !placed.agrees() {
            return After::Stuck(Stall::OffsetIgnored);
        }
        if !placed.claims_more() {
            return After::End;
        }
        if self.barren >= MAX_BARREN {
            return After::Stuck(Stall::NothingBeyond);
        }
        After::PastEnd
    }

    /// What to do after a page was accepted, of which the entries from `from` on count.
    pub(super) fn follow(&mut self, after: After, placed: &Placed, from: usize) -> Step {
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
}

fn started(cursor: &Cursor) -> Option<Timestamp> {
    cursor.watermark.as_ref().map(|watermark| watermark.started)
}

/// Whether a page is unlikely to occur twice: not just a few entries with equal starts or without any, or entries that
/// nothing tells from each other.
fn is_distinct(page: &Page) -> bool {
    let mut starts = page.entries.iter().map(Entry::started);
    let first = starts.next();
    let has_ids = page.entries.iter().any(|entry| entry.id().is_some());
    has_ids && (page.len() >= DISTINCT_PAGE || starts.any(|started| Some(started) != first))
}
