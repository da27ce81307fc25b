//! The mirror in a SQLite file (WAL).
//!
//! [`SqliteStore`] writes: one process for each database, held to that by a lock beside the file, on one thread.
//! [`SqliteReader`] reads, over a connection and a thread of its own. Both hand their calls to an `Executor`, which
//! runs them one after the other on its [`Db`](connection::Db); the other files add the calls to `Db`, a subject each.

#[cfg(test)]
mod columns_tests;
mod commit;
#[cfg(test)]
mod conformance_tests;
mod connection;
#[cfg(test)]
mod connection_tests;
mod deliveries;
mod error;
mod event_log;
mod events;
mod exchange;
mod executor;
mod feeds;
mod lock;
mod outbox;
mod overview;
mod reader;
mod reads;
mod registrations;
mod rows;
mod schema;
mod tasks;
#[cfg(test)]
mod transaction_tests;
mod writer;

pub use executor::Writer;
pub use reader::SqliteReader;
pub use writer::SqliteStore;
