//! The reads of a poll: which runs are open, and how far behind the cursor they lie.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use super::connection::Db;
use super::rows;
use crate::model::RunStatus;
use crate::store::error::StoreError;
use crate::store::traits::MAX_UNSEEN;
use crate::sync::{Cursor, Gap, MAX_OPEN, OpenRun, OpenRuns, Stored};

/// The start of the run that lies so many listed runs before a start.
pub(super) const NTH_BEFORE: &str = "SELECT started_at FROM runs
     WHERE feed_id = ?1 AND started_at <= ?2 AND removed_at IS NULL ORDER BY started_at DESC LIMIT 1 OFFSET ?3";

/// How many listed runs started from one time to another, both included.
pub(super) const COUNT: &str = "SELECT count(*) FROM runs
     WHERE feed_id = ?1 AND started_at >= ?2 AND started_at <= ?3 AND removed_at IS NULL";

/// How many listed runs started from one time on, before another.
pub(super) const COUNT_BEFORE: &str = "SELECT count(*) FROM runs
     WHERE feed_id = ?1 AND started_at >= ?2 AND started_at < ?3 AND removed_at IS NULL";

/// Open runs of a feed, the newest first.
const NEWEST_OPEN: &str = "SELECT id, status, started_at FROM runs
     WHERE feed_id = ?1 AND is_open = 1 AND id > ?2 ORDER BY started_at DESC LIMIT ?3";

/// Open runs of a feed from after an id on.
const OPEN_BY_ID: &str = "SELECT id, status, started_at FROM runs INDEXED BY runs_open
     WHERE feed_id = ?1 AND is_open = 1 AND id > ?2 ORDER BY id LIMIT ?3";

/// Open runs, with their starts.
type Open = Vec<(OpenRun, Option<String>)>;

impl Db {
    /// The open runs of a feed, and how far behind the cursor the farthest of those within `within` entries lies. Where there
    /// are more than [`MAX_OPEN`], half of them are the newest, and half those whose ids come after `after`, or from the
    /// first on.
    ///
    /// Distances are counted in the mirror, so they include runs deleted since; the true distance is rarely larger.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn open_runs(
        &self,
        feed_id: &str,
        cursor: &Cursor,
        within: u64,
        after: Option<&str>,
    ) -> Result<OpenRuns, StoreError> {
        let mut open: Open = self.open_where(NEWEST_OPEN, feed_id, "", MAX_OPEN + 1)?;
        if open.len() > MAX_OPEN {
            open.truncate(MAX_OPEN / 2);
            for after in [after.unwrap_or_default(), ""] {
                let room = MAX_OPEN.saturating_sub(open.len());
                open.extend(self.open_where(OPEN_BY_ID, feed_id, after, room)?);
            }
            let mut seen = HashSet::new();
            open.retain(|(run, _)| seen.insert(run.id.clone()));
        }
        let mut starts: Vec<String> = open.iter().filter_map(|(_, start)| start.clone()).collect();
        starts.sort_unstable();
        let runs = open.into_iter().map(|(run, _)| run).collect();
        if starts.is_empty() {
            return Ok(OpenRuns { runs, reach: 0 });
        }
        let newest = newest(cursor);
        let beyond_reach: Option<String> = self
            .connection
            .prepare_cached(NTH_BEFORE)?
            .query_row((feed_id, &newest, within), |row| row.get(0))
            .optional()?;
        let farthest = starts
            .iter()
            .find(|start| beyond_reach.as_ref().is_none_or(|beyond| *start > beyond));
        let reach = match farthest {
            Some(start) => count(&self.connection, feed_id, start, &newest)?,
            None => 0,
        };
        Ok(OpenRuns { runs, reach })
    }

    /// At most `limit` open runs of a feed with their starts, as a statement gives them.
    fn open_where(
        &self,
        sql: &str,
        feed_id: &str,
        after: &str,
        limit: usize,
    ) -> Result<Open, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map((feed_id, after, limit as u64), |row| {
            let status = RunStatus::from_api(&row.get::<_, String>(1)?);
            let run = OpenRun {
                id: row.get(0)?,
                active: !status.is_terminal(),
            };
            Ok((run, row.get(2)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The stored run `id`.
    ///
    /// # Errors
    /// When SQLite fails or the row was tampered with.
    pub fn run(&self, id: &str) -> Result<Option<Stored>, StoreError> {
        Ok(rows::load(&self.connection, id)?.map(|row| row.stored))
    }

    /// How far behind the cursor the runs `ids` lie, in entries, in no particular order; runs without a start
    /// are omitted. Reads each stretch of the list between two of them once.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn distances(
        &self,
        feed_id: &str,
        cursor: &Cursor,
        ids: &[String],
    ) -> Result<Vec<u64>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT started_at FROM runs WHERE id = ?1")?;
        let mut starts = Vec::with_capacity(ids.len());
        for id in ids {
            starts.extend(
                statement
                    .query_row([id], |row| row.get::<_, Option<String>>(0))
                    .optional()?
                    .flatten(),
            );
        }
        starts.sort_unstable_by(|a, b| b.cmp(a));
        let newest = newest(cursor);
        let mut distances = Vec::with_capacity(starts.len());
        let mut counted: Option<(String, u64)> = None;
        for start in starts {
            let distance = match &counted {
                None => count(&self.connection, feed_id, &start, &newest)?,
                Some((last, distance)) if *last == start => *distance,
                Some((last, distance)) => {
                    distance + count_before(&self.connection, feed_id, &start, last)?
                }
            };
            distances.push(distance);
            counted = Some((start, distance));
        }
        Ok(distances)
    }

    /// The listed runs of a feed that started within any of `gaps` and are not among `except`; at most [`MAX_UNSEEN`],
    /// oldest first. A gap without an end also contains runs without a start.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn unseen(
        &self,
        feed_id: &str,
        gaps: &[Gap],
        except: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let except: HashSet<&String> = except.iter().collect();
        let limit = Some(MAX_UNSEEN + except.len());
        let mut unseen = Vec::new();
        for gap in gaps {
            unseen.extend(rows::started_within(
                &self.connection,
                feed_id,
                gap.from,
                gap.to,
                limit,
            )?);
            if gap.to.is_none() {
                unseen.extend(
                    rows::without_start(&self.connection, feed_id)?
                        .into_iter()
                        .map(|id| (id, None)),
                );
            }
        }
        let mut ids: Vec<String> = unseen
            .into_iter()
            .map(|(id, _)| id)
            .filter(|id| !except.contains(id))
            .collect();
        ids.truncate(MAX_UNSEEN);
        Ok(ids)
    }
}

fn newest(cursor: &Cursor) -> String {
    cursor.watermark.as_ref().map_or_else(
        || rows::END_OF_TIME.to_owned(),
        |watermark| watermark.started.to_string(),
    )
}

/// Listed runs that started from `from` to `to`, both included.
fn count(connection: &Connection, feed_id: &str, from: &str, to: &str) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(COUNT)?;
    Ok(statement.query_row((feed_id, from, to), |row| row.get(0))?)
}

/// Listed runs that started from `from` on, before `to`.
fn count_before(
    connection: &Connection,
    feed_id: &str,
    from: &str,
    to: &str,
) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(COUNT_BEFORE)?;
    Ok(statement.query_row((feed_id, from, to), |row| row.get(0))?)
}
