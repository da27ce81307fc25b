//! The state of everything, for `status`.

use serde::Serialize;

use super::commit::Condition;
use super::db::Db;
use super::error::StoreError;
use crate::model::Timestamp;

/// What `status` tells.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// One entry for each feed.
    pub tasks: Vec<TaskStatus>,
    /// Configured names that could not be resolved to a task.
    pub unresolved: Vec<Unresolved>,
    /// One entry for each sink that is configured, or was and is still owed events.
    pub sinks: Vec<SinkStatus>,
}

/// One feed.
#[derive(Debug, Serialize)]
pub struct TaskStatus {
    /// The task's id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its owner's name.
    pub username: Option<String>,
    /// Where the next unread entry is expected.
    pub cursor: u64,
    /// The watermark's start.
    pub watermark: Option<String>,
    /// How many runs the server listed last.
    pub server_total: Option<u64>,
    /// Rows in the mirror.
    pub rows: u64,
    /// Runs that had not ended when last seen.
    pub open_runs: u64,
    /// Rows that the account no longer lists.
    pub removed: u64,
    /// Whether the end of the list was reached at least once.
    pub first_sync_complete: bool,
    /// When a poll last did all it had to; to the minute, while nothing changes.
    pub last_success_at: Option<String>,
    /// How long ago that was, in seconds.
    pub last_success_age_seconds: Option<u64>,
    /// When an audit was last complete.
    pub last_audit_at: Option<String>,
    /// Where the audit in progress stands.
    pub audit_offset: Option<u64>,
    /// `ok`, `first sync`, `failing`, `not found` or `forbidden`.
    pub state: String,
    /// What is wrong now; null after a success.
    pub last_error: Option<String>,
    /// When that was last noted.
    pub last_error_at: Option<String>,
}

impl TaskStatus {
    /// Whether the task is one that the API does not know, or does not show to the token.
    pub fn is_lost(&self) -> bool {
        [Condition::NotFound, Condition::Forbidden]
            .iter()
            .any(|condition| condition.name() == self.state)
    }
}

/// A configured name that could not be resolved.
#[derive(Debug, Serialize)]
pub struct Unresolved {
    /// The name as configured.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Why.
    pub error: String,
    /// When it was last tried.
    pub at: String,
}

/// What one sink is owed.
#[derive(Debug, Serialize)]
pub struct SinkStatus {
    /// The sink's name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// `ok`, `failing` (nothing was delivered since an attempt failed), `catching up` (with events from before it was
    /// added) or `removed` (no longer configured, but still owed events).
    pub state: String,
    /// Events to be delivered.
    pub pending: u64,
    /// Events that were given up on and set aside.
    pub dead: u64,
    /// When the oldest of those to be delivered was observed.
    pub oldest: Option<String>,
    /// When anything was delivered last.
    pub last_delivered_at: Option<String>,
    /// Since when nothing has been delivered, though it was tried.
    pub failing_since: Option<String>,
    /// What went wrong last; null when the last deliveries all succeeded.
    pub last_error: Option<String>,
}

impl Db {
    /// The state of everything at `now`.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn overview(&self, now: Timestamp) -> Result<Overview, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT t.id, t.name, t.username, c.\"offset\", c.watermark_started_at, c.server_total,
                 (SELECT count(*) FROM runs r WHERE r.feed_id = t.id),
                 (SELECT count(*) FROM open_runs o WHERE o.task_id = t.id),
                 (SELECT count(*) FROM runs r WHERE r.feed_id = t.id AND r.removed_at IS NOT NULL),
                 c.first_sync_complete, c.last_success_at, c.last_audit_at, a.\"offset\",
                 iif(c.condition = 'ok' AND NOT c.first_sync_complete, 'first sync', c.condition), c.last_error,
                 c.last_error_at
             FROM cursors c JOIN tasks t ON t.id = c.task_id LEFT JOIN audits a ON a.task_id = c.task_id ORDER BY t.username, t.name, t.id",
        )?;
        let tasks = statement.query_map([], |row| {
            Ok(TaskStatus {
                id: row.get(0)?,
                name: row.get(1)?,
                username: row.get(2)?,
                cursor: row.get(3)?,
                watermark: row.get(4)?,
                server_total: row.get(5)?,
                rows: row.get(6)?,
                open_runs: row.get(7)?,
                removed: row.get(8)?,
                first_sync_complete: row.get(9)?,
                last_success_age_seconds: age(row.get::<_, Option<String>>(10)?.as_deref(), now),
                last_success_at: row.get(10)?,
                last_audit_at: row.get(11)?,
                audit_offset: row.get(12)?,
                state: row.get(13)?,
                last_error: row.get(14)?,
                last_error_at: row.get(15)?,
            })
        })?;
        let tasks = tasks.collect::<Result<_, _>>()?;
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
        let unresolved = unresolved.collect::<Result<_, _>>()?;
        Ok(Overview {
            tasks,
            unresolved,
            sinks: self.sinks()?,
        })
    }
}

impl Db {
    /// What sinks are owed.
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
                 s.last_delivered_at, s.failing_since, s.last_error
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
            })
        })?;
        Ok(sinks.collect::<Result<_, _>>()?)
    }
}

fn age(at: Option<&str>, now: Timestamp) -> Option<u64> {
    at.and_then(Timestamp::parse)
        .map(|at| now.since(at).as_secs())
}
