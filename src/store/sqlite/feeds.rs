//! Feeds as rows: cursor, health, and the audit in progress.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, named_params};

use super::connection::Db;
use super::repair::{ensure_task, tell_if_feed_is_lost};
use super::rows::timestamp;
use super::tasks::write_task;
use crate::model::{Task, Timestamp};
use crate::store::error::StoreError;
use crate::store::states::Condition;
use crate::store::traits::HEARTBEAT;
use crate::sync::{Audit, Baseline, Commit, Cursor, FeedState, Watermark};

impl Db {
    /// The stored state of the feed of task `feed_id`.
    ///
    /// # Errors
    /// When SQLite fails or the row was tampered with.
    pub fn feed(&self, feed_id: &str) -> Result<Option<FeedState>, StoreError> {
        Ok(load_feed(&self.connection, feed_id)?.map(|(feed, _)| feed))
    }

    /// Stores `task` and returns the state of its feed, the default state for a new feed. If nothing has been read of it
    /// and the task was created after the mirror first looked at the account, none of its runs is history.
    ///
    /// # Errors
    /// When SQLite fails or a row was tampered with.
    pub fn open_feed(&mut self, task: &Task, now: Timestamp) -> Result<FeedState, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        write_task(&transaction, task, now)?;
        let looked_since = first_look(&transaction, now)?;
        let feed = load_feed(&transaction, &task.id)?;
        let mut feed = feed.map(|(feed, _)| feed).unwrap_or_default();
        if feed.baseline.is_none() && created_at(&transaction, &task.id)? > Some(looked_since) {
            feed.baseline = Some(Baseline::Nothing);
        }
        transaction.commit()?;
        Ok(feed)
    }

    /// Records that the feed's last poll failed, for `status`; a success clears it. A repeated failure with the same
    /// message is written only every [`HEARTBEAT`].
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn record_failure(
        &mut self,
        feed_id: &str,
        condition: Condition,
        error: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let fresh_enough =
            Timestamp::from_millis(now.as_millis() - HEARTBEAT.as_millis() as i64).to_string();
        ensure_task(&self.connection, feed_id, &now.to_string())?;
        tell_if_feed_is_lost(&self.connection, feed_id)?;
        self.connection.execute(
            "INSERT INTO feeds (id, kind, task_id, \"offset\", baseline_known, first_sync_complete, condition, last_error,
                 last_error_at)
             VALUES (?1, 'task', ?1, 0, 0, 0, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET condition = excluded.condition, last_error = excluded.last_error,
                 last_error_at = excluded.last_error_at
             WHERE condition <> excluded.condition OR last_error IS NOT excluded.last_error OR last_error_at IS NULL
                 OR last_error_at <= ?5",
            (feed_id, condition.name(), error, now.to_string(), fresh_enough),
        )?;
        Ok(())
    }
}

/// When the mirror first looked at the account: `now`, if it never did.
fn first_look(connection: &Connection, now: Timestamp) -> Result<Timestamp, StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO account (only_row, first_looked_at) VALUES (1, ?1) ON CONFLICT (only_row) DO NOTHING",
        )?
        .execute([now.to_string()])?;
    let mut statement = connection.prepare_cached("SELECT first_looked_at FROM account")?;
    let value: String = statement.query_row([], |row| row.get(0))?;
    Timestamp::parse(&value).ok_or(StoreError::Corrupt {
        what: "account.first_looked_at",
        value,
    })
}

/// When the task `id` was created, if that is known.
fn created_at(connection: &Connection, id: &str) -> Result<Option<Timestamp>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT created_at FROM tasks WHERE id = ?1")?;
    timestamp(
        "tasks.created_at",
        statement.query_row([id], |row| row.get(0))?,
    )
}

/// The parts of a `feeds` row that decide whether it must be written again.
struct Health {
    last_success_at: Option<Timestamp>,
    interval_ms: Option<u64>,
    failing: bool,
}

impl Health {
    /// The time between successes, if one comes at `now`, in milliseconds. After a time in which nobody polled, it is not
    /// believed to be more than four times as long as before.
    fn interval_at(&self, now: Timestamp) -> Option<u64> {
        let last = self.last_success_at?;
        let since = u64::try_from(now.since(last).as_millis()).unwrap_or(u64::MAX);
        let before = self.interval_ms.map(|before| before.max(MIN_INTERVAL_MS));
        Some(before.map_or(since, |before| since.min(before.saturating_mul(4))))
    }
}

/// A shorter time between successes does not keep a longer one from being believed.
const MIN_INTERVAL_MS: u64 = 1_000;

fn load_feed(
    connection: &Connection,
    feed_id: &str,
) -> Result<Option<(FeedState, Health)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM feeds WHERE id = ?1")?;
    let row = statement
        .query_row([feed_id], |row| Ok(read_feed(row)))
        .optional()?
        .transpose()?;
    let Some((mut feed, health)) = row else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached("SELECT * FROM audits WHERE feed_id = ?1")?;
    feed.audit = statement
        .query_row([feed_id], |row| Ok(read_audit(row)))
        .optional()?
        .transpose()?;
    Ok(Some((feed, health)))
}

fn read_feed(row: &Row<'_>) -> Result<(FeedState, Health), StoreError> {
    let baseline = match timestamp("feeds.baseline", row.get("baseline")?)? {
        _ if row.get("all_history")? => Baseline::Everything,
        Some(until) => Baseline::UpTo(until),
        None => Baseline::Nothing,
    };
    let feed = FeedState {
        cursor: read_cursor(row)?,
        baseline: row.get::<_, bool>("baseline_known")?.then_some(baseline),
        complete: row.get("first_sync_complete")?,
        watched_at: timestamp("feeds.last_watch_at", row.get("last_watch_at")?)?,
        total: row.get("server_total")?,
        audit: None,
        audited_at: timestamp("feeds.last_audit_at", row.get("last_audit_at")?)?,
        audit_due_at: timestamp("feeds.next_audit_at", row.get("next_audit_at")?)?,
    };
    let health = Health {
        last_success_at: timestamp("feeds.last_success_at", row.get("last_success_at")?)?,
        interval_ms: row
            .get::<_, Option<i64>>("success_interval_ms")?
            .and_then(|ms| ms.try_into().ok()),
        failing: row.get::<_, Option<String>>("last_error")?.is_some(),
    };
    Ok((feed, health))
}

fn read_audit(row: &Row<'_>) -> Result<Audit, StoreError> {
    let began_at: String = row.get("began_at")?;
    Ok(Audit {
        began_at: Timestamp::parse(&began_at).ok_or(StoreError::Corrupt {
            what: "audits.began_at",
            value: began_at,
        })?,
        cursor: read_cursor(row)?,
        decided: timestamp("audits.decided_before", row.get("decided_before")?)?,
    })
}

/// The cursor in a row of either table.
fn read_cursor(row: &Row<'_>) -> Result<Cursor, StoreError> {
    let started = timestamp("watermark_started_at", row.get("watermark_started_at")?)?;
    let watermark = match (started, row.get("watermark_id")?) {
        (Some(started), Some(id)) => Some(Watermark { started, id }),
        _ => None,
    };
    Ok(Cursor {
        offset: row.get("offset")?,
        tail: row.get("tail")?,
        watermark,
    })
}

/// Whether the state of a feed must be written: it differs from `stored`, or a heartbeat is due.
fn is_due(stored: &FeedState, health: &Health, commit: &Commit) -> bool {
    let Commit {
        feed, judgement, ..
    } = commit;
    let heartbeat_due = health
        .last_success_at
        .is_none_or(|at| at > judgement.now || judgement.now.since(at) >= HEARTBEAT);
    let beat = commit.finished && (heartbeat_due || health.failing);
    // A new `watched_at` alone is not worth a write: if it is lost, the next watch read only comes early.
    let unmoved = FeedState {
        watched_at: feed.watched_at,
        ..stored.clone()
    } == *feed;
    beat || !unmoved
}

/// Writes the state of a feed after `commit`, unless it is unchanged and no heartbeat is due.
pub(super) fn save_feed(
    connection: &Connection,
    feed_id: &str,
    commit: &Commit,
    now: &str,
) -> Result<(), StoreError> {
    let stored = load_feed(connection, feed_id)?;
    if let Some((stored, health)) = &stored
        && !is_due(stored, health, commit)
    {
        return Ok(());
    }
    let health = stored.map(|(_, health)| health).filter(|_| commit.finished);
    let interval = health.and_then(|health| health.interval_at(commit.judgement.now));
    let wanted = &commit.feed;
    let watermark = wanted.cursor.watermark.as_ref();
    let until = match wanted.baseline {
        Some(Baseline::UpTo(until)) => Some(until.to_string()),
        None | Some(Baseline::Nothing | Baseline::Everything) => None,
    };
    connection
        .prepare_cached(
            "INSERT INTO feeds (id, kind, task_id, \"offset\", tail, watermark_started_at, watermark_id, baseline_known,
                 baseline, all_history, first_sync_complete, server_total, last_watch_at, last_success_at, last_audit_at, next_audit_at,
                 success_interval_ms)
             VALUES (:feed, 'task', :feed, :offset, :tail, :started, :id, :known, :baseline, :all, :complete, :total, :watched,
                 :success, :audited, :audit_due, :interval)
             ON CONFLICT (id) DO UPDATE SET \"offset\" = excluded.\"offset\", tail = excluded.tail,
                 watermark_started_at = excluded.watermark_started_at, watermark_id = excluded.watermark_id,
                 baseline_known = excluded.baseline_known, baseline = excluded.baseline,
                 all_history = excluded.all_history, first_sync_complete = excluded.first_sync_complete, server_total = excluded.server_total,
                 last_watch_at = excluded.last_watch_at, last_audit_at = excluded.last_audit_at,
                 next_audit_at = excluded.next_audit_at,
                 success_interval_ms = coalesce(excluded.success_interval_ms, success_interval_ms),
                 last_success_at = coalesce(excluded.last_success_at, last_success_at),
                 condition = iif(excluded.last_success_at IS NULL, condition, 'ok'),
                 last_error = iif(excluded.last_success_at IS NULL, last_error, NULL),
                 last_error_at = iif(excluded.last_success_at IS NULL, last_error_at, NULL)",
        )?
        .execute(named_params! {
            ":feed": feed_id,
            ":offset": wanted.cursor.offset,
            ":tail": wanted.cursor.tail,
            ":started": watermark.map(|watermark| watermark.started.to_string()),
            ":id": watermark.map(|watermark| watermark.id.as_str()),
            ":known": wanted.baseline.is_some(),
            ":baseline": until,
            ":all": wanted.baseline == Some(Baseline::Everything),
            ":complete": wanted.complete,
            ":total": wanted.total,
            ":watched": wanted.watched_at.map(|at| at.to_string()),
            ":success": commit.finished.then_some(now),
            ":audited": wanted.audited_at.map(|at| at.to_string()),
            ":interval": interval,
            ":audit_due": wanted.audit_due_at.map(|at| at.to_string()),
        })?;
    save_audit(connection, feed_id, wanted.audit.as_ref())
}

fn save_audit(
    connection: &Connection,
    feed_id: &str,
    audit: Option<&Audit>,
) -> Result<(), StoreError> {
    let Some(audit) = audit else {
        connection
            .prepare_cached("DELETE FROM audits WHERE feed_id = ?1")?
            .execute([feed_id])?;
        return Ok(());
    };
    let watermark = audit.cursor.watermark.as_ref();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO audits (feed_id, began_at, \"offset\", tail, watermark_started_at, watermark_id,
                 decided_before) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            feed_id,
            audit.began_at.to_string(),
            audit.cursor.offset,
            audit.cursor.tail,
            watermark.map(|watermark| watermark.started.to_string()),
            watermark.map(|watermark| watermark.id.as_str()),
            audit.decided.map(|at| at.to_string()),
        ))?;
    Ok(())
}
