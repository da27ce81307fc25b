//! The state of feeds and sinks, for `status`.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};

use super::connection::Db;
use super::objects::others;
use crate::model::Timestamp;
use crate::store::error::StoreError;
use crate::store::reports::{Overview, SinkStatus, TaskStatus, Unresolved};
use crate::store::states::{Condition, SinkState};

impl Db {
    /// The state of every feed and sink; ages count until `now`.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn overview(&self, now: Timestamp) -> Result<Overview, StoreError> {
        Ok(Overview {
            tasks: self.task_statuses(now)?,
            unresolved: self.unresolved()?,
            sinks: self.sinks()?,
            other_objects: others(&self.connection)?,
        })
    }

    fn task_statuses(&self, now: Timestamp) -> Result<Vec<TaskStatus>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT t.id, t.name, t.username, c.\"offset\", c.watermark_started_at, c.server_total,
                 (SELECT count(*) FROM runs r WHERE r.task_id = t.id),
                 (SELECT count(*) FROM runs r WHERE r.feed_id = t.id AND r.is_open = 1
                      AND r.status NOT IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED')),
                 (SELECT count(*) FROM runs r WHERE r.feed_id = t.id AND r.removed_at IS NULL),
                 c.first_sync_complete, c.last_success_at, c.last_audit_at, a.\"offset\",
                 iif(c.condition = 'ok' AND NOT c.first_sync_complete, 'first sync', c.condition), c.last_error,
                 c.last_error_at, (SELECT count(*) FROM unreadable_items u WHERE u.feed_id = c.id), c.success_interval_ms / 1000
             FROM feeds c JOIN tasks t ON t.id = c.task_id LEFT JOIN audits a ON a.feed_id = c.id ORDER BY t.username, t.name, t.id",
        )?;
        let tasks = statement.query_map([], |row| {
            let (rows, listed): (u64, u64) = (row.get(6)?, row.get(8)?);
            Ok(TaskStatus {
                id: row.get(0)?,
                name: row.get(1)?,
                username: row.get(2)?,
                cursor: row.get(3)?,
                watermark: row.get(4)?,
                server_total: row.get(5)?,
                rows,
                open_runs: row.get(7)?,
                removed: rows.saturating_sub(listed),
                first_sync_complete: row.get(9)?,
                last_success_age_seconds: age(row.get::<_, Option<String>>(10)?.as_deref(), now),
                last_success_at: row.get(10)?,
                last_audit_at: row.get(11)?,
                audit_offset: row.get(12)?,
                state: row.get(13)?,
                last_error: row.get(14)?,
                last_error_at: row.get(15)?,
                unreadable_items: row.get(16)?,
                success_interval_seconds: row.get(17)?,
            })
        })?;
        Ok(tasks.collect::<Result<_, _>>()?)
    }

    fn unresolved(&self) -> Result<Vec<Unresolved>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT ref, error, resolved_at FROM task_refs WHERE error IS NOT NULL ORDER BY ref",
        )?;
        let unresolved = statement.query_map([], |row| {
            Ok(Unresolved {
                reference: row.get(0)?,
                error: row.get(1)?,
                at: row.get(2)?,
            })
        })?;
        Ok(unresolved.collect::<Result<_, _>>()?)
    }

    /// The state of every sink that is configured, or that was removed with events still owed.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn sinks(&self) -> Result<Vec<SinkStatus>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT s.name, s.type,
                 CASE WHEN s.removed_at IS NOT NULL THEN 'removed' WHEN s.failing_since IS NOT NULL THEN 'failing'
                      WHEN s.live = 0 THEN 'catching up' ELSE 'ok' END,
                 (SELECT count(*) FROM deliveries d INDEXED BY deliveries_owed
                  WHERE d.sink = s.name AND d.dead_at IS NULL),
                 (SELECT count(*) FROM deliveries d WHERE d.sink = s.name AND d.dead_at IS NOT NULL),
                 (SELECT e.observed_at FROM events e WHERE e.seq =
                     (SELECT min(d.seq) FROM deliveries d INDEXED BY deliveries_owed
                      WHERE d.sink = s.name AND d.dead_at IS NULL)),
                 s.last_delivered_at, s.failing_since, s.last_error, s.missed
             FROM sinks s
             WHERE s.removed_at IS NULL OR EXISTS (SELECT 1 FROM deliveries d WHERE d.sink = s.name)
             ORDER BY s.name",
        )?;
        let sinks = statement.query_map([], |row| {
            Ok(SinkStatus {
                name: row.get(0)?,
                r#type: row.get(1)?,
                state: row.get(2)?,
                pending: row.get(3)?,
                dead: row.get(4)?,
                oldest: row.get(5)?,
                last_delivered_at: row.get(6)?,
                failing_since: row.get(7)?,
                last_error: row.get(8)?,
                missed: row.get(9)?,
            })
        })?;
        Ok(sinks.collect::<Result<_, _>>()?)
    }
}

fn age(at: Option<&str>, now: Timestamp) -> Option<u64> {
    at.and_then(Timestamp::parse)
        .map(|at| now.since(at).as_secs())
}

/// Reads a state that this program wrote.
macro_rules! state_from_sql {
    ($state:ty) => {
        impl FromSql for $state {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let name = value.as_str()?;
                let unknown = || StoreError::Corrupt {
                    what: "a state",
                    value: name.to_owned(),
                };
                Self::from_name(name).ok_or_else(|| FromSqlError::Other(Box::new(unknown())))
            }
        }
    };
}

state_from_sql!(Condition);
state_from_sql!(SinkState);
