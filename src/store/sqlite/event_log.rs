//! Reading the event log.

use rusqlite::{OptionalExtension, named_params};

use super::connection::Db;
use super::held::{last_event, last_readable};
use crate::model::Timestamp;
use crate::store::error::StoreError;
use crate::store::reports::{EventFilter, LoggedEvent};

/// The events of a filter, and a condition to add others to.
const SELECTED: &str = "events e LEFT JOIN runs r ON r.id = e.run_id
    WHERE (:feeds IS NULL OR coalesce(r.feed_id, e.task_id) IN (SELECT value FROM json_each(:feeds)))
      AND (:types IS NULL OR e.type IN (SELECT value FROM json_each(:types)))
      AND (:statuses IS NULL OR e.status IN (SELECT value FROM json_each(:statuses)))";

impl Db {
    /// Events of `filter` with a number greater than `after`; at most `limit`, in order. Also returns the number up to which
    /// the log was read.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn events_after(
        &self,
        after: i64,
        filter: &EventFilter,
        limit: u64,
    ) -> Result<(Vec<LoggedEvent>, i64), StoreError> {
        let last = match filter.waiting {
            true => last_event(&self.connection)?,
            false => last_readable(&self.connection)?,
        };
        let sql = format!(
            "SELECT e.seq, e.payload FROM {SELECTED} AND e.seq > :after AND e.seq <= :last ORDER BY e.seq LIMIT :limit"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let parameters = named_params! {
            ":feeds": json(&filter.feeds), ":types": json(&filter.types), ":statuses": json(&filter.statuses),
            ":after": after, ":last": last, ":limit": limit,
        };
        let events = statement.query_map(parameters, |row| {
            Ok(LoggedEvent {
                seq: row.get(0)?,
                payload: row.get(1)?,
            })
        })?;
        let events: Vec<LoggedEvent> = events.collect::<Result<_, _>>()?;
        let through = match events.last() {
            Some(event) if events.len() as u64 == limit => event.seq,
            // `after` may lie ahead of the log.
            _ => last.max(after),
        };
        Ok((events, through))
    }

    /// The number after which the last `count` events of `filter` come.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn seq_before_last(&self, count: u64, filter: &EventFilter) -> Result<i64, StoreError> {
        let sql = format!("SELECT e.seq FROM {SELECTED} ORDER BY e.seq DESC LIMIT 1 OFFSET :count");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let parameters = named_params! {
            ":feeds": json(&filter.feeds), ":types": json(&filter.types), ":statuses": json(&filter.statuses),
            ":count": count,
        };
        let found = statement.query_row(parameters, |row| row.get(0));
        Ok(found.optional()?.unwrap_or(0))
    }

    /// The number of the newest event that was observed before `time`; 0 if there is none. Reads the log from its end, as
    /// far as that one.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn seq_before(&self, time: Timestamp) -> Result<i64, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq FROM events WHERE observed_at < ?1 ORDER BY seq DESC LIMIT 1",
        )?;
        let found = statement.query_row([time.to_string()], |row| row.get(0));
        Ok(found.optional()?.unwrap_or(0))
    }

    /// The id of the task that `reference` names, as far as the mirror knows: an id, `username~name`, `~name`, or a name
    /// it was configured under before.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn known_task(&self, reference: &str) -> Result<Option<String>, StoreError> {
        let (username, name) = reference.split_once('~').unwrap_or_default();
        let mut statement = self.connection.prepare_cached(
            "SELECT id FROM tasks WHERE id = ?1
             UNION ALL SELECT task_id FROM task_refs WHERE ref = ?1 AND task_id IS NOT NULL
             UNION ALL SELECT id FROM tasks WHERE name = ?3 AND (username = ?2 OR ?2 = '')
             LIMIT 1",
        )?;
        Ok(statement
            .query_row((reference, username, name), |row| row.get(0))
            .optional()?)
    }
}

/// The texts as a JSON array.
fn json(texts: &Option<Vec<String>>) -> Option<String> {
    let texts = texts.as_ref()?;
    Some(serde_json::Value::from(texts.as_slice()).to_string())
}
