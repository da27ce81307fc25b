//! The mirror in a SQLite file (WAL).
//!
//! [`SqliteStore`] writes on one thread; a lock beside the file limits it to one process for each database.
//! [`SqliteReader`] reads, over a connection and a thread of its own. Both send their calls to an `Executor`, which
//! runs them one after the other on its [`Db`](connection::Db). The other files implement the calls of `Db`, one
//! subject each.

mod audit_requests;
mod backup;
mod checkpoint;
#[cfg(test)]
mod columns_tests;
mod commit;
#[cfg(test)]
mod conformance_tests;
mod connection;
#[cfg(test)]
mod connection_tests;
mod deliveries;
mod details;
mod error;
mod event_log;
mod events;
mod exchange;
mod executor;
mod feeds;
mod file;
mod health;
mod held;
mod identities;
mod lock;
#[cfg(test)]
mod log_tests;
mod numbers;
mod objects;
mod outbox;
mod overview;
#[cfg(test)]
mod plan_tests;
mod prunable;
mod prune;
#[cfg(test)]
mod prune_tests;
mod pruned;
mod query;
mod reader;
mod reads;
mod references;
mod registrations;
mod repair;
#[cfg(test)]
mod repair_tests;
mod rows;
mod schema;
mod snapshot;
mod space;
mod tasks;
mod texts;
#[cfg(test)]
mod transaction_tests;
mod unreadable;
#[cfg(test)]
mod views_tests;
mod writer;

pub use executor::Writer;
pub use query::views;
pub use reader::SqliteReader;
pub use writer::SqliteStore;
