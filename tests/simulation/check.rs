//! What must be true: after every commit, and at the end.

use std::collections::HashMap;

use apify_mirror::model::{Run, RunStatus};
use apify_mirror::store::Db;
use apify_mirror::sync::{Baseline, Commit, Stored};

use super::account::Account;

/// One event: its type, the status before, the status after.
type Event = (String, Option<String>, String);

/// What has been seen of the events so far.
#[derive(Default)]
pub struct Checks {
    last_seq: i64,
    chains: HashMap<String, Vec<Event>>,
}

impl Checks {
    /// No cursor without its rows, no event without its row, numbers that only grow, statuses that chain, and nothing
    /// marked as removed that is listed.
    pub fn after_commit(&mut self, db: &Db, task: &str, commit: &Commit, account: &Account) {
        if let Some(watermark) = db.feed(task).unwrap().cursor.watermark {
            assert!(
                db.run(&watermark.id).unwrap().is_some(),
                "{watermark:?} has no row"
            );
        }
        self.follow_events(db, account);
        if commit.covered.is_none() && commit.gone.is_empty() {
            return;
        }
        let mut statement = db
            .connection()
            .prepare_cached("SELECT id FROM runs WHERE removed_at = ?1")
            .unwrap();
        let just_now = commit.judgement.now.to_string();
        for id in statement
            .query_map([just_now], |row| row.get::<_, String>(0))
            .unwrap()
        {
            let id = id.unwrap();
            let listed = account.world.run(&id).is_some();
            assert!(
                !listed || account.once_hidden.contains(&id),
                "{id} is listed, but marked as removed"
            );
        }
    }

    fn follow_events(&mut self, db: &Db, account: &Account) {
        let mut statement = db
            .connection()
            .prepare_cached("SELECT seq, run_id, type, previous_status, status FROM events WHERE seq > ?1 ORDER BY seq")
            .unwrap();
        let mut rows = statement.query([self.last_seq]).unwrap();
        let mut changed = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let seq: i64 = row.get(0).unwrap();
            assert_eq!(
                seq,
                self.last_seq + 1,
                "a number was left out, or used again"
            );
            self.last_seq = seq;
            let id: String = row.get(1).unwrap();
            let event = (
                row.get(2).unwrap(),
                row.get(3).unwrap(),
                row.get(4).unwrap(),
            );
            let chain = self.chains.entry(id.clone()).or_default();
            chain.push(event);
            check_link(&id, chain);
            changed.push(id);
        }
        for id in changed {
            let row = db
                .run(&id)
                .unwrap()
                .unwrap_or_else(|| panic!("{id} has events, but no row"));
            let last = self.chains[&id].last().map(|(.., status)| status.as_str());
            assert_eq!(
                last,
                Some(row.run.status.as_str()),
                "{id}: {:?}",
                self.chains[&id]
            );
            assert!(account.tasks.contains(row.run.task_id.as_ref().unwrap()));
        }
    }

    /// Every run that is listed is in the mirror, with every field equal.
    pub fn equal(&self, db: &Db, account: &Account) {
        for task in &account.tasks {
            let total = account.world.runs(task).len() as u64;
            let pages = (0..total).step_by(1_000);
            let items =
                pages.flat_map(|offset| account.world.list(task, offset, 1_000, false, None).items);
            for item in items {
                let listed = Run::from_json(&item).unwrap();
                let row = db
                    .run(&listed.id)
                    .unwrap()
                    .unwrap_or_else(|| panic!("{} is missing", listed.id));
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

    /// Once everything has settled, polls re-read what is active and nothing else.
    pub fn open(&self, db: &Db, account: &Account) {
        let mut statement = db
            .connection()
            .prepare("SELECT id FROM runs WHERE is_open = 1")
            .unwrap();
        for id in statement
            .query_map([], |row| row.get::<_, String>(0))
            .unwrap()
        {
            let id = id.unwrap();
            let listed = account.world.run(&id);
            assert!(
                listed.is_some_and(|run| !run.status.is_terminal()),
                "{id} is open, but settled or gone: {listed:?}"
            );
        }
    }

    /// After an audit: what is marked as removed is what is not listed, no more and no less.
    pub fn marked(&self, db: &Db, account: &Account) {
        for (id, row) in rows(db) {
            assert_eq!(
                row.removed,
                account.world.run(&id).is_none(),
                "{id}: {row:?}"
            );
        }
    }

    /// Exactly what happened was told: CREATED for every run but those from before the first sync, then each change.
    pub fn told(&self, db: &Db) {
        for (id, row) in rows(db) {
            let feed = db.feed(row.run.task_id.as_ref().unwrap()).unwrap();
            let Some(Baseline(history_until)) = feed.baseline else {
                panic!("no baseline")
            };
            let chain = self.chains.get(&id).map_or([].as_slice(), Vec::as_slice);
            let is_history = history_until.is_some_and(|until| row.run.started().unwrap() <= until);
            let created = chain
                .iter()
                .filter(|(kind, ..)| kind == "ACTOR.RUN.CREATED")
                .count();
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
}

fn rows(db: &Db) -> Vec<(String, Stored)> {
    let mut statement = db.connection().prepare("SELECT id FROM runs").unwrap();
    let ids = statement
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap();
    ids.map(|id| id.unwrap())
        .map(|id| (id.clone(), db.run(&id).unwrap().unwrap()))
        .collect()
}

/// That the last event of a run follows on the one before.
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
