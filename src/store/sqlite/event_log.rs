//! Reading the event log.

use rusqlite::OptionalExtension;

use super::connection::Db;
use crate::store::error::StoreError;
use crate::store::reports::LoggedEvent;

impl Db {
    /// Events with a number greater than `after`, of the feeds `feeds` or, if that is `None`, of all; at most `limit`,
    /// in order. Also returns the number up to which the log was read.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn events_after(
        &self,
        after: i64,
        feeds: Option<&[String]>,
        limit: u64,
    ) -> Result<(Vec<LoggedEvent>, i64), StoreError> {
        let last: i64 = self
            .connection
            .prepare_cached("SELECT coalesce(max(seq), 0) FROM events")?
            .query_row([], |row| row.get(0))?;
        let mut statement = self.connection.prepare_cached(
            "SELECT e.seq, e.payload FROM events e LEFT JOIN runs r ON r.id = e.run_id
             WHERE e.seq > ?1 AND e.seq <= ?4 AND (?2 IS NULL OR coalesce(r.feed_id, e.task_id) IN (SELECT value FROM json_each(?2)))
             ORDER BY e.seq LIMIT ?3",
        )?;
        let events = statement.query_map((after, json(feeds), limit, last), |row| {
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

    /// The number after which the last `count` events of `feeds` come.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn seq_before_last(&self, count: u64, feeds: Option<&[String]>) -> Result<i64, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT e.seq FROM events e LEFT JOIN runs r ON r.id = e.run_id
             WHERE ?1 IS NULL OR coalesce(r.feed_id, e.task_id) IN (SELECT value FROM json_each(?1))
             ORDER BY e.seq DESC LIMIT 1 OFFSET ?2",
        )?;
        let found = statement
            .query_row((json(feeds), count), |row| row.get(0))
            .optional()?;
        Ok(found.unwrap_or(0))
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

/// The ids as a JSON array.
fn json(ids: Option<&[String]>) -> Option<String> {
    ids.map(|ids| serde_json::Value::from(ids).to_string())
}
