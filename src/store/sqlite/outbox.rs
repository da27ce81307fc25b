//! The outbox: what sinks are owed, when it is due, and what became of it.
//!
//! Events of one run go to a sink in order, so at most one of them is *due* at a time: its delivery has a `due_at`, the
//! later ones have none until it leaves the outbox. Dead letters, which were set aside, stay with a `dead_at`.
//!
//! Left to itself, SQLite prefers the primary key to the partial indexes, and would read everything a sink is owed to find
//! one row of it: hence the `INDEXED BY`.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};

use super::connection::Db;
use super::rows::timestamp;
use crate::model::{
    Due, EXCHANGE_CHUNK, Exchange, Exchanged, FetchLimits, Fetched, MAX_RETRY_WAIT, Order, Overdue,
    Settled, Subscription, Timestamp, Verdict,
};
use crate::store::error::StoreError;

/// The most bytes of event bodies read at once. One body is read whatever its size.
const MAX_FETCHED_BYTES: usize = 8 << 20;

/// Deliveries already looked up, to be changed together.
struct Row {
    seq: i64,
    run_id: String,
}

impl Db {
    /// Events to deliver to `sink` at `now`.
    ///
    /// # Errors
    /// When SQLite fails or a row was tampered with.
    fn due(&self, sink: &str, limits: &FetchLimits, now: Timestamp) -> Result<Fetched, StoreError> {
        // Rows that are held still count as due, hence the larger limit. It is as bounded as what is held.
        let limit = (limits.events + limits.except.len()) as u64;
        let mut seqs = match limits.order {
            Order::Stream => self.seqs(
                "SELECT seq FROM deliveries INDEXED BY deliveries_owed
                 WHERE sink = ?1 AND dead_at IS NULL AND ?2 IS NOT NULL ORDER BY seq LIMIT ?3",
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
            // Farther ahead than any wait: written before the clock was set back.
            seqs.extend(self.seqs(
                "SELECT seq FROM deliveries WHERE sink = ?1 AND due_at > ?2 ORDER BY due_at, seq LIMIT ?3",
                sink,
                &now.plus(2 * MAX_RETRY_WAIT),
                limit,
            )?);
        }
        let mut fetched = Fetched::default();
        let mut bytes = 0;
        for seq in seqs
            .into_iter()
            .filter(|seq| !limits.except.contains(seq))
            .take(limits.events)
        {
            let Some(due) = self.event_due(sink, seq)? else {
                continue;
            };
            bytes += due.payload.len();
            if bytes > MAX_FETCHED_BYTES && !fetched.events.is_empty() {
                return Ok(fetched);
            }
            fetched.events.push(due);
        }
        if all && limits.order == Order::Run {
            fetched.next_due = self.next_due(sink, now)?;
        }
        Ok(fetched)
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

    fn event_due(&self, sink: &str, seq: i64) -> Result<Option<Due>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT e.id, e.run_id, e.payload, d.attempts, d.first_attempt_at
             FROM deliveries d JOIN events e ON e.seq = d.seq WHERE d.sink = ?1 AND d.seq = ?2",
        )?;
        let row = statement
            .query_row((sink, seq), |row| {
                let first: Option<String> = row.get(4)?;
                let due = Due {
                    seq,
                    id: row.get(0)?,
                    run_id: row.get(1)?,
                    payload: row.get(2)?,
                    attempts: row.get(3)?,
                    first_attempt_at: None,
                };
                Ok((due, first))
            })
            .optional()?;
        let Some((due, first)) = row else {
            return Ok(None);
        };
        Ok(Some(Due {
            first_attempt_at: timestamp("deliveries.first_attempt_at", first)?,
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

    /// Carries `exchange` out: what it writes in one transaction, then what it reads.
    ///
    /// # Errors
    /// When SQLite fails. Nothing has been written then, unless only reading failed: then the same exchange, made
    /// again, changes nothing that matters.
    pub fn exchange(
        &mut self,
        exchange: &Exchange,
        now: Timestamp,
    ) -> Result<Exchanged, StoreError> {
        let Exchange {
            sink,
            backlog,
            settled,
            set_aside,
            fetch,
        } = exchange;
        let mut exchanged = Exchanged::default();
        if backlog.is_some() || !settled.is_empty() || set_aside.is_some() {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let now = now.to_string();
            if let Some(subscription) = backlog {
                exchanged.live = copy_backlog(&transaction, subscription, &now)?;
            }
            record(&transaction, sink, settled, &now)?;
            if let Some((which, error)) = set_aside {
                exchanged.set_aside = set_aside_overdue(&transaction, sink, *which, error, &now)?;
            }
            transaction.commit()?;
        }
        exchanged.fetched = self.due(sink, fetch, now)?;
        Ok(exchanged)
    }
}

/// Records what became of deliveries to `sink`. One that somebody dropped meanwhile stays dropped, and one that is not
/// its run's turn does not become due by having been tried.
fn record(
    connection: &Connection,
    sink: &str,
    settled: &[Settled],
    now: &str,
) -> Result<(), StoreError> {
    if settled.is_empty() {
        return Ok(());
    }
    for Settled {
        seq,
        verdict,
        error,
        ..
    } in settled
    {
        let (due_at, dead_at) = match verdict {
            Verdict::Delivered => {
                remove(connection, sink, *seq)?;
                continue;
            }
            Verdict::Retry { at } => (Some(at.to_string()), None),
            Verdict::SetAside => (None, Some(now)),
        };
        connection
            .prepare_cached(
                "UPDATE deliveries SET due_at = iif(due_at IS NULL, NULL, :due), dead_at = :dead,
                     attempts = attempts + 1, last_error = :error, last_attempt_at = :now,
                     first_attempt_at = coalesce(first_attempt_at, :now)
                 WHERE sink = :sink AND seq = :seq AND dead_at IS NULL",
            )?
            .execute(named_params! {
                ":due": due_at, ":dead": dead_at, ":error": error, ":now": now, ":sink": sink, ":seq": seq,
            })?;
    }
    for Settled { run_id, .. } in settled {
        promote(connection, sink, run_id, now)?;
    }
    note_health(connection, sink, settled, now)
}

/// Takes one delivery out of the outbox.
pub fn remove(connection: &Connection, sink: &str, seq: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM deliveries WHERE sink = ?1 AND seq = ?2")?
        .execute((sink, seq))?;
    Ok(())
}

/// Sets deliveries to `sink` aside, at most [`EXCHANGE_CHUNK`], oldest first; gives how many.
fn set_aside_overdue(
    connection: &Connection,
    sink: &str,
    which: Overdue,
    error: &str,
    now: &str,
) -> Result<usize, StoreError> {
    let rows = overdue(connection, sink, which)?;
    for Row { seq, .. } in &rows {
        connection
            .prepare_cached(
                "UPDATE deliveries SET due_at = NULL, dead_at = ?3, last_error = ?4
                 WHERE sink = ?1 AND seq = ?2",
            )?
            .execute((sink, seq, now, error))?;
    }
    for Row { run_id, .. } in &rows {
        promote(connection, sink, run_id, now)?;
    }
    Ok(rows.len())
}

/// Copies events from before the sink was added out of the log, at most [`EXCHANGE_CHUNK`]; gives whether the sink is
/// live now: from here on every commit writes its deliveries.
fn copy_backlog(
    connection: &Connection,
    subscription: &Subscription,
    now: &str,
) -> Result<bool, StoreError> {
    let sink = subscription.sink.as_str();
    let state = connection
        .query_row(
            "SELECT live, booked_seq FROM sinks WHERE name = ?1 AND removed_at IS NULL",
            [sink],
            |row| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?)),
        )
        .optional()?;
    let Some((false, copied)) = state else {
        return Ok(true);
    };
    let mut statement = connection.prepare_cached(
        "SELECT seq, run_id, type FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let events = statement
        .query_map((copied, EXCHANGE_CHUNK as u64), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<Vec<(i64, String, String)>, _>>()?;
    for (seq, run_id, kind) in &events {
        if subscription.wants(kind) {
            add(connection, sink, *seq, run_id, now)?;
        }
    }
    let live = events.len() < EXCHANGE_CHUNK;
    let last = events.last().map_or(copied, |(seq, ..)| *seq);
    connection.execute(
        "UPDATE sinks SET booked_seq = ?2, live = ?3 WHERE name = ?1",
        (sink, last, live),
    )?;
    Ok(live)
}

/// Adds the event `seq` of `run_id` to what `sink` is owed: due at once, unless an earlier event of the run is owed.
pub fn add(
    connection: &Connection,
    sink: &str,
    seq: i64,
    run_id: &str,
    now: &str,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO deliveries (sink, seq, run_id, due_at) SELECT ?1, ?2, ?3, iif(EXISTS (
                 SELECT 1 FROM deliveries INDEXED BY deliveries_by_run
                 WHERE sink = ?1 AND run_id = ?3 AND dead_at IS NULL), NULL, ?4)",
        )?
        .execute((sink, seq, run_id, now))?;
    Ok(())
}

/// Makes the oldest event of `run_id` that `sink` is owed due, if it is not.
pub fn promote(
    connection: &Connection,
    sink: &str,
    run_id: &str,
    now: &str,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE deliveries SET due_at = ?3 WHERE sink = ?1 AND due_at IS NULL AND seq = (
                 SELECT min(seq) FROM deliveries INDEXED BY deliveries_by_run
                 WHERE sink = ?1 AND run_id = ?2 AND dead_at IS NULL)",
        )?
        .execute((sink, run_id, now))?;
    Ok(())
}

fn overdue(connection: &Connection, sink: &str, which: Overdue) -> Result<Vec<Row>, StoreError> {
    let until = match which {
        Overdue::All => None,
        Overdue::OwedSince(until) => {
            let until = until.to_string();
            let failing = connection.query_row(
                "SELECT count(*) FROM sinks WHERE name = ?1 AND failing_since <= ?2",
                (sink, &until),
                |row| row.get::<_, i64>(0),
            )?;
            if failing == 0 {
                return Ok(Vec::new());
            }
            Some(until)
        }
    };
    let mut statement = connection.prepare_cached(
        "SELECT d.seq, d.run_id, e.observed_at FROM deliveries d INDEXED BY deliveries_owed JOIN events e ON e.seq = d.seq
         WHERE d.sink = ?1 AND d.dead_at IS NULL ORDER BY d.seq LIMIT ?2",
    )?;
    let mut found = statement.query((sink, EXCHANGE_CHUNK as u64))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        // In order of observation: behind the first that is young enough there is none that is not.
        if until.as_ref().is_some_and(|until| {
            row.get_ref(2)
                .is_ok_and(|at| at.as_str().is_ok_and(|at| at > until.as_str()))
        }) {
            break;
        }
        rows.push(Row {
            seq: row.get(0)?,
            run_id: row.get(1)?,
        });
    }
    Ok(rows)
}

/// Keeps what `status` shows of a sink.
fn note_health(
    connection: &Connection,
    sink: &str,
    settled: &[Settled],
    now: &str,
) -> Result<(), StoreError> {
    let delivered = |settled: &Settled| settled.verdict == Verdict::Delivered;
    let error = settled
        .iter()
        .rev()
        .find_map(|settled| settled.error.as_deref());
    let sql = if settled.iter().any(delivered) {
        "UPDATE sinks SET last_delivered_at = ?2, failing_since = NULL, last_error = ?3 WHERE name = ?1"
    } else {
        "UPDATE sinks SET failing_since = coalesce(failing_since, ?2), last_error = ?3 WHERE name = ?1"
    };
    connection
        .prepare_cached(sql)?
        .execute((sink, now, error))?;
    Ok(())
}
