//! The SQLite mirror: schema, the one commit transaction, and the reads that polls and people need.
//!
//! Rows, their events, the deliveries those owe and the cursor move in one transaction ([`Db::commit`]); there is no
//! state on disk in which one exists without the others. One process writes, held to that by [`InstanceLock`], on one
//! thread ([`Store`]); anyone may read at any time, and is never blocked (WAL).

mod commit;
#[cfg(test)]
mod commit_tests;
mod db;
mod deliveries;
mod error;
mod event_log;
mod events;
mod handle;
mod lock;
mod outbox;
#[cfg(test)]
mod outbox_tests;
mod overview;
mod reads;
mod rows;
mod sinks;
mod tasks;
mod traits;

pub use commit::{Condition, HEARTBEAT, Written};
pub use db::{Db, SCHEMA_VERSION};
pub use deliveries::{Delivery, Selection, Which};
pub use error::StoreError;
pub use event_log::LoggedEvent;
pub use handle::{Store, Writer};
pub use lock::InstanceLock;
pub use overview::{Overview, SinkStatus, TaskStatus, Unresolved};
pub use traits::{Reader, Store as StoreTrait};
