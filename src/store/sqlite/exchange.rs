//! The exchange between a sink's worker and the outbox: backlog, results and dead letters in one transaction.

use std::collections::HashSet;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};

use super::connection::Db;
use super::numbers::last_seq;
use super::outbox::{Leftovers, add, promote, remove};
use super::registrations::subscription;
use super::rows::timestamp;
use crate::model::{
    EXCHANGE_CHUNK, Exchange, Exchanged, FetchLimits, Fetched, MAX_RETRY_WAIT, Overdue, Settled,
    Timestamp, Verdict,
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
    /// either way. What rows deleted by hand left behind is repaired between the two.
    pub fn exchange(
        &mut self,
        exchange: &Exchange,
        now: Timestamp,
    ) -> Result<Exchanged, StoreError> {
        let Exchange {
            sink,
            backlog,
            settled,
            pause,
            set_aside,
            fetch,
        } = exchange;
        let mut exchanged = Exchanged::default();
        if *backlog || !settled.is_empty() || set_aside.is_some() {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let (now_at, now) = (now, now.to_string());
            if *backlog {
                exchanged.missed = copy_backlog(&transaction, sink, &now)?;
            }
            record(&transaction, sink, settled, now_at)?;
            update_health(&transaction, sink, settled, *pause, now_at)?;
            if let Some((which, error)) = set_aside {
                let except = &fetch.except;
                exchanged.set_aside =
                    set_aside_overdue(&transaction, sink, (*which, error), except, &now)?;
            }
            transaction.commit()?;
        }
        let state = state(&self.connection, sink)?;
        exchanged.unknown = state.is_none();
        (exchanged.live, exchanged.retries) = state.unwrap_or((true, 0));
        exchanged.fetched = self.fetch(sink, fetch, now)?;
        Ok(exchanged)
    }

    /// Reads what is due for `sink`; repairs its outbox first where rows were deleted by hand.
    fn fetch(
        &mut self,
        sink: &str,
        limits: &FetchLimits,
        now: Timestamp,
    ) -> Result<Fetched, StoreError> {
        loop {
            let (fetched, leftovers) = self.due(sink, limits, now)?;
            match leftovers {
                Leftovers::Orphans => self.remove_orphans(sink, now)?,
                Leftovers::PerhapsStuck if limits.events > 0 && self.free_stuck(sink, now)? => {}
                Leftovers::PerhapsStuck | Leftovers::None => return Ok(fetched),
            }
        }
    }
}

/// Whether nothing has to be copied for the sink, as commits write its deliveries or it is not configured; and how many of
/// its deliveries were ever retried by hand. `None` for a sink without a row.
fn state(connection: &Connection, sink: &str) -> Result<Option<(bool, u64)>, StoreError> {
    let state = connection
        .prepare_cached(
            "SELECT live OR removed_at IS NOT NULL, retries FROM sinks WHERE name = ?1",
        )?
        .query_row([sink], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(state)
}

/// Records the results of attempts to deliver to `sink`. A delivery that was dropped meanwhile stays dropped, one that was
/// retried by hand stays due, and a failed attempt does not make a delivery due that waits for an earlier event of its run.
fn record(
    connection: &Connection,
    sink: &str,
    settled: &[Settled],
    at_now: Timestamp,
) -> Result<(), StoreError> {
    let now = &at_now.to_string();
    for Settled {
        seq,
        attempts,
        verdict,
        error,
        waited,
        ..
    } in settled
    {
        let (due_at, dead_at, wait) = match verdict {
            Verdict::Delivered => {
                remove(connection, sink, *seq)?;
                continue;
            }
            Verdict::Retry { at } => (Some(at.to_string()), None, at.since(at_now)),
            Verdict::SetAside => (None, Some(now), Duration::ZERO),
        };
        connection
            .prepare_cached(
                "UPDATE deliveries SET due_at = iif(due_at IS NULL, NULL, :due), dead_at = :dead,
                     attempts = attempts + 1, last_error = :error, last_attempt_at = :now,
                     first_attempt_at = coalesce(first_attempt_at, :now), waited_ms = :waited, wait_ms = :wait
                 WHERE sink = :sink AND seq = :seq AND dead_at IS NULL AND attempts = :attempts",
            )?
            .execute(named_params! {
                ":due": due_at, ":dead": dead_at, ":error": error, ":now": now, ":sink": sink, ":seq": seq,
                ":attempts": attempts, ":waited": millis(*waited), ":wait": millis(wait.min(MAX_RETRY_WAIT)),
            })?;
    }
    for Settled { run_id, .. } in settled {
        promote(connection, sink, run_id, now)?;
    }
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
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

/// Copies events from behind the sink's position from the log to the outbox, at most [`EXCHANGE_CHUNK`]. Once there are no
/// more, the sink is live: commits write its deliveries themselves. Returns how many events were no longer in the log.
fn copy_backlog(connection: &Connection, sink: &str, now: &str) -> Result<u64, StoreError> {
    let state = connection
        .query_row(
            "SELECT live, position, events FROM sinks WHERE name = ?1 AND removed_at IS NULL",
            [sink],
            |row| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((false, copied, filter)) = state else {
        return Ok(0);
    };
    let subscription = subscription(sink.to_owned(), filter)?;
    let mut statement = connection.prepare_cached(
        "SELECT seq, run_id, type, held_until IS NOT NULL FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let events = statement
        .query_map((copied, EXCHANGE_CHUNK as u64), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<Result<Vec<(i64, String, String, bool)>, _>>()?;
    for (seq, run_id, kind, is_held) in &events {
        if subscription.wants(kind) {
            add(connection, sink, *seq, run_id, now, *is_held)?;
        }
    }
    let live = events.len() < EXCHANGE_CHUNK;
    let last = match live {
        true => last_seq(connection)?.max(copied),
        false => events.last().map_or(copied, |(seq, ..)| *seq),
    };
    let missed = (last - copied).unsigned_abs() - events.len() as u64;
    connection.execute(
        "UPDATE sinks SET position = ?2, live = ?3, missed = missed + ?4 WHERE name = ?1",
        (sink, last, live, missed),
    )?;
    Ok(missed)
}

/// The oldest of the deliveries to be set aside but those of `except`, at most [`EXCHANGE_CHUNK`].
fn overdue(
    connection: &Connection,
    sink: &str,
    which: Overdue,
    except: &HashSet<i64>,
) -> Result<Vec<Row>, StoreError> {
    let until = match which {
        Overdue::All => i64::MAX,
        Overdue::OwedFor(long) => {
            let clock = connection
                .query_row(
                    "SELECT failed_ms, failed_ms_at_delivery FROM sinks WHERE name = ?1",
                    [sink],
                    |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
                )
                .optional()?;
            match clock {
                Some((failed, at_delivery))
                    if failed.saturating_sub(millis(long)) >= at_delivery =>
                {
                    failed - millis(long)
                }
                _ => return Ok(Vec::new()),
            }
        }
    };
    let mut statement = connection.prepare_cached(
        "SELECT seq, run_id FROM deliveries INDEXED BY deliveries_owed
         WHERE sink = ?1 AND dead_at IS NULL AND owed_ms <= ?2 ORDER BY seq LIMIT ?3",
    )?;
    let limit = EXCHANGE_CHUNK + except.len();
    let rows = statement.query_map((sink, until, limit as u64), |row| {
        Ok(Row {
            seq: row.get(0)?,
            run_id: row.get(1)?,
        })
    })?;
    let rows = rows.filter(|row| !row.as_ref().is_ok_and(|row| except.contains(&row.seq)));
    Ok(rows.take(EXCHANGE_CHUNK).collect::<Result<_, _>>()?)
}

/// Updates what is known of the health of a sink: for `status`, and to set aside what it has been owed for too long.
fn update_health(
    connection: &Connection,
    sink: &str,
    settled: &[Settled],
    pause: Duration,
    now: Timestamp,
) -> Result<(), StoreError> {
    if settled.is_empty() {
        return Ok(());
    }
    let delivered = |settled: &Settled| settled.verdict == Verdict::Delivered;
    let error = settled
        .iter()
        .rev()
        .find_map(|settled| settled.error.as_deref());
    if settled.iter().any(delivered) {
        connection
            .prepare_cached(
                "UPDATE sinks SET last_delivered_at = ?2, failing_since = NULL, last_error = ?3,
                     failed_ms_at_delivery = failed_ms, last_failed_at = NULL WHERE name = ?1",
            )?
            .execute((sink, now.to_string(), error))?;
        return Ok(());
    }
    let last: Option<(Option<String>, u64)> = connection
        .prepare_cached("SELECT last_failed_at, pause_ms FROM sinks WHERE name = ?1")?
        .query_row([sink], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (last, paused) = last.unwrap_or_default();
    let last = timestamp("sinks.last_failed_at", last)?;
    let gap = last.map_or(Duration::ZERO, |last| {
        now.since(last).min(Duration::from_millis(paused))
    });
    connection
        .prepare_cached(
            "UPDATE sinks SET failing_since = coalesce(failing_since, ?2), last_error = ?3, last_failed_at = ?2,
                 failed_ms = failed_ms + ?4, pause_ms = ?5 WHERE name = ?1",
        )?
        .execute((sink, now.to_string(), error, millis(gap), millis(pause)))?;
    Ok(())
}
