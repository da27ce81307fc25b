//! What an observation of a run changes: its row, and the events it raises.

use std::time::Duration;

use super::page::Seen;
use crate::model::{Details, EventType, Run, RunStatus, Timestamp};

/// Which kind of read showed a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A list: the item is complete.
    List,
    /// A single read, which has some fields that a list lacks and lacks some that a list has.
    Detail,
}

/// A run as an answer showed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The run and the JSON it came in.
    pub seen: Seen,
    /// Which kind of read it came from.
    pub source: Source,
}

/// A run as the mirror stores it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The run.
    pub run: Run,
    /// Set while a finished run's figures may still change: every poll reads the run again until this time.
    pub settles_at: Option<Timestamp>,
    /// Whether the row is marked as no longer listed.
    pub removed: bool,
    /// When it last ended, as the API's text, also if it was resurrected since.
    pub last_end: Option<String>,
}

impl Stored {
    /// Whether every poll must read the run again: it is active, or its figures are not final yet.
    pub fn is_open(&self) -> bool {
        !self.removed && (!self.run.status.is_terminal() || self.settles_at.is_some())
    }
}

/// One observed transition, which becomes a row of `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Its event type.
    pub kind: EventType,
    /// The status before it; `None` for a run not known before.
    pub previous: Option<RunStatus>,
}

/// How an observation differs from its row. If several apply, the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// There was no row.
    New,
    /// The row was marked as removed.
    Returned,
    /// The status differs.
    Status,
    /// The cost differs.
    Usage,
    /// Another field differs.
    Fields,
    /// No field differs, but the run's figures have become final.
    Settled,
}

/// What to write for an observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The new row.
    pub row: Stored,
    /// How it differs from the old row.
    pub difference: Difference,
    /// The events it raises, in order.
    pub transitions: Vec<Transition>,
}

/// Which runs are history: those that existed when the first sync began. Discovering them raises no events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// None are.
    Nothing,
    /// Runs that started up to this instant, and runs without a start.
    UpTo(Timestamp),
    /// Whatever is found, until the first sync is complete: the newest run's start was not to be had.
    Everything,
}

/// The context in which an observation is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Which runs are history: discovering them raises no events.
    pub history: Baseline,
    /// How long a finished run is read again after its end.
    pub settle: Duration,
    /// Of which runs that have ended the details are read.
    pub details: Details,
    /// The current time, by the local clock.
    pub now: Timestamp,
    /// When it was requested, by the local clock: the answer may be as old as that.
    pub asked_at: Timestamp,
}

/// What to write for `observed`; `None` if the stored row needs no change.
pub fn observe(stored: Option<&Stored>, observed: &Observed, by: &Judgement) -> Option<Change> {
    let seen = &observed.seen.run;
    let Some(stored) = stored else {
        let settles_at = if seen.status.is_terminal() {
            settles_at_first_sight(seen, by)
        } else {
            None
        };
        let row = Stored {
            run: seen.clone(),
            settles_at,
            removed: false,
            last_end: None,
        };
        return Some(Change {
            row,
            difference: Difference::New,
            transitions: first_sight(&observed.seen, by),
        });
    };
    let run = match observed.source {
        Source::List => seen.clone(),
        Source::Detail => with_detail(&stored.run, seen),
    };
    let transitions = transition(&stored.run.status, &run.status)
        .into_iter()
        .collect();
    let row = Stored {
        settles_at: settles_at(stored, &run, by),
        run,
        removed: false,
        last_end: stored.last_end.clone(),
    };
    (row != *stored).then(|| Change {
        difference: difference(stored, &row),
        row,
        transitions,
    })
}

/// Whether `observed` shows `stored` in a state from before the one that is stored: a status that comes earlier in a run's
/// life, or an end that was followed by another or by a resurrection. A list may lag, so only a single read is believed.
pub fn leads_back(stored: &Stored, observed: &Observed) -> bool {
    let (before, after) = (&stored.run, &observed.seen.run);
    if observed.source == Source::Detail {
        return false;
    }
    if !before.status.leads_to(&after.status) {
        return true;
    }
    let known = stored.last_end.as_deref().and_then(Timestamp::parse);
    let ended_before = after.finished() <= known && after.finished_at.is_some();
    let ended_then = before.status == after.status && after.finished() == before.finished();
    after.status.is_terminal() && ended_before && !ended_then
}

fn difference(stored: &Stored, row: &Stored) -> Difference {
    if stored.removed {
        Difference::Returned
    } else if stored.run.status != row.run.status {
        Difference::Status
    } else if stored.run.usage_total_usd != row.run.usage_total_usd {
        Difference::Usage
    } else if stored.run != row.run {
        Difference::Fields
    } else {
        Difference::Settled
    }
}

/// The events of a run not known before: none for history, otherwise CREATED and, if the run has ended, its end.
fn first_sight(seen: &Seen, by: &Judgement) -> Vec<Transition> {
    let run = &seen.run;
    let is_history = match (by.history, seen.started) {
        (Baseline::Nothing, _) => false,
        (Baseline::UpTo(until), Some(started)) => started <= until,
        // Without a start the run may be history, and a false event is worse than a missing one.
        (Baseline::UpTo(_), None) | (Baseline::Everything, _) => true,
    };
    if is_history {
        return Vec::new();
    }
    let mut transitions = vec![Transition {
        kind: EventType::Created,
        previous: None,
    }];
    if run.status.is_terminal() {
        transitions.push(Transition {
            kind: EventType::Entered(run.status.clone()),
            previous: None,
        });
    }
    transitions
}

fn transition(before: &RunStatus, after: &RunStatus) -> Option<Transition> {
    if before == after {
        return None;
    }
    let kind = if before.is_terminal() && !after.is_terminal() {
        EventType::Resurrected
    } else {
        EventType::Entered(after.clone())
    };
    Some(Transition {
        kind,
        previous: Some(before.clone()),
    })
}

/// A run first seen after its end settles `settle` after that end. An end in the future means that the local clock is
/// behind, and counts as now.
fn settles_at_first_sight(run: &Run, by: &Judgement) -> Option<Timestamp> {
    let age = by.asked_at.since(run.finished()?);
    by.settle
        .checked_sub(age)
        .filter(|left| !left.is_zero())
        .map(|left| by.now.plus(left))
}

fn settles_at(stored: &Stored, run: &Run, by: &Judgement) -> Option<Timestamp> {
    if !run.status.is_terminal() {
        return None;
    }
    let ended_again = run.status != stored.run.status || run.finished_at != stored.run.finished_at;
    if ended_again {
        // Counts from when the end was seen, which is never before it happened, so that differing clocks do not matter.
        return (!by.settle.is_zero()).then(|| by.now.plus(by.settle));
    }
    stored
        .settles_at
        .filter(|&until| by.asked_at < until)
        // Limits the time if the clock was set back after `until` was written.
        .map(|until| until.min(by.now.plus(by.settle)))
}

/// `stored`, updated from a single read. Such an answer has many fields that no list has, and lacks some that lists
/// have. So it replaces fields that both have, adds nothing to `extra` and removes nothing, except that a null
/// `finishedAt` counts: a resurrected run has one.
fn with_detail(stored: &Run, detail: &Run) -> Run {
    let mut extra = stored.extra.clone();
    for (key, value) in &mut extra {
        if let Some(newer) = detail.extra.get(key).filter(|_| key != "meta") {
            *value = newer.clone();
        }
    }
    Run {
        status: detail.status.clone(),
        finished_at: detail.finished_at.clone(),
        extra,
        ..stored.overlaid(detail)
    }
}
