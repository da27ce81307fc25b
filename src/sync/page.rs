//! What is asked of a run list and what comes back, as far as the cursor's rule cares.

use serde_json::Value;

use crate::model::{InvalidRun, Run, Timestamp};

/// Which entries of a task's run list a read is about, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listing {
    /// Every run, oldest first (ascending `startedAt`).
    All,
    /// Every run, newest first.
    Newest,
    /// Runs in one of the known active statuses, oldest first.
    Active,
}

/// One read of a run list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Which entries, in which order.
    pub listing: Listing,
    /// How many entries to skip.
    pub offset: u64,
    /// How many entries to ask for, at least 1; the server may give fewer.
    pub limit: u32,
}

/// A run together with the JSON it was read from, which events carry as their `resource`.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The run, field by field.
    pub run: Run,
    /// The same, as the API gave it.
    pub json: Value,
}

impl Seen {
    /// Reads one item of a list, or the answer to a single read.
    ///
    /// # Errors
    /// When the item has no id to store it under.
    pub fn from_json(json: Value) -> Result<Self, InvalidRun> {
        Ok(Self {
            run: Run::from_json(&json)?,
            json,
        })
    }
}

/// The answer to a [`Window`], described by what the server says of it rather than by what was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// `data.offset`: where the page truly lies. A server may ignore the offset it was asked for.
    pub offset: u64,
    /// `data.limit`: the largest page the server would have given; it may be smaller than what was asked.
    pub limit: Option<u64>,
    /// `data.total`: how many entries match, where the server says so.
    pub total: Option<u64>,
    /// The entries, in the server's order.
    pub items: Vec<Seen>,
}

impl Page {
    /// The offset just behind the last entry.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.items.len() as u64)
    }

    /// Whether the server says that nothing lies behind this page. A page that is merely short says nothing: the
    /// server may cap pages at any size.
    pub fn reaches_end(&self) -> bool {
        self.items.is_empty() || self.total.is_some_and(|total| self.end() >= total)
    }

    /// The newest start among the entries.
    pub fn newest_start(&self) -> Option<Timestamp> {
        self.items
            .iter()
            .filter_map(|seen| seen.run.started())
            .max()
    }
}
