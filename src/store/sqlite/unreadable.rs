//! Items of lists that cannot be stored as runs, as rows.
//!
//! Such an item is recognised wherever it is in the list, so that each is told once, and a poll that finds nothing new
//! writes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, named_params};
use sha2::{Digest, Sha256};

use crate::model::Timestamp;
use crate::store::error::StoreError;
use crate::store::traits::MAX_UNREADABLE;
use crate::sync::{Commit, Unreadable};

/// How often the row of an item that is seen again and again is updated.
const REFRESH: Duration = Duration::from_secs(3_600);

/// The most items that one commit logs one by one.
const MAX_TOLD: usize = 20;

/// The unreadable items of one feed, within one transaction.
pub struct UnreadableItems<'a> {
    connection: &'a Connection,
    feed_id: &'a str,
    /// Whether there are any.
    any: bool,
}

/// Items that were not known before.
pub struct NewItems<'a> {
    /// The task, by a name for people.
    task: String,
    /// The items and their offsets, in order.
    items: Vec<(u64, &'a Unreadable)>,
}

impl<'a> UnreadableItems<'a> {
    /// The items of the feed `feed_id` in the open transaction of `connection`.
    pub fn of(connection: &'a Connection, feed_id: &'a str) -> Result<Self, StoreError> {
        let mut statement =
            connection.prepare_cached("SELECT 1 FROM unreadable_items WHERE feed_id = ?1")?;
        Ok(Self {
            any: statement.exists([feed_id])?,
            connection,
            feed_id,
        })
    }

    /// Forgets the item with the id `id`, which is a run now.
    pub fn forget(&self, id: &str) -> Result<(), StoreError> {
        if self.any {
            self.connection
                .prepare_cached("DELETE FROM unreadable_items WHERE feed_id = ?1 AND item = ?2")?
                .execute((self.feed_id, key_of_id(id)))?;
        }
        Ok(())
    }

    /// Records the items of `commit`, except those that it also has as runs, or that single reads have shown; returns those that were not known.
    pub fn record<'c>(&self, commit: &'c Commit) -> Result<NewItems<'c>, StoreError> {
        let now = commit.judgement.now;
        let mut items: BTreeMap<String, (u64, &'c Unreadable)> = BTreeMap::new();
        for (position, item) in &commit.unreadable {
            items.entry(key(item)).or_insert((*position, item));
        }
        if !items.is_empty() {
            let observed = commit.observed.iter().map(|seen| &seen.seen.run.id);
            for id in observed.chain(&commit.readable) {
                items.remove(&key_of_id(id));
            }
        }
        let mut new = NewItems {
            task: String::new(),
            items: Vec::new(),
        };
        for (key, (position, item)) in items {
            if self.save(&key, position, item, now)? {
                new.items.push((position, item));
            }
        }
        if !new.items.is_empty() {
            self.limit()?;
            new.task = self.task()?;
            new.items.sort_by_key(|(position, _)| *position);
        }
        Ok(new)
    }

    /// Writes an item, if its row would differ; returns whether it was not known.
    fn save(
        &self,
        key: &str,
        position: u64,
        item: &Unreadable,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let known = self
            .connection
            .prepare_cached("SELECT 1 FROM unreadable_items WHERE feed_id = ?1 AND item = ?2")?
            .exists((self.feed_id, key))?;
        self.connection
            .prepare_cached(
                "INSERT INTO unreadable_items (feed_id, item, position, reason, body, first_seen_at, last_seen_at)
                 VALUES (:feed, :item, :position, :reason, :body, :now, :now)
                 ON CONFLICT (feed_id, item) DO UPDATE SET position = excluded.position, reason = excluded.reason,
                     body = excluded.body, last_seen_at = excluded.last_seen_at
                 WHERE position <> excluded.position OR reason <> excluded.reason OR body <> excluded.body
                     OR last_seen_at <= :stale OR last_seen_at > :now",
            )?
            .execute(named_params! {
                ":feed": self.feed_id, ":item": key, ":position": position, ":reason": item.reason, ":body": item.body,
                ":now": now.to_string(), ":stale": now.minus(REFRESH).to_string(),
            })?;
        Ok(!known)
    }

    /// Forgets those that were not seen for the longest time, where there are too many.
    fn limit(&self) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(
                "DELETE FROM unreadable_items WHERE feed_id = ?1 AND item IN (
                     SELECT item FROM unreadable_items WHERE feed_id = ?1
                     ORDER BY last_seen_at DESC, first_seen_at DESC, position LIMIT -1 OFFSET ?2)",
            )?
            .execute((self.feed_id, MAX_UNREADABLE as u64))?;
        Ok(())
    }

    /// A name of the task for people.
    fn task(&self) -> Result<String, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT username || '~' || name FROM tasks WHERE id = ?1 AND username || name IS NOT NULL",
        )?;
        let name = statement.query_row([self.feed_id], |row| row.get(0));
        Ok(name.optional()?.unwrap_or_else(|| self.feed_id.to_owned()))
    }
}

impl NewItems<'_> {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.items.len() as u64
    }

    /// Logs them, at most [`MAX_TOLD`] one by one.
    pub fn tell(&self) {
        let task = &self.task;
        for (position, Unreadable { id, reason, .. }) in self.items.iter().take(MAX_TOLD) {
            tracing::warn!(
                task,
                position,
                id,
                "an item of the list of runs cannot be read: {reason}; it is kept in the table unreadable_items"
            );
        }
        if let Some(more @ 1..) = self.items.len().checked_sub(MAX_TOLD) {
            tracing::warn!(task, "{more} more items of the list of runs cannot be read");
        }
    }
}

/// What an item is recognised by, wherever it is in the list.
fn key(item: &Unreadable) -> String {
    match &item.id {
        Some(id) => key_of_id(id),
        None => {
            let digest = Sha256::digest(&item.body);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hex}")
        }
    }
}

fn key_of_id(id: &str) -> String {
    format!("id:{id}")
}
