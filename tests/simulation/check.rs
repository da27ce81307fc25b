//! Invariants of the mirror, checked after every commit and at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use apify_mirror::model::{Run, RunStatus, Timestamp};
use apify_mirror::store::{Committed, Reader};
use apify_mirror::sync::{Baseline, Commit, Stored};
use serde_json::Value;

use super::account::Account;
use super::ledger::Raised;
use super::mirror::{EVERYTHING, ready};

/// The number of events read from the log at once.
const BATCH: u64 = 1_000;

/// One event: its type, the status before, the status after.
type Event = (String, Option<String>, String);

/// Runs and events seen so far.
#[derive(Default)]
pub struct Checks {
    last_seq: i64,
    /// The ids of all events, in order.
    pub ids: Vec<String>,
    chains: HashMap<String, Vec<Event>>,
    /// Runs whose rows were deleted by hand.
    pub deleted: BTreeSet<String>,
    /// Runs that were ever pruned.
    pruned: BTreeSet<String>,
    /// All runs that were ever committed.
    committed: BTreeSet<String>,
    /// Tasks whose baseline could not be had.
    unsure: BTreeSet<String>,
}

impl Checks {
    /// The runs that were ever committed.
    pub fn committed(&self) -> Vec<&String> {
        self.committed.iter().collect()
    }

    /// Whether a run that was committed may have no row.
    fn may_have_no_row(&self, id: &str) -> bool {
        self.deleted.contains(id) || self.pruned.contains(id)
    }

    /// The runs that have a row, and whether it is marked as removed.
    pub fn marks(&self, mirror: &dyn Reader) -> BTreeMap<String, bool> {
        let rows = self.committed.iter();
        rows.filter_map(|id| Some((id.clone(), row(mirror, id)?.removed)))
            .collect()
    }

    /// Notes that runs were pruned.
    pub fn pruned(&mut self, runs: impl IntoIterator<Item = String>) {
        self.pruned.extend(runs);
    }

    /// The number of events raised so far.
    pub fn events(&self) -> u64 {
        self.last_seq.unsigned_abs()
    }

    /// Checks that the cursor has its rows, events have their rows, sequence numbers grow by one, statuses chain, and no
    /// listed run is marked as removed. Returns the new events.
    pub fn after_commit(
        &mut self,
        mirror: &dyn Reader,
        task: &str,
        commit: &Commit,
        committed: &Committed,
        account: &Account,
    ) -> Vec<Raised> {
        let stored = |id: &String| !committed.unconfirmed.contains(id);
        let ids = commit.observed.iter().map(|seen| seen.seen.run.id.clone());
        self.committed.extend(ids.filter(stored));
        let written = committed.written;
        let feed = ready(mirror.feed(task)).unwrap().unwrap();
        if commit.judgement.history == Baseline::Everything {
            self.unsure.insert(task.to_owned());
        }
        if let Some(watermark) = feed.cursor.watermark {
            assert!(
                row(mirror, &watermark.id).is_some() || self.may_have_no_row(&watermark.id),
                "{watermark:?} has no row"
            );
        }
        let raised = match written.events {
            0 => Vec::new(),
            _ => self.follow_events(mirror, account),
        };
        assert_eq!(raised.len() as u64, written.events);
        if written.removed == 0 {
            return raised;
        }
        for run in account.world.runs(task) {
            let removed = row(mirror, &run.id).is_some_and(|row| row.removed);
            let excused = account.once_hidden.contains(&run.id);
            assert!(
                !removed || excused,
                "{} is listed, but marked as removed",
                run.id
            );
        }
        raised
    }

    fn follow_events(&mut self, mirror: &dyn Reader, account: &Account) -> Vec<Raised> {
        let mut raised = Vec::new();
        let mut changed = BTreeSet::new();
        loop {
            let (events, _) =
                ready(mirror.events_after(self.last_seq, &EVERYTHING, BATCH)).unwrap();
            if events.is_empty() {
                break;
            }
            for event in events {
                assert_eq!(
                    event.seq,
                    self.last_seq + 1,
                    "a sequence number was skipped or repeated"
                );
                self.last_seq = event.seq;
                let payload = event.payload;
                let body: Value = serde_json::from_str(&payload).unwrap();
                let text = |path: &str| {
                    body.pointer(path)
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                };
                self.ids.push(text("/id").unwrap());
                let id = text("/eventData/actorRunId").unwrap();
                let event = (
                    text("/eventType").unwrap(),
                    text("/previousStatus"),
                    text("/status").unwrap(),
                );
                raised.push(Raised {
                    seq: self.last_seq,
                    run: id.clone(),
                    kind: event.0.clone(),
                    payload,
                });
                let chain = self.chains.entry(id.clone()).or_default();
                chain.push(event);
                if !self.deleted.contains(&id) {
                    check_link(&id, chain);
                }
                changed.insert(id);
            }
        }
        for id in changed {
            let row = row(mirror, &id).unwrap_or_else(|| panic!("{id} has events, but no row"));
            let last = self.chains[&id].last().map(|(.., status)| status.as_str());
            assert_eq!(
                last,
                Some(row.run.status.as_str()),
                "{id}: {:?}",
                self.chains[&id]
            );
            assert!(account.tasks.contains(row.run.task_id.as_ref().unwrap()));
        }
        raised
    }

    /// Checks that every listed run is in the mirror, with every field equal.
    pub fn equal(&self, mirror: &dyn Reader, account: &Account) {
        for task in &account.tasks {
            for item in account.world.items(task) {
                let listed = Run::from_json(&account.as_shown(item)).unwrap();
                if account.is_unreadable(&listed.id) {
                    continue;
                }
                let row =
                    row(mirror, &listed.id).unwrap_or_else(|| panic!("{} is missing", listed.id));
                assert_eq!(row.run, listed);
                let excused = account.once_hidden.contains(&listed.id);
                assert!(
                    !row.removed || excused,
                    "{} is listed, but marked removed",
                    listed.id
                );
            }
        }
    }

    /// Checks that only active runs are open, once everything has settled.
    pub fn open(&self, mirror: &dyn Reader, account: &Account) {
        for (id, row) in self.rows(mirror) {
            let listed = account.world.run(&id);
            assert!(
                !row.is_open() || listed.is_some_and(|run| !run.status.is_terminal()),
                "{id} is open, but settled or gone: {listed:?}"
            );
        }
    }

    /// Checks, after an audit, that exactly the runs that are not listed are marked as removed.
    pub fn marked(&self, mirror: &dyn Reader, account: &Account) {
        for (id, row) in self.rows(mirror) {
            assert_eq!(
                row.removed,
                account.world.run(&id).is_none(),
                "{id}: {row:?}"
            );
        }
    }

    /// Checks that CREATED was raised for every run except those from before the first sync.
    pub fn raised(&self, mirror: &dyn Reader, account: &Account) {
        for (id, row) in self.rows(mirror) {
            let feed = ready(mirror.feed(row.run.task_id.as_ref().unwrap())).unwrap();
            let task = row.run.task_id.as_ref().unwrap();
            let started = row.run.started().filter(|at| *at <= account.latest_start());
            let is_history = match (feed.unwrap().baseline, started) {
                (Some(Baseline::Nothing), _) => false,
                (Some(Baseline::UpTo(until)), Some(started)) => started <= until,
                (Some(Baseline::UpTo(_) | Baseline::Everything), _) => true,
                (None, _) => panic!("no baseline"),
            };
            let chain = self.chains.get(&id).map_or([].as_slice(), Vec::as_slice);
            let created = chain
                .iter()
                .filter(|(kind, ..)| kind == "ACTOR.RUN.CREATED")
                .count();
            if self.unsure.contains(task) && created == 0 {
                continue;
            }
            assert_eq!(
                created,
                usize::from(!is_history),
                "{id}: history {is_history}, {chain:?}"
            );
            if let Some((kind, previous, _)) = chain.first() {
                assert_eq!(kind == "ACTOR.RUN.CREATED", !is_history, "{id}: {chain:?}");
                assert_eq!(previous.is_none(), !is_history, "{id}: {chain:?}");
            }
        }
    }

    /// All rows of the mirror; checks that each was committed.
    fn rows(&self, mirror: &dyn Reader) -> Vec<(String, Stored)> {
        let rows: Vec<_> = self
            .committed
            .iter()
            .filter(|id| !self.may_have_no_row(id) || row(mirror, id).is_some())
            .map(|id| {
                (
                    id.clone(),
                    row(mirror, id).unwrap_or_else(|| panic!("{id} is missing")),
                )
            })
            .collect();
        let overview = ready(mirror.overview(Timestamp::default())).unwrap();
        let count: u64 = overview.tasks.iter().map(|task| task.rows).sum();
        assert_eq!(
            count,
            rows.len() as u64,
            "there are rows that were never committed"
        );
        rows
    }
}

fn row(mirror: &dyn Reader, id: &str) -> Option<Stored> {
    ready(mirror.run(id)).unwrap()
}

/// Checks that the last event of a run continues from the one before.
fn check_link(id: &str, chain: &[Event]) {
    let [.., (kind, previous, now)] = chain else {
        return;
    };
    if let [.., (before_kind, _, before), _] = chain {
        let ended_at_first_sight =
            previous.is_none() && before_kind == "ACTOR.RUN.CREATED" && chain.len() == 2;
        if ended_at_first_sight {
            assert_eq!(before, now, "{id}: {chain:?}");
        } else {
            assert_eq!(previous.as_ref(), Some(before), "{id}: {chain:?}");
            assert_ne!(before, now, "{id}: {chain:?}");
        }
    }
    let was_terminal = previous
        .as_deref()
        .is_some_and(|name| RunStatus::from_api(name).is_terminal());
    let resurrected = was_terminal && !RunStatus::from_api(now).is_terminal();
    assert_eq!(
        kind == "ACTOR.RUN.RESURRECTED",
        resurrected,
        "{id}: {chain:?}"
    );
}
