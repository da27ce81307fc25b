//! Runs as rows and back.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, named_params};
use serde_json::{Map, Value};

use super::error::StoreError;
use crate::model::{Run, RunStatus, Timestamp};
use crate::sync::Stored;

/// Sorts after every time the API writes: stands for "no upper end".
pub const END_OF_TIME: &str = "~";

const SELECT: &str = "SELECT id, task_id, act_id, user_id, status, started_at, finished_at, build_id, build_number,
    build_number_int, origin, client_ip, user_agent, schedule_id, scheduled_at, usage_total_usd,
    default_key_value_store_id, default_dataset_id, default_request_queue_id, extra, settles_at, removed_at, event_count
    FROM runs WHERE id = ?1";

/// `feed_id` and `first_seen_at` stay as they were when the run was first seen.
const UPSERT: &str = "INSERT INTO runs (id, task_id, act_id, user_id, status, started_at, finished_at, build_id,
    build_number, build_number_int, origin, client_ip, user_agent, schedule_id, scheduled_at, usage_total_usd,
    default_key_value_store_id, default_dataset_id, default_request_queue_id, extra, settles_at, is_open, event_count,
    feed_id, first_seen_at, updated_at)
    VALUES (:id, :task_id, :act_id, :user_id, :status, :started_at, :finished_at, :build_id, :build_number,
    :build_number_int, :origin, :client_ip, :user_agent, :schedule_id, :scheduled_at, :usage_total_usd,
    :default_key_value_store_id, :default_dataset_id, :default_request_queue_id, :extra, :settles_at, :is_open,
    :event_count, :feed_id, :now, :now)
    ON CONFLICT (id) DO UPDATE SET task_id = excluded.task_id, act_id = excluded.act_id, user_id = excluded.user_id,
    status = excluded.status, started_at = excluded.started_at, finished_at = excluded.finished_at,
    build_id = excluded.build_id, build_number = excluded.build_number, build_number_int = excluded.build_number_int,
    origin = excluded.origin, client_ip = excluded.client_ip, user_agent = excluded.user_agent,
    schedule_id = excluded.schedule_id, scheduled_at = excluded.scheduled_at,
    usage_total_usd = excluded.usage_total_usd, default_key_value_store_id = excluded.default_key_value_store_id,
    default_dataset_id = excluded.default_dataset_id, default_request_queue_id = excluded.default_request_queue_id,
    extra = excluded.extra, settles_at = excluded.settles_at, is_open = excluded.is_open,
    event_count = excluded.event_count, updated_at = excluded.updated_at, removed_at = NULL";

/// A run's row: what the core knows of it, and the number of its events.
pub struct RunRow {
    pub stored: Stored,
    pub event_count: u64,
}

/// The row of the run `id`, if there is one.
pub fn load(connection: &Connection, id: &str) -> Result<Option<RunRow>, StoreError> {
    let mut statement: CachedStatement<'_> = connection.prepare_cached(SELECT)?;
    statement
        .query_row([id], |row| Ok(read(row)))
        .optional()?
        .transpose()
}

/// Writes `row`, first seen or updated at `now` in the feed `feed_id`.
pub fn upsert(
    connection: &Connection,
    row: &RunRow,
    feed_id: &str,
    now: &str,
) -> Result<(), StoreError> {
    let RunRow {
        stored,
        event_count,
    } = row;
    let run = &stored.run;
    let extra = (!run.extra.is_empty()).then(|| Value::Object(run.extra.clone()).to_string());
    connection.prepare_cached(UPSERT)?.execute(named_params! {
        ":id": run.id, ":task_id": run.task_id, ":act_id": run.act_id, ":user_id": run.user_id,
        ":status": run.status.as_str(), ":started_at": run.started_at, ":finished_at": run.finished_at,
        ":build_id": run.build_id, ":build_number": run.build_number, ":build_number_int": run.build_number_int,
        ":origin": run.origin, ":client_ip": run.client_ip, ":user_agent": run.user_agent,
        ":schedule_id": run.schedule_id, ":scheduled_at": run.scheduled_at, ":usage_total_usd": run.usage_total_usd,
        ":default_key_value_store_id": run.default_key_value_store_id,
        ":default_dataset_id": run.default_dataset_id, ":default_request_queue_id": run.default_request_queue_id,
        ":extra": extra, ":settles_at": stored.settles_at.map(|at| at.to_string()), ":is_open": stored.is_open(),
        ":event_count": event_count, ":feed_id": feed_id, ":now": now,
    })?;
    Ok(())
}

/// Marks the run `id` as no longer listed; gives how many rows that changed, none if it was marked before.
pub fn mark_removed(connection: &Connection, id: &str, now: &str) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(
        "UPDATE runs SET removed_at = ?2, updated_at = ?2, is_open = 0 WHERE id = ?1 AND removed_at IS NULL",
    )?;
    Ok(statement.execute((id, now))? as u64)
}

/// Runs of a feed that are not marked as removed and started from `from` to `to`, both included, with their starts; the
/// oldest `limit` of them. Of times that are not in the API's own form, which sort elsewhere, some can be missing.
pub fn started_within(
    connection: &Connection,
    feed_id: &str,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: Option<usize>,
) -> Result<Vec<(String, Option<Timestamp>)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, started_at FROM runs
         WHERE feed_id = ?1 AND started_at BETWEEN ?2 AND ?3 AND removed_at IS NULL
         ORDER BY started_at LIMIT ?4",
    )?;
    let from = from.map_or_else(String::new, |at| at.to_string());
    let to = to.map_or_else(|| END_OF_TIME.to_owned(), |at| at.to_string());
    // A negative limit is none.
    let limit = limit.map_or(-1, |limit| limit as i64);
    let rows = statement.query_map((feed_id, from, to, limit), |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?))
    })?;
    rows.map(|row| {
        row.map(|(id, started)| (id, Timestamp::parse(&started)))
            .map_err(StoreError::from)
    })
    .collect()
}

/// Runs of a feed that are not marked as removed and have no start.
pub fn without_start(connection: &Connection, feed_id: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM runs WHERE feed_id = ?1 AND started_at IS NULL AND removed_at IS NULL",
    )?;
    let ids = statement.query_map([feed_id], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Reads a row of [`SELECT`], by number: looking columns up by name takes longer than reading them.
fn read(row: &Row<'_>) -> Result<RunRow, StoreError> {
    let extra = match row.get::<_, Option<String>>(19)? {
        None => Map::new(),
        Some(text) => serde_json::from_str(&text).map_err(|_| StoreError::Corrupt {
            what: "runs.extra",
            value: text,
        })?,
    };
    let run = Run {
        id: row.get(0)?,
        task_id: row.get(1)?,
        act_id: row.get(2)?,
        user_id: row.get(3)?,
        status: RunStatus::from_api(&row.get::<_, String>(4)?),
        started_at: row.get(5)?,
        finished_at: row.get(6)?,
        build_id: row.get(7)?,
        build_number: row.get(8)?,
        build_number_int: row.get(9)?,
        origin: row.get(10)?,
        client_ip: row.get(11)?,
        user_agent: row.get(12)?,
        schedule_id: row.get(13)?,
        scheduled_at: row.get(14)?,
        usage_total_usd: row.get(15)?,
        default_key_value_store_id: row.get(16)?,
        default_dataset_id: row.get(17)?,
        default_request_queue_id: row.get(18)?,
        extra,
    };
    let settles_at = timestamp("runs.settles_at", row.get(20)?)?;
    let removed = row.get::<_, Option<String>>(21)?.is_some();
    Ok(RunRow {
        stored: Stored {
            run,
            settles_at,
            removed,
        },
        event_count: row.get(22)?,
    })
}

/// Reads a time this program wrote.
pub fn timestamp(
    what: &'static str,
    text: Option<String>,
) -> Result<Option<Timestamp>, StoreError> {
    text.map(|value| Timestamp::parse(&value).ok_or(StoreError::Corrupt { what, value }))
        .transpose()
}
