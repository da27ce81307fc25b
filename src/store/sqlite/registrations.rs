//! Registration of sinks.

use rusqlite::TransactionBehavior;

use super::connection::Db;
use crate::model::{Registration, Timestamp};
use crate::store::error::StoreError;

impl Db {
    /// Registers these sinks, and no others, as configured. A new sink is owed events from now on, or the whole log; one
    /// that returns continues where it was, or starts from now; one that is removed keeps its outbox.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn register(&mut self, sinks: &[Registration], now: Timestamp) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last: i64 =
            transaction.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| {
                row.get(0)
            })?;
        let known: Vec<String> = {
            let mut statement =
                transaction.prepare("SELECT name FROM sinks WHERE removed_at IS NULL")?;
            let names = statement.query_map([], |row| row.get(0))?;
            names.collect::<Result<_, _>>()?
        };
        for name in known
            .iter()
            .filter(|name| sinks.iter().all(|sink| sink.name != **name))
        {
            transaction.execute(
                "UPDATE sinks SET removed_at = ?2, booked_seq = iif(live, ?3, booked_seq), live = 0 WHERE name = ?1",
                (name, now.to_string(), last),
            )?;
        }
        for Registration {
            name,
            kind,
            from_beginning,
        } in sinks
        {
            let copied = if *from_beginning { 0 } else { last };
            transaction.execute(
                "INSERT INTO sinks (name, type, added_at, live, booked_seq) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (name) DO UPDATE SET type = excluded.type, removed_at = NULL,
                     failing_since = iif(removed_at IS NULL, failing_since, NULL),
                     last_error = iif(removed_at IS NULL, last_error, NULL),
                     live = iif(removed_at IS NULL, live, excluded.live)
                 WHERE removed_at IS NOT NULL OR type <> excluded.type",
                (name, kind, now.to_string(), !from_beginning, copied),
            )?;
        }
        transaction.commit()?;
        Ok(())
    }
}
