//! Questions in SQL: what an answer consists of, how a question fails, and the views that answer common ones.

use serde::Serialize;
use thiserror::Error;

use super::error::StoreError;

/// A value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// A whole number.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text. What is no UTF-8 is replaced by U+FFFD.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// The names of its columns: the first part.
    Columns(Vec<String>),
    /// A row, with a cell for each column.
    Row(Vec<Cell>),
}

/// Why a question has no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// SQLite does not understand it, or fails while it computes.
    #[error("the query cannot be run: {0}")]
    Sql(String),
    /// It does something else than read.
    #[error(
        "the query does more than read, which `query` does not allow; use `sqlite3` to change your own tables"
    )]
    NotReading,
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A view for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// Its name.
    pub view: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Its columns, in order.
    pub columns: Vec<String>,
    /// A question that it answers.
    pub example: &'static str,
}

/// The views for people: name, what each shows, and a question that it answers.
pub(super) const VIEWS: [[&str; 3]; 10] = [
    [
        "open_runs",
        "runs that are active now, oldest first",
        "SELECT task, id, age_seconds FROM open_runs WHERE status = 'READY' AND age_seconds > 600",
    ],
    [
        "run_durations",
        "runs that ended, with how long they took and what they cost",
        "SELECT task, id, status, duration_seconds FROM run_durations ORDER BY finished_at DESC LIMIT 20",
    ],
    [
        "daily_runs",
        "runs, failures and cost of each task by the day (UTC) on which the runs started",
        "SELECT day, sum(runs) AS runs, sum(failures) AS failures, sum(cost_usd) AS cost_usd FROM daily_runs GROUP BY day ORDER BY day DESC LIMIT 7",
    ],
    [
        "task_health",
        "each task: its last run, its last success, and its last 7 days",
        "SELECT task, failures_in_a_row, failure_percent_7d, last_succeeded_at FROM task_health ORDER BY failure_percent_7d DESC",
    ],
    [
        "slow_runs",
        "runs that took at least twice as long as is usual for their task",
        "SELECT task, run_id, duration_seconds, usual_seconds FROM slow_runs ORDER BY started_at DESC LIMIT 20",
    ],
    [
        "schedule_gaps",
        "where a schedule started no run for longer than usual",
        "SELECT task, expected_at, gap_minutes FROM schedule_gaps ORDER BY expected_at DESC LIMIT 20",
    ],
    [
        "build_health",
        "failures by the build that the runs used",
        "SELECT build_number, first_run_at, runs, failure_percent FROM build_health WHERE task = 'my-task' ORDER BY first_run_at DESC",
    ],
    [
        "monthly_cost",
        "cost of each task by month, with a forecast of the current one",
        "SELECT month, round(sum(cost_usd), 2) AS usd, round(sum(forecast_usd), 2) AS forecast FROM monthly_cost GROUP BY month ORDER BY month DESC",
    ],
    [
        "overlapping_runs",
        "pairs of runs of one task that ran at the same time",
        "SELECT task, run_id, other_id, overlap_seconds FROM overlapping_runs ORDER BY overlap_seconds DESC LIMIT 20",
    ],
    [
        "recent_changes",
        "every change of a run's status, and every removal, with when it was seen",
        "SELECT at, task, run_id, what FROM recent_changes WHERE at > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 day') ORDER BY at DESC",
    ],
];
