//! What can go wrong in a history. Shrinking a failing history removes single hazards.

use std::collections::BTreeSet;

/// One kind of misbehaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hazard {
    Ties,
    Late,
    Resurrection,
    Deletion,
    Retention,
    /// Changes that come and go between two polls, or runs hidden for a while, which only an audit finds.
    Unwatched,
    SmallPages,
    IgnoredOffsets,
    CutPages,
    FailedReads,
    Crashes,
    ClockJumps,
    /// Receivers fail, reject, hang, lose acknowledgements and go away.
    BadReceivers,
    /// Sinks are removed from the configuration and added again.
    Reloads,
    /// An operator retries and drops deliveries.
    ByHand,
    /// The database is locked by others, or its disk is full.
    LockedStore,
    /// An operator deletes rows with SQL.
    DeletedRows,
    /// The mirror is off for days.
    Off,
}

impl Hazard {
    pub const ALL: [Self; 18] = [
        Self::Ties,
        Self::Late,
        Self::Resurrection,
        Self::Deletion,
        Self::Retention,
        Self::Unwatched,
        Self::SmallPages,
        Self::IgnoredOffsets,
        Self::CutPages,
        Self::FailedReads,
        Self::Crashes,
        Self::ClockJumps,
        Self::BadReceivers,
        Self::Reloads,
        Self::ByHand,
        Self::LockedStore,
        Self::DeletedRows,
        Self::Off,
    ];

    /// The name by which `SIM_WITHOUT` leaves it out.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ties => "ties",
            Self::Late => "late",
            Self::Resurrection => "resurrection",
            Self::Deletion => "deletion",
            Self::Retention => "retention",
            Self::Unwatched => "unwatched",
            Self::SmallPages => "small-pages",
            Self::IgnoredOffsets => "ignored-offsets",
            Self::CutPages => "cut-pages",
            Self::FailedReads => "failed-reads",
            Self::Crashes => "crashes",
            Self::ClockJumps => "clock-jumps",
            Self::BadReceivers => "bad-receivers",
            Self::Reloads => "reloads",
            Self::ByHand => "by-hand",
            Self::LockedStore => "locked-store",
            Self::DeletedRows => "deleted-by-hand",
            Self::Off => "off-for-days",
        }
    }
}

/// The parameters of a history.
#[derive(Clone, Debug)]
pub struct Hazards {
    pub without: BTreeSet<Hazard>,
    /// Number of polls during changes.
    pub polls: u64,
    /// Whether to record a trace.
    pub traced: bool,
}

impl Hazards {
    /// The parameters of the history of `seed`. Half of the histories have no changes that only an audit finds, so that
    /// polling must suffice.
    pub fn of(seed: u64, polls: u64) -> Self {
        let mut without = match seed % 2 {
            0 => BTreeSet::from([Hazard::Unwatched, Hazard::ClockJumps]),
            _ => BTreeSet::new(),
        };
        // What is deleted cannot all be checked for, so most histories keep every row.
        if seed % 4 != 3 {
            without.insert(Hazard::DeletedRows);
        }
        Self {
            without,
            polls,
            traced: false,
        }
    }

    pub fn has(&self, hazard: Hazard) -> bool {
        !self.without.contains(&hazard)
    }

    /// Whether every row stays that the mirror has written.
    pub fn rows_stay(&self) -> bool {
        !self.has(Hazard::DeletedRows)
    }

    /// Whether polling alone must make the mirror equal to the account.
    pub fn polling_suffices(&self) -> bool {
        !self.has(Hazard::Unwatched) && !self.has(Hazard::ClockJumps)
    }

    #[must_use]
    pub fn but(&self, hazard: Hazard) -> Self {
        let mut fewer = self.clone();
        fewer.without.insert(hazard);
        fewer
    }

    /// The names of the hazards left out, for `SIM_WITHOUT`.
    pub fn left_out(&self) -> String {
        self.without
            .iter()
            .map(|hazard| hazard.name())
            .collect::<Vec<_>>()
            .join(",")
    }
}
