//! Requests for parts of a run list, and the answers.

use serde_json::Value;

use crate::model::{InvalidRun, Run, Timestamp};

/// Which entries of a task's run list to read, in which order.
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
    /// How many entries to request, at least 1. The server may return fewer.
    pub limit: u32,
}

/// A run and the JSON it was read from, which events carry as their `resource`.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The run, field by field.
    pub run: Run,
    /// The item, as the API returned it.
    pub json: Value,
}

impl Seen {
    /// Parses one item of a list, or the answer to a single read.
    ///
    /// # Errors
    /// When the item is not an object or has no usable id.
    pub fn from_json(json: Value) -> Result<Self, InvalidRun> {
        Ok(Self {
            run: Run::from_json(&json)?,
            json,
        })
    }
}

/// The answer to a [`Window`]. Its position is the one the server reports, which may differ from the requested one.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// `data.offset`: where the page lies. A server may ignore the requested offset.
    pub offset: u64,
    /// `data.limit`: the largest page the server would have returned, which may be smaller than requested.
    pub limit: Option<u64>,
    /// `data.total`: how many entries match, if the server reports it.
    pub total: Option<u64>,
    /// The entries, in the server's order.
    pub items: Vec<Seen>,
}

impl Page {
    /// The offset after the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.items.len() as u64)
    }

    /// Whether the list ends with this page, by the server's `total`, or because the page is empty. That a page is
    /// shorter than requested proves nothing: the server may limit pages to any size.
    pub(crate) fn reaches_end(&self) -> bool {
        self.items.is_empty() || self.total.is_some_and(|total| self.end() >= total)
    }

    /// The newest start among the entries.
    pub(crate) fn newest_start(&self) -> Option<Timestamp> {
        self.items
            .iter()
            .filter_map(|seen| seen.run.started())
            .max()
    }
}
