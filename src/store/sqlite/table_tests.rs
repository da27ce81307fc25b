//! What only SQLite's tables show: transactions, what is not written, columns and views. Whatever every store must do
//! is checked in `store/conformance`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::connection::Db;
use crate::model::{
    Exchange, FetchLimits, Order, Registration, Settled, Subscription, Task, Timestamp, Verdict,
};
use crate::store::traits::HEARTBEAT;
use crate::store::written::Written;
use crate::sync::{
    Baseline, Commit, Cursor, FeedState, Judgement, Observed, Seen, Source, Watermark,
};

const FEED: &str = "task";

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

fn db() -> Db {
    let mut db = Db::in_memory().unwrap();
    let task = Task {
        id: FEED.into(),
        ..Task::default()
    };
    db.save_task(&task, at(0)).unwrap();
    let sink = Registration {
        name: "all".into(),
        kind: "stdout",
        from_beginning: false,
    };
    db.register(&[sink], at(0)).unwrap();
    db
}

fn all() -> [Subscription; 1] {
    [Subscription {
        sink: "all".into(),
        types: None,
    }]
}

fn run(id: &str, second: i64, status: &str) -> Value {
    json!({"id": id, "actorTaskId": FEED, "status": status, "startedAt": at(second).to_string(),
        "finishedAt": null, "meta": {"origin": "API", "new": 1}, "usageTotalUsd": 0.5})
}

fn commit(now: i64, offset: u64, items: &[Value]) -> Commit {
    let observed = items.iter().map(|item| Observed {
        seen: Seen::from_json(item.clone()).unwrap(),
        source: Source::List,
    });
    let watermark = Some(Watermark {
        started: at(offset as i64),
        id: format!("w{offset}"),
    });
    Commit {
        observed: observed.collect(),
        gone: Vec::new(),
        covered: None,
        feed: FeedState {
            cursor: Cursor { offset, watermark },
            baseline: Some(Baseline(None)),
            complete: true,
            ..FeedState::default()
        },
        judgement: Judgement {
            history_until: None,
            settle: Duration::ZERO,
            now: at(now),
            asked_at: at(now),
        },
        finished: true,
    }
}

fn column(db: &Db, sql: &str) -> Vec<String> {
    let mut statement = db.connection.prepare(sql).unwrap();
    let values = statement
        .query_map([], |row| row.get::<_, rusqlite::types::Value>(0))
        .unwrap();
    let text = |value: rusqlite::types::Value| match value {
        rusqlite::types::Value::Null => "null".to_owned(),
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Real(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        rusqlite::types::Value::Blob(_) => "blob".to_owned(),
    };
    values.map(|value| text(value.unwrap())).collect()
}

/// Everything in the tables that commits and exchanges write.
fn contents(db: &Db) -> Vec<Vec<String>> {
    let tables = [
        ("runs", "id || status"),
        ("events", "id"),
        (
            "deliveries",
            "sink || seq || attempts || coalesce(due_at, '') || coalesce(dead_at, '')",
        ),
        ("cursors", "task_id || \"offset\""),
        (
            "sinks",
            "name || coalesce(failing_since, '') || booked_seq || live",
        ),
    ];
    tables
        .map(|(table, key)| column(db, &format!("SELECT {key} FROM {table} ORDER BY 1")))
        .into()
}

/// Rolls every transaction of `db` back at its last moment, as if the process had died in it.
fn fail_commits(db: &mut Db, fail: bool) {
    db.connection.commit_hook(fail.then_some(|| true)).unwrap();
}

/// Counts the transactions that `work` commits.
fn transactions(db: &mut Db, work: impl FnOnce(&mut Db)) -> u64 {
    let commits = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&commits);
    let count = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        false
    };
    db.connection.commit_hook(Some(count)).unwrap();
    work(db);
    db.connection.commit_hook(None::<fn() -> bool>).unwrap();
    commits.load(Ordering::Relaxed)
}

fn settle_all() -> Exchange {
    let settled = |(seq, run, verdict): (i64, &str, Verdict)| Settled {
        seq,
        run_id: run.into(),
        verdict,
        error: (verdict != Verdict::Delivered).then(|| "no".to_owned()),
    };
    let verdicts = [
        (1, "a", Verdict::Delivered),
        (2, "b", Verdict::Retry { at: at(50) }),
        (3, "c", Verdict::SetAside),
    ];
    Exchange {
        sink: "all".into(),
        backlog: None,
        settled: verdicts.map(settled).into(),
        set_aside: None,
        fetch: FetchLimits {
            order: Order::Run,
            events: 10,
            except: HashSet::new(),
        },
    }
}

#[test]
fn a_commit_is_one_transaction_that_leaves_nothing_when_it_fails() {
    let mut db = db();
    let before = contents(&db);
    let step = commit(10, 2, &[run("a", 1, "RUNNING"), run("b", 2, "FAILED")]);
    fail_commits(&mut db, true);
    db.commit(FEED, &step, &all()).unwrap_err();
    fail_commits(&mut db, false);
    assert_eq!(contents(&db), before);
    let count = transactions(&mut db, |db| {
        db.commit(FEED, &step, &all()).unwrap();
    });
    assert_eq!(count, 1);
    assert_ne!(contents(&db), before);
}

#[test]
fn an_exchange_writes_in_one_transaction_that_leaves_nothing_when_it_fails() {
    let mut db = db();
    let items = ["a", "b", "c"].map(|id| run(id, 1, "READY"));
    db.commit(FEED, &commit(10, 1, &items), &all()).unwrap();
    let before = contents(&db);
    fail_commits(&mut db, true);
    db.exchange(&settle_all(), at(20)).unwrap_err();
    fail_commits(&mut db, false);
    assert_eq!(contents(&db), before);
    let count = transactions(&mut db, |db| {
        db.exchange(&settle_all(), at(20)).unwrap();
    });
    assert_eq!(count, 1);
    assert_ne!(contents(&db), before);
    let only_fetching = Exchange {
        settled: Vec::new(),
        ..settle_all()
    };
    let changes = db.connection.total_changes();
    db.exchange(&only_fetching, at(20)).unwrap();
    assert_eq!(
        db.connection.total_changes(),
        changes,
        "fetching writes nothing"
    );
}

#[test]
fn nothing_new_writes_nothing_but_a_heartbeat() {
    let mut db = db();
    let items = [run("a", 1, "RUNNING"), run("b", 2, "READY")];
    db.commit(FEED, &commit(10, 2, &items), &[]).unwrap();
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
        assert_eq!(
            db.commit(FEED, &commit(now, 2, &items), &[]).unwrap(),
            Written::default()
        );
        assert_eq!(db.connection.total_changes() > before, writes, "at {now}");
    }
    let before = db.connection.total_changes();
    let unfinished = Commit {
        finished: false,
        ..commit(999, 2, &items)
    };
    db.commit(FEED, &unfinished, &[]).unwrap();
    assert_eq!(
        db.connection.total_changes(),
        before,
        "an unfinished poll is no sign of life"
    );
}

#[test]
fn every_field_has_its_column() {
    let mut db = db();
    let mut full = run("a", 1, "SUCCEEDED");
    full["finishedAt"] = json!("2019-12-12T09:30:12.202Z");
    full["generalAccess"] = json!("RESTRICTED");
    full["actorTaskId"] = json!("another");
    db.commit(FEED, &commit(10, 1, &[full]), &[]).unwrap();
    for (name, value) in [
        ("finished_at", "2019-12-12T09:30:12.202Z"),
        (
            "extra",
            r#"{"generalAccess":"RESTRICTED","meta":{"new":1}}"#,
        ),
        ("usage_total_usd", "0.5"),
        ("first_seen_at", "1970-01-01T00:00:10.000Z"),
        ("task_id", "another"),
        ("feed_id", FEED),
    ] {
        assert_eq!(
            column(&db, &format!("SELECT {name} FROM runs")),
            [value],
            "{name}"
        );
    }
    let gone = Commit {
        gone: vec!["a".into()],
        ..commit(11, 1, &[])
    };
    db.commit(FEED, &gone, &[]).unwrap();
    assert_eq!(
        column(&db, "SELECT removed_at FROM runs"),
        ["1970-01-01T00:00:11.000Z"]
    );
    db.commit(FEED, &commit(12, 1, &[run("a", 1, "SUCCEEDED")]), &[])
        .unwrap();
    assert_eq!(column(&db, "SELECT removed_at FROM runs"), ["null"]);
    assert_eq!(
        column(&db, "SELECT first_seen_at FROM runs"),
        ["1970-01-01T00:00:10.000Z"]
    );
}

#[test]
fn events_say_when_it_happened_where_the_run_tells() {
    let mut db = db();
    let times =
        "SELECT unixepoch(occurred_at) || ' ' || unixepoch(observed_at) FROM events ORDER BY seq";
    let mut ended = run("a", 1, "SUCCEEDED");
    ended["finishedAt"] = json!(at(7).to_string());
    db.commit(FEED, &commit(10, 1, &[ended]), &[]).unwrap();
    db.commit(FEED, &commit(20, 1, &[run("a", 1, "RUNNING")]), &[])
        .unwrap();
    assert_eq!(column(&db, times), ["1 10", "7 10", "20 20"]);
    // A status that is not terminal did not happen at the end.
    let mut aborting = run("a", 1, "ABORTING");
    aborting["finishedAt"] = json!(at(7).to_string());
    db.commit(FEED, &commit(30, 1, &[aborting]), &[]).unwrap();
    assert_eq!(column(&db, times)[3], "30 30");
}

#[test]
fn views_answer_for_people() {
    let mut db = db();
    let mut ended = run("a", 86_400, "FAILED");
    ended["finishedAt"] = json!(at(86_460).to_string());
    let step = commit(90_000, 2, &[ended, run("b", 86_500, "RUNNING")]);
    db.commit(FEED, &step, &[]).unwrap();
    for (sql, row) in [
        ("SELECT duration_seconds FROM run_durations", "60"),
        (
            "SELECT day || ' ' || runs || ' ' || failures || ' ' || cost_usd FROM daily_runs",
            "1970-01-02 2 1 1.0",
        ),
        ("SELECT id FROM open_runs", "b"),
        (
            "SELECT last_run_id || ' ' || runs || ' ' || open_runs FROM task_health",
            "b 2 1",
        ),
    ] {
        assert_eq!(column(&db, sql), [row], "{sql}");
    }
}
