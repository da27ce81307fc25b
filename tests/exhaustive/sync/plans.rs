//! The accounts that are searched.

use super::account::{Manner, Total};

/// An account, and how it is polled.
#[derive(Debug)]
pub struct Plan {
    pub name: &'static str,
    /// When the runs start, in seconds, ascending.
    pub starts: &'static [i64],
    /// How many of them exist at the beginning.
    pub listed: usize,
    /// Whether the mirror has caught up then.
    pub synced: bool,
    /// Entries in a page.
    pub page: u32,
    pub overlap: u32,
    pub read_ahead: usize,
    /// Whether every poll reads the active runs too, so that those registered late or resurrected are found.
    pub watched: bool,
    /// Whether a poll that caught up has to have found all that was listed throughout it, also what the cursor has not passed:
    /// otherwise the next poll has.
    pub found_at_once: bool,
    /// Whether equal starts come in the same order in every answer.
    pub stable: bool,
    pub manner: Manner,
    /// The most steps until the mirror equals the account, once nothing changes or fails any more.
    pub within: usize,
    /// The most reads of a poll, or of a page of an audit.
    pub reads: u8,
    /// What can happen besides new runs and reads.
    pub may: May,
    /// How many steps are searched by default.
    pub depth: usize,
    /// How many steps can be searched before something is found that cannot be helped.
    pub deepest: usize,
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
pub struct May {
    pub late: bool,
    pub end: bool,
    pub resurrect: bool,
    pub delete: bool,
    pub fail: bool,
    pub crash: bool,
    pub audit: bool,
    /// Lists can show a run as it was before it last changed, once for each change.
    pub lag: bool,
    /// Lists can show one run unreadable for a time: with its id, or without.
    pub unreadable: Option<bool>,
}

const TRUE: Manner = Manner {
    total: Total::True,
    most: usize::MAX,
};

const NOTHING: May = May {
    late: false,
    end: false,
    resurrect: false,
    delete: false,
    fail: false,
    crash: false,
    audit: false,
    lag: false,
    unreadable: None,
};

pub static FIRST: Plan = Plan {
    name: "first sync",
    starts: &[10, 20, 30, 40, 50],
    listed: 3,
    synced: false,
    page: 2,
    overlap: 1,
    read_ahead: 1,
    watched: false,
    found_at_once: false,
    stable: false,
    manner: TRUE,
    within: 40,
    reads: 24,
    may: May {
        delete: true,
        fail: true,
        crash: true,
        ..NOTHING
    },
    depth: 8,
    deepest: usize::MAX,
};

pub static FIRST_TIES: Plan = Plan {
    name: "first sync of equal starts",
    starts: &[10, 20, 30, 30],
    listed: 4,
    page: 3,
    depth: 8,
    ..FIRST
};

/// A run that is registered late with an equal start, a deletion and another order, all between two pages, can hide it
/// from polls, which takes twelve steps. A larger overlap finds it, or an audit.
pub static TIES_OF_TWO: Plan = Plan {
    name: "equal starts, pages of two",
    deepest: 11,
    starts: &[10, 20, 20, 30, 30],
    listed: 2,
    synced: true,
    may: May {
        delete: true,
        crash: true,
        ..NOTHING
    },
    depth: 8,
    ..FIRST
};

pub static TIES_OF_THREE: Plan = Plan {
    name: "equal starts, pages of three",
    starts: &[10, 20, 30, 30, 30],
    page: 3,
    depth: 7,
    ..TIES_OF_TWO
};

pub static DELETED: Plan = Plan {
    name: "deletions",
    listed: 3,
    synced: true,
    depth: 7,
    ..FIRST
};

pub static RESURRECTED: Plan = Plan {
    name: "ends and resurrections",
    starts: &[10, 20, 30, 40],
    listed: 3,
    synced: true,
    watched: true,
    may: May {
        end: true,
        resurrect: true,
        delete: true,
        fail: true,
        crash: true,
        ..NOTHING
    },
    depth: 6,
    ..FIRST
};

pub static LATE: Plan = Plan {
    name: "late registrations",
    listed: 0,
    synced: true,
    watched: true,
    may: May {
        late: true,
        end: true,
        crash: true,
        ..NOTHING
    },
    depth: 6,
    ..FIRST
};

pub static AT_ONCE: Plan = Plan {
    name: "two pages at once",
    listed: 5,
    read_ahead: 2,
    may: May {
        delete: true,
        fail: true,
        ..NOTHING
    },
    depth: 8,
    ..FIRST
};

/// Limited for the same reason as [`TIES_OF_TWO`].
pub static AUDITED_TIES: Plan = Plan {
    name: "audits of equal starts",
    deepest: 12,
    starts: &[10, 20, 20, 30],
    listed: 2,
    page: 2,
    stable: false,
    depth: 7,
    ..AUDITED
};

pub static AUDITED: Plan = Plan {
    name: "audits",
    starts: &[10, 20, 30, 30, 40],
    page: 3,
    listed: 4,
    stable: true,
    synced: true,
    within: 60,
    may: May {
        delete: true,
        audit: true,
        crash: true,
        fail: true,
        ..NOTHING
    },
    depth: 7,
    ..FIRST
};

/// As [`AUDITED`], but an audit must not read the same page over and over.
pub static AUDITED_SWIFTLY: Plan = Plan {
    name: "audits in few reads",
    within: 40,
    depth: 9,
    ..AUDITED
};

/// As [`DELETED`], but a poll that caught up must have found everything.
pub static DELETED_AT_ONCE: Plan = Plan {
    name: "deletions, found at once",
    found_at_once: true,
    depth: 8,
    ..DELETED
};

/// Two deletions and two other orders within one poll can hide a run from it, which takes eleven steps; the next poll
/// finds it.
pub static TIES_AT_ONCE: Plan = Plan {
    name: "equal starts, found at once",
    found_at_once: true,
    depth: 8,
    deepest: 10,
    ..TIES_OF_THREE
};

pub static WITHOUT_TOTALS: Plan = Plan {
    name: "no totals",
    starts: &[10, 20, 30, 30],
    manner: Manner {
        total: Total::Absent,
        ..TRUE
    },
    depth: 8,
    ..DELETED
};

pub static UNTRUE_TOTALS: Plan = Plan {
    name: "untrue totals",
    manner: Manner {
        total: Total::EndOfPage,
        ..TRUE
    },
    ..WITHOUT_TOTALS
};

pub static LAGGING: Plan = Plan {
    name: "lists that lag",
    starts: &[10, 20, 30],
    listed: 2,
    may: May {
        end: true,
        resurrect: true,
        lag: true,
        ..NOTHING
    },
    depth: 8,
    ..RESURRECTED
};

pub static UNREADABLE: Plan = Plan {
    name: "unreadable entries",
    within: 90,
    reads: 60,
    starts: &[10, 20, 30, 40, 50],
    listed: 4,
    page: 3,
    synced: true,
    may: May {
        delete: true,
        audit: true,
        unreadable: Some(true),
        ..NOTHING
    },
    depth: 6,
    ..FIRST
};

pub static NAMELESS: Plan = Plan {
    name: "unreadable entries without an id",
    may: May {
        unreadable: Some(false),
        ..UNREADABLE.may
    },
    ..UNREADABLE
};

/// As [`NAMELESS`], but a poll must not read the same pages over and over.
pub static NAMELESS_SWIFTLY: Plan = Plan {
    name: "unreadable entries, in few reads",
    within: 40,
    reads: 24,
    ..NAMELESS
};

/// The first sync of a list in pages smaller than asked for, which are not the end although no total says so.
pub static SMALL_PAGES: Plan = Plan {
    name: "small pages without totals",
    page: 4,
    manner: Manner {
        total: Total::Absent,
        most: 3,
    },
    starts: &[10, 20, 30, 40, 50],
    listed: 4,
    depth: 8,
    ..FIRST
};
