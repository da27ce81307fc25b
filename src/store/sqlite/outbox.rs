//! The outbox: what sinks are owed, and when it is due.
//!
//! Events of one run go to a sink in order, so at most one of them is *due* at a time: its delivery has a `due_at`, later
//! ones get theirs when it leaves the outbox. Dead letters stay, with a `dead_at`.
//!
//! Without `INDEXED BY`, SQLite would prefer the primary key to the partial indexes, and read everything a sink is owed to
//! find one row.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::connection::Db;
use super::rows::timestamp;
use crate::model::{Due, FetchLimits, Fetched, MAX_RETRY_WAIT, Order, Timestamp};
use crate::store::error::StoreError;

/// What rows deleted by hand may have left in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Nothing was noticed.
    None,
    /// Deliveries whose events are gone.
    Orphans,
    /// Nothing is due, perhaps because the deliveries that were are gone.
    PerhapsStuck,
}

impl Db {
    /// Events to deliver to `sink` at `now`, and what to repair before they are read again.
    ///
    /// # Errors
    /// When SQLite fails or a row was tampered with.
    pub fn due(
        &self,
        sink: &str,
        limits: &FetchLimits,
        now: Timestamp,
    ) -> Result<(Fetched, Leftovers), StoreError> {
        let (seqs, all) = self.due_seqs(sink, limits, now)?;
        let (mut fetched, mut leftovers) = (Fetched::default(), Leftovers::None);
        let mut bytes = 0;
        for seq in seqs
            .into_iter()
            .filter(|seq| !limits.except.contains(seq))
            .take(limits.events)
        {
            let Some(due) = self.event_due(sink, seq, now)? else {
                leftovers = Leftovers::Orphans;
                continue;
            };
            bytes += due.payload.len();
            if bytes > limits.bytes && !fetched.events.is_empty() {
                return Ok((fetched, leftovers));
            }
            fetched.events.push(due);
        }
        if all && limits.order == Order::Run {
            fetched.next_due = self.next_due(sink, now)?;
            if fetched.events.is_empty() && leftovers == Leftovers::None {
                leftovers = Leftovers::PerhapsStuck;
            }
        }
        Ok((fetched, leftovers))
    }

    /// The numbers of due events, including those in `limits.except`, and whether these are all.
    fn due_seqs(
        &self,
        sink: &str,
        limits: &FetchLimits,
        now: Timestamp,
    ) -> Result<(Vec<i64>, bool), StoreError> {
        // The worker holds the excepted events, which are still due here.
        let limit = (limits.events + limits.except.len()) as u64;
        let mut seqs = match limits.order {
            Order::Stream => self.seqs(
                "SELECT seq FROM deliveries INDEXED BY deliveries_owed
                 WHERE sink = ?1 AND dead_at IS NULL AND ?2 IS NOT NULL
                     AND seq < coalesce((SELECT min(d.seq) FROM events e INDEXED BY events_held
                         JOIN deliveries d ON d.sink = ?1 AND d.seq = e.seq AND d.dead_at IS NULL
                         WHERE e.held_until IS NOT NULL), 9223372036854775807)
                 ORDER BY seq LIMIT ?3",
                sink,
                &now,
                limit,
            )?,
            Order::Run => self.seqs(
                "SELECT seq FROM deliveries WHERE sink = ?1 AND due_at <= ?2 ORDER BY due_at, seq LIMIT ?3",
                sink,
                &now,
                limit,
            )?,
        };
        let all = (seqs.len() as u64) < limit;
        if limits.order == Order::Run && all {
            // Due later than any retry can be: written before the clock was set back.
            seqs.extend(self.seqs(
                "SELECT seq FROM deliveries WHERE sink = ?1 AND due_at > ?2 ORDER BY due_at, seq LIMIT ?3",
                sink,
                &now.plus(2 * MAX_RETRY_WAIT),
                limit,
            )?);
        }
        Ok((seqs, all))
    }

    fn seqs(
        &self,
        sql: &str,
        sink: &str,
        at: &Timestamp,
        limit: u64,
    ) -> Result<Vec<i64>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let seqs = statement.query_map((sink, at.to_string(), limit), |row| row.get(0))?;
        Ok(seqs.collect::<Result<_, _>>()?)
    }

    fn event_due(&self, sink: &str, seq: i64, now: Timestamp) -> Result<Option<Due>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT e.id, e.run_id, e.payload, d.attempts, d.waited_ms, d.wait_ms, d.last_attempt_at, e.observed_at
             FROM deliveries d JOIN events e ON e.seq = d.seq WHERE d.sink = ?1 AND d.seq = ?2",
        )?;
        let row = statement
            .query_row((sink, seq), |row| {
                let (last, observed): (Option<String>, String) = (row.get(6)?, row.get(7)?);
                let due = Due {
                    seq,
                    id: row.get(0)?,
                    run_id: row.get(1)?,
                    payload: row.get(2)?,
                    // One that somebody else wrote is no reason not to deliver the event.
                    observed_at: Timestamp::parse(&observed).unwrap_or(now),
                    attempts: row.get(3)?,
                    waited: Duration::from_millis(row.get(4)?),
                };
                Ok((due, Duration::from_millis(row.get(5)?), last))
            })
            .optional()?;
        let Some((due, scheduled, last)) = row else {
            return Ok(None);
        };
        let last = timestamp("deliveries.last_attempt_at", last)?;
        let gap = last.map_or(Duration::ZERO, |last| now.since(last).min(scheduled));
        Ok(Some(Due {
            waited: due.waited.saturating_add(gap),
            ..due
        }))
    }

    fn next_due(&self, sink: &str, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT min(due_at) FROM deliveries WHERE sink = ?1 AND due_at > ?2")?;
        timestamp(
            "deliveries.due_at",
            statement.query_row((sink, now.to_string()), |row| row.get(0))?,
        )
    }
}

/// Removes one delivery from the outbox.
pub fn remove(connection: &Connection, sink: &str, seq: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM deliveries WHERE sink = ?1 AND seq = ?2")?
        .execute((sink, seq))?;
    Ok(())
}

/// Adds the event `seq` of `run_id` to the outbox of `sink`: due at once, unless an earlier event of the run is owed, or it
/// is held until there are details of the run.
pub fn add(
    connection: &Connection,
    sink: &str,
    seq: i64,
    run_id: &str,
    now: &str,
    is_held: bool,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO deliveries (sink, seq, run_id, due_at, owed_ms) SELECT ?1, ?2, ?3, iif(?5 OR EXISTS (
                 SELECT 1 FROM deliveries INDEXED BY deliveries_by_run
                 WHERE sink = ?1 AND run_id = ?3 AND dead_at IS NULL), NULL, ?4),
                 coalesce((SELECT failed_ms FROM sinks WHERE name = ?1), 0)
             WHERE TRUE ON CONFLICT (sink, seq) DO NOTHING",
        )?
        .execute((sink, seq, run_id, now, is_held))?;
    Ok(())
}

/// The statement that makes the oldest event of a run that the sink `?1` is owed due at `?3`, unless it already is, or is held.
/// The run is given as an expression.
macro_rules! promotion {
    ($run:literal) => {
        concat!(
            "UPDATE deliveries SET due_at = ?3 WHERE sink = ?1 AND due_at IS NULL AND seq = (
                 SELECT min(d.seq) FROM deliveries d INDEXED BY deliveries_by_run
                 WHERE d.sink = ?1 AND d.dead_at IS NULL AND d.run_id = ",
            $run,
            ") AND NOT EXISTS (SELECT 1 FROM events e WHERE e.seq = deliveries.seq AND e.held_until IS NOT NULL)"
        )
    };
}

/// Makes the oldest event of `run_id` that `sink` is owed due, unless it already is, or is held.
pub fn promote(
    connection: &Connection,
    sink: &str,
    run_id: &str,
    now: &str,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(promotion!("?2"))?
        .execute((sink, run_id, now))?;
    Ok(())
}

/// The same for the run of the event `seq`, whatever its id looks like.
pub fn promote_run_of(
    connection: &Connection,
    sink: &str,
    seq: i64,
    now: &str,
) -> Result<(), StoreError> {
    let run = promotion!("(SELECT run_id FROM deliveries WHERE sink = ?1 AND seq = ?2)");
    connection.prepare_cached(run)?.execute((sink, seq, now))?;
    Ok(())
}
