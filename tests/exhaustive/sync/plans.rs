//! The accounts that are searched.

use super::account::Total;

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
    /// Whether a poll that caught up has to have found all that was listed throughout it, or the one after it only.
    pub found_at_once: bool,
    /// Whether equal starts come in the same order in every answer.
    pub stable: bool,
    pub total: Total,
    /// The most steps until the mirror equals the account, once nothing changes or fails any more.
    pub within: usize,
    /// What can happen besides new runs and reads.
    pub may: May,
    /// How many steps are searched by default.
    pub depth: usize,
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
    total: Total::True,
    within: 40,
    may: May {
        delete: true,
        fail: true,
        crash: true,
        ..NOTHING
    },
    depth: 9,
};

pub static FIRST_TIES: Plan = Plan {
    name: "first sync of equal starts",
    starts: &[10, 20, 30, 30],
    listed: 4,
    page: 3,
    depth: 10,
    ..FIRST
};

pub static TIES_OF_TWO: Plan = Plan {
    name: "equal starts, pages of two",
    starts: &[10, 20, 20, 30, 30],
    listed: 2,
    synced: true,
    may: May {
        delete: true,
        crash: true,
        ..NOTHING
    },
    ..FIRST
};

pub static TIES_OF_THREE: Plan = Plan {
    name: "equal starts, pages of three",
    starts: &[10, 20, 30, 30, 30],
    page: 3,
    ..TIES_OF_TWO
};

pub static DELETED: Plan = Plan {
    name: "deletions",
    listed: 3,
    synced: true,
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
    depth: 8,
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
    depth: 8,
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
    ..FIRST
};

pub static AUDITED_TIES: Plan = Plan {
    name: "audits of equal starts",
    starts: &[10, 20, 20, 30],
    listed: 2,
    page: 2,
    stable: false,
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
    ..FIRST
};

/// As [`AUDITED`], but an audit must not read the same page over and over.
pub static AUDITED_SWIFTLY: Plan = Plan {
    name: "audits in few reads",
    within: 40,
    ..AUDITED
};

/// As [`DELETED`], but a poll that caught up must have found everything.
pub static DELETED_AT_ONCE: Plan = Plan {
    name: "deletions, found at once",
    found_at_once: true,
    ..DELETED
};

pub static TIES_AT_ONCE: Plan = Plan {
    name: "equal starts, found at once",
    found_at_once: true,
    ..TIES_OF_THREE
};

pub static WITHOUT_TOTALS: Plan = Plan {
    name: "no totals",
    starts: &[10, 20, 30, 30],
    total: Total::Absent,
    ..DELETED
};

pub static UNTRUE_TOTALS: Plan = Plan {
    name: "untrue totals",
    total: Total::EndOfPage,
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
    ..RESURRECTED
};

pub static UNREADABLE: Plan = Plan {
    name: "unreadable entries",
    starts: &[10, 20, 30, 40],
    listed: 3,
    synced: true,
    may: May {
        delete: true,
        audit: true,
        unreadable: Some(true),
        ..NOTHING
    },
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
