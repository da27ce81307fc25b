//! How long the mirror keeps what nobody needs any more.

use std::time::Duration;

/// How long each kind of rows is kept; `None` is forever, the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Runs that the account no longer lists, with their events, since that was noticed.
    pub removed_runs: Option<Duration>,
    /// Events, since they were observed.
    pub events: Option<Duration>,
    /// Deliveries that were set aside, since then.
    pub dead_deliveries: Option<Duration>,
}

impl Retention {
    /// Whether everything is kept forever.
    pub fn is_forever(&self) -> bool {
        *self == Self::default()
    }
}
