//! Runs as rows and back.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, named_params};
use serde_json::{Map, Value};

use super::error::StoreError;
use crate::model::{Run, RunStatus, Timestamp};
use crate::sync::Stored;

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
    statement.query_row([id], |row| Ok(read(row))).optional()?.transpose()
}

/// Writes `row`, first seen or updated at `now` in the feed `feed_id`.
pub fn upsert(connection: &Connection, row: &RunRow, feed_id: &str, now: &str) -> Result<(), StoreError> {
    let RunRow { stored, event_count } = row;
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

fn read(row: &Row<'_>) -> Result<RunRow, StoreError> {
    let extra = match row.get::<_, Option<String>>("extra")? {
        None => Map::new(),
        Some(text) => {
            serde_json::from_str(&text).map_err(|_| StoreError::Corrupt { what: "runs.extra", value: text })?
        }
    };
    let run = Run {
        id: row.get("id")?,
        task_id: row.get("task_id")?,
        act_id: row.get("act_id")?,
        user_id: row.get("user_id")?,
        status: RunStatus::from_api(&row.get::<_, String>("status")?),
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
        build_id: row.get("build_id")?,
        build_number: row.get("build_number")?,
        build_number_int: row.get("build_number_int")?,
        origin: row.get("origin")?,
        client_ip: row.get("client_ip")?,
        user_agent: row.get("user_agent")?,
        schedule_id: row.get("schedule_id")?,
        scheduled_at: row.get("scheduled_at")?,
        usage_total_usd: row.get("usage_total_usd")?,
        default_key_value_store_id: row.get("default_key_value_store_id")?,
        default_dataset_id: row.get("default_dataset_id")?,
        default_request_queue_id: row.get("default_request_queue_id")?,
        extra,
    };
    let settles_at = timestamp("runs.settles_at", row.get("settles_at")?)?;
    let removed = row.get::<_, Option<String>>("removed_at")?.is_some();
    Ok(RunRow { stored: Stored { run, settles_at, removed }, event_count: row.get("event_count")? })
}

/// Reads a time this program wrote.
pub fn timestamp(what: &'static str, text: Option<String>) -> Result<Option<Timestamp>, StoreError> {
    text.map(|value| Timestamp::parse(&value).ok_or(StoreError::Corrupt { what, value })).transpose()
}
