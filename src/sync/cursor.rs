//! The cursor of a feed, and the rule that keeps it from skipping a run.
//!
//! An offset alone cannot be trusted: every deletion shifts later runs to smaller offsets, so a saved offset may point
//! past runs that were never read. The cursor therefore also holds a *watermark*, the newest entry that a forward read
//! accepted. The offset says where to read; the watermark decides whether to accept what is found there.

use super::page::Page;
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
    /// ties with the watermark, in whatever order, is among them.
    pub tail: u64,
    /// The newest accepted entry; `None` before the first.
    pub watermark: Option<Watermark>,
}

impl Cursor {
    /// Whether `page` begins at or before the watermark, so that no unread entry lies before what it shows. Only a page
    /// that joins may be accepted.
    ///
    /// A page joins if the server says that it lies at offset 0, if its first entry started strictly before the
    /// watermark, or if its first entry is the watermark. That its first entry is already in the mirror proves nothing:
    /// a watch read may have stored it ahead of the watermark, or among entries with the same start.
    pub fn joins(&self, page: &Page) -> bool {
        if page.offset == Some(0) {
            return true;
        }
        let (Some(watermark), Some(first)) = (&self.watermark, page.entries.first()) else {
            return false;
        };
        first.id() == Some(&watermark.id)
            || first
                .started()
                .is_some_and(|started| started < watermark.started)
    }

    /// The cursor after it accepted `page`, which must join.
    ///
    /// The watermark moves to the page's last entry unless that is older, as on a page reached by stepping back.
    #[must_use]
    pub fn after(&self, page: &Page) -> Self {
        let last = page.runs().rev().find_map(|seen| {
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
        Self {
            offset: page.end(),
            tail: 0,
            watermark,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::Entry;
    use super::super::testing::page;
    use super::*;

    fn cursor(offset: u64, second: i64, id: &str) -> Cursor {
        let started = Timestamp::from_millis(second * 1_000);
        Cursor {
            offset,
            tail: 0,
            watermark: Some(Watermark {
                started,
                id: id.into(),
            }),
        }
    }

    #[test]
    fn which_pages_join() {
        let at = cursor(10, 50, "w");
        let cases: [(&str, Page, bool); 8] = [
            (
                "at offset 0, whatever it shows",
                page(0, 5, &[("x", 99)]),
                true,
            ),
            ("at offset 0 and empty", page(0, 0, &[]), true),
            (
                "first entry strictly older",
                page(7, 20, &[("a", 49), ("w", 50)]),
                true,
            ),
            (
                "first entry is the watermark",
                page(9, 20, &[("w", 50), ("b", 51)]),
                true,
            ),
            ("first entry newer", page(10, 20, &[("b", 51)]), false),
            (
                "same start, another id",
                page(9, 20, &[("tie", 50), ("w", 50)]),
                false,
            ),
            ("empty, not at 0", page(10, 10, &[]), false),
            (
                "the watermark further on",
                page(9, 20, &[("b", 51), ("w", 50)]),
                false,
            ),
        ];
        for (name, page, joins) in cases {
            assert_eq!(at.joins(&page), joins, "{name}");
        }
    }

    #[test]
    fn without_a_watermark_only_offset_0_joins() {
        let fresh = Cursor::default();
        assert!(fresh.joins(&page(0, 3, &[("a", 1)])));
        assert!(!fresh.joins(&page(1, 3, &[("b", 2)])));
    }

    #[test]
    fn an_entry_without_a_start_never_joins_and_never_becomes_the_watermark() {
        let at = cursor(10, 50, "w");
        let mut unreadable = page(9, 20, &[("a", 1), ("b", 60)]);
        let mut forget = |n: usize| {
            let Entry::Run(seen) = &mut unreadable.entries[n] else {
                panic!()
            };
            seen.started = None;
            unreadable.clone()
        };
        let unreadable = forget(0);
        assert!(!at.joins(&unreadable));
        assert_eq!(at.after(&forget(1)), cursor(11, 50, "w"));
    }

    #[test]
    fn accepting_moves_the_offset_both_ways_and_the_watermark_only_forward() {
        let at = cursor(10, 50, "w");
        assert_eq!(
            at.after(&page(9, 12, &[("w", 50), ("b", 51), ("c", 52)])),
            cursor(12, 52, "c")
        );
        assert_eq!(
            at.after(&page(2, 12, &[("a", 10), ("b", 11)])),
            cursor(4, 50, "w"),
            "reached by stepping back"
        );
        assert_eq!(
            at.after(&page(9, 11, &[("a", 49), ("tie", 50)])),
            cursor(11, 50, "tie"),
            "as new as the watermark"
        );
        assert_eq!(
            at.after(&page(0, 0, &[])),
            cursor(0, 50, "w"),
            "an emptied list"
        );
    }
}
