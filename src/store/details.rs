//! Which runs' details are to be read, and what became of reading them.

use crate::model::Timestamp;
use crate::sync::Seen;

/// Runs whose details are to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetailsDue {
    /// Those that events wait for.
    pub urgent: Vec<String>,
    /// Others, those that ended last first.
    pub others: Vec<String>,
    /// When there is more to do, if nothing happens until then. It may be past.
    pub next: Option<Timestamp>,
}

/// The answer to a single read of a run for its details.
#[derive(Clone, Debug, PartialEq)]
pub enum DetailsAnswer {
    /// The run.
    Found(Box<Seen>),
    /// It cannot be read, or no longer exists; after some such answers it is given up.
    Unreadable,
    /// The API did not answer, or will answer later.
    Unavailable,
}

/// What became of details that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetailsSaved {
    /// Runs whose details are stored.
    pub read: u64,
    /// Runs that have no row any more.
    pub gone: u64,
    /// Runs that are read again later: they could not be read, or were in another state than the one that is stored.
    pub put_off: u64,
    /// Runs that are not read again until they end again.
    pub given_up: u64,
    /// How many events wait no longer.
    pub released: u64,
}

impl DetailsSaved {
    /// Adds the counts of `more`.
    pub fn add(&mut self, more: Self) {
        self.read += more.read;
        self.gone += more.gone;
        self.put_off += more.put_off;
        self.given_up += more.given_up;
        self.released += more.released;
    }
}
