//! The one transaction that moves the mirror: rows, their events, their deliveries and the cursor, or none of them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, named_params};

use super::db::Db;
use super::error::StoreError;
use super::events::EventWriter;
use super::rows::{self, RunRow, timestamp};
use crate::model::{Subscription, Timestamp};
use crate::sync::{
    Audit, Baseline, Change, Commit, Covered, Cursor, Difference, FeedState, Watermark, observe,
};

/// How often a feed that finds nothing new writes that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(60);

/// What is the matter with a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its last poll failed, and the next may not.
    Failing,
    /// The API knows no such task.
    NotFound,
    /// The token may not see the task.
    Forbidden,
}

impl Condition {
    /// The condition as `status` and the column name it. A feed with which nothing is the matter is `ok`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::NotFound => "not found",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What a commit changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Runs not known before.
    pub added: u64,
    /// Runs marked as removed that are listed after all, or again.
    pub returned: u64,
    /// Other known runs whose status changed.
    pub status: u64,
    /// Other known runs whose cost changed.
    pub usage: u64,
    /// Other known runs of which anything else changed.
    pub fields: u64,
    /// Runs newly marked as removed.
    pub removed: u64,
    /// Events raised.
    pub events: u64,
}

impl Written {
    /// Adds what another commit changed.
    pub fn add(&mut self, other: Written) {
        self.added += other.added;
        self.returned += other.returned;
        self.status += other.status;
        self.usage += other.usage;
        self.fields += other.fields;
        self.removed += other.removed;
        self.events += other.events;
    }

    /// Known runs that changed in what the API tells of them.
    pub fn changed(&self) -> u64 {
        self.returned + self.status + self.usage + self.fields
    }

    fn count(&mut self, difference: Difference) {
        match difference {
            Difference::New => self.added += 1,
            Difference::Returned => self.returned += 1,
            Difference::Status => self.status += 1,
            Difference::Usage => self.usage += 1,
            Difference::Fields => self.fields += 1,
            Difference::Settled => {}
        }
    }
}

impl Db {
    /// What is stored of the feed of task `feed_id`; a fresh state when nothing is.
    ///
    /// # Errors
    /// When SQLite fails or the row was tampered with.
    pub fn feed(&self, feed_id: &str) -> Result<FeedState, StoreError> {
        Ok(load_feed(&self.connection, feed_id)?
            .map(|(feed, _)| feed)
            .unwrap_or_default())
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
        self.check_file()?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = commit.judgement.now.to_string();
        let mut written = Written::default();
        let mut events = EventWriter::new(&transaction, subscriptions, feed_id, &now)?;
        for observed in latest(commit) {
            let row = rows::load(&transaction, &observed.seen.run.id)?;
            let (stored, mut event_count) =
                row.map_or((None, 0), |row| (Some(row.stored), row.event_count));
            let Some(Change {
                row,
                difference,
                transitions,
            }) = observe(stored.as_ref(), observed, &commit.judgement)
            else {
                continue;
            };
            let first = event_count + 1;
            event_count += transitions.len() as u64;
            let row = RunRow {
                stored: row,
                event_count,
            };
            rows::upsert(&transaction, &row, feed_id, &now)?;
            for (ordinal, transition) in (first..).zip(&transitions) {
                events.write(&row.stored.run, transition, ordinal, &observed.seen.json)?;
                written.events += 1;
            }
            written.count(difference);
        }
        for id in &commit.gone {
            written.removed += rows::mark_removed(&transaction, id, &now)?;
        }
        if let Some(covered) = &commit.covered {
            for id in absent(&transaction, feed_id, covered, commit)? {
                written.removed += rows::mark_removed(&transaction, &id, &now)?;
            }
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
    pub fn record_failure(
        &mut self,
        feed_id: &str,
        condition: Condition,
        error: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let fresh_enough =
            Timestamp::from_millis(now.as_millis() - HEARTBEAT.as_millis() as i64).to_string();
        self.connection.execute(
            "INSERT INTO cursors (task_id, \"offset\", baseline_known, first_sync_complete, condition, last_error,
                 last_error_at)
             VALUES (?1, 0, 0, 0, ?2, ?3, ?4)
             ON CONFLICT (task_id) DO UPDATE SET condition = excluded.condition, last_error = excluded.last_error,
                 last_error_at = excluded.last_error_at
             WHERE condition <> excluded.condition OR last_error IS NOT excluded.last_error OR last_error_at IS NULL
                 OR last_error_at <= ?5",
            (feed_id, condition.name(), error, now.to_string(), fresh_enough),
        )?;
        Ok(())
    }
}

/// The listed runs of a feed that `covered` proves to be no longer listed, as they are not among those observed.
fn absent(
    connection: &Connection,
    feed_id: &str,
    covered: &Covered,
    commit: &Commit,
) -> Result<Vec<String>, StoreError> {
    let observed: HashSet<&str> = commit
        .observed
        .iter()
        .map(|observed| observed.seen.run.id.as_str())
        .collect();
    let candidates = rows::started_within(
        connection,
        feed_id,
        covered.after,
        Some(covered.before),
        None,
    )?;
    let absent = candidates.into_iter().filter(|(id, started)| {
        !observed.contains(id.as_str()) && started.is_some_and(|at| covered.proves_absent(at))
    });
    Ok(absent.map(|(id, _)| id).collect())
}

/// The observations of a commit, each run once: the same run can stand on a page twice (the API's own example does
/// that), and on two pages that overlap. The later one counts.
fn latest(commit: &Commit) -> impl Iterator<Item = &crate::sync::Observed> {
    let last: HashMap<&str, usize> = commit
        .observed
        .iter()
        .enumerate()
        .map(|(n, observed)| (observed.seen.run.id.as_str(), n))
        .collect();
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

fn load_feed(
    connection: &Connection,
    feed_id: &str,
) -> Result<Option<(FeedState, Health)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT * FROM cursors WHERE task_id = ?1")?;
    let row = statement
        .query_row([feed_id], |row| Ok(read_feed(row)))
        .optional()?
        .transpose()?;
    let Some((mut feed, health)) = row else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached("SELECT * FROM audits WHERE task_id = ?1")?;
    feed.audit = statement
        .query_row([feed_id], |row| Ok(read_audit(row)))
        .optional()?
        .transpose()?;
    Ok(Some((feed, health)))
}

fn read_feed(row: &Row<'_>) -> Result<(FeedState, Health), StoreError> {
    let baseline = timestamp("cursors.baseline", row.get("baseline")?)?;
    let feed = FeedState {
        cursor: read_cursor(row)?,
        baseline: row
            .get::<_, bool>("baseline_known")?
            .then_some(Baseline(baseline)),
        complete: row.get("first_sync_complete")?,
        watched_at: timestamp("cursors.last_watch_at", row.get("last_watch_at")?)?,
        total: row.get("server_total")?,
        audit: None,
        audited_at: timestamp("cursors.last_audit_at", row.get("last_audit_at")?)?,
        audit_due_at: timestamp("cursors.next_audit_at", row.get("next_audit_at")?)?,
    };
    let health = Health {
        last_success_at: timestamp("cursors.last_success_at", row.get("last_success_at")?)?,
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
        watermark,
    })
}

fn save_feed(
    connection: &Connection,
    feed_id: &str,
    commit: &Commit,
    now: &str,
) -> Result<(), StoreError> {
    let wanted = &commit.feed;
    if let Some((stored, health)) = load_feed(connection, feed_id)? {
        let alive_at = health.last_success_at;
        let heartbeat_due = alive_at.is_none_or(|at| {
            at > commit.judgement.now || commit.judgement.now.since(at) >= HEARTBEAT
        });
        let beat = commit.finished && (heartbeat_due || health.failing);
        // When the last watch read was is written along with something else: were it lost, the next would come early.
        let unmoved = FeedState {
            watched_at: wanted.watched_at,
            ..stored
        } == *wanted;
        if unmoved && !beat {
            return Ok(());
        }
    }
    let watermark = wanted.cursor.watermark.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO cursors (task_id, \"offset\", watermark_started_at, watermark_id, baseline_known, baseline,
                 first_sync_complete, server_total, last_watch_at, last_success_at, last_audit_at, next_audit_at)
             VALUES (:task, :offset, :started, :id, :known, :baseline, :complete, :total, :watched, :success, :audited,
                 :audit_due)
             ON CONFLICT (task_id) DO UPDATE SET \"offset\" = excluded.\"offset\",
                 watermark_started_at = excluded.watermark_started_at, watermark_id = excluded.watermark_id,
                 baseline_known = excluded.baseline_known, baseline = excluded.baseline,
                 first_sync_complete = excluded.first_sync_complete, server_total = excluded.server_total,
                 last_watch_at = excluded.last_watch_at, last_audit_at = excluded.last_audit_at,
                 next_audit_at = excluded.next_audit_at,
                 last_success_at = coalesce(excluded.last_success_at, last_success_at),
                 condition = iif(excluded.last_success_at IS NULL, condition, 'ok'),
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
            ":audited": wanted.audited_at.map(|at| at.to_string()),
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
            .prepare_cached("DELETE FROM audits WHERE task_id = ?1")?
            .execute([feed_id])?;
        return Ok(());
    };
    let watermark = audit.cursor.watermark.as_ref();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO audits (task_id, began_at, \"offset\", watermark_started_at, watermark_id,
                 decided_before) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            feed_id,
            audit.began_at.to_string(),
            audit.cursor.offset,
            watermark.map(|watermark| watermark.started.to_string()),
            watermark.map(|watermark| watermark.id.as_str()),
            audit.decided.map(|at| at.to_string()),
        ))?;
    Ok(())
}
