//! A model of an account with one task and up to five runs.

use std::sync::Arc;

use apify_mirror::model::Timestamp;
use apify_mirror::sync::{Entry, Seen, Unreadable};
use serde_json::json;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// It does not exist yet.
    Unborn,
    /// It runs, for the first time or, once resurrected, for the second.
    Running(u8),
    /// It has ended.
    Ended(u8),
    /// It existed, and was deleted.
    Deleted,
}

impl Run {
    pub fn is_listed(self) -> bool {
        matches!(self, Self::Running(_) | Self::Ended(_))
    }
}

/// What an answer says of the number of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    True,
    Absent,
    /// The end of the page, whatever follows.
    EndOfPage,
}

/// How the API answers reads of lists.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub total: Total,
    /// The most entries in a page, however many are asked for.
    pub most: usize,
}

/// The names of the runs.
pub const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    /// When each run starts, in seconds, ascending.
    pub starts: &'static [i64],
    pub runs: Vec<Run>,
    /// Runs as the API shows them, by run, life, and whether they have ended.
    shown: Arc<Vec<Seen>>,
    /// The newest start that was ever listed.
    pub newest: i64,
    /// What runs were before they ended or were resurrected, if a list can still show that.
    pub before: Vec<Option<Run>>,
    /// The run that the list shows as it was before.
    pub lagging: Option<usize>,
    /// The run that lists show unreadable, and whether they show its id.
    pub unreadable: Option<(usize, bool)>,
}

impl Account {
    /// An account whose first `listed` runs exist.
    pub fn new(starts: &'static [i64], listed: usize) -> Self {
        let shown = starts
            .iter()
            .zip(NAMES)
            .flat_map(|(start, id)| [0, 1, 2, 3].map(|n| show(id, *start, n / 2, n % 2 == 1)));
        let runs = (0..starts.len()).map(|n| {
            if n < listed {
                Run::Running(0)
            } else {
                Run::Unborn
            }
        });
        Self {
            starts,
            runs: runs.collect(),
            shown: Arc::new(shown.collect()),
            newest: starts[..listed].last().copied().unwrap_or(i64::MIN),
            before: vec![None; starts.len()],
            lagging: None,
            unreadable: None,
        }
    }

    /// The run of that name.
    pub fn place(&self, id: &str) -> usize {
        NAMES
            .iter()
            .position(|name| *name == id)
            .expect("the account has such a run")
    }

    /// A listed run as the API shows it.
    pub fn show(&self, run: usize) -> Option<&Seen> {
        self.show_as(run, self.runs[run])
    }

    fn show_as(&self, run: usize, state: Run) -> Option<&Seen> {
        match state {
            Run::Unborn | Run::Deleted => None,
            Run::Running(life) => Some(&self.shown[run * 4 + usize::from(life) * 2]),
            Run::Ended(life) => Some(&self.shown[run * 4 + usize::from(life) * 2 + 1]),
        }
    }

    /// What a list shows a run to be.
    pub fn listed_as(&self, run: usize) -> Run {
        let before = self.before[run].filter(|_| self.lagging == Some(run));
        before.unwrap_or(self.runs[run])
    }

    /// A listed run as lists show it.
    pub fn entry(&self, run: usize) -> Option<Entry> {
        match self.unreadable {
            Some((unreadable, named)) if unreadable == run => Some(Entry::Unreadable(Unreadable {
                id: named.then(|| NAMES[run].to_owned()),
                reason: "unreadable".to_owned(),
                body: String::new(),
            })),
            _ => self
                .show_as(run, self.listed_as(run))
                .cloned()
                .map(Entry::Run),
        }
    }

    /// Changes what a listed run is.
    pub fn change(&mut self, run: usize, to: Run) {
        self.before[run] = Some(self.runs[run]).filter(|_| to.is_listed());
        self.runs[run] = to;
    }

    /// Creates a run; returns whether it is registered late, as a newer one was listed before.
    pub fn create(&mut self, run: usize) -> bool {
        self.runs[run] = Run::Running(0);
        let late = self.starts[run] < self.newest;
        self.newest = self.newest.max(self.starts[run]);
        late
    }

    /// In how many orders the account can list its runs: equal starts come in any.
    pub fn orders(&self) -> usize {
        self.groups()
            .iter()
            .map(|group| (1..=group.len()).product::<usize>())
            .product()
    }

    /// The listed runs, oldest first, with equal starts in the order numbered `order`.
    pub fn listed(&self, order: usize) -> Vec<usize> {
        let mut left = order;
        let mut listed = Vec::new();
        for mut group in self.groups() {
            while !group.is_empty() {
                let next = left % group.len();
                left /= group.len();
                listed.push(group.remove(next));
            }
        }
        listed
    }

    /// The listed runs, by start.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for run in (0..self.runs.len()).filter(|run| self.runs[*run].is_listed()) {
            match groups.last_mut() {
                Some(group) if self.starts[group[0]] == self.starts[run] => group.push(run),
                _ => groups.push(vec![run]),
            }
        }
        groups
    }
}

fn show(id: &str, start: i64, life: i64, ended: bool) -> Seen {
    let at = |second: i64| Timestamp::from_millis(second * 1_000).to_string();
    let json = json!({
        "id": id,
        "startedAt": at(start),
        "finishedAt": ended.then(|| at(1_000 + life)),
        "status": if ended { "SUCCEEDED" } else { "RUNNING" },
    });
    Seen::from_json(json, Timestamp::from_millis(i64::MAX)).expect("a run")
}
