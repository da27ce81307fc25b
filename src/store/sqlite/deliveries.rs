//! Deliveries as an operator lists, retries and drops them.

use std::collections::BTreeSet;

use rusqlite::{Connection, TransactionBehavior, named_params};

use super::connection::Db;
use super::outbox::{promote, remove};
use crate::model::Timestamp;
use crate::store::error::StoreError;
use crate::store::reports::{Delivery, Selection};
use crate::store::states::DeliveryState;

/// The most rows changed in one transaction: other writers must not wait long.
pub(super) const CHUNK: u64 = 5_000;

const SELECTED: &str = "(:sink IS NULL OR d.sink = :sink)
    AND (d.dead_at IS NOT NULL OR :which = 2 OR (:which = 1 AND d.attempts > 0))
    AND (:seqs = '[]' OR d.seq IN (SELECT value FROM json_each(:seqs)))";

impl Selection {
    /// The numbers as a JSON array, each once: a row is selected once however often its number is given.
    fn seqs(&self) -> String {
        let seqs: BTreeSet<i64> = self.seqs.iter().copied().collect();
        format!("{:?}", Vec::from_iter(seqs))
    }

    /// The `FROM` clause: given numbers are looked up by key instead of scanning the outbox.
    fn tables(&self) -> &'static str {
        if self.seqs.is_empty() {
            "deliveries d"
        } else {
            "sinks s CROSS JOIN json_each(:seqs) j CROSS JOIN deliveries d ON d.sink = s.name AND d.seq = j.value"
        }
    }

    /// The next chunk of rows after `last`, in key order.
    fn rows(
        &self,
        connection: &Connection,
        last: (&str, i64),
    ) -> Result<Vec<(String, i64, String)>, StoreError> {
        let tables = self.tables();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT d.sink, d.seq, d.run_id FROM {tables}
             WHERE (d.sink, d.seq) > (:last_sink, :last_seq) AND {SELECTED} ORDER BY d.sink, d.seq LIMIT {CHUNK}"
        ))?;
        let rows = statement.query_map(
            named_params! {
                ":sink": self.sink, ":which": self.which as i64, ":seqs": self.seqs(), ":last_sink": last.0,
                ":last_seq": last.1,
            },
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Db {
    /// Deliveries of `selection`, at most `limit`, oldest first.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn deliveries(
        &self,
        selection: &Selection,
        limit: u64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut statement = self.connection.prepare(&format!(
            "SELECT d.sink, d.seq, coalesce(e.id, '-'), coalesce(e.type, '(deleted)'), d.run_id, d.attempts, d.last_attempt_at, d.due_at, d.dead_at, d.last_error
             FROM deliveries d LEFT JOIN events e ON e.seq = d.seq WHERE {SELECTED} ORDER BY d.seq, d.sink LIMIT :limit"
        ))?;
        let rows = statement.query_map(
            named_params! {
                ":sink": selection.sink, ":which": selection.which as i64, ":seqs": selection.seqs(), ":limit": limit,
            },
            |row| {
                let (attempts, dead_at): (u32, Option<String>) = (row.get(5)?, row.get(8)?);
                let state = match (&dead_at, attempts) {
                    (Some(_), _) => DeliveryState::Dead,
                    (None, 0) => DeliveryState::Waiting,
                    (None, _) => DeliveryState::Retrying,
                };
                Ok(Delivery {
                    sink: row.get(0)?,
                    seq: row.get(1)?,
                    id: row.get(2)?,
                    r#type: row.get(3)?,
                    run_id: row.get(4)?,
                    state,
                    attempts,
                    last_attempt_at: row.get(6)?,
                    due_at: row.get(7)?,
                    dead_at,
                    last_error: row.get(9)?,
                })
            },
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Makes the deliveries of `selection` due at `now`, as if they had never been attempted; returns how many there
    /// were. An event that was set aside comes after later ones of its run that were delivered meanwhile.
    ///
    /// # Errors
    /// When SQLite fails; chunks already committed stay.
    pub fn retry_deliveries(
        &mut self,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.change(selection, now, |connection, sink, seq, run_id| {
            connection
                .prepare_cached(
                    "UPDATE deliveries SET dead_at = NULL, attempts = 0, first_attempt_at = NULL, last_attempt_at = NULL,
                         waited_ms = 0, wait_ms = 0
                     WHERE sink = ?1 AND seq = ?2",
                )?
                .execute((sink, seq))?;
            // Otherwise a sink that has failed for long would have them set aside again after one failure, untried.
            connection
                .prepare_cached(
                    "UPDATE sinks SET retries = retries + 1, failing_since = NULL, failed_ms_at_delivery = failed_ms,
                         last_failed_at = NULL WHERE name = ?1",
                )?
                .execute([sink])?;
            // Only the oldest event of a run is due; `promote` then marks it.
            connection
                .prepare_cached(
                    "UPDATE deliveries INDEXED BY deliveries_by_run SET due_at = NULL
                     WHERE sink = ?1 AND run_id = ?2 AND dead_at IS NULL AND due_at IS NOT NULL",
                )?
                .execute((sink, run_id))?;
            Ok(())
        })
    }

    /// Removes the deliveries of `selection` from the outbox; returns how many there were. The events stay.
    ///
    /// # Errors
    /// When SQLite fails; chunks already committed stay.
    pub fn drop_deliveries(
        &mut self,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.change(selection, now, |connection, sink, seq, _| {
            remove(connection, sink, seq)
        })
    }

    /// Applies `each` to the selected rows, one transaction for each chunk.
    fn change(
        &mut self,
        selection: &Selection,
        now: Timestamp,
        each: impl Fn(&Connection, &str, i64, &str) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let now = now.to_string();
        let mut changed = 0;
        let mut last = (String::new(), 0);
        loop {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let rows = selection.rows(&transaction, (&last.0, last.1))?;
            for (sink, seq, run_id) in &rows {
                each(&transaction, sink, *seq, run_id)?;
            }
            for (sink, _, run_id) in &rows {
                promote(&transaction, sink, run_id, &now)?;
            }
            transaction.commit()?;
            changed += rows.len() as u64;
            match rows.into_iter().next_back() {
                Some((sink, seq, _)) => last = (sink, seq),
                None => return Ok(changed),
            }
        }
    }
}
