//! Deliveries: events that sinks are still owed.

use super::db::Db;
use super::error::StoreError;

/// An event as a sink gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The event's number.
    pub seq: i64,
    /// Its body: one JSON object, always the same bytes.
    pub payload: String,
}

impl Db {
    /// The oldest events owed to `sink`, at most `limit`, in order.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn due(&self, sink: &str, limit: usize) -> Result<Vec<Due>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT d.seq, e.payload FROM deliveries d JOIN events e ON e.seq = d.seq
             WHERE d.sink = ?1 ORDER BY d.seq LIMIT ?2",
        )?;
        let due =
            statement.query_map((sink, limit as u64), |row| Ok(Due { seq: row.get(0)?, payload: row.get(1)? }))?;
        Ok(due.collect::<Result<_, _>>()?)
    }

    /// Notes that `sink` has acknowledged its events up to and including number `seq`.
    ///
    /// # Errors
    /// When SQLite fails; the events will be delivered again.
    pub fn delivered(&mut self, sink: &str, seq: i64) -> Result<(), StoreError> {
        self.connection.prepare_cached("DELETE FROM deliveries WHERE sink = ?1 AND seq <= ?2")?.execute((sink, seq))?;
        Ok(())
    }
}
