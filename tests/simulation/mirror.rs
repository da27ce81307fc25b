//! The mirror of a history: the real machine and the real store, with reads that fail and a process that dies.

use std::collections::HashMap;
use std::time::Duration;

use apify_mirror::delivery::Subscription;
use apify_mirror::model::{Run, RunStatus, Task};
use apify_mirror::simulator::Rng;
use apify_mirror::store::Db;
use apify_mirror::sync::{Baseline, Command, Commit, Input, Machine, Outcome, Settings, State, Stored};

use super::account::{Account, FIGURES_SETTLE_MS};

pub struct Mirror {
    db: Db,
    machine: Machine,
    settings: Settings,
    task: String,
    pub requests: u64,
    pub crashes: u64,
    pub stepped_back: u64,
}

/// Why a poll was cut short.
struct Died;

impl Mirror {
    pub fn new(seed: u64, account: &mut Account) -> Self {
        let mut rng = Rng::new(seed ^ 0x3170);
        let settings = Settings {
            page_size: [2, 3, 5, 10, 1_000][rng.below(5) as usize],
            overlap: [0, 1, 4, 20][rng.below(4) as usize],
            poll_interval: Duration::from_secs(15),
            watch_interval: Duration::from_millis(rng.below(120_000)),
            settle: Duration::from_millis(FIGURES_SETTLE_MS as u64 + rng.below(60_000)),
            read_ahead: 1 + rng.below(4) as usize,
            history_events: false,
            jitter_seed: seed,
        };
        let mut db = Db::in_memory().unwrap();
        db.save_task(&Task { id: account.task.clone(), ..Task::default() }, account.now).unwrap();
        let machine = Machine::new(settings.clone(), db.feed(&account.task).unwrap());
        let task = account.task.clone();
        Self { db, machine, settings, task, requests: 0, crashes: 0, stepped_back: 0 }
    }

    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Polls once, or dies trying.
    pub fn poll(&mut self, account: &mut Account) -> Option<Outcome> {
        match self.try_poll(account) {
            Ok(outcome) => Some(outcome),
            Err(Died) => {
                self.crashes += 1;
                self.machine = Machine::new(self.settings.clone(), self.db.feed(&self.task).unwrap());
                None
            }
        }
    }

    fn try_poll(&mut self, account: &mut Account) -> Result<Outcome, Died> {
        let mut command = self.machine.step(Input::Wake, account.now);
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 10_000, "a poll that does not end");
            account.happen(&self.db);
            let input = match command {
                Command::Sleep { until, outcome } => {
                    assert!(until.since(account.now) <= Duration::from_secs(330), "a wait without bound");
                    return Ok(outcome);
                }
                Command::LoadOpen { within } => {
                    Input::Open(self.db.open_runs(&self.task, &self.machine.feed().cursor, within).unwrap())
                }
                Command::Locate(ids) => {
                    Input::Located(self.db.distances(&self.task, &self.machine.feed().cursor, &ids).unwrap())
                }
                Command::Read(windows) => {
                    let stepping = matches!(self.machine.state(), State::Forward { stride, .. }
                        if *stride > u64::from(self.settings.overlap.max(1)));
                    self.stepped_back += u64::from(stepping);
                    let mut pages = Vec::new();
                    for window in &windows {
                        self.requests += 1;
                        if account.misbehaves(4.0) {
                            break;
                        }
                        pages.push(account.answer(window));
                        account.happen(&self.db);
                    }
                    if pages.is_empty() { Input::Failed } else { Input::Pages(pages) }
                }
                Command::ReadRuns(ids) => {
                    self.requests += ids.len() as u64;
                    if account.misbehaves(4.0) {
                        Input::Failed
                    } else {
                        Input::Runs(ids.into_iter().map(|id| (id.clone(), account.detail(&id))).collect())
                    }
                }
                Command::Commit(commit) => self.commit(&commit, account)?,
            };
            command = self.machine.step(input, account.now);
        }
    }

    fn commit(&mut self, commit: &Commit, account: &mut Account) -> Result<Input, Died> {
        let sinks = [Subscription { sink: "all".into(), types: None }];
        if account.misbehaves(1.5) {
            self.db.fail_commits(true).unwrap();
            self.db.commit(&self.task, commit, &sinks).unwrap_err();
            self.db.fail_commits(false).unwrap();
            return Err(Died);
        }
        self.db.commit(&self.task, commit, &sinks).unwrap();
        self.check_cursor();
        if account.misbehaves(1.5) { Err(Died) } else { Ok(Input::Committed) }
    }

    /// No cursor without its rows.
    fn check_cursor(&self) {
        let feed = self.db.feed(&self.task).unwrap();
        if let Some(watermark) = feed.cursor.watermark {
            assert_eq!(
                self.count("SELECT count(*) FROM runs WHERE id = ?1", &watermark.id),
                1,
                "{watermark:?} has no row"
            );
        }
    }

    /// Polls until an account at rest is mirrored; checks that this takes a bounded number of polls and that idle polls
    /// are cheap.
    pub fn settle_down(&mut self, account: &mut Account) {
        for _ in 0..3 {
            assert_ne!(self.poll(account), None);
            account.wait(self.settings.settle.as_millis() as i64 + 1);
            account.wait(self.settings.watch_interval.as_millis() as i64);
        }
        assert_eq!(self.poll(account), Some(Outcome::CaughtUp));
        let before = self.requests;
        assert_eq!(self.poll(account), Some(Outcome::CaughtUp));
        let idle = self.requests - before;
        let open = self.db.open_runs(&self.task, &self.machine.feed().cursor, 1_000).unwrap().runs.len();
        let watch = u64::from(self.settings.watch_interval.is_zero());
        // An overlap that begins among entries as new as the watermark proves nothing, no more than none at all.
        let newest: Vec<_> = account.world.runs(&self.task).map(|run| run.started_at).collect();
        let tied = newest.len() > 1 && newest[newest.len() - 1] == newest[newest.len() - 2];
        let back = u64::from(self.settings.overlap == 0 || tied);
        if open == 0 {
            assert!(idle <= 1 + back + watch, "an idle poll took {idle} requests: {:?}", self.machine);
        }
    }

    fn count(&self, sql: &str, value: &str) -> u64 {
        self.db.connection().prepare_cached(sql).unwrap().query_row([value], |row| row.get(0)).unwrap()
    }

    pub fn events(&self) -> u64 {
        self.db.connection().query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
    }

    /// The mirror equals the account, and the events are those that happened.
    pub fn check(&self, account: &Account) {
        let mut statement = self.db.connection().prepare("SELECT id FROM runs").unwrap();
        let ids = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let rows: HashMap<String, Stored> =
            ids.map(|id| id.unwrap()).map(|id| (id.clone(), self.db.run(&id).unwrap().unwrap())).collect();
        let list = account.world.list(&self.task, 0, 1_000_000, false, None);
        assert_eq!(list.items.len() as u64, list.total);
        for item in &list.items {
            let listed = Run::from_json(item).unwrap();
            let row = rows.get(&listed.id).unwrap_or_else(|| panic!("{} is missing", listed.id));
            assert_eq!(row.run, listed);
            assert!(!row.removed, "{} is listed, but marked removed", listed.id);
        }
        self.check_events(&rows);
    }

    fn check_events(&self, rows: &HashMap<String, Stored>) {
        let Some(Baseline(history_until)) = self.db.feed(&self.task).unwrap().baseline else { panic!("no baseline") };
        let mut statement = self
            .db
            .connection()
            .prepare("SELECT run_id, type, previous_status, status FROM events ORDER BY seq")
            .unwrap();
        let mut chains: HashMap<String, Vec<(String, Option<String>, String)>> = HashMap::new();
        let mut cursor = statement.query([]).unwrap();
        while let Some(row) = cursor.next().unwrap() {
            let event = (row.get(1).unwrap(), row.get(2).unwrap(), row.get(3).unwrap());
            chains.entry(row.get(0).unwrap()).or_default().push(event);
        }
        for (id, row) in rows {
            let chain = chains.remove(id).unwrap_or_default();
            let is_history = history_until.is_some_and(|until| row.run.started().unwrap() <= until);
            let created = chain.iter().filter(|(kind, ..)| kind == "ACTOR.RUN.CREATED").count();
            assert_eq!(created, usize::from(!is_history), "{id}: history {is_history}, {chain:?}");
            let mut status: Option<&str> = None;
            for (n, (kind, previous, now)) in chain.iter().enumerate() {
                let ended_at_first_sight = n == 1 && previous.is_none() && chain[0].0 == "ACTOR.RUN.CREATED";
                match (n, is_history) {
                    (0, false) => {
                        assert_eq!((kind.as_str(), previous), ("ACTOR.RUN.CREATED", &None), "{id}: {chain:?}")
                    }
                    (0, true) => assert!(previous.is_some(), "{id}: {chain:?}"),
                    _ if ended_at_first_sight => assert_eq!(status, Some(now.as_str()), "{id}: {chain:?}"),
                    _ => assert_eq!(previous.as_deref(), status, "{id}: {chain:?}"),
                }
                let was_terminal = previous.as_deref().is_some_and(|name| RunStatus::from_api(name).is_terminal());
                let resurrected = was_terminal && !RunStatus::from_api(now).is_terminal();
                assert_eq!(kind == "ACTOR.RUN.RESURRECTED", resurrected, "{id}: {chain:?}");
                status = Some(now);
            }
            if let Some(last) = status {
                assert_eq!(last, row.run.status.as_str(), "{id}: {chain:?}");
            }
        }
        assert!(chains.is_empty(), "events without a row: {chains:?}");
    }
}
