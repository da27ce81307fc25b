//! Builders for pages and feeds, a list to read from, and a driver for machines.

use std::time::Duration;

use serde_json::json;

use super::cursor::{Cursor, Placed, Watermark};
use super::diff::Baseline;
use super::machine::Machine;
use super::page::{Entry, Listing, Page, Seen, Window};
use super::protocol::{Command, FeedState, Input, OpenRuns, Outcome, Settings, Single};
use crate::model::{Details, Seed, Timestamp};

/// The latest start that is believed.
pub const LATEST: Timestamp = Timestamp::from_millis(i64::MAX);

/// An item with an id, a start in seconds, and a status.
pub fn item(id: &str, second: i64, status: &str) -> Seen {
    let started = at(second).to_string();
    let json = json!({"id": id, "startedAt": started, "status": status});
    Seen::from_json(json, LATEST).unwrap()
}

/// A succeeded run as an entry.
pub fn entry(id: &str, second: i64) -> Entry {
    Entry::Run(item(id, second, "SUCCEEDED"))
}

/// A succeeded run without a start.
pub fn undated_run(id: &str) -> Seen {
    let json = json!({"id": id, "startedAt": null, "status": "SUCCEEDED"});
    Seen::from_json(json, LATEST).unwrap()
}

/// Such a run as an entry.
pub fn undated(id: &str) -> Entry {
    Entry::Run(undated_run(id))
}

/// A page at `offset` of a list of `total`, of succeeded runs given by id and start in seconds.
pub fn page(offset: u64, total: u64, items: &[(&str, i64)]) -> Page {
    Page {
        offset: Some(offset),
        limit: Some(1000),
        total: Some(total),
        desc: Some(false),
        entries: items
            .iter()
            .map(|(id, second)| entry(id, *second))
            .collect(),
    }
}

/// Such a page, where it lies.
pub fn placed(place: u64, total: u64, items: &[(&str, i64)]) -> Placed {
    Placed {
        place,
        begins: place == 0,
        page: page(place, total, items),
    }
}

/// The instant `second` seconds after the epoch.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

/// Settings without audits.
pub fn settings() -> Settings {
    Settings {
        page_size: 1_000,
        overlap: 20,
        poll_interval: Duration::from_secs(15),
        watch_interval: Duration::from_secs(60),
        settle: Duration::from_secs(60),
        audit_interval: None,
        read_ahead: 4,
        history_events: false,
        details: Details::None,
        seed: Seed(1),
    }
}

/// A feed that has read up to the run `r{second}`, with the next entry expected at `offset`. Its watch read was made at
/// `now`, in seconds.
pub fn caught_up(offset: u64, second: i64, now: i64) -> FeedState {
    let watermark = Watermark {
        started: at(second),
        id: format!("r{second}"),
    };
    FeedState {
        cursor: Cursor {
            offset,
            tail: 1,
            watermark: Some(watermark),
        },
        baseline: Some(Baseline::UpTo(at(0))),
        complete: true,
        watched_at: Some(at(now)),
        total: Some(offset),
        ..FeedState::default()
    }
}

/// Wakes `machine` and answers its commands with `answer` until it sleeps.
pub fn drive(
    machine: &mut Machine,
    now: impl Fn() -> i64,
    mut answer: impl FnMut(Command) -> Input,
) -> (Duration, Outcome) {
    let mut command = machine.step(Input::Wake, at(now()));
    loop {
        match command {
            Command::Sleep { wait, outcome } => return (wait, outcome),
            other => {
                let input = answer(other);
                command = machine.step(input, at(now()));
            }
        }
    }
}

/// The answer of a store that has no open runs to a command that is not about the API.
pub fn stored(command: Command) -> Input {
    match command {
        Command::LoadOpen { .. } => Input::Open(OpenRuns::default()),
        Command::Commit(_) => Input::Committed {
            unconfirmed: Vec::new(),
        },
        other => panic!("unexpected command {other:?}"),
    }
}

/// What requests a command costs, as text.
pub fn requests(command: &Command) -> Vec<String> {
    match command {
        Command::Read { windows, .. } => windows
            .iter()
            .map(|window| format!("{:?} {}", window.listing, window.offset))
            .collect(),
        Command::ReadRuns(ids) => ids.iter().map(|id| format!("run {id}")).collect(),
        _ => Vec::new(),
    }
}

/// A run list as the API would show it.
pub struct List {
    pub items: Vec<Seen>,
    pub cap: u64,
    pub ignores_offset: bool,
}

impl List {
    /// Succeeded runs `r0`, `r1`, … that started at second 0, 1, …
    pub fn of(seconds: std::ops::Range<i64>) -> Self {
        let items = seconds
            .map(|second| item(&format!("r{second}"), second, "SUCCEEDED"))
            .collect();
        Self {
            items,
            cap: 1_000,
            ignores_offset: false,
        }
    }

    pub fn set(&mut self, id: &str, status: &str) {
        let at = self
            .items
            .iter()
            .position(|seen| seen.run.id == id)
            .unwrap();
        let second = self.items[at].run.started().unwrap().as_millis() / 1_000;
        self.items[at] = item(id, second, status);
    }

    pub fn answer(&self, window: &Window) -> Page {
        let mut items = self.items.clone();
        match window.listing {
            Listing::All => {}
            Listing::Newest => items.reverse(),
            Listing::Active => items.retain(|seen| !seen.run.status.is_terminal()),
        }
        let total = items.len() as u64;
        let offset = if self.ignores_offset {
            0
        } else {
            window.offset
        };
        let limit = u64::from(window.limit).min(self.cap);
        let items = items
            .into_iter()
            .skip(offset as usize)
            .take(limit as usize)
            .map(Entry::Run)
            .collect();
        Page {
            offset: Some(offset),
            limit: Some(limit),
            total: Some(total),
            desc: Some(window.listing == Listing::Newest),
            entries: items,
        }
    }

    pub fn pages(&self, windows: &[Window]) -> Input {
        Input::Pages(windows.iter().map(|window| self.answer(window)).collect())
    }

    pub fn runs(&self, ids: &[String]) -> Input {
        let find = |id: &String| {
            let found = self.items.iter().find(|seen| seen.run.id == *id);
            let run = found.map_or(Single::Gone, |seen| Single::Found(Box::new(seen.clone())));
            (id.clone(), run)
        };
        Input::Runs(ids.iter().map(find).collect())
    }
}
