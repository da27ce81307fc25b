//! Pruning under SQLite: its transaction, its checks, and what it reads.

use super::connection::Db;
use super::plan_tests::plan;
use super::prunable::Prunable;
use crate::model::Retention;
use crate::store::conformance::builders::{FEED, at, commit_of, task};
use crate::store::pruning::{PRUNE_CHUNK, PrunePosition, Pruned};
use crate::sync::Commit;

/// Keeps nothing for longer than it has to.
const NOTHING: Retention = {
    let second = Some(std::time::Duration::from_secs(1));
    Retention {
        removed_runs: second,
        events: second,
        dead_deliveries: second,
    }
};

/// Runs a, b and c, an event each, all removed.
fn db() -> Db {
    let mut db = Db::in_memory().unwrap();
    db.save_task(&task(FEED), at(0)).unwrap();
    let step = commit_of(10, &[("a", "READY"), ("b", "READY"), ("c", "READY")]);
    db.commit(FEED, &step).unwrap();
    let gone = Commit {
        gone: ["a", "b", "c"].map(str::to_owned).to_vec(),
        ..commit_of(20, &[])
    };
    db.commit(FEED, &gone).unwrap();
    db
}

/// Prunes everything; returns what that was, and in how many steps.
fn prune(db: &mut Db) -> (Pruned, usize) {
    let announced = db.prunable(&NOTHING, at(1_000)).unwrap();
    let (mut pruned, mut next, mut steps) = (Pruned::default(), Some(PrunePosition::default()), 0);
    while let Some(from) = next {
        let step = db.prune(&NOTHING, &from, at(1_000)).unwrap();
        pruned += step.pruned;
        next = step.next;
        steps += 1;
    }
    assert_eq!(pruned, announced);
    (pruned, steps)
}

fn ids(db: &Db, table: &str) -> Vec<String> {
    let sql = format!("SELECT id FROM {table} ORDER BY id");
    let mut statement = db.connection.prepare(&sql).unwrap();
    let ids = statement.query_map([], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

#[test]
fn rows_that_tables_of_others_refer_to_are_kept_with_what_belongs_to_them() {
    let mut db = db();
    db.connection
        .execute_batch(
            "CREATE TABLE notes (run TEXT REFERENCES runs (id), note TEXT);
             INSERT INTO notes VALUES ('a', 'mine'), (NULL, 'on none');
             CREATE TABLE stars (seq INTEGER REFERENCES events DEFERRABLE INITIALLY DEFERRED);
             INSERT INTO stars VALUES (2)",
        )
        .unwrap();
    let (pruned, _) = prune(&mut db);
    assert_eq!((pruned.runs, pruned.events), (1, 2));
    assert_eq!(ids(&db, "runs"), ["a", "b"]);
    assert_eq!(ids(&db, "events"), ["evt_b_CREATED"]);
    db.connection
        .execute_batch("DELETE FROM notes; DROP TABLE stars")
        .unwrap();
    prune(&mut db);
    assert_eq!(ids(&db, "runs"), [""; 0]);
}

#[test]
fn foreign_keys_are_checked_again_whether_pruning_succeeds_or_not() {
    let are_checked = |db: &Db| {
        let sql = "PRAGMA foreign_keys";
        let is_on = db
            .connection
            .query_row(sql, [], |row| row.get::<_, bool>(0));
        is_on.unwrap()
    };
    let mut db = db();
    db.connection.commit_hook(Some(|| true)).unwrap();
    let beginning = PrunePosition::default();
    db.prune(&NOTHING, &beginning, at(1_000)).unwrap_err();
    assert!(are_checked(&db));
    assert_eq!(ids(&db, "runs").len(), 3, "nothing has changed");
    assert_eq!(ids(&db, "events").len(), 3);
    db.connection.commit_hook(None::<fn() -> bool>).unwrap();
    assert_eq!(prune(&mut db).0.runs, 3);
    assert!(are_checked(&db));
}

#[test]
fn a_run_with_more_events_than_a_step_removes_goes_in_several() {
    let mut db = db();
    let count = 2 * PRUNE_CHUNK + 10;
    db.connection
        .execute_batch(&format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
             INSERT INTO events (id, run_id, task_id, type, status, occurred_at, observed_at, payload)
             SELECT 'e' || n, 'b', 't', 'x', 'x', '', '9', '' FROM n"
        ))
        .unwrap();
    let (pruned, steps) = prune(&mut db);
    assert_eq!((pruned.runs, pruned.events), (3, count as u64 + 3));
    assert_eq!(steps, 3);
}

/// What an earlier version called an event, this one would not recognise by its id.
#[test]
fn a_creation_is_remembered_under_the_id_of_this_version_too() {
    let mut db = db();
    db.by_hand("UPDATE events SET id = 'evt_old_' || seq")
        .unwrap();
    prune(&mut db);
    db.by_hand("DELETE FROM pruned_runs").unwrap();
    let step = commit_of(2_000, &[("a", "READY")]);
    assert_eq!(db.commit(FEED, &step).unwrap().written.events, 0);
}

#[test]
fn nothing_to_prune_takes_no_lock_and_prepares_nothing_anew() {
    let mut db = db();
    prune(&mut db);
    let before = db.connection.total_changes();
    db.connection.commit_hook(Some(|| true)).unwrap();
    assert_eq!(prune(&mut db), (Pruned::default(), 1));
    assert_eq!(db.connection.total_changes(), before);
}

#[test]
fn what_is_old_is_found_by_index() {
    let db = db();
    let prunable = Prunable::of(&db.connection, &NOTHING, at(1_000)).unwrap();
    for (sql, index) in [
        (prunable.old_runs(), "runs_removed ("),
        (prunable.old_events(), "events_by_time (observed_at"),
        (Prunable::DEAD.to_owned(), "deliveries_dead (dead_at<?"),
    ] {
        let plan = plan(&db, &sql);
        assert!(plan[0].contains(index), "{sql}: {plan:?}");
        let is_slow = |step: &String| step.contains("B-TREE") || step.starts_with("SCAN d");
        assert!(!plan.iter().any(is_slow), "{sql}: {plan:?}");
    }
}
