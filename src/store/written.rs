//! What a commit changed.

use crate::sync::Difference;

/// What a commit changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Runs not known before.
    pub added: u64,
    /// Runs marked as removed that are listed after all, or again.
    pub returned: u64,
    /// Other known runs whose status changed.
    pub status: u64,
    /// Other known runs whose cost changed.
    pub usage: u64,
    /// Other known runs of which anything else changed.
    pub fields: u64,
    /// Runs newly marked as removed.
    pub removed: u64,
    /// Events raised.
    pub events: u64,
}

impl Written {
    /// Adds what another commit changed.
    pub fn add(&mut self, other: Written) {
        self.added += other.added;
        self.returned += other.returned;
        self.status += other.status;
        self.usage += other.usage;
        self.fields += other.fields;
        self.removed += other.removed;
        self.events += other.events;
    }

    /// Known runs that changed in what the API tells of them.
    pub fn changed(&self) -> u64 {
        self.returned + self.status + self.usage + self.fields
    }

    /// Counts one row that differed.
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
