//! The account of a history: its changes, and the behaviour of its server.

use std::collections::{BTreeMap, BTreeSet};

use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::simulator::{Rng, World};
use apify_mirror::store::Reader;

use super::hazards::{Hazard, Hazards};
use super::mirror::ready;
use super::server::Server;

/// The figures of an ended run are final within this time of its end.
pub const FIGURES_SETTLE_MS: i64 = 10_000;

/// The most runs that a task lists, to bound the time of a history.
const MOST_RUNS: usize = 50;

pub struct Account {
    pub world: World,
    pub tasks: Vec<String>,
    pub now: Timestamp,
    /// How far the mirror's clock is ahead of the account's.
    skew_ms: i64,
    pub(super) rng: Rng,
    hazards: Hazards,
    pub(super) at_rest: bool,
    /// How the server answers.
    pub server: Server,
    /// Runs that must stay active until the mirror has seen them active, as only an audit finds changes that come and go
    /// between two polls.
    until_seen: BTreeSet<String>,
    /// The newest start that each task ever had, deleted runs included.
    newest_ever: BTreeMap<String, Timestamp>,
    /// When the figures of ended runs become final.
    settling: BTreeMap<String, Timestamp>,
    hidden: BTreeSet<String>,
    /// Runs that were ever hidden, which may be marked as removed while they are listed.
    pub once_hidden: BTreeSet<String>,
    /// The trace, one line for each change.
    pub trace: Vec<String>,
    pub happened: BTreeMap<&'static str, u64>,
}

impl Account {
    pub fn new(seed: u64, hazards: Hazards) -> Self {
        let mut world = World::new(seed);
        let mut rng = Rng::new(seed ^ 0xacc0);
        let count = 1 + rng.below(3);
        let tasks: Vec<String> = (0..count)
            .map(|n| world.add_task("janedoe", &format!("task-{n}")))
            .collect();
        let mut account = Self {
            world,
            tasks,
            now: Timestamp::from_millis(1_700_000_000_000),
            skew_ms: 0,
            rng,
            server: Server::new(seed, &hazards),
            hazards,
            at_rest: false,
            until_seen: BTreeSet::new(),
            newest_ever: BTreeMap::new(),
            settling: BTreeMap::new(),
            hidden: BTreeSet::new(),
            once_hidden: BTreeSet::new(),
            trace: Vec::new(),
            happened: BTreeMap::new(),
        };
        for _ in 0..account.rng.below(60) {
            account.create();
            account.advance_a_run(None);
            account.forward(20_000);
        }
        if account.has(Hazard::SmallPages) {
            let limit = *account.pick(&[1_000, 1_000, 7, 3]);
            account.server.set_max_limit(limit);
        }
        account
    }

    /// The mirror's clock.
    pub fn local_now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.as_millis() + self.skew_ms)
    }

    /// Whether the mirror's clock jumps: waits may then end at any time.
    pub fn clock_jumps(&self) -> bool {
        self.has(Hazard::ClockJumps)
    }

    pub(super) fn has(&self, hazard: Hazard) -> bool {
        self.hazards.has(hazard)
    }

    /// Whether this history has changes that only an audit finds.
    pub(super) fn is_unwatched(&self) -> bool {
        self.has(Hazard::Unwatched)
    }

    /// Whether a trace is recorded.
    pub fn is_traced(&self) -> bool {
        self.hazards.traced
    }

    pub fn note(&mut self, what: &'static str, which: &str) {
        *self.happened.entry(what).or_default() += 1;
        if self.hazards.traced {
            self.trace.push(format!("{}  {what} {which}", self.now));
        }
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.rng.below(from.len() as u64) as usize]
    }

    fn pick_task(&mut self) -> String {
        let tasks = self.tasks.clone();
        self.pick(&tasks).clone()
    }

    fn pick_run(&mut self, wanted: impl Fn(&RunStatus) -> bool) -> Option<String> {
        let task = self.pick_task();
        let ids: Vec<String> = self
            .world
            .runs(&task)
            .filter(|run| wanted(&run.status))
            .map(|run| run.id.clone())
            .collect();
        (!ids.is_empty()).then(|| self.pick(&ids).clone())
    }

    fn forward(&mut self, most_ms: u64) {
        self.now = Timestamp::from_millis(self.now.as_millis() + self.rng.below(most_ms) as i64);
        let now = self.now;
        let due: Vec<String> = self
            .settling
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.settling.remove(&id);
            self.world.settle_usage(&id);
        }
    }

    fn create(&mut self) {
        let task = self.pick_task();
        if self.world.runs(&task).len() >= MOST_RUNS {
            return;
        }
        // Sometimes with the start of the newest, or within its millisecond.
        let newest = self.world.runs(&task).last().map(|run| run.started_at);
        let started = match newest {
            Some(newest) if self.has(Hazard::Ties) && self.rng.chance(30.0) => newest,
            _ => self.now,
        };
        let started = started.max(newest.unwrap_or(started));
        let id = self.world.create(&task, started);
        self.note("created", &id);
        let newest_ever = self.newest_ever.entry(task).or_insert(started);
        if started < *newest_ever {
            // A tie with the newest run after a newer one was deleted amounts to a late registration.
            self.until_seen.insert(id);
        }
        *newest_ever = started.max(*newest_ever);
    }

    /// Registers a run late: it started before runs that are already listed.
    fn create_late(&mut self) {
        let task = self.pick_task();
        let newest = self
            .world
            .runs(&task)
            .last()
            .map(|run| run.started_at.as_millis());
        let Some(newest) = newest else { return };
        let started = Timestamp::from_millis(newest - self.rng.below(120_000) as i64);
        let id = self.world.create(&task, started);
        self.note("registered late", &id);
        if self.is_unwatched() && self.rng.chance(50.0) {
            self.world.finish(&id, RunStatus::Succeeded, self.now);
        } else {
            self.until_seen.insert(id);
        }
    }

    fn advance_a_run(&mut self, mirror: Option<&dyn Reader>) {
        let Some(id) = self.pick_run(|status| !status.is_terminal()) else {
            return;
        };
        if let Some(reader) = mirror
            && self.until_seen.contains(&id)
        {
            if !is_active_in(reader, &id) && !self.is_unwatched() {
                return;
            }
            self.until_seen.remove(&id);
        }
        let status = self.world.run(&id).map(|run| run.status.clone());
        let next: &[RunStatus] = match status {
            Some(RunStatus::Ready) => &[
                RunStatus::Running,
                RunStatus::Running,
                RunStatus::Aborting,
                RunStatus::Succeeded,
            ],
            Some(RunStatus::Running) => &[
                RunStatus::Succeeded,
                RunStatus::Failed,
                RunStatus::TimingOut,
                RunStatus::Aborting,
            ],
            Some(RunStatus::TimingOut) => &[RunStatus::TimedOut, RunStatus::Aborting],
            Some(RunStatus::Aborting) => &[RunStatus::Aborted],
            _ => return,
        };
        let next = self.pick(next).clone();
        self.note(
            if next.is_terminal() {
                "ended"
            } else {
                "advanced"
            },
            &id,
        );
        self.remember(&id);
        if next.is_terminal() {
            self.world.finish(&id, next, self.now);
            let settle = self.rng.below(FIGURES_SETTLE_MS as u64) as i64;
            self.settling
                .insert(id, Timestamp::from_millis(self.now.as_millis() + settle));
        } else {
            self.world.set_status(&id, next);
        }
    }

    fn resurrect(&mut self) {
        if let Some(id) = self.pick_run(RunStatus::is_terminal) {
            self.settling.remove(&id);
            self.remember(&id);
            self.world.resurrect(&id);
            self.note("resurrected", &id);
            self.until_seen.insert(id);
        }
    }

    fn delete(&mut self) {
        if let Some(id) = self.pick_run(|_| true) {
            self.world.delete(&id);
            self.note("deleted", &id);
        }
    }

    fn retain(&mut self) {
        let task = self.pick_task();
        let listed = self.world.runs(&task).len();
        // Sometimes delete nearly everything at once.
        let keep = if self.rng.chance(30.0) {
            listed / 100
        } else {
            self.rng.below(listed as u64 + 1) as usize
        };
        self.world.retain_newest(&task, keep);
        self.note("retained", &format!("{keep} of {listed}"));
    }

    /// Hides a run, or shows one again.
    fn hide_or_show(&mut self) {
        if let Some(id) = self.hidden.pop_first() {
            self.world.show(&id);
            self.note("shown again", &id);
        } else if let Some(id) = self.pick_run(RunStatus::is_terminal) {
            self.world.hide(&id);
            self.note("hidden", &id);
            self.once_hidden.insert(id.clone());
            self.hidden.insert(id);
        }
    }

    /// Makes changes that can happen between two requests, or none.
    pub fn happen(&mut self, mirror: &dyn Reader) {
        if self.at_rest {
            return;
        }
        self.forward(3_000);
        for _ in 0..self.rng.below(3) {
            match self.rng.below(100) {
                0..40 => self.create(),
                40..75 => self.advance_a_run(Some(mirror)),
                75..80 if self.has(Hazard::Late) => self.create_late(),
                80..86 if self.has(Hazard::Resurrection) => self.resurrect(),
                86..92 if self.has(Hazard::Deletion) => self.delete(),
                92..94 if self.has(Hazard::Retention) && self.rng.chance(20.0) => self.retain(),
                94..96 if self.is_unwatched() => self.hide_or_show(),
                96 if self.has(Hazard::IgnoredOffsets) => {
                    let ignore = self.rng.chance(30.0);
                    self.server.ignores_offset = ignore;
                    self.note(
                        "offsets ignored or not",
                        if ignore { "ignored" } else { "not" },
                    );
                }
                97 if self.has(Hazard::ClockJumps) => {
                    self.skew_ms = *self.pick(&[0, -3_600_000, 3_600_000, -86_400_000, 90_000_000]);
                    self.note("clock set", &self.skew_ms.to_string());
                }
                98 if self.has(Hazard::SmallPages) => {
                    let limit = *self.pick(&[1_000, 100, 50, 7, 3, 2]);
                    self.server.set_max_limit(limit);
                    self.note("page size set", &limit.to_string());
                }
                _ => {}
            }
        }
    }

    /// Passes the time between two polls, with changes.
    pub fn pass_time(&mut self, mirror: &dyn Reader) {
        for _ in 0..self.rng.below(6) {
            self.happen(mirror);
        }
        self.forward(20_000);
    }

    /// From now on, nothing changes except figures that are still settling.
    pub fn rest(&mut self) {
        self.at_rest = true;
        self.server.set_max_limit(1_000);
        self.server.ignores_offset = false;
    }

    /// Ends every active run, except those that the mirror has yet to see active.
    pub fn end_all(&mut self) {
        let is_active = |id: &&String| {
            self.world
                .run(id)
                .is_some_and(|run| !run.status.is_terminal())
        };
        let listed = self
            .tasks
            .iter()
            .flat_map(|task| self.world.runs(task).map(|run| &run.id));
        let active: Vec<String> = listed
            .filter(is_active)
            .filter(|id| !self.until_seen.contains(*id))
            .cloned()
            .collect();
        for id in active {
            self.remember(&id);
            self.world.finish(&id, RunStatus::Succeeded, self.now);
            self.settling.insert(id, self.now);
        }
    }

    /// Passes time without changes.
    pub fn wait(&mut self, ms: i64) {
        self.now = Timestamp::from_millis(self.now.as_millis() + ms);
        self.forward(1);
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.rng.below(n)
    }

    /// Whether the hazard `how` occurs now, with this probability.
    pub fn misbehaves(&mut self, how: Hazard, percent: f64) -> bool {
        let misbehaves = !self.at_rest && self.has(how) && self.rng.chance(percent);
        if misbehaves {
            self.note(how.name(), "");
        }
        misbehaves
    }
}

fn is_active_in(mirror: &dyn Reader, id: &str) -> bool {
    let row = ready(mirror.run(id)).unwrap();
    row.is_some_and(|row| !row.run.status.is_terminal())
}
