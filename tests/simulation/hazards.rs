//! What can go wrong in a history. Shrinking a failing history removes single hazards.

use std::collections::BTreeSet;

use apify_mirror::simulator::Rng;

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
    /// What is old enough is pruned, as the configuration says at that moment.
    Pruning,
    /// The mirror is off for days.
    Off,
    /// Runs with equal starts come in another order in each answer.
    TieOrders,
    /// `total` is absent, stale, too small or too large.
    LyingTotals,
    /// `offset` and `limit` in an answer are absent or untrue.
    LyingOffsets,
    /// `desc`, `status` and `limit` are ignored.
    IgnoredParameters,
    /// Entries that cannot be read as runs.
    OddItems,
    /// Starts that are missing, unreadable, unbelievable or written in another form.
    OddStarts,
    /// Lists show some runs as they were some time ago.
    LaggingLists,
    /// Details of runs are read, and events wait for them.
    Details,
}

impl Hazard {
    pub const ALL: [Self; 27] = [
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
        Self::Pruning,
        Self::Off,
        Self::TieOrders,
        Self::LyingTotals,
        Self::LyingOffsets,
        Self::IgnoredParameters,
        Self::OddItems,
        Self::OddStarts,
        Self::LaggingLists,
        Self::Details,
    ];

    /// Traits of a server that a history has throughout or not at all: each in two fifths of all histories.
    pub const TRAITS: [Self; 7] = [
        Self::TieOrders,
        Self::LyingTotals,
        Self::LyingOffsets,
        Self::IgnoredParameters,
        Self::OddItems,
        Self::OddStarts,
        Self::LaggingLists,
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
            Self::Pruning => "pruning",
            Self::Off => "off-for-days",
            Self::TieOrders => "tie-orders",
            Self::LyingTotals => "lying-totals",
            Self::LyingOffsets => "lying-offsets",
            Self::IgnoredParameters => "ignored-parameters",
            Self::OddItems => "odd-items",
            Self::OddStarts => "odd-starts",
            Self::LaggingLists => "lagging-lists",
            Self::Details => "details",
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
        // Half of all histories keep everything, and each kind of those above does both.
        if seed % 16 < 8 {
            without.insert(Hazard::Pruning);
        }
        let mut rng = Rng::new(seed ^ 0x7a17);
        without.extend(Hazard::TRAITS.into_iter().filter(|_| !rng.chance(40.0)));
        if rng.chance(50.0) {
            without.insert(Hazard::Details);
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

    /// Whether nobody deletes rows that the mirror has written, and does not know of.
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
