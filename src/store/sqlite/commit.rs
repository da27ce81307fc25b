//! The transaction that updates the mirror: rows, their events, their deliveries and the cursor.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, TransactionBehavior};

use super::connection::Db;
use super::events::EventWriter;
use super::feeds::save_feed;
use super::identities::identify;
use super::repair::{ensure_task, tell_if_feed_is_lost};
use super::rows::{self, RunRow};
use crate::store::error::StoreError;
use crate::store::written::Written;
use crate::sync::{Commit, Covered, Observed, observe};

impl Db {
    /// Applies `commit` to the feed of task `feed_id` atomically; it is on disk when this returns. Unchanged rows are not
    /// written; a commit that finds nothing new writes at most a heartbeat.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn commit(&mut self, feed_id: &str, commit: &Commit) -> Result<Written, StoreError> {
        self.limit_log(!commit.feed.complete)?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = commit.judgement.now.to_string();
        ensure_task(&transaction, feed_id, &now)?;
        tell_if_feed_is_lost(&transaction, feed_id)?;
        let mut written = Written::default();
        let mut events = EventWriter::new(&transaction, feed_id, &now);
        for observed in latest(commit) {
            let row = rows::load(&transaction, &observed.seen.run.id)?;
            let (stored, marks) =
                row.map_or_else(Default::default, |row| (Some(row.stored), row.marks));
            let Some(change) = observe(stored.as_ref(), observed, &commit.judgement) else {
                continue;
            };
            written.count(change.difference);
            let (marks, raised) = identify(&transaction, stored.as_ref(), &change, marks)?;
            let row = RunRow {
                stored: change.row,
                marks,
            };
            rows::upsert(&transaction, &row, feed_id, &now)?;
            for (id, transition) in &raised {
                events.write(&row.stored.run, id, transition, &observed.seen.json)?;
                written.events += 1;
            }
        }
        for id in &commit.gone {
            written.removed += rows::mark_removed(&transaction, id, &now)?;
        }
        if let Some(covered) = &commit.covered {
            for id in absent(&transaction, feed_id, covered, commit)? {
                written.removed += rows::mark_removed(&transaction, &id, &now)?;
            }
        }
        events.finish()?;
        save_feed(&transaction, feed_id, commit, &now)?;
        transaction.commit()?;
        Ok(written)
    }
}

/// The runs of a feed that the mirror has as listed, but that `covered` proves absent, as the commit did not observe them.
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

/// The observations of a commit, each run once: a run can appear twice on one page (the API's own example does this),
/// and on two overlapping pages. The last one counts.
fn latest(commit: &Commit) -> impl Iterator<Item = &Observed> {
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
