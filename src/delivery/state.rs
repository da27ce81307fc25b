//! Where a machine can stand, part by part. The diagrams are in [the module](super).

use std::time::Duration;

use crate::model::{Moment, Overdue, Settled, Timestamp};

/// How far the machine's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Attempts begin as events become due.
    Running,
    /// It was asked to stop: nothing begins any more but the recording of what ends before `until`, in uptime.
    Draining { until: Duration },
    /// It wants no further input.
    Finished,
}

/// The way to the outbox.
#[derive(Clone, Debug)]
pub enum Outbox {
    /// Free for an exchange.
    Idle,
    /// An exchange is in flight.
    Busy(Pending),
    /// The last exchange failed; the next is made at `until`, in uptime. No attempt is begun: what cannot be recorded
    /// would be delivered again and again.
    Unavailable { until: Duration },
    /// An exchange is in flight after one that failed. No attempt is begun before it has succeeded.
    Retrying(Pending),
}

impl Outbox {
    /// Whether an answer is to come.
    pub fn is_in_flight(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Retrying(_))
    }

    /// Whether the last exchange that ended succeeded.
    pub fn is_available(&self) -> bool {
        matches!(self, Self::Idle | Self::Busy(_))
    }
}

/// What the exchange in flight asked for.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What it records; still to be recorded if it fails.
    pub settled: Vec<Settled>,
    /// Whether it sets deliveries aside.
    pub set_aside: bool,
    /// What happens to the events that it fetches.
    pub fetch: Fetch,
}

/// What happens to fetched events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// None are asked for.
    Nothing,
    /// They become ready.
    Ready,
    /// They stay in the outbox: since they were asked for, earlier ones were given back.
    Discard,
}

/// What is known of events that are due and not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// There may be some.
    MayHaveMore,
    /// The exchange in flight answers that.
    Asked,
    /// There are none before `next_due`; `look_again`, in uptime, is for what other processes change unnoticed.
    NothingDue {
        next_due: Option<Timestamp>,
        look_again: Duration,
    },
}

impl Supply {
    /// What is known of it at `now`.
    pub fn advance(&mut self, now: Moment) {
        if let Self::NothingDue {
            next_due,
            look_again,
        } = *self
            && (now.uptime >= look_again || next_due.is_some_and(|due| now.wall >= due))
        {
            *self = Self::MayHaveMore;
        }
    }
}

/// The events from before the sink was added. The outbox tells with every answer, as only it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// Some may have to be copied out of the event log.
    Copying,
    /// All that it wants are in the outbox; commits write its deliveries from here on.
    Done,
}

/// Setting aside what the sink is owed, in as many exchanges as it takes.
#[derive(Clone, Debug)]
pub struct Clearing {
    /// Which deliveries.
    pub which: Overdue,
    /// Why.
    pub why: String,
    /// How many have been set aside.
    pub so_far: usize,
}
