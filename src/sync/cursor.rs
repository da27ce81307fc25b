//! The cursor of a feed, and the one rule that keeps it from skipping a run.
//!
//! An offset alone cannot be trusted: every deletion moves all later runs to smaller offsets, so that a saved offset
//! comes to point past runs nobody has read. The cursor therefore also holds a *watermark*, the newest entry accepted
//! by a forward read. The offset says where to look; the watermark decides whether what is found there may be
//! accepted.

use super::page::Page;
use crate::model::Timestamp;

/// The newest entry accepted by a forward read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The entry's start.
    pub started: Timestamp,
    /// The entry's id.
    pub id: String,
}

/// How far forward reading has come in one feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where the next unread entry is expected: a hint about where to read, never more.
    pub offset: u64,
    /// The newest entry accepted, once there is one.
    pub watermark: Option<Watermark>,
}

impl Cursor {
    /// The rule: whether `page` begins at or before the watermark, so that nothing can lie unseen between what is
    /// mirrored and what the page shows.
    ///
    /// That holds when the page truly begins at offset 0, when its first entry started strictly before the watermark,
    /// or when its first entry is the watermark itself. That the first entry is already mirrored proves nothing: it
    /// may have been learned from a watch read, ahead of the watermark or among entries with the same start.
    pub fn joins(&self, page: &Page) -> bool {
        if page.offset == 0 {
            return true;
        }
        let (Some(watermark), Some(first)) = (&self.watermark, page.items.first()) else {
            return false;
        };
        first.run.id == watermark.id
            || first
                .run
                .started()
                .is_some_and(|started| started < watermark.started)
    }

    /// The cursor after accepting `page`, which must join.
    ///
    /// The watermark moves to the page's last entry unless that is older, as it is on a page reached by stepping back.
    #[must_use]
    pub fn after(&self, page: &Page) -> Self {
        let last = page.items.iter().rev().find_map(|seen| {
            seen.run.started().map(|started| Watermark {
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
            watermark,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::page;
    use super::*;

    fn cursor(offset: u64, second: i64, id: &str) -> Cursor {
        let started = Timestamp::from_millis(second * 1_000);
        Cursor {
            offset,
            watermark: Some(Watermark {
                started,
                id: id.into(),
            }),
        }
    }

    #[test]
    fn the_rule() {
        let at = cursor(10, 50, "w");
        let cases: [(&str, Page, bool); 8] = [
            (
                "true offset 0, whatever it holds",
                page(0, 5, &[("x", 99)]),
                true,
            ),
            ("true offset 0 and empty", page(0, 0, &[]), true),
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
                "the watermark further on proves nothing",
                page(9, 20, &[("b", 51), ("w", 50)]),
                false,
            ),
        ];
        for (name, page, joins) in cases {
            assert_eq!(at.joins(&page), joins, "{name}");
        }
    }

    #[test]
    fn without_a_watermark_only_the_lists_beginning_joins() {
        let fresh = Cursor::default();
        assert!(fresh.joins(&page(0, 3, &[("a", 1)])));
        assert!(!fresh.joins(&page(1, 3, &[("b", 2)])));
    }

    #[test]
    fn an_entry_without_a_start_never_joins_and_never_becomes_the_watermark() {
        let at = cursor(10, 50, "w");
        let mut odd = page(9, 20, &[("a", 1), ("b", 60)]);
        odd.items[0].run.started_at = None;
        assert!(!at.joins(&odd));
        odd.items[1].run.started_at = Some("soon".into());
        assert_eq!(at.after(&odd), cursor(11, 50, "w"));
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
