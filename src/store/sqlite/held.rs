//! Events that wait for the details of their runs, and are nobody's until then.
//!
//! While `events.held_until` is set, a delivery of the event is not due, no reader gets it or a later one, and its body may
//! change. It is cleared once, by what this file does in a transaction: then the body is final. No clock decides that alone,
//! so that one that is set back changes no body that was delivered.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::connection::Db;
use super::events::with_details;
use super::outbox::promote_run_of;
use super::texts::text_or_null;
use crate::model::{DETAILS_WAIT, Run, RunDetails, Timestamp};
use crate::store::error::StoreError;

/// The last event.
pub fn last_event(connection: &Connection) -> Result<i64, StoreError> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM events")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// The last event that anybody may read: the one before the first that waits.
pub fn last_readable(connection: &Connection) -> Result<i64, StoreError> {
    let first_held: Option<i64> = connection
        .prepare_cached(
            "SELECT min(seq) FROM events INDEXED BY events_held WHERE held_until IS NOT NULL",
        )?
        .query_row([], |row| row.get(0))?;
    match first_held {
        Some(held) => Ok(held - 1),
        None => last_event(connection),
    }
}

/// The most events that are let go in one transaction.
const CHUNK: u64 = 500;

impl Db {
    /// Lets events go that have waited long enough at `now`, at most some hundred; returns how many, and when there are more
    /// to let go.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn release_overdue(
        &mut self,
        now: Timestamp,
    ) -> Result<(u64, Option<Timestamp>), StoreError> {
        // Longer than any may wait: written before the clock was set back.
        let beyond = now.plus(DETAILS_WAIT);
        let released = self.release_chunk(Some((now, beyond)), now)?;
        let next = self
            .connection
            .prepare_cached(
                "SELECT min(held_until) FROM events INDEXED BY events_held WHERE held_until IS NOT NULL",
            )?
            .query_row([], |row| text_or_null(row, 0))?;
        // A time that somebody else wrote is no reason to look again at once.
        let is_usable = |at: &Timestamp| released > 0 || *at > now;
        let next = next.map(|at| {
            let at = at.ok().and_then(|at| Timestamp::parse(&at));
            at.filter(is_usable).unwrap_or(beyond)
        });
        Ok((released, next))
    }

    /// Lets all events go, whatever they wait for; returns how many.
    ///
    /// # Errors
    /// When SQLite fails; chunks already committed stay.
    pub fn release_events(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let mut released = 0;
        loop {
            match self.release_chunk(None, now)? {
                0 => return Ok(released),
                chunk => released += chunk,
            }
        }
    }

    /// Lets some events go: those that were to wait until the first of two times, or until after the second, or all.
    fn release_chunk(
        &mut self,
        waited: Option<(Timestamp, Timestamp)>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let (until, beyond) = match waited {
            Some((until, beyond)) => (Some(until.to_string()), Some(beyond.to_string())),
            None => (None, None),
        };
        let seqs: Vec<i64> = {
            let mut statement = self.connection.prepare_cached(
                "SELECT seq FROM events INDEXED BY events_held
                 WHERE held_until IS NOT NULL AND (?1 IS NULL OR held_until <= ?1 OR held_until > ?2) LIMIT ?3",
            )?;
            let seqs = statement.query_map((until, beyond, CHUNK), |row| row.get(0))?;
            seqs.collect::<Result<_, _>>()?
        };
        if seqs.is_empty() {
            return Ok(0);
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        release(&transaction, &seqs, now)?;
        transaction.commit()?;
        Ok(seqs.len() as u64)
    }
}

/// Lets events go.
fn release(connection: &Connection, seqs: &[i64], now: Timestamp) -> Result<(), StoreError> {
    for seq in seqs {
        connection
            .prepare_cached("UPDATE events SET held_until = NULL WHERE seq = ?1")?
            .execute([seq])?;
    }
    let mut sinks = connection.prepare_cached("SELECT name FROM sinks")?;
    let sinks: Vec<String> = sinks
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for sink in &sinks {
        for seq in seqs {
            promote_run_of(connection, sink, *seq, &now.to_string())?;
        }
    }
    Ok(())
}

/// Lets the events of a run go, with details where they tell of the end that these are of; returns how many.
pub fn release_run(
    connection: &Connection,
    run_id: &str,
    details: Option<(&Run, &RunDetails)>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let seqs: Vec<i64> = connection
        .prepare_cached(
            "SELECT seq FROM events INDEXED BY events_by_run WHERE run_id = ?1 AND held_until IS NOT NULL ORDER BY seq",
        )?
        .query_map([run_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if let Some((run, details)) = details {
        for seq in &seqs {
            add_details(connection, *seq, run, details)?;
        }
    }
    if !seqs.is_empty() {
        release(connection, &seqs, now)?;
    }
    Ok(seqs.len() as u64)
}

/// Adds details to the body of the event `seq`, if that is of the end that `run` shows.
fn add_details(
    connection: &Connection,
    seq: i64,
    run: &Run,
    details: &RunDetails,
) -> Result<(), StoreError> {
    let payload: Option<String> = connection
        .prepare_cached(
            "SELECT payload FROM events WHERE seq = ?1 AND status = ?2 AND (?3 IS NULL OR occurred_at = ?3)",
        )?
        .query_row((seq, run.status.as_str(), &run.finished_at), |row| row.get(0))
        .optional()?;
    // One that somebody changed by hand is left as it is.
    if let Some(payload) = payload.and_then(|payload| with_details(&payload, details)) {
        connection
            .prepare_cached("UPDATE events SET payload = ?2 WHERE seq = ?1")?
            .execute((seq, payload))?;
    }
    Ok(())
}
