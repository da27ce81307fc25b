//! How the database is, for health checks and metrics.

use std::path::Path;

use super::connection::Db;
use super::rows::timestamp;
use super::schema::SCHEMA_VERSION;
use crate::model::{RunStatus, Task};
use crate::store::error::StoreError;
use crate::store::reports::{FeedHealth, Health};

/// What a database is made of, and what follows on its name in the names of these files.
const FILES: [(&str, &str); 3] = [("main", ""), ("wal", "-wal"), ("shm", "-shm")];

impl Db {
    /// Reads a row.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn ping(&self) -> Result<(), StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT first_looked_at FROM account")?;
        statement.exists([])?;
        Ok(())
    }

    /// What can be said without counting rows.
    ///
    /// # Errors
    /// When SQLite fails or a row was tampered with.
    pub fn health(&self) -> Result<Health, StoreError> {
        let mut unreadable = self
            .connection
            .prepare_cached("SELECT count(*) FROM unreadable_items")?;
        Ok(Health {
            schema_version: SCHEMA_VERSION,
            feeds: self.feeds_health()?,
            unreadable_items: unreadable.query_row([], |row| row.get(0))?,
            files: self.path().map(sizes).unwrap_or_default(),
        })
    }

    fn feeds_health(&self) -> Result<Vec<FeedHealth>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT c.id, t.name, t.username,
                 iif(c.condition = 'ok' AND NOT c.first_sync_complete, 'first sync', c.condition), c.last_success_at
             FROM feeds c LEFT JOIN tasks t ON t.id = c.task_id ORDER BY c.id",
        )?;
        let mut feeds = Vec::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let task = Task {
                id: row.get(0)?,
                name: row.get(1)?,
                username: row.get(2)?,
                ..Task::default()
            };
            feeds.push(FeedHealth {
                task: task.label(),
                id: task.id,
                state: row.get(3)?,
                last_success_at: timestamp("feeds.last_success_at", row.get(4)?)?,
            });
        }
        Ok(feeds)
    }

    /// How many listed runs there are in each status.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn runs_by_status(&self) -> Result<Vec<(RunStatus, u64)>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT status, count(*) FROM runs WHERE removed_at IS NULL GROUP BY status",
        )?;
        let counts = statement.query_map([], |row| {
            let status: String = row.get(0)?;
            Ok((RunStatus::from_api(&status), row.get(1)?))
        })?;
        Ok(counts.collect::<Result<_, _>>()?)
    }
}

/// The sizes of those files of the database at `path` that exist.
fn sizes(path: &Path) -> Vec<(&'static str, u64)> {
    let size = |(file, suffix): (&'static str, &str)| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        Some((file, std::fs::metadata(name).ok()?.len()))
    };
    FILES.into_iter().filter_map(size).collect()
}
