//! What pruning leaves behind: what the ids of events are made of.
//!
//! A pruned run that is listed again is compared with what was last seen of it, as if its row were still there, and
//! numbers its events from where it stopped. The id of a pruned event is never given to another.

use rusqlite::{Connection, OptionalExtension};

use super::details;
use super::rows::{Marks, RunRow};
use crate::model::{EventType, Run, RunStatus};
use crate::store::error::StoreError;
use crate::store::event_id::{Identity, digest, event_id};
use crate::sync::Stored;

/// Runs that were pruned, within one transaction.
pub struct PrunedRuns<'a> {
    connection: &'a Connection,
    /// Whether there are any.
    any: bool,
}

impl<'a> PrunedRuns<'a> {
    /// Those in the open transaction of `connection`.
    pub fn of(connection: &'a Connection) -> Result<Self, StoreError> {
        let mut statement = connection.prepare_cached("SELECT 1 FROM pruned_runs")?;
        Ok(Self {
            any: statement.exists([])?,
            connection,
        })
    }

    /// What was last seen of the run `id`, as the row of a removed run; without any field but those that matter to events.
    pub fn load(&self, id: &str) -> Result<Option<RunRow>, StoreError> {
        if !self.any {
            return Ok(None);
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT status, finished_at, last_end, event_count, other_events FROM pruned_runs WHERE id = ?1",
        )?;
        let row = statement.query_row([id], |row| {
            let status: String = row.get(0)?;
            let last_end: Option<String> = row.get(2)?;
            let run = Run {
                finished_at: row.get(1)?,
                ..Run::bare(id.to_owned(), RunStatus::from_api(&status))
            };
            Ok(RunRow {
                stored: Stored {
                    run,
                    settles_at: None,
                    removed: true,
                    last_end: last_end.clone(),
                },
                marks: Marks {
                    events: row.get(3)?,
                    last_end,
                    others: row.get(4)?,
                },
            })
        });
        Ok(row.optional()?)
    }

    /// Forgets the run `id`, which has a row again.
    pub fn forget(&self, id: &str) -> Result<(), StoreError> {
        if self.any {
            self.connection
                .prepare_cached("DELETE FROM pruned_runs WHERE id = ?1")?
                .execute([id])?;
        }
        Ok(())
    }
}

/// Remembers what the ids of the events of the run `id` are made of, and removes its row. None of its events may be left.
pub fn prune_run(connection: &Connection, id: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO pruned_runs (id, status, finished_at, last_end, event_count, other_events)
             SELECT id, status, finished_at, last_end, event_count, other_events FROM runs WHERE id = ?1",
        )?
        .execute([id])?;
    details::remove(connection, id)?;
    connection
        .prepare_cached("DELETE FROM runs WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Remembers the id of the event `seq`, and removes its row; returns whether there was one. No sink may be owed it.
pub fn prune_event(connection: &Connection, seq: i64) -> Result<bool, StoreError> {
    let event = connection
        .prepare_cached("DELETE FROM events WHERE seq = ?1 RETURNING id, run_id, type")?
        .query_row([seq], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))
        })
        .optional()?;
    let Some((id, run_id, kind)): Option<(String, String, String)> = event else {
        return Ok(false);
    };
    remember(connection, &id)?;
    // Earlier versions gave it another id, by which it would not be recognised.
    if kind == EventType::Created.name() {
        remember(connection, &event_id(&run_id, Identity::Created))?;
    }
    Ok(true)
}

fn remember(connection: &Connection, id: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO pruned_events (id_digest) VALUES (?1)")?
        .execute([digest(id)])?;
    Ok(())
}

/// Whether a pruned event had the id `id`.
pub fn had_id(connection: &Connection, id: &str) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM pruned_events WHERE id_digest = ?1")?;
    Ok(statement.exists([digest(id)])?)
}
