//! What may be pruned: what is old enough, nobody is owed, and nobody refers to.

use rusqlite::Connection;

use super::connection::Db;
use super::references::is_referred_to;
use crate::model::{Retention, Timestamp};
use crate::store::error::StoreError;
use crate::store::pruning::Pruned;

/// The conditions, within one transaction. Times are the latest that is not kept; `None` keeps everything.
pub struct Prunable {
    pub dead_before: Option<String>,
    pub runs_before: Option<String>,
    pub events_before: Option<String>,
    /// The number up to which every configured subscription has copied the log, or commits do.
    copied: i64,
    /// The sinks that there are deliveries to, as a JSON array.
    sinks: String,
    /// Whether a run, called `r`, and an event, called `e`, are referred to by tables of others.
    run_is_referred_to: String,
    event_is_referred_to: String,
}

/// What the conditions compare with, as the first parameters of a statement: `copied`, `sinks`, and the time before which
/// deliveries that were set aside do not count.
type Owing<'a> = (i64, &'a str, Option<&'a str>);

impl Prunable {
    /// What `retention` does not keep at `now`.
    pub fn of(
        connection: &Connection,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let before = |kept: Option<_>| kept.map(|kept| now.minus(kept).to_string());
        // One that is not configured is told how many events it misses, if it comes back.
        let copied = "SELECT min(position) FROM sinks WHERE removed_at IS NULL AND live = 0";
        let copied: Option<i64> = connection
            .prepare_cached(copied)?
            .query_row([], |row| row.get(0))?;
        // Each name by one look into the key, however many deliveries there are. A sink's row may be deleted by hand.
        let sinks = connection
            .prepare_cached(
                "WITH RECURSIVE s (name) AS (
                     SELECT min(sink) FROM deliveries
                     UNION ALL SELECT (SELECT min(sink) FROM deliveries WHERE sink > s.name) FROM s WHERE s.name IS NOT NULL)
                 SELECT json_group_array(name) FROM s WHERE name IS NOT NULL",
            )?
            .query_row([], |row| row.get(0))?;
        Ok(Self {
            dead_before: before(retention.dead_deliveries),
            runs_before: before(retention.removed_runs),
            events_before: before(retention.events),
            copied: copied.unwrap_or(i64::MAX),
            sinks,
            run_is_referred_to: is_referred_to(connection, "runs", "r", "id")?,
            event_is_referred_to: is_referred_to(connection, "events", "e", "seq")?,
        })
    }

    /// Deliveries that were set aside before a time, the oldest first, up to a number.
    pub const DEAD: &'static str =
        "SELECT sink, seq FROM deliveries WHERE dead_at < ?1 ORDER BY dead_at LIMIT ?2";

    /// Runs that were removed before a time, after another time and id, up to a number: when, the id, and whether it must
    /// be kept.
    pub fn old_runs(&self) -> String {
        format!(
            "SELECT r.removed_at, r.id, {} FROM runs r
             WHERE r.removed_at < ?4 AND r.is_open = 0 AND (r.removed_at, r.id) > (?5, ?6)
             ORDER BY r.removed_at, r.id LIMIT ?7",
            self.run_is_kept()
        )
    }

    /// The same of events that were observed before a time.
    pub fn old_events(&self) -> String {
        format!(
            "SELECT e.observed_at, e.seq, {} FROM events e
             WHERE e.observed_at < ?4 AND (e.observed_at, e.seq) > (?5, ?6)
             ORDER BY e.observed_at, e.seq LIMIT ?7",
            self.event_is_kept()
        )
    }

    /// The first parameters of a statement with the conditions below. Where deliveries that are old enough are gone before
    /// others are looked at, `dead_before` is that time.
    pub fn owing<'a>(&'a self, dead_before: Option<&'a str>) -> Owing<'a> {
        (self.copied, &self.sinks, dead_before)
    }

    /// Whether an event, called `e`, must be kept: it waits for details, some sink is owed it, or gave up on it, or somebody
    /// refers to it.
    fn event_is_kept(&self) -> String {
        format!(
            "(e.seq > ?1 OR e.held_until IS NOT NULL OR EXISTS (
                 SELECT 1 FROM json_each(?2) s CROSS JOIN deliveries d ON d.sink = s.value AND d.seq = e.seq
                 WHERE ?3 IS NULL OR d.dead_at IS NULL OR d.dead_at >= ?3) OR {})",
            self.event_is_referred_to
        )
    }

    /// Whether a run, called `r`, must be kept: one of its events must, or somebody refers to it.
    fn run_is_kept(&self) -> String {
        format!(
            "(EXISTS (SELECT 1 FROM events e WHERE e.run_id = r.id AND {}) OR {})",
            self.event_is_kept(),
            self.run_is_referred_to
        )
    }

    /// Counts what is not kept.
    fn count(&self, connection: &Connection) -> Result<Pruned, StoreError> {
        let (copied, sinks, dead) = self.owing(self.dead_before.as_deref());
        let (runs, events) = (&self.runs_before, &self.events_before);
        let run_is_pruned = format!(
            "r.removed_at < ?4 AND r.is_open = 0 AND NOT {}",
            self.run_is_kept()
        );
        let count_runs = format!("SELECT count(*) FROM runs r WHERE {run_is_pruned}");
        let count_events = format!(
            "SELECT count(*) FROM events e WHERE NOT {}
                 AND (e.observed_at < ?5 OR EXISTS (SELECT 1 FROM runs r WHERE r.id = e.run_id AND {run_is_pruned}))",
            self.event_is_kept()
        );
        let count_dead = "SELECT count(*) FROM deliveries WHERE dead_at < ?1";
        let count = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> Result<u64, StoreError> {
            Ok(connection
                .prepare(sql)?
                .query_row(values, |row| row.get(0))?)
        };
        Ok(Pruned {
            runs: count(&count_runs, &[&copied, &sinks, &dead, runs])?,
            events: count(&count_events, &[&copied, &sinks, &dead, runs, events])?,
            dead_deliveries: count(count_dead, &[&self.dead_before])?,
        })
    }
}

impl Db {
    /// What pruning would remove.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn prunable(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        // All of it is counted in the same state.
        let transaction = self.connection.unchecked_transaction()?;
        Prunable::of(&transaction, retention, now)?.count(&transaction)
    }
}
