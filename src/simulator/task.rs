//! Tasks and runs of the simulated account, and pages of run lists.

use serde_json::Value;

use crate::model::{RunStatus, Timestamp};

/// A task of the account.
#[derive(Clone, Debug)]
pub struct SimTask {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its owner's name.
    pub username: String,
    /// The id of the Actor it runs.
    pub act_id: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether the token may not read it.
    pub forbidden: bool,
    /// Its runs in the order of the list: by start, ties by registration.
    pub(super) runs: Vec<SimRun>,
}

/// A run of the account.
#[derive(Clone, Debug)]
pub struct SimRun {
    /// Its id.
    pub id: String,
    /// Its status.
    pub status: RunStatus,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its cost so far, in thousandths of a US dollar.
    pub usage_milli_usd: u64,
    /// How it was started, e.g. `SCHEDULER`.
    pub origin: &'static str,
}

/// A page of a run list.
#[derive(Clone, Debug)]
pub struct ListAnswer {
    /// How many runs match.
    pub total: u64,
    /// The page's offset.
    pub offset: u64,
    /// The largest page that the account would have returned.
    pub limit: u64,
    /// The runs, as the API lists them.
    pub items: Vec<Value>,
}

impl SimTask {
    /// How many runs the task has.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }
}
