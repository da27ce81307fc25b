//! The mirror's database: what it must be able to do ([`Store`], [`Reader`]), and SQLite, which does it.
//!
//! Rows, their events, the deliveries those owe and the cursor move in one transaction, [`Store::commit`]; there is no
//! state on disk in which one exists without the others. One process writes; anyone may read at any time, and is never
//! blocked.
//!
//! The comparison of stored and seen runs is the core's (`sync::observe`); a store only carries it
//! out inside its transaction.

#[cfg(test)]
mod conformance;
mod error;
mod reports;
mod sqlite;
mod states;
mod traits;
mod written;

pub use error::{Failure, StoreError};
pub use reports::{
    Delivery, LoggedEvent, Overview, Selection, SinkStatus, TaskStatus, Unresolved, Which,
};
pub use sqlite::{SqliteReader, SqliteStore, Writer};
pub use states::{Condition, DeliveryState, SinkState};
pub use traits::{HEARTBEAT, Reader, Store};
pub use written::Written;
