//! Tasks, and the references they are configured by.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::connection::Db;
use super::rows::timestamp;
use crate::model::{Task, Timestamp};
use crate::store::error::StoreError;
use crate::store::states::Condition;

impl Db {
    /// Stores a task as the API describes it. An unchanged row is not rewritten; fields absent from `task` keep their
    /// stored values.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn save_task(&mut self, task: &Task, now: Timestamp) -> Result<(), StoreError> {
        write_task(&self.connection, task, now)
    }

    /// The task that `reference` last resolved to, and whether that is fresh: less than `max_age` ago, or `max_age_if_lost`
    /// where its feed did not find the task, with no failure since.
    ///
    /// # Errors
    /// When SQLite fails or the row was tampered with.
    pub fn resolved(
        &self,
        reference: &str,
        max_age: Duration,
        max_age_if_lost: Duration,
        now: Timestamp,
    ) -> Result<Option<(Task, bool)>, StoreError> {
        let found = self
            .connection
            .query_row(
                "SELECT r.resolved_at, t.id, t.name, t.username, t.act_id, t.act_name, t.user_id, t.created_at,
                     t.modified_at, r.error IS NULL, coalesce(f.condition = ?2, 0)
                 FROM task_refs r JOIN tasks t ON t.id = r.task_id LEFT JOIN feeds f ON f.id = r.task_id WHERE r.ref = ?1",
                [reference, Condition::NotFound.name()],
                |row| {
                    let task = Task {
                        id: row.get(1)?,
                        name: row.get(2)?,
                        username: row.get(3)?,
                        act_id: row.get(4)?,
                        act_name: row.get(5)?,
                        user_id: row.get(6)?,
                        created_at: row.get(7)?,
                        modified_at: row.get(8)?,
                    };
                    Ok((row.get::<_, Option<String>>(0)?, task, row.get::<_, bool>(9)?, row.get::<_, bool>(10)?))
                },
            )
            .optional()?;
        let Some((resolved_at, task, found_then, is_lost)) = found else {
            return Ok(None);
        };
        let resolved_at = timestamp("task_refs.resolved_at", resolved_at)?;
        let max_age = if is_lost {
            max_age_if_lost.min(max_age)
        } else {
            max_age
        };
        let fresh =
            found_then && resolved_at.is_some_and(|at| at <= now && now.since(at) < max_age);
        Ok(Some((task, fresh)))
    }

    /// Forgets failures of references that are not among `wanted`, the configured ones.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn forget_failures_except(&mut self, wanted: &[String]) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM task_refs WHERE error IS NOT NULL AND ref NOT IN (SELECT value FROM json_each(?1))",
            [serde_json::Value::from(wanted).to_string()],
        )?;
        Ok(())
    }

    /// Records the task that `reference` resolves to, or why it could not be resolved. A failure keeps the task it
    /// resolved to before.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn save_reference(
        &mut self,
        reference: &str,
        found: Result<&Task, &str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Ok(task) = found {
            write_task(&transaction, task, now)?;
        }
        let id = found.ok().map(|task| task.id.as_str());
        // A failure does not name the task, whose row may have been deleted by hand.
        let names = if id.is_some() {
            "task_id = excluded.task_id,"
        } else {
            ""
        };
        transaction.execute(
            &format!(
                "INSERT INTO task_refs (ref, task_id, resolved_at, error) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (ref) DO UPDATE SET {names} resolved_at = excluded.resolved_at, error = excluded.error"
            ),
            (reference, id, now.to_string(), found.err()),
        )?;
        transaction.commit()?;
        Ok(())
    }
}

/// Writes a task, as [`Db::save_task`] does.
pub(super) fn write_task(
    connection: &Connection,
    task: &Task,
    now: Timestamp,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO tasks (id, name, username, act_id, act_name, user_id, created_at, modified_at, first_seen_at,
                 updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
             ON CONFLICT (id) DO UPDATE SET name = coalesce(excluded.name, name),
                 username = coalesce(excluded.username, username), act_id = coalesce(excluded.act_id, act_id),
                 act_name = coalesce(excluded.act_name, act_name), user_id = coalesce(excluded.user_id, user_id),
                 created_at = coalesce(excluded.created_at, created_at),
                 modified_at = coalesce(excluded.modified_at, modified_at), updated_at = excluded.updated_at
             WHERE coalesce(excluded.name, name) IS NOT name
                 OR coalesce(excluded.username, username) IS NOT username
                 OR coalesce(excluded.act_id, act_id) IS NOT act_id
                 OR coalesce(excluded.act_name, act_name) IS NOT act_name
                 OR coalesce(excluded.user_id, user_id) IS NOT user_id
                 OR coalesce(excluded.created_at, created_at) IS NOT created_at
                 OR coalesce(excluded.modified_at, modified_at) IS NOT modified_at",
        )?
        .execute((
            &task.id,
            &task.name,
            &task.username,
            &task.act_id,
            &task.act_name,
            &task.user_id,
            &task.created_at,
            &task.modified_at,
            now.to_string(),
        ))?;
    Ok(())
}
