//! Runs as rows.

use std::borrow::Cow;
use std::sync::LazyLock;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use serde_json::{Map, Value};

use crate::model::{FieldValue, Run, RunStatus, Timestamp};
use crate::store::error::StoreError;
use crate::sync::Stored;

/// Sorts after every time in the API's form: no upper bound.
pub const END_OF_TIME: &str = "~";

/// The listed runs of a feed that started within two times, oldest first.
pub const STARTED_WITHIN: &str = "SELECT id, started_at FROM runs
     WHERE feed_id = ?1 AND started_at BETWEEN ?2 AND ?3 AND removed_at IS NULL ORDER BY started_at LIMIT ?4";

/// The listed runs of a feed that have no start.
pub const WITHOUT_START: &str =
    "SELECT id FROM runs WHERE feed_id = ?1 AND started_at IS NULL AND removed_at IS NULL";

/// Reads one row, in the order that [`read`] expects.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    let columns = Run::COLUMNS.join(", ");
    format!(
        "SELECT id, status, extra, settles_at, removed_at, event_count, last_end, other_events, {columns} FROM runs WHERE id = ?1"
    )
});

/// The columns that [`UPSERT`] sets both on insert and on update, besides those of [`Run::COLUMNS`].
const SET: [&str; 9] = [
    "status",
    "duration_seconds",
    "extra",
    "settles_at",
    "is_open",
    "event_count",
    "last_end",
    "other_events",
    "updated_at",
];

/// The parameters are `id`, `feed_id`, the time, those of [`SET`], and those of [`Run::COLUMNS`].
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let set: Vec<&str> = SET
        .into_iter()
        .chain(Run::COLUMNS.iter().copied())
        .collect();
    let columns = set.join(", ");
    let parameters: Vec<String> = (4..4 + set.len()).map(|n| format!("?{n}")).collect();
    let parameters = parameters.join(", ");
    format!(
        "INSERT INTO runs (id, feed_id, first_seen_at, {columns}) VALUES (?1, ?2, ?3, {parameters})"
    )
});

/// The same for a row that there may be already. An update keeps `feed_id` and `first_seen_at`.
static UPSERT: LazyLock<String> = LazyLock::new(|| {
    let set = SET.into_iter().chain(Run::COLUMNS.iter().copied());
    let updates: Vec<String> = set
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    let (insert, updates) = (&*INSERT, updates.join(", "));
    format!("{insert} ON CONFLICT (id) DO UPDATE SET {updates}, removed_at = NULL")
});

/// A run's row: the run as the core knows it, and what the ids of its events are made of.
pub struct RunRow {
    pub stored: Stored,
    pub marks: Marks,
}

/// What the ids of a run's events are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// How many events it has raised.
    pub events: u64,
    /// When it last ended, also if it was resurrected since.
    pub last_end: Option<String>,
    /// How many events it has raised since then that have no identity of their own.
    pub others: u64,
}

/// The row of the run `id`, if there is one.
pub fn load(connection: &Connection, id: &str) -> Result<Option<RunRow>, StoreError> {
    let mut statement = connection.prepare_cached(&SELECT)?;
    statement
        .query_row([id], |row| Ok(read(row)))
        .optional()?
        .transpose()
}

/// Writes `row`, first seen or updated at `now` in the feed `feed_id`. One that certainly `is_new` takes less time.
pub fn write(
    connection: &Connection,
    row: &RunRow,
    feed_id: &str,
    now: &str,
    is_new: bool,
) -> Result<(), StoreError> {
    let RunRow { stored, marks } = row;
    let run = &stored.run;
    let extra = (!run.extra.is_empty()).then(|| Value::Object(run.extra.clone()).to_string());
    let settles_at = stored.settles_at.map(|at| at.to_string());
    let duration = run.duration().map(|duration| duration.as_secs_f64());
    let (status, is_open) = (run.status.as_str(), stored.is_open());
    let set: [&dyn ToSql; SET.len()] = [
        &status,
        &duration,
        &extra,
        &settles_at,
        &is_open,
        &marks.events,
        &marks.last_end,
        &marks.others,
        &now,
    ];
    let values = run.values();
    let values: Vec<Column<'_>> = values.iter().map(Column).collect();
    let mut parameters: Vec<&dyn ToSql> = vec![&run.id, &feed_id, &now];
    parameters.extend(set);
    parameters.extend(values.iter().map(|value| value as &dyn ToSql));
    connection
        .prepare_cached(if is_new { &INSERT } else { &UPSERT })?
        .execute(parameters.as_slice())?;
    Ok(())
}

/// A field of a run as a value to store.
struct Column<'a>(&'a FieldValue<'a>);

impl ToSql for Column<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            FieldValue::Null => ValueRef::Null,
            FieldValue::Text(text) => ValueRef::Text(text.as_bytes()),
            FieldValue::Integer(number) => ValueRef::Integer(*number),
            FieldValue::Real(number) => ValueRef::Real(*number),
        }))
    }
}

/// Reads a column as a field of a run.
fn field(value: ValueRef<'_>) -> Result<FieldValue<'_>, StoreError> {
    Ok(match value {
        ValueRef::Null => FieldValue::Null,
        ValueRef::Integer(number) => FieldValue::Integer(number),
        ValueRef::Real(number) => FieldValue::Real(number),
        ValueRef::Text(_) => FieldValue::Text(Cow::Borrowed(
            value.as_str().map_err(rusqlite::Error::from)?,
        )),
        ValueRef::Blob(bytes) => {
            return Err(StoreError::Corrupt {
                what: "a column of runs",
                value: format!("{} bytes", bytes.len()),
            });
        }
    })
}

/// Marks the run `id` as no longer listed; returns the number of changed rows, 0 if it was marked before.
pub fn mark_removed(connection: &Connection, id: &str, now: &str) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(
        "UPDATE runs SET removed_at = ?2, updated_at = ?2, is_open = 0 WHERE id = ?1 AND removed_at IS NULL",
    )?;
    Ok(statement.execute((id, now))? as u64)
}

/// Runs of a feed that are not marked as removed and started from `from` to `to`, both included, with their starts; the
/// oldest `limit` of them. Can miss runs whose start is not in the API's own form, as such times sort elsewhere.
pub fn started_within(
    connection: &Connection,
    feed_id: &str,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: Option<usize>,
) -> Result<Vec<(String, Option<Timestamp>)>, StoreError> {
    let mut statement = connection.prepare_cached(STARTED_WITHIN)?;
    let from = from.map_or_else(String::new, |at| at.to_string());
    let to = to.map_or_else(|| END_OF_TIME.to_owned(), |at| at.to_string());
    // A negative limit means no limit.
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
    let mut statement = connection.prepare_cached(WITHOUT_START)?;
    let ids = statement.query_map([feed_id], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Reads a row of [`SELECT`] by index: looking columns up by name takes longer than reading them.
fn read(row: &Row<'_>) -> Result<RunRow, StoreError> {
    const FIRST_VALUE: usize = 8;
    let extra = match row.get::<_, Option<String>>(2)? {
        None => Map::new(),
        Some(text) => serde_json::from_str(&text).map_err(|_| StoreError::Corrupt {
            what: "runs.extra",
            value: text,
        })?,
    };
    let mut values = Vec::with_capacity(Run::COLUMNS.len());
    for n in 0..Run::COLUMNS.len() {
        values.push(field(row.get_ref(FIRST_VALUE + n)?)?);
    }
    let status = RunStatus::from_api(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
    let run = Run::from_values(row.get(0)?, status, values, extra).map_err(|column| {
        StoreError::Corrupt {
            what: column,
            value: "of another type".to_owned(),
        }
    })?;
    let settles_at = timestamp("runs.settles_at", row.get(3)?)?;
    let removed = row.get::<_, Option<String>>(4)?.is_some();
    let last_end: Option<String> = row.get(6)?;
    Ok(RunRow {
        stored: Stored {
            run,
            settles_at,
            removed,
            last_end: last_end.clone(),
        },
        marks: Marks {
            events: row.get(5)?,
            last_end,
            others: row.get(7)?,
        },
    })
}

/// Parses a time that this program wrote.
pub fn timestamp(
    what: &'static str,
    text: Option<String>,
) -> Result<Option<Timestamp>, StoreError> {
    text.map(|value| Timestamp::parse(&value).ok_or(StoreError::Corrupt { what, value }))
        .transpose()
}
