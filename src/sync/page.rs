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
    /// The item, as the API returned it: JSON text, which takes a fraction of a tree's memory.
    pub json: String,
    /// When it started, if that can be read and believed: not later than the answer can know of.
    pub started: Option<Timestamp>,
}

impl Seen {
    /// Parses one item of a list, or the answer to a single read. A start after `latest` is not believed: a single run
    /// from the year 2099 must not make every other run look old.
    ///
    /// # Errors
    /// When the item is not an object or has no usable id.
    pub fn from_json(json: Value, latest: Timestamp) -> Result<Self, InvalidRun> {
        let run = Run::from_json(&json)?;
        Ok(Self::of(run, json.to_string(), latest))
    }

    /// The same from text, as [`Run::from_text`] reads it.
    pub fn from_text(json: &str, latest: Timestamp) -> Option<Self> {
        let run = Run::from_text(json)?;
        Some(Self::of(run, json.to_owned(), latest))
    }

    fn of(run: Run, json: String, latest: Timestamp) -> Self {
        let started = run.started().filter(|started| *started <= latest);
        Self { run, json, started }
    }
}

/// An entry of a list that cannot be stored as a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The run's id, if at least that can be read.
    pub id: Option<String>,
    /// Why it cannot be read.
    pub reason: String,
    /// What it looks like, cut to a bounded length.
    pub body: String,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every entry is a run")]
pub enum Entry {
    /// A run.
    Run(Seen),
    /// Anything else. It takes a place in the list too.
    Unreadable(Unreadable),
}

impl Entry {
    /// The entry's id, if it has one.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Run(seen) => Some(&seen.run.id),
            Self::Unreadable(item) => item.id.as_deref(),
        }
    }

    /// When it started, if that can be read and believed.
    pub fn started(&self) -> Option<Timestamp> {
        match self {
            Self::Run(seen) => seen.started,
            Self::Unreadable(_) => None,
        }
    }
}

/// The answer to a [`Window`]. What it says of itself (all fields but the entries) is testimony: any of it may be absent
/// or untrue, and then the entries decide.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// `data.offset`: where the page lies.
    pub offset: Option<u64>,
    /// `data.limit`: the largest page that the server would have returned.
    pub limit: Option<u64>,
    /// `data.total`: how many entries match.
    pub total: Option<u64>,
    /// `data.desc`: whether the newest entry comes first.
    pub desc: Option<bool>,
    /// The entries, in the server's order.
    pub entries: Vec<Entry>,
}

impl Page {
    /// The runs among the entries, in order.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = &Seen> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Run(seen) => Some(seen),
            Entry::Unreadable(_) => None,
        })
    }

    /// How many places of the list it shows.
    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }
}
