//! The mirror's database: its interface ([`Store`], [`Reader`]) and the implementation in SQLite.
//!
//! [`Store::commit`] writes rows, their events, the deliveries of those and the cursor in one transaction, so none of
//! them is ever on disk without the others. One process writes; any number may read at any time, and are never blocked.
//!
//! The core compares stored and seen runs (`sync::observe`); a store only calls it inside its transaction.

#[cfg(test)]
mod conformance;
mod details;
mod error;
mod event_id;
mod pruning;
mod query;
mod reports;
mod sqlite;
mod states;
mod traits;
mod written;

pub use details::{DetailsAnswer, DetailsDue, DetailsSaved};
pub use error::{Failure, StoreError};
pub use pruning::{PRUNE_CHUNK, PrunePosition, PruneStep, Pruned};
pub use query::{Cell, Part, QueryError, View};
pub use reports::{
    AuditRequest, Delivery, EventFilter, FeedHealth, Health, LoggedEvent, Overview, Selection,
    SinkStatus, SubscriptionStatus, TaskStatus, Unresolved, Which,
};
pub use sqlite::{SqliteReader, SqliteStore, Writer, views};
pub use states::{Condition, DeliveryState, SinkState};
pub use traits::{MAX_UNREADABLE, MAX_UNSEEN, Reader, Store};
pub use written::{Committed, Written};
