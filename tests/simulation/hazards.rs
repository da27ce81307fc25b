//! What can go wrong in a history, each thing to be left out when a failing one is made small.

use std::collections::BTreeSet;

/// One kind of misbehaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hazard {
    Ties,
    Late,
    Resurrection,
    Deletion,
    Retention,
    /// Changes that come and go between two looks, or are hidden for a while: only the audit can find them.
    Unwatched,
    SmallPages,
    IgnoredOffsets,
    CutPages,
    FailedReads,
    Crashes,
    ClockJumps,
    /// Receivers fail, reject, hang, lose acknowledgements and go away.
    BadReceivers,
    /// Sinks leave the configuration and come back.
    Reloads,
    /// Somebody retries and drops deliveries.
    ByHand,
    /// The database is locked by others, or its disk is full.
    LockedStore,
}

impl Hazard {
    pub const ALL: [Self; 16] = [
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
        }
    }
}

/// What a history is made of.
#[derive(Clone, Debug)]
pub struct Hazards {
    pub without: BTreeSet<Hazard>,
    /// Polls amid changes.
    pub polls: u64,
    /// Whether what happens is noted.
    pub traced: bool,
}

impl Hazards {
    /// Everything that the history of `seed` has. Half of the histories have nothing in them that only the audit could
    /// find, so that polling has to do without its help.
    pub fn of(seed: u64, polls: u64) -> Self {
        let without = match seed % 2 {
            0 => BTreeSet::from([Hazard::Unwatched, Hazard::ClockJumps]),
            _ => BTreeSet::new(),
        };
        Self {
            without,
            polls,
            traced: false,
        }
    }

    pub fn has(&self, hazard: Hazard) -> bool {
        !self.without.contains(&hazard)
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

    /// What is left out, by name.
    pub fn left_out(&self) -> String {
        self.without
            .iter()
            .map(|hazard| hazard.name())
            .collect::<Vec<_>>()
            .join(",")
    }
}
