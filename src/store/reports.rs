//! The results of a [`Reader`](super::Reader).

use serde::Serialize;

use super::states::{Condition, DeliveryState, SinkState};
use crate::model::Timestamp;

/// What `status` shows.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// One entry for each feed.
    pub tasks: Vec<TaskStatus>,
    /// Configured names that could not be resolved to a task.
    pub unresolved: Vec<Unresolved>,
    /// One entry for each sink that is configured, or that was removed with events still owed.
    pub sinks: Vec<SinkStatus>,
    /// Tables, views, indices and triggers in the database that others made, e.g. `table notes`.
    pub other_objects: Vec<String>,
}

/// The state of one feed.
#[derive(Debug, Serialize)]
pub struct TaskStatus {
    /// The task's id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its owner's name.
    pub username: Option<String>,
    /// Where the next unread entry is expected.
    pub cursor: u64,
    /// The start of the watermark run.
    pub watermark: Option<String>,
    /// How many runs the server listed at the last poll.
    pub server_total: Option<u64>,
    /// Number of rows in the mirror.
    pub rows: u64,
    /// Number of runs that had not ended when last seen.
    pub open_runs: u64,
    /// Number of rows that the account no longer lists.
    pub removed: u64,
    /// Number of items of its list that cannot be read.
    pub unreadable_items: u64,
    /// Whether the end of the list was reached at least once.
    pub first_sync_complete: bool,
    /// When a poll last succeeded; to the minute while nothing changes.
    pub last_success_at: Option<String>,
    /// How long ago that was, in seconds.
    pub last_success_age_seconds: Option<u64>,
    /// The time between the last two successes, in seconds; to the minute while nothing changes.
    pub success_interval_seconds: Option<u64>,
    /// When the last audit completed.
    pub last_audit_at: Option<String>,
    /// The next entry of the audit in progress.
    pub audit_offset: Option<u64>,
    /// Its condition.
    pub state: Condition,
    /// The current error; null after a success.
    pub last_error: Option<String>,
    /// When that error was last recorded.
    pub last_error_at: Option<String>,
}

impl TaskStatus {
    /// Whether the API does not know the task, or denies the token access to it.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, Condition::NotFound | Condition::Forbidden)
    }
}

/// What can be said of the database without counting its rows of runs, events and deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The version of its schema.
    pub schema_version: i64,
    /// One entry for each feed, by id.
    pub feeds: Vec<FeedHealth>,
    /// Number of items of lists that cannot be read.
    pub unreadable_items: u64,
    /// The files that it is made of, e.g. `main`, and their sizes in bytes; none where it is not in files.
    pub files: Vec<(&'static str, u64)>,
}

/// How a feed is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedHealth {
    /// Its id.
    pub id: String,
    /// The name of its task, as people know it.
    pub task: String,
    /// Its condition.
    pub state: Condition,
    /// When a poll last succeeded; to the minute while nothing changes.
    pub last_success_at: Option<Timestamp>,
}

/// A configured name that could not be resolved.
#[derive(Debug, Serialize)]
pub struct Unresolved {
    /// The name as configured.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Why it could not be resolved.
    pub error: String,
    /// When it was last tried.
    pub at: String,
}

/// The state of one sink and its outbox.
#[derive(Debug, Serialize)]
pub struct SinkStatus {
    /// The sink's name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// Its state.
    pub state: SinkState,
    /// Number of events to be delivered.
    pub pending: u64,
    /// Events that were set aside: dead letters.
    pub dead: u64,
    /// How many events were no longer in the log when it came to them, ever since it was added.
    pub missed: u64,
    /// When the oldest pending event was observed.
    pub oldest: Option<String>,
    /// When an event was last delivered.
    pub last_delivered_at: Option<String>,
    /// Since when every attempt has failed.
    pub failing_since: Option<String>,
    /// The last error; null when the last deliveries all succeeded.
    pub last_error: Option<String>,
}

/// A subscription: which events a sink gets, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriptionStatus {
    /// The sink's name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// Whether the configuration file that was read last names it.
    pub configured: bool,
    /// Whether it is that of commands without a configuration file.
    pub temporary: bool,
    /// Events up to this number are delivered or in its outbox.
    pub position: i64,
    /// The types of the events that it gets; null for all.
    pub events: Option<Vec<String>>,
    /// Number of events to be delivered, in its outbox or behind its position.
    pub pending: u64,
    /// Events that were set aside.
    pub dead: u64,
    /// How many events were no longer in the log when it came to them.
    pub missed: u64,
    /// When it was added.
    pub added_at: String,
    /// Since when it is not configured.
    pub removed_at: Option<String>,
}

/// What became of an audit that the daemon was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRequest {
    /// Whether it has begun.
    pub begun: bool,
    /// What it found, as JSON; `None` until it has ended.
    pub result: Option<String>,
}

/// Selects deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Deliveries to this sink; `None` for every sink.
    pub sink: Option<String>,
    /// Deliveries of the events with these numbers; empty for every event.
    pub seqs: Vec<i64>,
    /// Deliveries in these states.
    pub which: Which,
}

/// Selects deliveries by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Deliveries that were set aside.
    #[default]
    Dead,
    /// Also deliveries that failed and will be retried.
    Failed,
    /// All deliveries.
    All,
}

/// A delivery in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The sink's name.
    pub sink: String,
    /// The event's number.
    pub seq: i64,
    /// The event's id.
    pub id: String,
    /// The event's type.
    pub r#type: String,
    /// The run it is about.
    pub run_id: String,
    /// Its state.
    pub state: DeliveryState,
    /// Number of attempts.
    pub attempts: u32,
    /// When it was last attempted.
    pub last_attempt_at: Option<String>,
    /// When the next attempt is due; null if it was set aside, or waits for an earlier event of its run.
    pub due_at: Option<String>,
    /// When it was set aside.
    pub dead_at: Option<String>,
    /// The error of the last failed attempt.
    pub last_error: Option<String>,
}

/// Selects events of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Events of these feeds; `None` for all.
    pub feeds: Option<Vec<String>>,
    /// Events of these types; `None` for all.
    pub types: Option<Vec<String>>,
    /// Events by which a run came to one of these statuses; `None` for all.
    pub statuses: Option<Vec<String>>,
    /// Also events that wait for details of their runs, whose bodies may still change, and those after them.
    pub waiting: bool,
}

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its number.
    pub seq: i64,
    /// Its body.
    pub payload: String,
}
