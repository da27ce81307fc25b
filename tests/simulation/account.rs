//! The account of a history: what happens in it, and how its server behaves.

use std::collections::{BTreeMap, BTreeSet};

use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::simulator::{Rng, World};
use apify_mirror::store::Db;
use apify_mirror::sync::{Listing, Page, Seen, Window};

/// The figures of an ended run are final within this time of its end.
pub const FIGURES_SETTLE_MS: i64 = 10_000;

pub struct Account {
    pub world: World,
    pub task: String,
    pub now: Timestamp,
    rng: Rng,
    at_rest: bool,
    /// Runs that must stay active until the mirror has seen that they are: what comes and goes between two looks is
    /// for the audit to find.
    until_seen: BTreeSet<String>,
    /// When the figures of ended runs become final.
    settling: BTreeMap<String, Timestamp>,
    pub created: u64,
    pub deleted: u64,
    pub resurrected: u64,
    pub late: u64,
}

impl Account {
    pub fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let task = world.add_task("janedoe", "my-task");
        let mut account = Self {
            world,
            task,
            now: Timestamp::from_millis(1_700_000_000_000),
            rng: Rng::new(seed ^ 0xacc0),
            at_rest: false,
            until_seen: BTreeSet::new(),
            settling: BTreeMap::new(),
            created: 0,
            deleted: 0,
            resurrected: 0,
            late: 0,
        };
        for _ in 0..account.rng.below(60) {
            account.create();
            account.advance_a_run(None);
            account.forward(20_000);
        }
        let limit = *account.pick(&[1_000, 1_000, 7, 3]);
        account.world.set_max_limit(limit);
        account
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.rng.below(from.len() as u64) as usize]
    }

    fn pick_run(&mut self, wanted: impl Fn(&RunStatus) -> bool) -> Option<String> {
        let ids: Vec<String> =
            self.world.runs(&self.task).filter(|run| wanted(&run.status)).map(|run| run.id.clone()).collect();
        (!ids.is_empty()).then(|| self.pick(&ids).clone())
    }

    fn forward(&mut self, most_ms: u64) {
        self.now = Timestamp::from_millis(self.now.as_millis() + self.rng.below(most_ms) as i64);
        let now = self.now;
        let due: Vec<String> = self.settling.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.settling.remove(&id);
            self.world.settle_usage(&id);
        }
    }

    fn create(&mut self) {
        // Sometimes with the start of the newest, or within its millisecond.
        let newest = self.world.runs(&self.task).last().map(|run| run.started_at);
        let started = match newest {
            Some(newest) if self.rng.chance(30.0) => newest,
            _ => self.now,
        };
        self.world.create(&self.task, started.max(newest.unwrap_or(started)));
        self.created += 1;
    }

    /// Registers a run that started before others which are listed already.
    fn create_late(&mut self) {
        let newest = self.world.runs(&self.task).last().map(|run| run.started_at.as_millis());
        let Some(newest) = newest else { return };
        let started = Timestamp::from_millis(newest - self.rng.below(120_000) as i64);
        let id = self.world.create(&self.task, started);
        self.until_seen.insert(id);
        self.late += 1;
        self.created += 1;
    }

    fn advance_a_run(&mut self, mirror: Option<&Db>) {
        let Some(id) = self.pick_run(|status| !status.is_terminal()) else { return };
        if let Some(db) = mirror
            && self.until_seen.contains(&id)
        {
            if !is_active_in(db, &id) {
                return;
            }
            self.until_seen.remove(&id);
        }
        let status = self.world.run(&id).map(|run| run.status.clone());
        let next: &[RunStatus] = match status {
            Some(RunStatus::Ready) => {
                &[RunStatus::Running, RunStatus::Running, RunStatus::Aborting, RunStatus::Succeeded]
            }
            Some(RunStatus::Running) => {
                &[RunStatus::Succeeded, RunStatus::Failed, RunStatus::TimingOut, RunStatus::Aborting]
            }
            Some(RunStatus::TimingOut) => &[RunStatus::TimedOut, RunStatus::Aborting],
            Some(RunStatus::Aborting) => &[RunStatus::Aborted],
            _ => return,
        };
        let next = self.pick(next).clone();
        if next.is_terminal() {
            self.world.finish(&id, next, self.now);
            let settle = self.rng.below(FIGURES_SETTLE_MS as u64) as i64;
            self.settling.insert(id, Timestamp::from_millis(self.now.as_millis() + settle));
        } else {
            self.world.set_status(&id, next);
        }
    }

    fn resurrect(&mut self) {
        if let Some(id) = self.pick_run(RunStatus::is_terminal) {
            self.settling.remove(&id);
            self.world.resurrect(&id);
            self.until_seen.insert(id);
            self.resurrected += 1;
        }
    }

    fn delete(&mut self) {
        if let Some(id) = self.pick_run(|_| true) {
            self.world.delete(&id);
            self.deleted += 1;
        }
    }

    fn retain(&mut self) {
        let listed = self.world.runs(&self.task).count();
        let keep = self.rng.below(listed as u64 + 1) as usize;
        self.deleted += (listed - keep) as u64;
        self.world.retain_newest(&self.task, keep);
    }

    /// Something may happen, as it may between any two requests.
    pub fn happen(&mut self, mirror: &Db) {
        if self.at_rest {
            return;
        }
        self.forward(3_000);
        for _ in 0..self.rng.below(3) {
            match self.rng.below(100) {
                0..40 => self.create(),
                40..75 => self.advance_a_run(Some(mirror)),
                75..80 => self.create_late(),
                80..86 => self.resurrect(),
                86..92 => self.delete(),
                92..94 if self.rng.chance(20.0) => self.retain(),
                98 => {
                    let limit = *self.pick(&[1_000, 50, 7, 3, 2]);
                    self.world.set_max_limit(limit);
                }
                _ => {}
            }
        }
    }

    /// The time between two polls.
    pub fn pass_time(&mut self, mirror: &Db) {
        for _ in 0..self.rng.below(6) {
            self.happen(mirror);
        }
        self.forward(20_000);
    }

    /// From now on, nothing changes any more but figures on their way to being final.
    pub fn rest(&mut self) {
        self.at_rest = true;
        self.world.set_max_limit(1_000);
    }

    /// Lets time pass at rest.
    pub fn wait(&mut self, ms: i64) {
        self.now = Timestamp::from_millis(self.now.as_millis() + ms);
        self.forward(1);
    }

    /// Whether the server should misbehave in one way or another, with this probability.
    pub fn misbehaves(&mut self, percent: f64) -> bool {
        !self.at_rest && self.rng.chance(percent)
    }

    pub fn answer(&mut self, window: &Window) -> Page {
        let filter: Option<&[RunStatus]> = match window.listing {
            Listing::Active => Some(&RunStatus::ACTIVE),
            Listing::All | Listing::Newest => None,
        };
        let offset = if self.misbehaves(2.0) { 0 } else { window.offset };
        let newest_first = window.listing == Listing::Newest;
        let answer = self.world.list(&self.task, offset, u64::from(window.limit), newest_first, filter);
        let mut items: Vec<Seen> = answer.items.into_iter().map(|item| Seen::from_json(item).unwrap()).collect();
        if items.len() > 1 && self.misbehaves(3.0) {
            let kept = 1 + self.rng.below(items.len() as u64 - 1) as usize;
            items.truncate(kept);
        }
        Page { offset: answer.offset, limit: Some(answer.limit), total: Some(answer.total), items }
    }

    pub fn detail(&self, id: &str) -> Option<Seen> {
        self.world.run_detail(id).map(|json| Seen::from_json(json).unwrap())
    }
}

fn is_active_in(db: &Db, id: &str) -> bool {
    let mut statement = db
        .connection()
        .prepare_cached(
            "SELECT count(*) FROM runs WHERE id = ?1 AND status NOT IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED')",
        )
        .unwrap();
    statement.query_row([id], |row| row.get(0)).unwrap()
}
