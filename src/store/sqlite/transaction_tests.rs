//! What is one transaction, what is rolled back with it, and what is not written at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::types::Value as Sql;
use serde_json::Value;

use super::connection::Db;
use crate::model::{Exchange, Overdue, Verdict};
use crate::store::conformance::builders::{
    FEED, HOOK, at, commit, commit_of, exchange, of_all, registration, run, settled, task,
};
use crate::store::error::StoreError;
use crate::store::reports::Which;
use crate::store::traits::HEARTBEAT;
use crate::store::written::Committed;
use crate::sync::{Audit, Commit, Cursor, Unreadable};

fn db() -> Db {
    let mut db = Db::in_memory().unwrap();
    db.save_task(&task(FEED), at(0)).unwrap();
    db.register(&[registration(HOOK, false)], at(0)).unwrap();
    db
}

/// Counts the transactions of `db` that write.
fn count_commits(db: &mut Db) -> Arc<AtomicU64> {
    let commits = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&commits);
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    db.connection.commit_hook(Some(count)).unwrap();
    commits
}

/// Has every transaction of `db` that writes fail at the last moment.
fn fail_commits(db: &mut Db) {
    db.connection.commit_hook(Some(|| true)).unwrap();
}

/// Every row of every table.
fn contents(db: &Db) -> Vec<(String, Vec<Vec<Sql>>)> {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    let mut statement = db.connection.prepare(names).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names
        .map(|name| {
            let name: String = name.unwrap();
            let rows = rows(db, &name);
            (name, rows)
        })
        .collect()
}

fn rows(db: &Db, table: &str) -> Vec<Vec<Sql>> {
    let mut statement = db
        .connection
        .prepare(&format!("SELECT * FROM {table}"))
        .unwrap();
    let columns = statement.column_count();
    let rows = statement
        .query_map([], |row| (0..columns).map(|n| row.get(n)).collect())
        .unwrap();
    rows.map(Result::unwrap).collect()
}

/// That `write` fails when its transaction does, has changed nothing then, and succeeds afterwards, in `transactions`.
fn assert_rolled_back<T: std::fmt::Debug>(
    db: &mut Db,
    transactions: u64,
    write: impl Fn(&mut Db) -> Result<T, StoreError>,
) -> T {
    let before = contents(db);
    fail_commits(db);
    write(db).unwrap_err();
    assert_eq!(contents(db), before);
    let commits = count_commits(db);
    let written = write(db).unwrap();
    assert_ne!(contents(db), before);
    assert_eq!(commits.load(Ordering::Relaxed), transactions);
    written
}

#[test]
fn a_commit_is_one_transaction_and_leaves_every_table_as_it_was_when_it_fails() {
    let mut db = db();
    let mut step = commit(10, 2, &[run("a", 1, "RUNNING"), run("b", 2, "FAILED")]);
    step.unreadable.push((2, odd()));
    step.feed.audit = Some(Audit {
        began_at: at(1),
        cursor: Cursor::default(),
        decided: None,
    });
    let written = assert_rolled_back(&mut db, 1, |db| db.commit(FEED, &step)).written;
    assert_eq!((written.added, written.events), (2, 3));
    for (table, count) in [
        ("runs", 2),
        ("events", 3),
        ("deliveries", 3),
        ("feeds", 1),
        ("audits", 1),
        ("unreadable_items", 1),
    ] {
        assert_eq!(rows(&db, table).len(), count, "{table}");
    }
}

/// An exchange that does everything at once, for a sink that has three events to copy.
fn everything(db: &mut Db) -> Exchange {
    let step = commit_of(10, &[("a", "READY"), ("b", "READY"), ("c", "READY")]);
    db.commit(FEED, &step).unwrap();
    db.register(
        &[registration(HOOK, false), registration("late", true)],
        at(20),
    )
    .unwrap();
    Exchange {
        backlog: true,
        settled: vec![
            settled(1, "a", Verdict::Delivered),
            settled(2, "b", Verdict::Retry { at: at(40) }),
        ],
        set_aside: Some((Overdue::All, "gone".into())),
        ..exchange("late")
    }
}

#[test]
fn an_exchange_is_one_transaction_and_leaves_every_table_as_it_was_when_it_fails() {
    let mut db = db();
    let exchange = everything(&mut db);
    let exchanged = assert_rolled_back(&mut db, 1, |db| db.exchange(&exchange, at(30)));
    assert_eq!((exchanged.live, exchanged.set_aside), (true, 2));
}

#[test]
fn an_exchange_that_only_fetches_writes_nothing() {
    let mut db = db();
    everything(&mut db);
    let commits = count_commits(&mut db);
    let before = contents(&db);
    let fetched = db.exchange(&exchange(HOOK), at(30)).unwrap().fetched;
    assert_eq!(fetched.events.len(), 3);
    assert_eq!(contents(&db), before);
    assert_eq!(commits.load(Ordering::Relaxed), 0);
}

#[test]
fn registering_and_changing_by_hand_are_rolled_back_whole() {
    let mut db = db();
    let step = commit_of(10, &[("a", "READY"), ("b", "READY")]);
    db.commit(FEED, &step).unwrap();
    let other = [registration("other", true)];
    assert_rolled_back(&mut db, 1, |db| db.register(&other, at(20)));
    assert_rolled_back(&mut db, 1, |db| {
        db.save_reference("me~it", Ok(&task("new")), at(20))
    });
    let all = of_all(Which::All);
    // The second finds nothing left.
    assert_rolled_back(&mut db, 2, |db| db.drop_deliveries(&all, at(20)));
}

/// An item that cannot be read.
fn odd() -> Unreadable {
    Unreadable {
        id: None,
        reason: "null".into(),
        body: "null".into(),
    }
}

#[test]
fn nothing_new_writes_nothing_but_a_heartbeat() {
    let mut db = db();
    let items: Vec<Value> = vec![run("a", 1, "RUNNING"), run("b", 2, "READY")];
    let step = |now| Commit {
        unreadable: vec![(2, odd())],
        ..commit(now, 2, &items)
    };
    db.commit(FEED, &step(10)).unwrap();
    let beat = 10 + HEARTBEAT.as_secs() as i64;
    for (now, writes) in [
        (11, false),
        (beat - 1, false),
        (beat, true),
        (beat + 1, false),
        (5, true),
        (5, false),
    ] {
        let before = db.connection.total_changes();
        let committed = db.commit(FEED, &step(now)).unwrap();
        assert_eq!(committed, Committed::default());
        assert_eq!(db.connection.total_changes() > before, writes, "at {now}");
    }
    let before = db.connection.total_changes();
    let unfinished = Commit {
        finished: false,
        ..step(999)
    };
    db.commit(FEED, &unfinished).unwrap();
    assert_eq!(
        db.connection.total_changes(),
        before,
        "an unfinished poll is no sign of life"
    );
}

#[test]
fn an_unchanged_task_and_a_known_sink_are_not_rewritten() {
    let mut db = db();
    let before = db.connection.total_changes();
    db.save_task(&task(FEED), at(20)).unwrap();
    db.register(&[registration(HOOK, true)], at(20)).unwrap();
    assert_eq!(db.connection.total_changes(), before);
}
