//! The audit: compares the whole list with the mirror, page by page, and decides which rows are no longer listed.
//!
//! An audit reads the list in ascending order from the beginning, with a [`Cursor`] of its own and under the same rule
//! as every forward read: it accepts no page that does not join the one before it, so it certainly sees an entry that
//! exists throughout.
//!
//! # Why no listed run is marked as removed
//!
//! That an audit has not come across a run proves nothing. Marking a run takes one of two proofs:
//!
//! - *A single page that would have to show it* ([`Covered`]). The list is sorted by start, and a page is one contiguous
//!   part of it from one answer. A run that started strictly between the page's first and last entry (or before the
//!   last, on a page at offset 0) is either on that page or not listed. A page decides nothing about runs that started
//!   with its first or last entry, because ties may lie on either side of its edge; nothing if it is not sorted; and
//!   nothing beyond its last entry, whatever `total` the server reports.
//! - *The API's answer* `record-not-found` to a single read. A 404 of another kind, from a proxy for example, proves
//!   nothing. This decides the runs that no page covers ([`Audit::gaps`]): ties at the edges between pages, and runs
//!   behind the last entry.
//!
//! Both apply only to rows that were in the mirror before the page was requested: a feed's machine commits nothing
//! between a page's request and its commit, so a run that appears in between has no row yet.
//!
//! The first proof relies on Apify's documentation: the list is in the order of starts, a run's start does not change,
//! and an answer is one contiguous part of the list. From the first page on that shows entries out of order, an audit
//! decides by single reads alone. If one of these were untrue all the same, a listed run could be marked. The next
//! page or audit that shows it would clear the mark, and no row or event would be lost.

use super::cursor::{Cursor, Placed};
use super::page::Entry;
use crate::model::Timestamp;

/// An audit in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// When it began.
    pub began_at: Timestamp,
    /// Where it reads next, and the newest entry it accepted.
    pub cursor: Cursor,
    /// Runs that started before this instant are decided; `None` if none are yet.
    pub decided: Option<Timestamp>,
}

/// A span of time in which a page shows every listed run. Both edges are excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// It begins after this instant; `None` if it has no beginning.
    pub after: Option<Timestamp>,
    /// It ends before this instant.
    pub before: Timestamp,
}

/// A span of time that no page covers. Both edges are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Its first instant; `None` if it has no beginning.
    pub from: Option<Timestamp>,
    /// Its last instant; `None` if it has no end.
    pub to: Option<Timestamp>,
}

impl Covered {
    /// What `page` covers; `None` if it proves nothing.
    pub fn by(page: &Placed) -> Option<Self> {
        let entries = &page.page.entries;
        let starts: Vec<Timestamp> = entries.iter().filter_map(Entry::started).collect();
        let (first, last) = (*starts.first()?, *starts.last()?);
        // An entry without an id may be any run.
        if !starts.is_sorted() || entries.iter().any(|entry| entry.id().is_none()) {
            return None;
        }
        let after = (!page.begins).then_some(first);
        after.is_none_or(|after| after < last).then_some(Self {
            after,
            before: last,
        })
    }

    /// Whether a run that started at `started` and is not on the page is certainly not listed.
    pub fn proves_absent(&self, started: Timestamp) -> bool {
        self.after.is_none_or(|after| after < started) && started < self.before
    }
}

impl Audit {
    /// An audit that has read nothing yet.
    pub fn begin(now: Timestamp) -> Self {
        Self {
            began_at: now,
            cursor: Cursor::default(),
            decided: None,
        }
    }

    /// What is decided once `page` was accepted too.
    pub fn decided_by(&self, page: &Placed) -> Option<Timestamp> {
        self.decided
            .max(Covered::by(page).map(|covered| covered.before))
    }

    /// What neither `page` nor the pages before it decide: the time between what was decided before and what `page`
    /// covers, and, if the list `ends`, everything after that.
    pub fn gaps(&self, page: Option<&Placed>, ends: bool) -> Vec<Gap> {
        let mut gaps = Vec::new();
        if let Some(Covered {
            after: Some(edge), ..
        }) = page.and_then(Covered::by)
            && self.decided.is_none_or(|decided| decided <= edge)
        {
            gaps.push(Gap {
                from: self.decided,
                to: Some(edge),
            });
        }
        if ends {
            gaps.push(Gap {
                from: page.map_or(self.decided, |page| self.decided_by(page)),
                to: None,
            });
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{placed as page, undated};
    use super::*;
    use crate::sync::page::Unreadable;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn absent(page: &Placed) -> Vec<i64> {
        let covered = Covered::by(page);
        (0..100)
            .filter(|second| covered.is_some_and(|covered| covered.proves_absent(at(*second))))
            .collect()
    }

    #[test]
    fn a_page_proves_absence_between_its_edges() {
        assert_eq!(
            absent(&page(5, 50, &[("a", 10), ("b", 12), ("c", 14)])),
            [11, 12, 13]
        );
        assert_eq!(
            absent(&page(0, 50, &[("a", 2), ("c", 4)])),
            [0, 1, 2, 3],
            "nothing lies before offset 0"
        );
        assert_eq!(
            absent(&page(7, 9, &[("a", 90), ("b", 92)])),
            [91],
            "no page proves anything beyond its last entry"
        );
    }

    #[test]
    fn pages_that_prove_nothing() {
        for (name, page) in [
            ("empty", page(0, 0, &[])),
            ("a single entry", page(3, 9, &[("a", 5)])),
            ("nothing but ties", page(3, 9, &[("a", 5), ("b", 5)])),
            ("unsorted", page(3, 9, &[("a", 5), ("b", 9), ("c", 7)])),
        ] {
            assert_eq!(Covered::by(&page), None, "{name}");
        }
        let mut without_start = page(3, 9, &[("a", 5), ("b", 6), ("c", 8)]);
        without_start.page.entries[1] = undated("b");
        assert_eq!(
            absent(&without_start),
            [6, 7],
            "entries with a start still prove something"
        );
    }

    #[test]
    fn an_entry_without_an_id_may_be_any_run() {
        let mut nameless = page(3, 9, &[("a", 5), ("b", 6), ("c", 8)]);
        nameless.page.entries[1] = Entry::Unreadable(Unreadable {
            id: None,
            reason: String::new(),
            body: "null".to_owned(),
        });
        assert_eq!(Covered::by(&nameless), None);
    }

    /// The audit after `page`, as far as it decides.
    fn after(audit: &Audit, page: &Placed) -> Audit {
        Audit {
            decided: audit.decided_by(page),
            ..audit.clone()
        }
    }

    fn gap(from: i64, to: Option<i64>) -> Gap {
        Gap {
            from: Some(at(from)),
            to: to.map(at),
        }
    }

    #[test]
    fn gaps_are_what_no_page_covers() {
        let fresh = Audit::begin(at(0));
        let first = page(0, 6, &[("a", 10), ("b", 12)]);
        assert_eq!(fresh.gaps(Some(&first), false), []);
        let audit = after(&fresh, &first);
        assert_eq!(audit.decided, Some(at(12)));

        let edge = page(1, 6, &[("b", 12), ("c", 14)]);
        assert_eq!(audit.gaps(Some(&edge), false), [gap(12, Some(12))]);
        let overlapping = page(0, 6, &[("a", 10), ("b", 12), ("c", 14)]);
        assert_eq!(
            audit.gaps(Some(&overlapping), false),
            [],
            "a page that begins earlier covers the edge"
        );
        let stepped_back = page(1, 6, &[("z", 11), ("c", 14)]);
        assert_eq!(audit.gaps(Some(&stepped_back), false), []);

        let audit = after(&audit, &edge);
        let ties = page(2, 6, &[("c", 14), ("d", 14)]);
        assert_eq!(
            (audit.gaps(Some(&ties), false), audit.decided_by(&ties)),
            (vec![], Some(at(14))),
            "the gap is kept for the next page"
        );
        let last = page(3, 6, &[("d", 14), ("e", 14), ("f", 16)]);
        assert_eq!(
            after(&audit, &ties).gaps(Some(&last), true),
            [gap(14, Some(14)), gap(16, None)]
        );
        assert_eq!(
            audit.gaps(None, true),
            [gap(14, None)],
            "only the end was confirmed"
        );
    }

    #[test]
    fn an_emptied_list_is_one_gap() {
        assert_eq!(
            Audit::begin(at(0)).gaps(Some(&page(0, 0, &[])), true),
            [Gap {
                from: None,
                to: None
            }]
        );
    }
}
