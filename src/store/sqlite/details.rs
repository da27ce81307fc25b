//! The details of runs: which are to be read, and what was read.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};

use super::connection::Db;
use super::held::release_run;
use super::rows;
use super::texts::{Text, text, text_or_null};
use crate::model::{
    DETAILS_WAIT, Details, MAX_DETAILS_ATTEMPTS, RunDetails, RunStatus, Timestamp, details_retry,
};
use crate::store::details::{DetailsAnswer, DetailsDue, DetailsSaved};
use crate::store::error::StoreError;
use crate::sync::{MAX_SETTLE, Seen, Stored};

/// How many rows of runs are looked through at once for details to be read.
const SCAN_CHUNK: i64 = 1_000;

impl Db {
    /// Runs whose details are to be read at `now`: at most so many that events wait for, and so many others. Looks through a part
    /// of the older runs where few others are due.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn due_details(
        &mut self,
        details: Details,
        (urgent, others): (usize, usize),
        now: Timestamp,
    ) -> Result<DetailsDue, StoreError> {
        let mut due = DetailsDue::default();
        if details == Details::None {
            self.forget_scan()?;
            return Ok(due);
        }
        due.urgent = self.urgent_details(urgent, now)?;
        let (found, forgot) = self.other_details(details, others, now)?;
        due.others = found;
        if forgot || due.others.len() < others && self.scan(details, now)? {
            due.next = Some(now);
        }
        let urgent: HashSet<&String> = due.urgent.iter().collect();
        due.others.retain(|id| !urgent.contains(id));
        let later = self
            .connection
            .prepare_cached("SELECT min(due_at) FROM details_due WHERE due_at > ?1")?
            .query_row([now.to_string()], |row| text_or_null(row, 0))?;
        // A time that somebody else wrote comes at some time, and is no reason to look again at once, also if only its text is later.
        let later = later.map(|at| {
            let at = at.ok().and_then(|at| Timestamp::parse(&at));
            at.filter(|at| *at > now).unwrap_or(now.plus(DETAILS_WAIT))
        });
        due.next = [due.next, later].into_iter().flatten().min();
        Ok(due)
    }

    fn urgent_details(&self, limit: usize, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT DISTINCT e.run_id FROM events e INDEXED BY events_held JOIN details_due d ON d.run_id = e.run_id
             WHERE e.held_until IS NOT NULL AND d.due_at <= ?1 LIMIT ?2",
        )?;
        let ids = statement.query_map((now.to_string(), limit as u64), |row| text(row, 0))?;
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Ok(ids.into_iter().flat_map(Result::ok).collect())
    }

    /// Due runs, those that ended last first, and whether others whose details are not wanted any more were forgotten.
    fn other_details(
        &mut self,
        details: Details,
        limit: usize,
        now: Timestamp,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let mut rows = self.details_between(None, now, limit)?;
        // Due later than anything can be: written before the clock was set back.
        rows.append(&mut self.details_between(Some(now.plus(2 * MAX_SETTLE)), now, limit)?);
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for (id, status) in rows {
            let status = status.as_deref().map(RunStatus::from_api);
            match id {
                Ok(id) if status.is_some_and(|status| details.wants(&status)) => wanted.push(id),
                Ok(id) => unwanted.push(id.into_bytes()),
                Err(id) => {
                    let shown = String::from_utf8_lossy(&id);
                    tracing::warn!(run = %shown, "removed a row of details_due whose run_id is no text");
                    unwanted.push(id);
                }
            }
        }
        if !unwanted.is_empty() {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            for id in &unwanted {
                transaction
                    .prepare_cached("DELETE FROM details_due WHERE run_id = CAST(?1 AS TEXT)")?
                    .execute([id])?;
            }
            transaction.commit()?;
        }
        wanted.truncate(limit);
        Ok((wanted, !unwanted.is_empty()))
    }

    /// Runs whose details are due after `after`, or else by `now`; at most `limit`, the last first, with the statuses of those
    /// that are listed.
    fn details_between(
        &self,
        after: Option<Timestamp>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Text, Option<String>)>, StoreError> {
        let due = if after.is_some() {
            "d.due_at > ?1"
        } else {
            "d.due_at <= ?1"
        };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT d.run_id, r.status FROM details_due d LEFT JOIN runs r ON r.id = d.run_id AND r.removed_at IS NULL
             WHERE {due} ORDER BY d.due_at DESC LIMIT ?2"
        ))?;
        let rows =
            statement.query_map((after.unwrap_or(now).to_string(), limit as u64), |row| {
                let status = row.get_ref(1)?.as_bytes_or_null()?;
                let status = status.map(|status| String::from_utf8_lossy(status).into_owned());
                Ok((text(row, 0)?, status))
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Looks through a part of the runs that were stored before details were wanted, the newest first; returns whether any are
    /// due now, or there are more to look through.
    fn scan(&mut self, details: Details, now: Timestamp) -> Result<bool, StoreError> {
        let policy = details.name();
        let state: Option<i64> = self
            .connection
            .prepare_cached("SELECT before FROM details_scan WHERE policy = ?1")?
            .query_row([policy], |row| row.get(0))
            .optional()?;
        let before = state.unwrap_or(i64::MAX);
        if before == 0 {
            return Ok(false);
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let from: i64 = transaction
            .prepare_cached(
                "SELECT rowid FROM runs WHERE rowid < ?1 ORDER BY rowid DESC LIMIT 1 OFFSET ?2",
            )?
            .query_row((before, SCAN_CHUNK - 1), |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        let statuses = details.statuses().iter().map(RunStatus::as_str);
        let statuses = serde_json::Value::from_iter(statuses).to_string();
        let found = transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO details_due (run_id, due_at)
                 SELECT r.id, coalesce(r.settles_at, min(r.finished_at, :now), :now) FROM runs r
                 WHERE r.rowid >= :from AND r.rowid < :before AND r.removed_at IS NULL
                     AND r.status IN (SELECT value FROM json_each(:statuses))
                     AND NOT EXISTS (SELECT 1 FROM run_details d WHERE d.run_id = r.id)",
            )?
            .execute(named_params! {
                ":now": now.to_string(), ":from": from, ":before": before, ":statuses": statuses,
            })?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO details_scan (only_row, policy, before) VALUES (1, ?1, ?2)",
            )?
            .execute((policy, from))?;
        transaction.commit()?;
        Ok(found > 0 || from > 0)
    }

    /// Whoever wants details again has to look through everything that was stored meanwhile.
    fn forget_scan(&self) -> Result<(), StoreError> {
        let connection = &self.connection;
        let mut any = connection.prepare_cached("SELECT 1 FROM details_scan")?;
        if any.exists([])? {
            connection.execute_batch("DELETE FROM details_scan")?;
        }
        Ok(())
    }

    /// Stores the answers to single reads for details, and lets the events go that waited for them.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn save_details(
        &mut self,
        answers: &[(String, DetailsAnswer)],
        now: Timestamp,
    ) -> Result<DetailsSaved, StoreError> {
        let mut saved = DetailsSaved::default();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (id, answer) in answers {
            let stored = match rows::load(&transaction, id) {
                Ok(row) => row.map(|row| row.stored),
                // Somebody else wrote that row. It stops no other.
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::warn!(run = id, "the details of a run are not stored: {error}");
                    saved.given_up += 1;
                    forget(&transaction, id)?;
                    saved.released += release_run(&transaction, id, None, now)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match (answer, stored) {
                (DetailsAnswer::Found(seen), Some(stored)) if shows_same_end(&stored, seen) => {
                    saved.read += 1;
                    saved.released += save(&transaction, &stored, &seen.json, now)?;
                    continue;
                }
                (_, None) => {
                    saved.gone += 1;
                    forget(&transaction, id)?;
                }
                // One that is gone for good is marked as removed by an audit, and then forgotten.
                (_, Some(_)) => {
                    let may_come = *answer == DetailsAnswer::Unavailable;
                    match put_off(&transaction, id, may_come, now)? {
                        true => saved.put_off += 1,
                        false => saved.given_up += 1,
                    }
                }
            }
            // If there is another attempt, it comes later than any event waits.
            saved.released += release_run(&transaction, id, None, now)?;
        }
        transaction.commit()?;
        Ok(saved)
    }
}

/// Whether a single read shows a run in the state that is stored.
fn shows_same_end(stored: &Stored, seen: &Seen) -> bool {
    let (stored, seen) = (&stored.run, &seen.run);
    stored.status.is_terminal()
        && (&stored.status, &stored.finished_at) == (&seen.status, &seen.finished_at)
}

/// Has the details of a run that ended be read from `due_at` on.
pub fn ask(connection: &Connection, run_id: &str, due_at: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO details_due (run_id, due_at) VALUES (?1, ?2)")?
        .execute((run_id, due_at))?;
    Ok(())
}

/// Whether the details of a run are to be read.
pub fn is_asked(connection: &Connection, run_id: &str) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM details_due WHERE run_id = ?1")?;
    Ok(statement.exists([run_id])?)
}

/// Stores the details of a run that ended, which a single read showed as `item`; they are read again if its figures may
/// still change. Adds them to its event, if that waits for them, and returns how many events wait no longer.
pub fn save(
    connection: &Connection,
    stored: &Stored,
    item: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (id, details) = (&stored.run.id, RunDetails::from_json(item));
    let (memory, timeout) = details.limits();
    let text = |json: &Option<serde_json::Value>| json.as_ref().map(ToString::to_string);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO run_details
                 (run_id, status_message, exit_code, memory_mbytes, timeout_secs, stats, options, read_at)
             VALUES (:id, :message, :exit, :memory, :timeout, :stats, :options, :now)",
        )?
        .execute(named_params! {
            ":id": id, ":message": details.status_message, ":exit": details.exit_code, ":memory": memory,
            ":timeout": timeout, ":stats": text(&details.stats), ":options": text(&details.options),
            ":now": now.to_string(),
        })?;
    // Later than any figures may change: somebody else wrote that, and it comes for ever.
    let may_change = |until: &Timestamp| *until > now && *until <= now.plus(MAX_SETTLE);
    match stored.settles_at.filter(may_change) {
        Some(until) => ask(connection, id, &until.to_string())?,
        None => forget(connection, id)?,
    }
    release_run(connection, id, Some((&stored.run, &details)), now)
}

/// Puts off reading the details of a run after an attempt that failed, or gives up after some, unless the next `may_come`
/// to another result; returns whether there is another attempt.
fn put_off(
    connection: &Connection,
    run_id: &str,
    may_come: bool,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let attempts: Option<i64> = connection
        .prepare_cached("SELECT attempts FROM details_due WHERE run_id = ?1")?
        .query_row([run_id], |row| row.get(0))
        .optional()?;
    let attempts = u32::try_from(attempts.unwrap_or(0).max(0)).unwrap_or(u32::MAX);
    let attempts = attempts.saturating_add(1);
    if attempts >= MAX_DETAILS_ATTEMPTS && !may_come {
        forget(connection, run_id)?;
        return Ok(false);
    }
    let due_at = now.plus(details_retry(attempts)).to_string();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO details_due (run_id, due_at, attempts) VALUES (?1, ?2, ?3)",
        )?
        .execute((run_id, due_at, attempts))?;
    Ok(true)
}

/// No longer has the details of a run be read.
fn forget(connection: &Connection, run_id: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM details_due WHERE run_id = ?1")?
        .execute([run_id])?;
    Ok(())
}

/// Removes the details of a run, and no longer has them be read.
pub fn remove(connection: &Connection, run_id: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM run_details WHERE run_id = ?1")?
        .execute([run_id])?;
    forget(connection, run_id)
}
