//! What a [`Reader`](super::Reader) answers people with.

use serde::Serialize;

use super::states::{Condition, DeliveryState, SinkState};

/// What `status` shows.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// One entry for each feed.
    pub tasks: Vec<TaskStatus>,
    /// Configured names that could not be resolved to a task.
    pub unresolved: Vec<Unresolved>,
    /// One entry for each sink that is configured, or was and is still owed events.
    pub sinks: Vec<SinkStatus>,
}

/// One feed.
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
    /// The watermark's start.
    pub watermark: Option<String>,
    /// How many runs the server listed last.
    pub server_total: Option<u64>,
    /// Rows in the mirror.
    pub rows: u64,
    /// Runs that had not ended when last seen.
    pub open_runs: u64,
    /// Rows that the account no longer lists.
    pub removed: u64,
    /// Whether the end of the list was reached at least once.
    pub first_sync_complete: bool,
    /// When a poll last did all it had to; to the minute, while nothing changes.
    pub last_success_at: Option<String>,
    /// How long ago that was, in seconds.
    pub last_success_age_seconds: Option<u64>,
    /// When an audit was last complete.
    pub last_audit_at: Option<String>,
    /// Where the audit in progress stands.
    pub audit_offset: Option<u64>,
    /// Its condition.
    pub state: Condition,
    /// What is wrong now; null after a success.
    pub last_error: Option<String>,
    /// When that was last noted.
    pub last_error_at: Option<String>,
}

impl TaskStatus {
    /// Whether the task is one that the API does not know, or does not show to the token.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, Condition::NotFound | Condition::Forbidden)
    }
}

/// A configured name that could not be resolved.
#[derive(Debug, Serialize)]
pub struct Unresolved {
    /// The name as configured.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Why.
    pub error: String,
    /// When it was last tried.
    pub at: String,
}

/// What one sink is owed.
#[derive(Debug, Serialize)]
pub struct SinkStatus {
    /// The sink's name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// Its state.
    pub state: SinkState,
    /// Events to be delivered.
    pub pending: u64,
    /// Events that were set aside: dead letters.
    pub dead: u64,
    /// When the oldest of those to be delivered was observed.
    pub oldest: Option<String>,
    /// When anything was delivered last.
    pub last_delivered_at: Option<String>,
    /// Since when nothing has been delivered, though it was tried.
    pub failing_since: Option<String>,
    /// What went wrong last; null when the last deliveries all succeeded.
    pub last_error: Option<String>,
}

/// Which deliveries are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of this sink; `None` for every sink.
    pub sink: Option<String>,
    /// Those of the events with these numbers; empty for every event.
    pub seqs: Vec<i64>,
    /// In which state.
    pub which: Which,
}

/// Deliveries by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Those that were set aside.
    #[default]
    Dead,
    /// Those too that failed and will be tried again.
    Failed,
    /// All of them.
    All,
}

/// A delivery that was set aside, or failed and will be tried again.
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
    /// How often it was tried.
    pub attempts: u32,
    /// When it was last tried.
    pub last_attempt_at: Option<String>,
    /// When it is tried next; null for one that was set aside, or that waits for an earlier event of its run.
    pub due_at: Option<String>,
    /// When it was set aside.
    pub dead_at: Option<String>,
    /// Why it failed last.
    pub last_error: Option<String>,
}

/// An event as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its number.
    pub seq: i64,
    /// Its body.
    pub payload: String,
}
