//! What the daemon has done since it started, for `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::measure::{Counter, Histogram};
use crate::model::{AttemptOutcome, Due, EventType, RunStatus, Timestamp};
use crate::store::{Committed, Written};

/// The bounds of [`Counters::commit_seconds`].
const COMMIT_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// The bounds of [`SinkCounters::delay_seconds`].
const DELAY_SECONDS: [f64; 10] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0,
];

/// The types of events that are counted apart. The API can name any status, and all others count as one type.
const TYPES: [EventType; 10] = [
    EventType::Created,
    EventType::Entered(RunStatus::Ready),
    EventType::Entered(RunStatus::Running),
    EventType::Entered(RunStatus::Succeeded),
    EventType::Entered(RunStatus::Failed),
    EventType::Entered(RunStatus::TimingOut),
    EventType::Entered(RunStatus::TimedOut),
    EventType::Entered(RunStatus::Aborting),
    EventType::Entered(RunStatus::Aborted),
    EventType::Resurrected,
];

/// What stands for all other types.
pub const OTHER: &str = "other";

/// Counts what the daemon does.
#[derive(Debug)]
pub struct Counters {
    /// Changed runs, by kind of change.
    changes: [Counter; 6],
    /// Events raised: those of [`TYPES`], and all others.
    events: [Counter; TYPES.len()],
    other_events: Counter,
    /// How long commits take, from asking for one until it is on disk.
    pub commit_seconds: Histogram,
    /// How often a poll or an audit read further back, because a page did not join what was read before.
    pub corrections: Counter,
    sinks: Mutex<BTreeMap<String, Arc<SinkCounters>>>,
}

/// Counts what becomes of attempts to deliver to one sink.
#[derive(Debug)]
pub struct SinkCounters {
    attempts: [Counter; OUTCOMES.len()],
    /// How long after its change was observed an event was delivered.
    pub delay_seconds: Histogram,
}

/// The outcomes of attempts, in the order of `outcome`.
const OUTCOMES: [&str; 5] = ["delivered", "failed", "rejected", "refused", "gone"];

const NOTHING: Written = Written {
    added: 0,
    returned: 0,
    status: 0,
    usage: 0,
    fields: 0,
    removed: 0,
    events: 0,
};

/// The changed runs of a commit, by kind of change.
const fn changes(written: &Written) -> [(&'static str, u64); 6] {
    [
        ("new", written.added),
        ("returned", written.returned),
        ("status", written.status),
        ("usage", written.usage),
        ("fields", written.fields),
        ("removed", written.removed),
    ]
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            changes: Default::default(),
            events: Default::default(),
            other_events: Counter::default(),
            commit_seconds: Histogram::new(&COMMIT_SECONDS),
            corrections: Counter::default(),
            sinks: Mutex::default(),
        }
    }

    /// Counts a commit that took so long.
    pub(super) fn committed(&self, committed: &Committed, took: Duration) {
        for (counter, (_, count)) in self.changes.iter().zip(changes(&committed.written)) {
            counter.add(count);
        }
        for (kind, count) in &committed.raised {
            let place = TYPES.iter().position(|counted| counted == kind);
            let counter = place.map_or(&self.other_events, |place| &self.events[place]);
            counter.add(*count);
        }
        self.commit_seconds.observe(took);
    }

    /// How many runs were changed, by kind of change.
    pub fn changes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let kinds = changes(&NOTHING).map(|(kind, _)| kind);
        kinds.into_iter().zip(self.changes.iter().map(Counter::get))
    }

    /// How many events were raised, by type.
    pub fn events(&self) -> impl Iterator<Item = (String, u64)> {
        let types = TYPES.iter().map(EventType::name).zip(&self.events);
        let other = std::iter::once((OTHER.to_owned(), &self.other_events));
        types
            .chain(other)
            .map(|(kind, counter)| (kind, counter.get()))
    }

    /// The counters of the sink `name`, which begin with this call unless there are some.
    pub(super) fn sink(&self, name: &str) -> Arc<SinkCounters> {
        let mut sinks = self.lock();
        let counters = sinks.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(SinkCounters {
                attempts: Default::default(),
                delay_seconds: Histogram::new(&DELAY_SECONDS),
            })
        });
        Arc::clone(counters)
    }

    /// Forgets all sinks but those that are `wanted`.
    pub(super) fn keep_sinks(&self, wanted: impl Fn(&str) -> bool) {
        self.lock().retain(|name, _| wanted(name));
    }

    /// The counters of every sink of the plan that has had a worker, by its name.
    pub fn sinks(&self) -> Vec<(String, Arc<SinkCounters>)> {
        let sinks = self.lock();
        let each = sinks
            .iter()
            .map(|(name, counters)| (name.clone(), Arc::clone(counters)));
        each.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<SinkCounters>>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SinkCounters {
    /// Counts attempts that ended at `now`: each event with its outcome.
    pub(super) fn attempted(&self, events: &[Due], outcomes: &[AttemptOutcome], now: Timestamp) {
        for (event, outcome) in events.iter().zip(outcomes) {
            self.attempts[place(outcome)].add(1);
            if *outcome == AttemptOutcome::Delivered {
                self.delay_seconds.observe(now.since(event.observed_at));
            }
        }
    }

    /// How many attempts there were, by outcome.
    pub fn attempts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES
            .into_iter()
            .zip(self.attempts.iter().map(Counter::get))
    }
}

/// The place of an outcome in [`OUTCOMES`].
fn place(outcome: &AttemptOutcome) -> usize {
    match outcome {
        AttemptOutcome::Delivered => 0,
        AttemptOutcome::Failed { .. } => 1,
        AttemptOutcome::Rejected { .. } => 2,
        AttemptOutcome::Refused { .. } => 3,
        AttemptOutcome::Gone { .. } => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_by_what_they_changed_and_raised() {
        let counters = Counters::new();
        let unknown = EventType::Entered(RunStatus::from_api("ON-HOLD"));
        let committed = Committed {
            written: Written {
                added: 1,
                returned: 2,
                status: 3,
                usage: 4,
                fields: 5,
                removed: 6,
                events: 7,
            },
            raised: [(EventType::Created, 4), (unknown, 3)].into(),
            ..Committed::default()
        };
        counters.committed(&committed, Duration::from_millis(3));
        counters.committed(&committed, Duration::from_millis(3));
        let kinds = ["new", "returned", "status", "usage", "fields", "removed"];
        let twice: Vec<_> = kinds.into_iter().zip((2..).step_by(2)).collect();
        assert_eq!(counters.changes().collect::<Vec<_>>(), twice);
        let raised: Vec<_> = counters.events().filter(|(_, count)| *count > 0).collect();
        let created = "ACTOR.RUN.CREATED".to_owned();
        assert_eq!(raised, [(created, 8), (OTHER.to_owned(), 6)]);
        let types: Vec<_> = counters.events().map(|(kind, _)| kind).collect();
        assert!(
            types.contains(&"ACTOR.RUN.TIMED_OUT".to_owned()),
            "{types:?}"
        );
        assert_eq!(counters.commit_seconds.read().count, 2);
    }

    #[test]
    fn attempts_are_counted_by_outcome_and_delays_of_deliveries_only() {
        let counters = Counters::new();
        let at = Timestamp::from_millis;
        let due = |observed| Due {
            seq: 1,
            id: "evt".to_owned(),
            run_id: "run".to_owned(),
            payload: "{}".to_owned(),
            observed_at: at(observed),
            attempts: 0,
            waited: Duration::ZERO,
        };
        let error = || "error".to_owned();
        let outcomes = [
            AttemptOutcome::Delivered,
            AttemptOutcome::Failed {
                error: error(),
                retry_after: None,
            },
            AttemptOutcome::Rejected { error: error() },
            AttemptOutcome::Refused { error: error() },
            AttemptOutcome::Gone { error: error() },
        ];
        let sink = counters.sink("hook");
        // Each another number of times.
        for (times, outcome) in (2..).zip(&outcomes) {
            let (events, outcomes) = (vec![due(1_000); times], vec![outcome.clone(); times]);
            sink.attempted(&events, &outcomes, at(3_500));
        }
        counters
            .sink("hook")
            .attempted(&[due(1_000)], &outcomes[..1], at(1_000));
        let counted: Vec<_> = counters.sinks()[0].1.attempts().collect();
        let expected = OUTCOMES.into_iter().zip([3, 3, 4, 5, 6]);
        assert_eq!(counted, expected.collect::<Vec<_>>());
        let delays = sink.delay_seconds.read();
        assert_eq!((delays.count, delays.sum), (3, 5.0));
        counters.keep_sinks(|name| name != "hook");
        assert!(counters.sinks().is_empty());
    }
}
