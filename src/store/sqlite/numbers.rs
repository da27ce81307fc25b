//! The numbers of events, none of which is ever used twice.

use rusqlite::Connection;

use crate::store::error::StoreError;

/// The highest number that an event is known to have had. People delete rows by hand, so this takes the highest of every
/// place that remembers one.
pub fn last_seq(connection: &Connection) -> Result<i64, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT coalesce(max(seq), 0) FROM (
             SELECT last_seq AS seq FROM event_numbers
             UNION ALL SELECT max(seq) FROM sqlite_sequence WHERE name = 'events'
             UNION ALL SELECT max(seq) FROM events
             UNION ALL SELECT position FROM sinks
             UNION ALL SELECT (SELECT max(seq) FROM deliveries d WHERE d.sink = s.name) FROM sinks s)",
    )?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Remembers that the last event has the number `seq`, also as the position of all subscriptions that commits add to.
pub fn save_last_seq(connection: &Connection, seq: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO event_numbers (only_row, last_seq) VALUES (1, ?1)
             ON CONFLICT (only_row) DO UPDATE SET last_seq = excluded.last_seq",
        )?
        .execute([seq])?;
    connection
        .prepare_cached("UPDATE sinks SET position = ?1 WHERE live = 1")?
        .execute([seq])?;
    Ok(())
}
