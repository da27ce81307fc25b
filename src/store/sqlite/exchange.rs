//! The exchange between a sink's worker and the outbox: backlog, results and dead letters in one transaction.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};

use super::connection::Db;
use super::outbox::{add, promote, remove};
use crate::model::{
    EXCHANGE_CHUNK, Exchange, Exchanged, Overdue, Settled, Subscription, Timestamp, Verdict,
};
use crate::store::error::StoreError;

/// A delivery to be set aside.
struct Row {
    seq: i64,
    run_id: String,
}

impl Db {
    /// Performs `exchange`: its writes in one transaction, then its reads.
    ///
    /// # Errors
    /// When SQLite fails. If it fails before the reads, nothing has been written. Repeating the same exchange is safe
    /// either way.
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
                copy_backlog(&transaction, subscription, &now)?;
            }
            record(&transaction, sink, settled, &now)?;
            if let Some((which, error)) = set_aside {
                let except = &fetch.except;
                exchanged.set_aside =
                    set_aside_overdue(&transaction, sink, (*which, error), except, &now)?;
            }
            transaction.commit()?;
        }
        (exchanged.live, exchanged.retries) = state(&self.connection, sink)?;
        exchanged.fetched = self.due(sink, fetch, now)?;
        Ok(exchanged)
    }
}

/// Whether nothing has to be copied for the sink, as commits write its deliveries or it is not configured; and how many of
/// its deliveries were ever retried by hand.
fn state(connection: &Connection, sink: &str) -> Result<(bool, u64), StoreError> {
    let state = connection
        .prepare_cached(
            "SELECT live OR removed_at IS NOT NULL, retries FROM sinks WHERE name = ?1",
        )?
        .query_row([sink], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(state.unwrap_or((true, 0)))
}

/// Records the results of attempts to deliver to `sink`. A delivery that was dropped meanwhile stays dropped, one that was
/// retried by hand stays due, and a failed attempt does not make a delivery due that waits for an earlier event of its run.
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
        attempts,
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
                 WHERE sink = :sink AND seq = :seq AND dead_at IS NULL AND attempts = :attempts",
            )?
            .execute(named_params! {
                ":due": due_at, ":dead": dead_at, ":error": error, ":now": now, ":sink": sink, ":seq": seq,
                ":attempts": attempts,
            })?;
    }
    for Settled { run_id, .. } in settled {
        promote(connection, sink, run_id, now)?;
    }
    update_health(connection, sink, settled, now)
}

/// Sets deliveries to `sink` aside but those of `except`, at most [`EXCHANGE_CHUNK`], oldest first; returns how many.
fn set_aside_overdue(
    connection: &Connection,
    sink: &str,
    (which, error): (Overdue, &str),
    except: &HashSet<i64>,
    now: &str,
) -> Result<usize, StoreError> {
    let rows = overdue(connection, sink, which, except)?;
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

/// Copies events from before the sink was added from the log to the outbox, at most [`EXCHANGE_CHUNK`]. Once there are no
/// more, the sink is live: commits write its deliveries themselves.
fn copy_backlog(
    connection: &Connection,
    subscription: &Subscription,
    now: &str,
) -> Result<(), StoreError> {
    let sink = subscription.sink.as_str();
    let state = connection
        .query_row(
            "SELECT live, booked_seq FROM sinks WHERE name = ?1 AND removed_at IS NULL",
            [sink],
            |row| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?)),
        )
        .optional()?;
    let Some((false, copied)) = state else {
        return Ok(());
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
    Ok(())
}

fn overdue(
    connection: &Connection,
    sink: &str,
    which: Overdue,
    except: &HashSet<i64>,
) -> Result<Vec<Row>, StoreError> {
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
    let limit = EXCHANGE_CHUNK + except.len();
    let mut found = statement.query((sink, limit as u64))?;
    let mut rows = Vec::new();
    while rows.len() < EXCHANGE_CHUNK
        && let Some(row) = found.next()?
    {
        // Rows are in order of observation: all later ones are too recent as well.
        if until.as_ref().is_some_and(|until| {
            row.get_ref(2)
                .is_ok_and(|at| at.as_str().is_ok_and(|at| at > until.as_str()))
        }) {
            break;
        }
        let (seq, run_id) = (row.get(0)?, row.get(1)?);
        if !except.contains(&seq) {
            rows.push(Row { seq, run_id });
        }
    }
    Ok(rows)
}

/// Updates what `status` shows about the health of a sink.
fn update_health(
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
