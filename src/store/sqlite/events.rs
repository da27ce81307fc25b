//! Events as rows: their ids, their bodies, and their deliveries.

use std::borrow::Cow;

use rusqlite::{Connection, named_params};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::numbers::{last_seq, save_last_seq};
use super::outbox;
use super::registrations::live;
use crate::model::{EventType, Run, RunDetails, RunStatus, Subscription, Timestamp};
use crate::store::error::StoreError;
use crate::sync::Transition;

/// An event's body: Apify's own webhook body with additional fields.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    sequence: i64,
    user_id: Option<Cow<'a, str>>,
    created_at: Cow<'a, str>,
    event_type: Cow<'a, str>,
    event_data: EventData<'a>,
    status: Cow<'a, str>,
    previous_status: Option<Cow<'a, str>>,
    resource: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventData<'a> {
    actor_id: Option<Cow<'a, str>>,
    actor_task_id: Cow<'a, str>,
    actor_run_id: Cow<'a, str>,
}

/// An event's body with the details of its run; `None` if it is not as [`EventWriter`] writes it.
pub fn with_details(payload: &str, details: &RunDetails) -> Option<String> {
    let mut body: Body<'_> = serde_json::from_str(payload).ok()?;
    let mut run: Map<String, Value> = serde_json::from_str(body.resource.get()).ok()?;
    details.add_to(&mut run);
    let resource = RawValue::from_string(Value::Object(run).to_string()).ok()?;
    body.resource = &resource;
    serde_json::to_string(&body).ok()
}

/// Writes events within one transaction, numbering them as it goes.
pub struct EventWriter<'a> {
    connection: &'a Connection,
    feed_id: &'a str,
    now: &'a str,
    /// Loaded with the first event.
    log: Option<Log>,
}

/// What the first event of a commit needs to know.
struct Log {
    next_seq: i64,
    /// The subscriptions that are owed events. Others copy these events from the log when they get there.
    live: Vec<Subscription>,
}

impl<'a> EventWriter<'a> {
    /// Creates a writer for the open transaction of `connection`.
    pub fn new(connection: &'a Connection, feed_id: &'a str, now: &'a str) -> Self {
        Self {
            connection,
            feed_id,
            now,
            log: None,
        }
    }

    /// Remembers the number of the last event written.
    pub fn finish(self) -> Result<(), StoreError> {
        match self.log {
            Some(log) => save_last_seq(self.connection, log.next_seq - 1),
            None => Ok(()),
        }
    }

    fn log(&mut self) -> Result<Log, StoreError> {
        match self.log.take() {
            Some(log) => Ok(log),
            None => Ok(Log {
                next_seq: last_seq(self.connection)? + 1,
                live: live(self.connection)?,
            }),
        }
    }

    /// Writes the event `id` of `run`, whose current JSON is `resource`. It goes to nobody while it waits for details, until
    /// `held_until` at the latest.
    pub fn write(
        &mut self,
        run: &Run,
        id: &str,
        transition: &Transition,
        resource: &str,
        held_until: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut log = self.log()?;
        let kind = transition.kind.name();
        let task_id = run.task_id.as_deref().unwrap_or(self.feed_id);
        let previous = transition.previous.as_ref().map(RunStatus::as_str);
        let json = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
        // In one line, and each key once.
        let resource: Value = serde_json::from_str(resource).map_err(json)?;
        let resource = RawValue::from_string(resource.to_string()).map_err(json)?;
        let body = Body {
            id: id.into(),
            sequence: log.next_seq,
            user_id: run.user_id.as_deref().map(Cow::from),
            created_at: self.now.into(),
            event_type: (&*kind).into(),
            event_data: EventData {
                actor_id: run.act_id.as_deref().map(Cow::from),
                actor_task_id: task_id.into(),
                actor_run_id: (&*run.id).into(),
            },
            status: run.status.as_str().into(),
            previous_status: previous.map(Cow::from),
            resource: &resource,
        };
        let payload = serde_json::to_string(&body).map_err(json)?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO events (seq, id, run_id, task_id, type, previous_status, status, occurred_at, observed_at, payload, held_until)
             VALUES (:seq, :id, :run, :task, :type, :previous, :status, :occurred, :now, :payload, :held)",
        )?;
        insert.execute(named_params! {
            ":seq": log.next_seq, ":id": id, ":run": run.id, ":task": task_id, ":type": kind, ":previous": previous,
            ":status": run.status.as_str(), ":occurred": self.occurred_at(run, &transition.kind), ":now": self.now,
            ":payload": payload, ":held": held_until,
        })?;
        for Subscription { sink, .. } in log.live.iter().filter(|sink| sink.wants(&kind)) {
            let is_held = held_until.is_some();
            outbox::add(
                self.connection,
                sink,
                log.next_seq,
                &run.id,
                self.now,
                is_held,
            )?;
        }
        log.next_seq += 1;
        self.log = Some(log);
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
