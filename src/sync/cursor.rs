//! The cursor of a feed, and the rule that keeps it from skipping a run.
//!
//! An offset alone cannot be trusted: every deletion shifts later runs to smaller offsets, so a saved offset may point
//! past runs that were never read. The cursor therefore also holds a *watermark*, the newest entry that a forward read
//! accepted. The offset says where to read; the watermark decides whether to accept what is found there.

use super::page::{Entry, Page};
use crate::model::Timestamp;

/// The newest entry that a forward read accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The entry's start.
    pub started: Timestamp,
    /// The entry's id.
    pub id: String,
}

/// The position of forward reading in one feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where the next unread entry is expected. Only a hint about where to read.
    pub offset: u64,
    /// How many entries lie between `offset` and the last one before it that started strictly before the watermark: what
    /// ties with the watermark, in whatever order, is among them. If `offset` lies before the watermark, how many entries
    /// before it have no start.
    pub tail: u64,
    /// The newest accepted entry; `None` before the first.
    pub watermark: Option<Watermark>,
}

/// A page, and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The offset of its first entry.
    pub place: u64,
    /// Whether it certainly is the beginning of the list.
    pub begins: bool,
    /// The page.
    pub page: Page,
}

impl Placed {
    /// The offset after its last entry.
    pub(crate) fn end(&self) -> u64 {
        self.place.saturating_add(self.page.len())
    }

    /// Whether the server's `total` says that the list ends with it.
    pub(crate) fn agrees(&self) -> bool {
        self.page.total == Some(self.end())
    }

    /// Whether the list ends with it by all that the answer says: it is shorter than its `limit`, and `total` agrees.
    pub(crate) fn says_it_ends(&self) -> bool {
        let is_short = |limit| limit > self.page.len();
        self.page.limit.is_some_and(is_short) && self.agrees()
    }

    /// Whether the server's `total` says that more follows.
    pub(crate) fn claims_more(&self) -> bool {
        self.page.total.is_some_and(|total| total > self.end())
    }
}

impl Cursor {
    /// Whether `page` begins strictly before the watermark, so that no unread entry lies before what it shows, in
    /// whatever order the server lists equal starts. Its first entry with a start decides.
    ///
    /// That its first entry is the watermark, or is in the mirror, proves nothing: among equal starts another answer may
    /// have another order, and a watch read may have stored an entry ahead of the watermark.
    pub fn joins(&self, page: &Page) -> bool {
        let first = page.entries.iter().find_map(Entry::started);
        match (&self.watermark, first) {
            (Some(watermark), Some(first)) => first < watermark.started,
            _ => false,
        }
    }

    /// Whether `page` shows entries as new as the watermark.
    pub(crate) fn is_reached_by(&self, page: &Page) -> bool {
        let Some(watermark) = &self.watermark else {
            return true;
        };
        let newest = page.entries.iter().rev().find_map(Entry::started);
        newest.is_some_and(|newest| newest >= watermark.started)
    }

    /// The cursor after it accepted `page`, of which the entries from `from` on count.
    ///
    /// The watermark moves to the page's last entry with a start unless that is older, as on a page reached by stepping
    /// back.
    #[must_use]
    pub fn after(&self, page: &Placed, from: usize) -> Self {
        let entries = page.page.entries.get(from..).unwrap_or_default();
        let last = page.page.runs().rev().find_map(|seen| {
            seen.started.map(|started| Watermark {
                started,
                id: seen.run.id.clone(),
            })
        });
        let watermark = match (&self.watermark, last) {
            (Some(current), Some(last)) if last.started < current.started => Some(current.clone()),
            (_, Some(last)) => Some(last),
            (current, None) => current.clone(),
        };
        let next = Self {
            offset: page.end(),
            tail: 0,
            watermark,
        };
        let undated = |entry: &&Entry| entry.started().is_none();
        let tail = match next.anchor(entries) {
            _ if !next.is_reached_by(&page.page) => {
                entries.iter().rev().take_while(undated).count()
            }
            Some(anchor) => entries.len() - anchor - 1,
            None => entries.len(),
        };
        Self {
            tail: tail as u64,
            ..next
        }
    }

    /// The index of the last of `entries` that started strictly before the watermark.
    pub(crate) fn anchor(&self, entries: &[Entry]) -> Option<usize> {
        let watermark = self.watermark.as_ref()?;
        entries.iter().rposition(|entry| {
            entry
                .started()
                .is_some_and(|started| started < watermark.started)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, page, placed, undated};
    use super::*;

    fn cursor(offset: u64, tail: u64, second: i64, id: &str) -> Cursor {
        Cursor {
            offset,
            tail,
            watermark: Some(Watermark {
                started: at(second),
                id: id.into(),
            }),
        }
    }

    #[test]
    fn only_a_page_that_begins_strictly_before_the_watermark_joins() {
        let watermark = cursor(10, 1, 50, "w");
        let mut undated_first = page(9, 20, &[("u", 0), ("a", 49), ("w", 50)]);
        undated_first.entries[0] = undated("u");
        let mut only_undated = page(9, 20, &[("u", 0)]);
        only_undated.entries[0] = undated("u");
        let cases: [(&str, Page, bool); 7] = [
            ("strictly older", page(7, 20, &[("a", 49), ("w", 50)]), true),
            ("the watermark", page(9, 20, &[("w", 50), ("b", 51)]), false),
            ("a tie", page(9, 20, &[("tie", 50), ("w", 50)]), false),
            ("newer", page(10, 20, &[("b", 51)]), false),
            ("empty", page(10, 10, &[]), false),
            ("the first entry with a start decides", undated_first, true),
            ("no start at all", only_undated, false),
        ];
        for (name, page, joins) in cases {
            assert_eq!(watermark.joins(&page), joins, "{name}");
        }
        assert!(!Cursor::default().joins(&page(1, 3, &[("b", 2)])));
    }

    #[test]
    fn accepting_moves_the_offset_both_ways_and_the_watermark_only_forward() {
        let at = cursor(10, 1, 50, "w");
        let after = |page: &Placed| at.after(page, 0);
        assert_eq!(
            after(&placed(9, 12, &[("w", 50), ("b", 51), ("c", 52)])),
            cursor(12, 1, 52, "c")
        );
        assert_eq!(
            after(&placed(2, 12, &[("a", 10), ("b", 11)])),
            cursor(4, 0, 50, "w"),
            "reached by stepping back"
        );
        assert_eq!(
            after(&placed(8, 11, &[("a", 49), ("w", 50), ("tie", 50)])),
            cursor(11, 2, 50, "tie"),
            "as new as the watermark"
        );
        assert_eq!(
            after(&placed(0, 0, &[])),
            cursor(0, 0, 50, "w"),
            "an emptied list"
        );
    }

    #[test]
    fn the_tail_is_what_may_change_places_with_the_watermark() {
        let mut page = placed(0, 9, &[("a", 1), ("b", 2), ("u", 0), ("c", 3), ("d", 3)]);
        page.page.entries[2] = undated("u");
        assert_eq!(Cursor::default().after(&page, 0), cursor(5, 3, 3, "d"));
        assert_eq!(
            Cursor::default().after(&page, 3),
            cursor(5, 2, 3, "d"),
            "only the last two entries count"
        );
    }
}
