//! Removes what is older than it is kept, some hundred rows at a time.

use rusqlite::{Connection, TransactionBehavior};

use super::connection::Db;
use super::prunable::Prunable;
use super::pruned::{prune_event, prune_run};
use crate::model::{Retention, Timestamp};
use crate::store::error::StoreError;
use crate::store::pruning::{PRUNE_CHUNK, PrunePosition, PruneStep, Pruned};

impl Db {
    /// Removes what `retention` does not keep at `now`, from `from` on: at most [`PRUNE_CHUNK`] rows, and as many are
    /// looked at. Takes the write lock only where there is something to remove.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn prune(
        &mut self,
        retention: &Retention,
        from: &PrunePosition,
        now: Timestamp,
    ) -> Result<PruneStep, StoreError> {
        let found = Batch::find(&self.connection, retention, from, now)?;
        if found.is_empty() {
            return Ok(PruneStep {
                pruned: Pruned::default(),
                next: found.next,
            });
        }
        // For each event SQLite would read the whole outbox, whose key begins with the sink. What it would look for is
        // what `Prunable` looks for, by key.
        self.connection.pragma_update(None, "foreign_keys", false)?;
        let pruned = self.prune_batch(retention, from, now);
        self.connection.pragma_update(None, "foreign_keys", true)?;
        pruned
    }

    fn prune_batch(
        &mut self,
        retention: &Retention,
        from: &PrunePosition,
        now: Timestamp,
    ) -> Result<PruneStep, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Again: another process may have written since.
        let found = Batch::find(&transaction, retention, from, now)?;
        let pruned = found.remove(&transaction)?;
        transaction.commit()?;
        Ok(PruneStep {
            pruned,
            next: found.next,
        })
    }
}

/// Rows to be removed at once, and where the next are looked for.
struct Batch {
    dead_deliveries: Vec<(String, i64)>,
    events: Vec<i64>,
    /// Runs all of whose events are among `events`.
    runs: Vec<String>,
    next: Option<PrunePosition>,
    /// How many more rows may be looked at.
    left: usize,
}

impl Batch {
    fn find(
        connection: &Connection,
        retention: &Retention,
        from: &PrunePosition,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let prunable = Prunable::of(connection, retention, now)?;
        let mut batch = Self {
            dead_deliveries: Vec::new(),
            events: Vec::new(),
            runs: Vec::new(),
            next: Some(from.clone()),
            left: PRUNE_CHUNK,
        };
        while let Some(position) = batch.next.clone()
            && batch.left > 0
        {
            batch.next = match position {
                PrunePosition::DeadDeliveries => {
                    batch.find_dead_deliveries(connection, &prunable)?
                }
                PrunePosition::Runs { removed_at, id } => {
                    batch.find_runs(connection, &prunable, (removed_at, id))?
                }
                PrunePosition::Events { observed_at, seq } => {
                    batch.find_events(connection, &prunable, (observed_at, seq))?
                }
            };
        }
        Ok(batch)
    }

    fn is_empty(&self) -> bool {
        self.dead_deliveries.is_empty() && self.events.is_empty() && self.runs.is_empty()
    }

    /// Takes deliveries that were set aside; returns where to go on.
    fn find_dead_deliveries(
        &mut self,
        connection: &Connection,
        prunable: &Prunable,
    ) -> Result<Option<PrunePosition>, StoreError> {
        let mut statement = connection.prepare_cached(Prunable::DEAD)?;
        let rows = statement.query_map((&prunable.dead_before, self.left as u64), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        self.dead_deliveries = rows.collect::<Result<_, _>>()?;
        let are_all = self.dead_deliveries.len() < self.left;
        if !self.dead_deliveries.is_empty() {
            // Only once they are gone, their events may go too.
            self.left = 0;
        }
        Ok(Some(match are_all {
            false => PrunePosition::DeadDeliveries,
            true => PrunePosition::Runs {
                removed_at: String::new(),
                id: String::new(),
            },
        }))
    }

    /// Takes runs, with their events, from after a run on; returns where to go on.
    fn find_runs(
        &mut self,
        connection: &Connection,
        prunable: &Prunable,
        mut after: (String, String),
    ) -> Result<Option<PrunePosition>, StoreError> {
        let candidates: Vec<(String, String, bool)> = {
            let (copied, sinks, dead) = prunable.owing(None);
            let mut statement = connection.prepare(&prunable.old_runs())?;
            let before = &prunable.runs_before;
            let limit = self.left as u64;
            let rows = statement.query_map(
                (copied, sinks, dead, before, &after.0, &after.1, limit),
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            rows.collect::<Result<_, _>>()?
        };
        let are_all = candidates.len() < self.left;
        let mut events = connection
            .prepare_cached("SELECT seq FROM events WHERE run_id = ?1 ORDER BY seq LIMIT ?2")?;
        for (removed_at, id, is_kept) in candidates {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            if !is_kept {
                let seqs = events.query_map((&id, self.left as u64 + 1), |row| row.get(0))?;
                let mut seqs: Vec<i64> = seqs.collect::<Result<_, _>>()?;
                if seqs.len() > self.left {
                    // The next batch goes on with this run.
                    seqs.truncate(self.left);
                    self.events.append(&mut seqs);
                    self.left = 0;
                    break;
                }
                self.left -= seqs.len();
                self.events.append(&mut seqs);
                self.runs.push(id.clone());
            }
            after = (removed_at, id);
        }
        Ok(Some(match are_all && self.left > 0 {
            true => PrunePosition::Events {
                observed_at: String::new(),
                seq: 0,
            },
            false => PrunePosition::Runs {
                removed_at: after.0,
                id: after.1,
            },
        }))
    }

    /// Takes events from after an event on; returns where to go on.
    fn find_events(
        &mut self,
        connection: &Connection,
        prunable: &Prunable,
        mut after: (String, i64),
    ) -> Result<Option<PrunePosition>, StoreError> {
        let (copied, sinks, dead) = prunable.owing(None);
        let mut statement = connection.prepare(&prunable.old_events())?;
        let (before, limit) = (&prunable.events_before, self.left as u64);
        let rows = statement.query_map(
            (copied, sinks, dead, before, after.0.clone(), after.1, limit),
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        for row in rows {
            let (observed_at, seq, is_kept): (String, i64, bool) = row?;
            self.left -= 1;
            if !is_kept {
                self.events.push(seq);
            }
            after = (observed_at, seq);
        }
        Ok((self.left == 0).then_some(PrunePosition::Events {
            observed_at: after.0,
            seq: after.1,
        }))
    }

    /// Removes the rows; returns how many there were.
    fn remove(&self, connection: &Connection) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        for (sink, seq) in &self.dead_deliveries {
            pruned.dead_deliveries += connection
                .prepare_cached("DELETE FROM deliveries WHERE sink = ?1 AND seq = ?2")?
                .execute((sink, seq))? as u64;
        }
        for seq in &self.events {
            pruned.events += u64::from(prune_event(connection, *seq)?);
        }
        for id in &self.runs {
            prune_run(connection, id)?;
            pruned.runs += 1;
        }
        Ok(pruned)
    }
}
