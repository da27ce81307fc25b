//! What pruning removes, and how far it has come.

use std::ops::AddAssign;

use serde::Serialize;

/// The most rows that one step of pruning looks at or removes: other writers must not wait long.
pub const PRUNE_CHUNK: usize = 500;

/// Numbers of rows that were pruned, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Runs that the account no longer lists.
    pub runs: u64,
    /// Events, those of these runs included.
    pub events: u64,
    /// Deliveries that were set aside.
    pub dead_deliveries: u64,
}

impl AddAssign for Pruned {
    fn add_assign(&mut self, more: Self) {
        self.runs += more.runs;
        self.events += more.events;
        self.dead_deliveries += more.dead_deliveries;
    }
}

/// How far pruning has come, in the order in which it looks at rows. What it has passed over because it is owed is looked
/// at again when pruning begins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PrunePosition {
    /// At the deliveries that were set aside, the oldest first.
    #[default]
    DeadDeliveries,
    /// At the removed runs, after this one.
    Runs {
        /// When it was removed.
        removed_at: String,
        /// Its id.
        id: String,
    },
    /// At the events, after this one.
    Events {
        /// When it was observed.
        observed_at: String,
        /// Its number.
        seq: i64,
    },
}

/// What a step of pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneStep {
    /// What it removed.
    pub pruned: Pruned,
    /// Where the next step goes on; `None` at the end.
    pub next: Option<PrunePosition>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steps_removed_adds_up() {
        let step = Pruned {
            runs: 1,
            events: 2,
            dead_deliveries: 3,
        };
        let mut all = step;
        all += step;
        let doubled = Pruned {
            runs: 2,
            events: 4,
            dead_deliveries: 6,
        };
        assert_eq!(all, doubled);
    }
}
