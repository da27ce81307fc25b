//! The one transaction that moves the mirror: rows, their events, their deliveries and the cursor, or none of them.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, named_params};

use super::db::Db;
use super::error::StoreError;
use super::events::EventWriter;
use super::rows::{self, RunRow, timestamp};
use crate::delivery::Subscription;
use crate::model::Timestamp;
use crate::sync::{Baseline, Change, Commit, Cursor, FeedState, Watermark, observe};

/// How often a feed that finds nothing new writes that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(60);

/// What a commit changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Runs not known before.
    pub added: u64,
    /// Known runs whose row changed.
    pub updated: u64,
    /// Runs newly marked as removed.
    pub removed: u64,
    /// Events raised.
    pub events: u64,
}

impl Written {
    /// Adds what another commit changed.
    pub fn add(&mut self, other: Written) {
        self.added += other.added;
        self.updated += other.updated;
        self.removed += other.removed;
        self.events += other.events;
    }
}

impl Db {
    /// What is stored of the feed of task `feed_id`; a fresh state when nothing is.
    ///
    /// # Errors
    /// When SQLite fails or the row was tampered with.
    pub fn feed(&self, feed_id: &str) -> Result<FeedState, StoreError> {
        Ok(load_feed(&self.connection, feed_id)?.map(|(feed, _)| feed).unwrap_or_default())
    }

    /// Applies `commit` to the feed of task `feed_id`, whole or not at all, and reports when it is on disk. Rows that
    /// are already as they must be are not written; a commit that finds nothing new writes at most a heartbeat.
    ///
    /// # Errors
    /// When SQLite fails; nothing has changed then.
    pub fn commit(
        &mut self,
        feed_id: &str,
        commit: &Commit,
        subscriptions: &[Subscription],
    ) -> Result<Written, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = commit.judgement.now.to_string();
        let mut written = Written::default();
        let mut events = EventWriter::new(&transaction, subscriptions, feed_id, &now)?;
        for observed in latest(commit) {
            let row = rows::load(&transaction, &observed.seen.run.id)?;
            let (stored, mut event_count) = row.map_or((None, 0), |row| (Some(row.stored), row.event_count));
            let Some(Change { row, transitions }) = observe(stored.as_ref(), observed, &commit.judgement) else {
                continue;
            };
            let first = event_count + 1;
            event_count += transitions.len() as u64;
            let row = RunRow { stored: row, event_count };
            rows::upsert(&transaction, &row, feed_id, &now)?;
            for (ordinal, transition) in (first..).zip(&transitions) {
                events.write(&row.stored.run, transition, ordinal, &observed.seen.json)?;
                written.events += 1;
            }
            match stored {
                Some(_) => written.updated += 1,
                None => written.added += 1,
            }
        }
        for id in &commit.gone {
            written.removed += transaction
                .prepare_cached(
                    "UPDATE runs SET removed_at = ?2, updated_at = ?2, is_open = 0 WHERE id = ?1 AND removed_at IS NULL",
                )?
                .execute((id, &now))? as u64;
        }
        save_feed(&transaction, feed_id, commit, &now)?;
        transaction.commit()?;
        Ok(written)
    }

    /// Notes that the feed's last poll failed, for `status`; a success clears it. A failure that goes on with the same
    /// message is written again only every [`HEARTBEAT`].
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn record_failure(&mut self, feed_id: &str, error: &str, now: Timestamp) -> Result<(), StoreError> {
        let fresh_enough = Timestamp::from_millis(now.as_millis() - HEARTBEAT.as_millis() as i64).to_string();
        self.connection.execute(
            "INSERT INTO cursors (task_id, \"offset\", baseline_known, first_sync_complete, last_error, last_error_at)
             VALUES (?1, 0, 0, 0, ?2, ?3)
             ON CONFLICT (task_id) DO UPDATE SET last_error = excluded.last_error, last_error_at = excluded.last_error_at
             WHERE last_error IS NOT excluded.last_error OR last_error_at IS NULL OR last_error_at <= ?4",
            (feed_id, error, now.to_string(), fresh_enough),
        )?;
        Ok(())
    }
}

/// The observations of a commit, each run once: the same run can stand on a page twice (the API's own example does
/// that), and on two pages that overlap. The later one counts.
fn latest(commit: &Commit) -> impl Iterator<Item = &crate::sync::Observed> {
    let last: HashMap<&str, usize> =
        commit.observed.iter().enumerate().map(|(n, observed)| (observed.seen.run.id.as_str(), n)).collect();
    let is_last = move |n: usize, id: &str| last.get(id) == Some(&n);
    commit
        .observed
        .iter()
        .enumerate()
        .filter(move |(n, observed)| is_last(*n, &observed.seen.run.id))
        .map(|(_, observed)| observed)
}

/// The parts of a `cursors` row that decide whether it must be written again.
struct Health {
    last_success_at: Option<Timestamp>,
    failing: bool,
}

fn load_feed(connection: &Connection, feed_id: &str) -> Result<Option<(FeedState, Health)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM cursors WHERE task_id = ?1")?;
    statement.query_row([feed_id], |row| Ok(read_feed(row))).optional()?.transpose()
}

fn read_feed(row: &Row<'_>) -> Result<(FeedState, Health), StoreError> {
    let started = timestamp("cursors.watermark_started_at", row.get("watermark_started_at")?)?;
    let watermark = match (started, row.get::<_, Option<String>>("watermark_id")?) {
        (Some(started), Some(id)) => Some(Watermark { started, id }),
        _ => None,
    };
    let baseline = timestamp("cursors.baseline", row.get("baseline")?)?;
    let feed = FeedState {
        cursor: Cursor { offset: row.get("offset")?, watermark },
        baseline: row.get::<_, bool>("baseline_known")?.then_some(Baseline(baseline)),
        complete: row.get("first_sync_complete")?,
        watched_at: timestamp("cursors.last_watch_at", row.get("last_watch_at")?)?,
        total: row.get("server_total")?,
    };
    let health = Health {
        last_success_at: timestamp("cursors.last_success_at", row.get("last_success_at")?)?,
        failing: row.get::<_, Option<String>>("last_error")?.is_some(),
    };
    Ok((feed, health))
}

fn save_feed(connection: &Connection, feed_id: &str, commit: &Commit, now: &str) -> Result<(), StoreError> {
    let wanted = &commit.feed;
    if let Some((stored, health)) = load_feed(connection, feed_id)? {
        let alive_at = health.last_success_at;
        let heartbeat_due =
            alive_at.is_none_or(|at| at > commit.judgement.now || commit.judgement.now.since(at) >= HEARTBEAT);
        let beat = commit.finished && (heartbeat_due || health.failing);
        // When the last watch read was is written along with something else: were it lost, the next would come early.
        let unmoved = FeedState { watched_at: wanted.watched_at, ..stored } == *wanted;
        if unmoved && !beat {
            return Ok(());
        }
    }
    let watermark = wanted.cursor.watermark.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO cursors (task_id, \"offset\", watermark_started_at, watermark_id, baseline_known, baseline,
                 first_sync_complete, server_total, last_watch_at, last_success_at)
             VALUES (:task, :offset, :started, :id, :known, :baseline, :complete, :total, :watched, :success)
             ON CONFLICT (task_id) DO UPDATE SET \"offset\" = excluded.\"offset\",
                 watermark_started_at = excluded.watermark_started_at, watermark_id = excluded.watermark_id,
                 baseline_known = excluded.baseline_known, baseline = excluded.baseline,
                 first_sync_complete = excluded.first_sync_complete, server_total = excluded.server_total,
                 last_watch_at = excluded.last_watch_at,
                 last_success_at = coalesce(excluded.last_success_at, last_success_at),
                 last_error = iif(excluded.last_success_at IS NULL, last_error, NULL),
                 last_error_at = iif(excluded.last_success_at IS NULL, last_error_at, NULL)",
        )?
        .execute(named_params! {
            ":task": feed_id,
            ":offset": wanted.cursor.offset,
            ":started": watermark.map(|watermark| watermark.started.to_string()),
            ":id": watermark.map(|watermark| watermark.id.as_str()),
            ":known": wanted.baseline.is_some(),
            ":baseline": wanted.baseline.and_then(|Baseline(at)| at).map(|at| at.to_string()),
            ":complete": wanted.complete,
            ":total": wanted.total,
            ":watched": wanted.watched_at.map(|at| at.to_string()),
            ":success": commit.finished.then_some(now),
        })?;
    Ok(())
}
