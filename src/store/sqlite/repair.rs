//! Makes good what rows deleted by hand leave behind. People prune databases with SQL, which checks no foreign keys.
//!
//! Each repair is logged: what is missing cannot be brought back.

use rusqlite::{Connection, TransactionBehavior};

use super::connection::Db;
use super::outbox::{promote, remove};
use crate::model::{EXCHANGE_CHUNK, Timestamp};
use crate::store::error::StoreError;

/// Writes the row of the task `id` again if it is missing: feeds and runs refer to it. Its name comes back when the task
/// is next read.
pub fn ensure_task(connection: &Connection, id: &str, now: &str) -> Result<(), StoreError> {
    let restored = connection
        .prepare_cached(
            "INSERT INTO tasks (id, first_seen_at, updated_at) VALUES (?1, ?2, ?2) ON CONFLICT (id) DO NOTHING",
        )?
        .execute((id, now))?;
    if restored > 0 {
        tracing::warn!(task = id, "the row of the task was deleted; wrote it again");
    }
    Ok(())
}

/// Logs that the row of the feed `id` is missing although it has runs: it is written again, and where this process does
/// not know how far the list was read, all of it is read again.
pub fn tell_if_feed_is_lost(connection: &Connection, id: &str) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM feeds WHERE id = ?1)
             AND EXISTS (SELECT 1 FROM runs WHERE feed_id = ?1 AND removed_at IS NULL)",
    )?;
    if statement.exists([id])? {
        tracing::warn!(
            feed = id,
            "the row of the feed was deleted; writing it again"
        );
    }
    Ok(())
}

impl Db {
    /// Removes deliveries to `sink` whose events were deleted; the next events of their runs become due.
    pub(super) fn remove_orphans(&mut self, sink: &str, now: Timestamp) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let orphans: Vec<(i64, String)> = {
            let mut statement = transaction.prepare_cached(
                "SELECT d.seq, d.run_id FROM deliveries d
                 WHERE d.sink = ?1 AND NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = d.seq)
                 ORDER BY d.seq LIMIT ?2",
            )?;
            let rows = statement.query_map((sink, EXCHANGE_CHUNK as u64), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.collect::<Result<_, _>>()?
        };
        for (seq, _) in &orphans {
            remove(&transaction, sink, *seq)?;
        }
        for (_, run_id) in &orphans {
            promote(&transaction, sink, run_id, &now.to_string())?;
        }
        transaction.commit()?;
        if !orphans.is_empty() {
            tracing::warn!(
                sink,
                deliveries = orphans.len(),
                "removed deliveries whose events were deleted from the database; the sink does not get them"
            );
        }
        Ok(())
    }

    /// Makes the oldest events of those runs due of which none is: the delivery that came before was deleted. Returns
    /// whether there were any.
    pub(super) fn free_stuck(&mut self, sink: &str, now: Timestamp) -> Result<bool, StoreError> {
        let stuck: Vec<String> = {
            let mut statement = self.connection.prepare_cached(
                "SELECT run_id FROM (
                     SELECT run_id, min(seq) AS first FROM deliveries INDEXED BY deliveries_by_run
                     WHERE sink = ?1 AND dead_at IS NULL GROUP BY run_id HAVING max(due_at) IS NULL)
                 WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = first AND e.held_until IS NOT NULL)
                 LIMIT ?2",
            )?;
            let rows = statement.query_map((sink, EXCHANGE_CHUNK as u64), |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        if stuck.is_empty() {
            return Ok(false);
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for run_id in &stuck {
            promote(&transaction, sink, run_id, &now.to_string())?;
        }
        transaction.commit()?;
        tracing::warn!(
            sink,
            runs = stuck.len(),
            "deliveries were deleted from the database; the sink gets what comes after them"
        );
        Ok(true)
    }

    /// Runs the statements of an operator who regards no foreign keys.
    pub(super) fn by_hand(&mut self, sql: &str) -> Result<(), StoreError> {
        self.connection.pragma_update(None, "foreign_keys", false)?;
        let done = self.connection.execute_batch(sql);
        self.connection.pragma_update(None, "foreign_keys", true)?;
        Ok(done?)
    }
}
