//! Events as rows: their ids, their bodies, and their deliveries.

use std::collections::HashSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::{Connection, OptionalExtension, named_params};
use serde::Serialize;
use serde_json::Value;

use super::outbox;
use crate::model::{EventType, Run, RunStatus, Subscription, Timestamp};
use crate::store::error::StoreError;
use crate::sync::Transition;

/// Characters of a run's id that an event's id keeps. Others are encoded, so that the id is valid in an HTTP header and
/// contains no dot, which separates the parts of a signed message.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// An event's body: Apify's own webhook body with additional fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    id: &'a str,
    sequence: i64,
    user_id: Option<&'a str>,
    created_at: &'a str,
    event_type: &'a str,
    event_data: EventData<'a>,
    status: &'a str,
    previous_status: Option<&'a str>,
    resource: &'a Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventData<'a> {
    actor_id: Option<&'a str>,
    actor_task_id: &'a str,
    actor_run_id: &'a str,
}

/// Writes events within one transaction, numbering them as it goes.
pub struct EventWriter<'a> {
    connection: &'a Connection,
    subscriptions: &'a [Subscription],
    feed_id: &'a str,
    now: &'a str,
    next_seq: i64,
    /// Sinks that are still copying their backlog, which will include these events; loaded with the first event.
    added_later: Option<HashSet<String>>,
}

impl<'a> EventWriter<'a> {
    /// Creates a writer for the open transaction of `connection`.
    pub fn new(
        connection: &'a Connection,
        subscriptions: &'a [Subscription],
        feed_id: &'a str,
        now: &'a str,
    ) -> Result<Self, StoreError> {
        let mut last =
            connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?;
        let last: i64 = last
            .query_row([], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        Ok(Self {
            connection,
            subscriptions,
            feed_id,
            now,
            next_seq: last + 1,
            added_later: None,
        })
    }

    /// Writes the `ordinal`-th event of `run`, whose current JSON is `resource`.
    pub fn write(
        &mut self,
        run: &Run,
        transition: &Transition,
        ordinal: u64,
        resource: &Value,
    ) -> Result<(), StoreError> {
        let id = format!("evt_{}_{ordinal}", utf8_percent_encode(&run.id, PLAIN));
        let kind = transition.kind.name();
        let task_id = run.task_id.as_deref().unwrap_or(self.feed_id);
        let previous = transition.previous.as_ref().map(RunStatus::as_str);
        let body = Body {
            id: &id,
            sequence: self.next_seq,
            user_id: run.user_id.as_deref(),
            created_at: self.now,
            event_type: &kind,
            event_data: EventData {
                actor_id: run.act_id.as_deref(),
                actor_task_id: task_id,
                actor_run_id: &run.id,
            },
            status: run.status.as_str(),
            previous_status: previous,
            resource,
        };
        let payload = serde_json::to_string(&body)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO events (seq, id, run_id, task_id, type, previous_status, status, occurred_at, observed_at, payload)
             VALUES (:seq, :id, :run, :task, :type, :previous, :status, :occurred, :now, :payload)",
        )?;
        insert.execute(named_params! {
            ":seq": self.next_seq, ":id": id, ":run": run.id, ":task": task_id, ":type": kind, ":previous": previous,
            ":status": run.status.as_str(), ":occurred": self.occurred_at(run, &transition.kind), ":now": self.now,
            ":payload": payload,
        })?;
        self.add_deliveries(run, &kind)?;
        self.next_seq += 1;
        Ok(())
    }

    fn add_deliveries(&mut self, run: &Run, kind: &str) -> Result<(), StoreError> {
        let added_later = match self.added_later.take() {
            Some(known) => known,
            None => not_live(self.connection)?,
        };
        for Subscription { sink, .. } in self
            .subscriptions
            .iter()
            .filter(|subscription| subscription.wants(kind))
        {
            if !added_later.contains(sink) {
                outbox::add(self.connection, sink, self.next_seq, &run.id, self.now)?;
            }
        }
        self.added_later = Some(added_later);
        Ok(())
    }

    /// The time of the transition: the run's start or end where it has that, else the time of observation.
    fn occurred_at<'r>(&'r self, run: &'r Run, kind: &EventType) -> &'r str {
        let reported = match kind {
            EventType::Created => run.started_at.as_deref(),
            EventType::Entered(status) if status.is_terminal() => run.finished_at.as_deref(),
            EventType::Entered(_) | EventType::Resurrected => None,
        };
        reported
            .filter(|text| Timestamp::parse(text).is_some())
            .unwrap_or(self.now)
    }
}

fn not_live(connection: &Connection) -> Result<HashSet<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT name FROM sinks WHERE live = 0")?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}
