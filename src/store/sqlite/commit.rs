//! The one transaction that moves the mirror: rows, their events, their deliveries and the cursor, or none of them.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, TransactionBehavior};

use super::connection::Db;
use super::events::EventWriter;
use super::feeds::save_feed;
use super::rows::{self, RunRow};
use crate::model::Subscription;
use crate::store::error::StoreError;
use crate::store::written::Written;
use crate::sync::{Change, Commit, Covered, Observed, observe};

impl Db {
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
