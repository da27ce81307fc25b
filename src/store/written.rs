//! What a commit did.

use std::collections::HashMap;

use crate::model::EventType;
use crate::sync::Difference;

/// The result of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The changes.
    pub written: Written,
    /// How many events of each type it raised.
    pub raised: HashMap<EventType, u64>,
    /// Runs whose observations were not stored: by a list they are in a state from before the one that is stored, and
    /// lists can lag. A single read decides.
    pub unconfirmed: Vec<String>,
    /// Number of items that cannot be read and were not known.
    pub unreadable: u64,
    /// How many runs it wants the details of to be read.
    pub details_asked: u64,
    /// How many events that waited for details of their runs wait no longer.
    pub released: u64,
}

/// Counts of the changes of one or more commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Runs not known before.
    pub added: u64,
    /// Runs marked as removed that are listed again.
    pub returned: u64,
    /// Other known runs whose status changed.
    pub status: u64,
    /// Other known runs whose cost changed.
    pub usage: u64,
    /// Other known runs with any other change.
    pub fields: u64,
    /// Runs newly marked as removed.
    pub removed: u64,
    /// Events raised.
    pub events: u64,
}

impl Written {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: Written) {
        self.added += other.added;
        self.returned += other.returned;
        self.status += other.status;
        self.usage += other.usage;
        self.fields += other.fields;
        self.removed += other.removed;
        self.events += other.events;
    }

    /// Known runs that changed in what the API reports of them.
    pub fn changed(&self) -> u64 {
        self.returned + self.status + self.usage + self.fields
    }

    /// Counts one changed row.
    pub(super) fn count(&mut self, difference: Difference) {
        match difference {
            Difference::New => self.added += 1,
            Difference::Returned => self.returned += 1,
            Difference::Status => self.status += 1,
            Difference::Usage => self.usage += 1,
            Difference::Fields => self.fields += 1,
            Difference::Settled => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commits_changed_adds_up() {
        let written = Written {
            added: 1,
            returned: 2,
            status: 3,
            usage: 4,
            fields: 5,
            removed: 6,
            events: 7,
        };
        assert_eq!(written.changed(), 2 + 3 + 4 + 5);
        let mut twice = written;
        twice.add(written);
        let doubled = Written {
            added: 2,
            returned: 4,
            status: 6,
            usage: 8,
            fields: 10,
            removed: 12,
            events: 14,
        };
        assert_eq!(twice, doubled);
    }
}
