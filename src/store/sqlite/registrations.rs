//! Subscriptions as rows: durable ones, which the configuration file names, and the one of commands without a file.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};

use super::connection::Db;
use super::deliveries::CHUNK;
use super::numbers::last_seq;
use crate::model::{Registration, Subscription, TEMPORARY_SINK, Timestamp};
use crate::store::error::StoreError;
use crate::store::reports::SubscriptionStatus;

impl Db {
    /// Makes `sinks`, and no others, the configured ones. A new sink is owed events from now on, or the whole log; one
    /// that returns goes on from its position; one that is removed keeps its position and its outbox.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn register(&mut self, sinks: &[Registration], now: Timestamp) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = last_seq(&transaction)?;
        let now = now.to_string();
        let known: Vec<String> = {
            let mut statement =
                transaction.prepare("SELECT name FROM sinks WHERE removed_at IS NULL")?;
            let names = statement.query_map([], |row| row.get(0))?;
            names.collect::<Result<_, _>>()?
        };
        let is_named = |name: &str| sinks.iter().any(|sink| sink.subscription.sink == name);
        for name in known.iter().filter(|name| !is_named(name)) {
            end(&transaction, name, last, &now)?;
        }
        for sink in sinks {
            tell_if_new(&transaction, sink)?;
            save(&transaction, sink, false, last, &now)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Opens the subscription of a command without a configuration file: it gets events from now on, and what the last
    /// such command left. Others stay as they are. A subscription of an earlier version by the name that such commands
    /// used then becomes this one.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn open_temporary(
        &mut self,
        sink: &Registration,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = last_seq(&transaction)?;
        let now = now.to_string();
        save(&transaction, sink, true, last, &now)?;
        transaction.execute(
            "UPDATE sinks SET live = 1, position = ?2 WHERE name = ?1 AND live = 0",
            (&sink.subscription.sink, last),
        )?;
        take_over(&transaction, &sink.subscription.sink)?;
        transaction.commit()?;
        Ok(())
    }

    /// Ends the subscription of a command without a configuration file, if there is one. What it is owed stays, for the
    /// next such command.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn close_temporary(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let is_open = self
            .connection
            .query_row(
                "SELECT 1 FROM sinks WHERE name = ?1 AND removed_at IS NULL",
                [TEMPORARY_SINK],
                |_| Ok(()),
            )
            .optional()?;
        if is_open.is_none() {
            return Ok(());
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = last_seq(&transaction)?;
        end(&transaction, TEMPORARY_SINK, last, &now.to_string())?;
        transaction.commit()?;
        Ok(())
    }

    /// Registers `sink` if it has no row, from now on; returns whether it had none.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn restore(&mut self, sink: &Registration, now: Timestamp) -> Result<bool, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let name = &sink.subscription.sink;
        if has_row(&transaction, name)? {
            return Ok(false);
        }
        let from_now = Registration {
            from_beginning: false,
            ..sink.clone()
        };
        let last = last_seq(&transaction)?;
        let temporary = name == TEMPORARY_SINK;
        save(&transaction, &from_now, temporary, last, &now.to_string())?;
        transaction.commit()?;
        Ok(true)
    }

    /// Removes the subscription `name` for good, with everything it is owed; returns how many deliveries that were, or
    /// `None` if there is no such subscription.
    ///
    /// # Errors
    /// When SQLite fails; chunks already committed stay.
    pub fn remove_subscription(&mut self, name: &str) -> Result<Option<u64>, StoreError> {
        let mut removed = 0;
        loop {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let some = transaction.execute(
                "DELETE FROM deliveries WHERE sink = ?1 AND seq IN (
                     SELECT seq FROM deliveries WHERE sink = ?1 ORDER BY seq LIMIT ?2)",
                (name, CHUNK),
            )? as u64;
            removed += some;
            if some == CHUNK {
                transaction.commit()?;
                continue;
            }
            let rows = transaction.execute("DELETE FROM sinks WHERE name = ?1", [name])?;
            transaction.commit()?;
            return Ok((rows > 0 || removed > 0).then_some(removed));
        }
    }

    /// Every subscription, by name.
    ///
    /// # Errors
    /// When SQLite fails or a row was tampered with.
    pub fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, StoreError> {
        let last = last_seq(&self.connection)?;
        let mut statement = self.connection.prepare(
            "SELECT s.name, s.type, s.removed_at IS NULL, s.temporary IS 1, iif(s.live, ?1, s.position), s.events,
                 (SELECT count(*) FROM deliveries d INDEXED BY deliveries_owed
                  WHERE d.sink = s.name AND d.dead_at IS NULL)
                 + iif(s.live, 0, (SELECT count(*) FROM events e WHERE e.seq > s.position
                       AND (s.events IS NULL OR e.type IN (SELECT value FROM json_each(s.events))))),
                 (SELECT count(*) FROM deliveries d WHERE d.sink = s.name AND d.dead_at IS NOT NULL),
                 s.missed, s.added_at, s.removed_at
             FROM sinks s ORDER BY s.name",
        )?;
        let subscriptions = statement.query_map([last], |row| {
            let (temporary, pending): (bool, u64) = (row.get(3)?, row.get(6)?);
            Ok(SubscriptionStatus {
                name: row.get(0)?,
                r#type: row.get(1)?,
                configured: row.get::<_, bool>(2)? && !temporary,
                temporary,
                position: row.get(4)?,
                events: row
                    .get::<_, Option<String>>(5)?
                    .and_then(|json| serde_json::from_str(&json).ok()),
                pending,
                dead: row.get(7)?,
                missed: row.get(8)?,
                added_at: row.get(9)?,
                removed_at: row.get(10)?,
            })
        })?;
        Ok(subscriptions.collect::<Result<_, _>>()?)
    }
}

/// The subscriptions that a commit owes its events; the others copy them from the log.
pub fn live(connection: &Connection) -> Result<Vec<Subscription>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT name, events FROM sinks WHERE live = 1")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.map(|row| {
        let (sink, events) = row?;
        subscription(sink, events)
    })
    .collect()
}

/// The subscription of a row, from its name and its filters.
pub fn subscription(sink: String, events: Option<String>) -> Result<Subscription, StoreError> {
    let types = events
        .map(|value| {
            serde_json::from_str(&value).map_err(|_| StoreError::Corrupt {
                what: "sinks.events",
                value,
            })
        })
        .transpose()?;
    Ok(Subscription { sink, types })
}

/// Ends what commits add to the subscription `name`; its position is where it stops.
fn end(connection: &Connection, name: &str, last: i64, now: &str) -> Result<(), StoreError> {
    connection.execute(
        "UPDATE sinks SET removed_at = ?2, position = iif(live, ?3, position), live = 0 WHERE name = ?1",
        (name, now, last),
    )?;
    connection.execute(
        "DELETE FROM sinks WHERE name = ?1 AND temporary = 1
             AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.sink = ?1)",
        [name],
    )?;
    Ok(())
}

/// Writes the row of `sink` where it is new, returns or differs.
fn save(
    connection: &Connection,
    sink: &Registration,
    temporary: bool,
    last: i64,
    now: &str,
) -> Result<(), StoreError> {
    let Registration {
        subscription,
        kind,
        from_beginning,
    } = sink;
    let types = subscription.types.as_ref();
    let events = types.map(|types| serde_json::Value::from(types.as_slice()).to_string());
    // A new sink does not miss what was no longer in the log when it was added. One that is owed something is not new:
    // its row was deleted.
    let position = match *from_beginning && !is_owed(connection, &subscription.sink)? {
        true => first_seq(connection)?.map_or(last, |first| first - 1),
        false => last,
    };
    connection.execute(
        "INSERT INTO sinks (name, type, added_at, live, position, events, temporary)
         VALUES (:name, :type, :now, :live, :position, :events, :temporary)
         ON CONFLICT (name) DO UPDATE SET type = excluded.type, events = excluded.events,
             temporary = excluded.temporary, removed_at = NULL,
             failing_since = iif(removed_at IS NULL, failing_since, NULL),
             last_failed_at = iif(removed_at IS NULL, last_failed_at, NULL),
             failed_ms_at_delivery = iif(removed_at IS NULL, failed_ms_at_delivery, failed_ms),
             last_error = iif(removed_at IS NULL, last_error, NULL),
             live = iif(removed_at IS NULL, live, position >= :last)
         WHERE removed_at IS NOT NULL OR type <> excluded.type OR events IS NOT excluded.events
             OR temporary IS NOT excluded.temporary",
        named_params! {
            ":name": subscription.sink, ":type": kind, ":now": now, ":live": position >= last,
            ":position": position, ":events": events, ":temporary": temporary, ":last": last,
        },
    )?;
    Ok(())
}

fn has_row(connection: &Connection, sink: &str) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM sinks WHERE name = ?1")?;
    Ok(statement.exists([sink])?)
}

fn is_owed(connection: &Connection, sink: &str) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM deliveries WHERE sink = ?1")?;
    Ok(statement.exists([sink])?)
}

/// The number of the oldest event in the log.
fn first_seq(connection: &Connection) -> Result<Option<i64>, StoreError> {
    Ok(connection.query_row("SELECT min(seq) FROM events", [], |row| row.get(0))?)
}

/// Logs which events a configured sink does not get because it has no row. To the mirror it is new, even if its row was
/// deleted.
fn tell_if_new(connection: &Connection, sink: &Registration) -> Result<(), StoreError> {
    let name = &sink.subscription.sink;
    if has_row(connection, name)? || first_seq(connection)?.is_none() {
        return Ok(());
    }
    if is_owed(connection, name)? {
        tracing::warn!(
            sink = name,
            "the row of the sink was deleted; it gets what it is still owed, and events from now on"
        );
    } else if !sink.from_beginning {
        tracing::info!(
            sink = name,
            "the sink is new to this mirror: it gets events from now on, none of those in the event log"
        );
    }
    Ok(())
}

/// Gives `name` what an earlier version left for the standard output of commands without a configuration file. That
/// version called it `stdout`, which can also be a configured sink, but only until a file was read by this version.
fn take_over(connection: &Connection, name: &str) -> Result<(), StoreError> {
    const EARLIER: &str = "name = 'stdout' AND type = 'stdout' AND temporary IS NULL";
    let found = connection
        .query_row(&format!("SELECT 1 FROM sinks WHERE {EARLIER}"), [], |_| {
            Ok(())
        })
        .optional()?;
    if found.is_some() {
        connection.execute(
            "UPDATE deliveries SET sink = ?1 WHERE sink = 'stdout'",
            [name],
        )?;
        connection.execute(&format!("DELETE FROM sinks WHERE {EARLIER}"), [])?;
    }
    Ok(())
}
