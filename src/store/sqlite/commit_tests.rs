//! The commit transaction, against a real database.

use std::time::Duration;

use serde_json::{Value, json};

use super::connection::Db;
use super::{Condition, HEARTBEAT, Written};
use crate::model::{Registration, Subscription, Task, Timestamp};
use crate::sync::{
    Audit, Baseline, Commit, Covered, Cursor, FeedState, Gap, Judgement, Observed, OpenRun, Seen,
    Source, Watermark,
};

const FEED: &str = "task";

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

fn db() -> Db {
    let mut db = Db::in_memory().unwrap();
    db.save_task(
        &Task {
            id: FEED.into(),
            ..Task::default()
        },
        at(0),
    )
    .unwrap();
    let sink = |name: &str| Registration {
        name: name.into(),
        kind: "stdout",
        from_beginning: false,
    };
    db.register(&[sink("all"), sink("failures")], at(0))
        .unwrap();
    db
}

fn run(id: &str, second: i64, status: &str) -> Value {
    json!({"id": id, "actorTaskId": FEED, "actId": "act", "userId": "user", "status": status,
        "startedAt": at(second).to_string(), "finishedAt": null, "meta": {"origin": "API", "new": 1}, "usageTotalUsd": 0.5})
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
        feed: FeedState {
            cursor: Cursor { offset, watermark },
            baseline: Some(Baseline(None)),
            complete: true,
            watched_at: Some(at(now)),
            total: Some(offset),
            ..FeedState::default()
        },
        covered: None,
        judgement: Judgement {
            history_until: None,
            settle: Duration::from_secs(60),
            now: at(now),
            asked_at: at(now),
        },
        finished: true,
    }
}

fn column(db: &Db, sql: &str) -> Vec<String> {
    let mut statement = db.connection().prepare(sql).unwrap();
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

#[test]
fn rows_events_deliveries_and_cursor_move_together_or_not_at_all() {
    let mut db = db();
    let all = Subscription {
        sink: "all".into(),
        types: None,
    };
    let failures = Subscription {
        sink: "failures".into(),
        types: Some(vec!["ACTOR.RUN.FAILED".into()]),
    };
    let step = commit(10, 2, &[run("a", 1, "RUNNING"), run("b", 2, "FAILED")]);

    db.fail_commits(true).unwrap();
    db.commit(FEED, &step, &[all.clone(), failures.clone()])
        .unwrap_err();
    db.fail_commits(false).unwrap();
    for table in ["runs", "events", "deliveries", "cursors"] {
        assert_eq!(
            column(&db, &format!("SELECT count(*) FROM {table}")),
            ["0"],
            "{table}"
        );
    }

    let written = db.commit(FEED, &step, &[all, failures]).unwrap();
    assert_eq!(
        written,
        Written {
            added: 2,
            events: 3,
            ..Written::default()
        }
    );
    assert_eq!(db.feed(FEED).unwrap(), step.feed);
    assert_eq!(
        column(
            &db,
            "SELECT seq || ' ' || id || ' ' || type FROM events ORDER BY seq"
        ),
        [
            "1 evt_a_1 ACTOR.RUN.CREATED",
            "2 evt_b_1 ACTOR.RUN.CREATED",
            "3 evt_b_2 ACTOR.RUN.FAILED"
        ]
    );
    assert_eq!(
        column(&db, "SELECT sink || seq FROM deliveries ORDER BY 1"),
        ["all1", "all2", "all3", "failures3"]
    );
}

#[test]
fn every_field_has_its_place() {
    let mut db = db();
    let mut full = run("a", 1, "SUCCEEDED");
    full["finishedAt"] = json!("2019-12-12T09:30:12.202Z");
    full["generalAccess"] = json!("RESTRICTED");
    db.commit(FEED, &commit(10, 1, &[full]), &[]).unwrap();
    assert_eq!(
        column(&db, "SELECT finished_at FROM runs"),
        ["2019-12-12T09:30:12.202Z"]
    );
    assert_eq!(
        column(&db, "SELECT extra FROM runs"),
        [r#"{"generalAccess":"RESTRICTED","meta":{"new":1}}"#]
    );
    assert_eq!(column(&db, "SELECT usage_total_usd FROM runs"), ["0.5"]);
    assert_eq!(
        column(&db, "SELECT first_seen_at FROM runs"),
        ["1970-01-01T00:00:10.000Z"]
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
        let before = db.connection().total_changes();
        assert_eq!(
            db.commit(FEED, &commit(now, 2, &items), &[]).unwrap(),
            Written::default()
        );
        assert_eq!(db.connection().total_changes() > before, writes, "at {now}");
    }
    let before = db.connection().total_changes();
    db.commit(
        FEED,
        &Commit {
            finished: false,
            ..commit(999, 2, &items)
        },
        &[],
    )
    .unwrap();
    assert_eq!(
        db.connection().total_changes(),
        before,
        "an unfinished poll is no sign of life"
    );
}

#[test]
fn a_failure_is_noted_once_and_cleared_by_the_next_success() {
    let mut db = db();
    db.commit(FEED, &commit(10, 0, &[]), &[]).unwrap();
    for now in [11, 12] {
        db.record_failure(FEED, Condition::Failing, "unreachable", at(now))
            .unwrap();
    }
    assert_eq!(
        column(
            &db,
            "SELECT last_error || ' ' || last_error_at FROM cursors"
        ),
        ["unreachable 1970-01-01T00:00:11.000Z"]
    );
    db.record_failure(FEED, Condition::Forbidden, "forbidden", at(13))
        .unwrap();
    assert_eq!(column(&db, "SELECT last_error FROM cursors"), ["forbidden"]);
    db.commit(FEED, &commit(14, 0, &[]), &[]).unwrap();
    assert_eq!(column(&db, "SELECT last_error FROM cursors"), ["null"]);
    assert_eq!(
        column(&db, "SELECT last_success_at FROM cursors"),
        ["1970-01-01T00:00:14.000Z"]
    );
}

#[test]
fn of_two_entries_with_one_id_the_later_counts_and_raises_nothing_by_itself() {
    let mut db = db();
    let twice = [run("a", 1, "SUCCEEDED"), run("a", 2, "FAILED")];
    let mut first = commit(10, 2, &twice);
    first.judgement.history_until = Some(at(2));
    assert_eq!(db.commit(FEED, &first, &[]).unwrap().added, 1);
    assert_eq!(
        db.commit(FEED, &commit(11, 2, &twice), &[]).unwrap(),
        Written::default()
    );
    assert_eq!(column(&db, "SELECT status FROM runs"), ["FAILED"]);
    assert_eq!(column(&db, "SELECT count(*) FROM events"), ["0"]);
}

#[test]
fn a_run_that_names_another_task_belongs_to_the_feed_that_lists_it() {
    let mut db = db();
    let mut foreign = run("a", 1, "READY");
    foreign["actorTaskId"] = json!("another");
    for now in [10, 11] {
        db.commit(FEED, &commit(now, 1, std::slice::from_ref(&foreign)), &[])
            .unwrap();
    }
    assert_eq!(
        column(&db, "SELECT task_id || ' ' || feed_id FROM runs"),
        ["another task"]
    );
    assert_eq!(column(&db, "SELECT count(*) FROM events"), ["1"]);
    let open = db.open_runs(FEED, &Cursor::default(), 1_000).unwrap();
    assert_eq!(
        open.runs,
        [OpenRun {
            id: "a".into(),
            active: true
        }]
    );
}

#[test]
fn a_run_that_is_gone_is_marked_kept_and_no_longer_re_read() {
    let mut db = db();
    db.commit(FEED, &commit(10, 1, &[run("a", 1, "RUNNING")]), &[])
        .unwrap();
    let gone = Commit {
        gone: vec!["a".into()],
        ..commit(11, 1, &[])
    };
    assert_eq!(
        db.commit(FEED, &gone, &[]).unwrap(),
        Written {
            removed: 1,
            ..Written::default()
        }
    );
    assert_eq!(
        db.commit(FEED, &gone, &[]).unwrap(),
        Written::default(),
        "once"
    );
    assert_eq!(
        column(&db, "SELECT removed_at FROM runs"),
        ["1970-01-01T00:00:11.000Z"]
    );
    assert!(
        db.open_runs(FEED, &Cursor::default(), 1_000)
            .unwrap()
            .runs
            .is_empty()
    );
    db.commit(FEED, &commit(12, 1, &[run("a", 1, "RUNNING")]), &[])
        .unwrap();
    assert_eq!(
        column(&db, "SELECT removed_at FROM runs"),
        ["null"],
        "it is back"
    );
    assert_eq!(
        db.open_runs(FEED, &Cursor::default(), 1_000)
            .unwrap()
            .runs
            .len(),
        1
    );
}

#[test]
fn ids_and_bodies_of_events() {
    let mut db = db();
    db.commit(FEED, &commit(10, 1, &[run("odd.id/1", 1, "READY")]), &[])
        .unwrap();
    db.commit(FEED, &commit(20, 1, &[run("odd.id/1", 1, "RUNNING")]), &[])
        .unwrap();
    assert_eq!(
        column(&db, "SELECT id FROM events"),
        ["evt_odd%2Eid%2F1_1", "evt_odd%2Eid%2F1_2"]
    );
    let bodies = column(&db, "SELECT payload FROM events ORDER BY seq");
    let body: Value = serde_json::from_str(&bodies[1]).unwrap();
    assert_eq!(
        body,
        json!({
            "id": "evt_odd%2Eid%2F1_2", "sequence": 2, "userId": "user", "createdAt": "1970-01-01T00:00:20.000Z",
            "eventType": "ACTOR.RUN.RUNNING",
            "eventData": {"actorId": "act", "actorTaskId": "task", "actorRunId": "odd.id/1"},
            "status": "RUNNING", "previousStatus": "READY", "resource": run("odd.id/1", 1, "RUNNING"),
        })
    );
    assert!(
        bodies[1].starts_with(r#"{"id":"evt_"#) && !bodies[1].contains('\n'),
        "one line, the id first"
    );
}

#[test]
fn events_say_when_it_happened_where_the_run_tells() {
    let mut db = db();
    let mut ended = run("a", 1, "SUCCEEDED");
    ended["finishedAt"] = json!(at(7).to_string());
    db.commit(FEED, &commit(10, 1, &[ended]), &[]).unwrap();
    db.commit(FEED, &commit(20, 1, &[run("a", 1, "RUNNING")]), &[])
        .unwrap();
    let seconds = column(
        &db,
        "SELECT unixepoch(occurred_at) || ' ' || unixepoch(observed_at) FROM events ORDER BY seq",
    );
    assert_eq!(seconds, ["1 10", "7 10", "20 20"]);
}

#[test]
fn distances_are_counted_in_the_list_behind_the_watermark() {
    let mut db = db();
    let items: Vec<Value> = (0..50)
        .map(|n| {
            run(
                &format!("r{n}"),
                n,
                if [3, 30, 31, 49].contains(&n) {
                    "RUNNING"
                } else {
                    "SUCCEEDED"
                },
            )
        })
        .collect();
    db.commit(FEED, &commit(10_000, 50, &items), &[]).unwrap();
    let cursor = Cursor {
        offset: 49,
        watermark: Some(Watermark {
            started: at(48),
            id: "r48".into(),
        }),
    };
    // r48 is the first entry behind the cursor, r30 the nineteenth; r49 was learned ahead of it.
    for (within, reach) in [
        (1_000, 46),
        (46, 46),
        (45, 19),
        (20, 19),
        (19, 19),
        (18, 18),
        (10, 0),
    ] {
        let open = db.open_runs(FEED, &cursor, within).unwrap();
        assert_eq!((open.runs.len(), open.reach), (4, reach), "within {within}");
    }
    let ids = ["r30", "r3", "r31", "r49", "nobody"].map(str::to_owned);
    assert_eq!(db.distances(FEED, &cursor, &ids).unwrap(), [0, 18, 19, 46]);
}

#[test]
fn a_commit_is_one_transaction() {
    let mut db = db();
    let commits = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&commits);
    let count = move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        false
    };
    db.connection.commit_hook(Some(count)).unwrap();
    let all = Subscription {
        sink: "all".into(),
        types: None,
    };
    db.commit(
        FEED,
        &commit(10, 2, &[run("a", 1, "RUNNING"), run("b", 2, "FAILED")]),
        &[all],
    )
    .unwrap();
    assert_eq!(commits.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn references_are_believed_for_a_while() {
    let mut db = db();
    let hour = Duration::from_secs(3_600);
    let fresh = |db: &Db, now| {
        db.resolved("me~it", hour, at(now))
            .unwrap()
            .map(|(task, fresh)| (task.id, fresh))
    };
    assert_eq!(fresh(&db, 0), None);
    db.save_reference("me~it", Ok(FEED), at(0)).unwrap();
    for (now, believed) in [(0, true), (3_599, true), (3_600, false), (-1, false)] {
        assert_eq!(fresh(&db, now), Some((FEED.into(), believed)), "at {now}");
    }
    db.save_reference("me~it", Err("not found"), at(10))
        .unwrap();
    assert_eq!(
        fresh(&db, 11),
        Some((FEED.into(), false)),
        "what it last meant is not forgotten"
    );
    assert_eq!(
        db.overview(at(11)).unwrap().unresolved[0].error,
        "not found"
    );
}

#[test]
fn views_answer_for_people() {
    let mut db = db();
    let mut ended = run("a", 86_400, "FAILED");
    ended["finishedAt"] = json!(at(86_460).to_string());
    db.commit(
        FEED,
        &commit(90_000, 2, &[ended, run("b", 86_500, "RUNNING")]),
        &[],
    )
    .unwrap();
    assert_eq!(
        column(&db, "SELECT duration_seconds FROM run_durations"),
        ["60"]
    );
    assert_eq!(
        column(
            &db,
            "SELECT day || ' ' || runs || ' ' || failures || ' ' || cost_usd FROM daily_runs"
        ),
        ["1970-01-02 2 1 1.0"]
    );
    assert_eq!(column(&db, "SELECT id FROM open_runs"), ["b"]);
    assert_eq!(
        column(
            &db,
            "SELECT last_run_id || ' ' || runs || ' ' || open_runs FROM task_health"
        ),
        ["b 2 1"]
    );
}

#[test]
fn what_a_commit_changed_is_counted_by_kind() {
    let mut db = db();
    let before: Vec<Value> = [
        "status",
        "usage",
        "fields",
        "back",
        "gone",
        "absent",
        "absent-too",
    ]
    .iter()
    .zip(1..)
    .map(|(id, second)| run(id, second, "RUNNING"))
    .collect();
    db.commit(FEED, &commit(10, 7, &before), &[]).unwrap();
    db.commit(
        FEED,
        &Commit {
            gone: vec!["back".into()],
            ..commit(11, 7, &[])
        },
        &[],
    )
    .unwrap();

    let mut now: Vec<Value> = before[..4].to_vec();
    now[0]["status"] = json!("FAILED");
    now[1]["usageTotalUsd"] = json!(9);
    now[2]["buildId"] = json!("b");
    now.push(run("new", 8, "FAILED"));
    let covered = Some(Covered {
        after: None,
        before: at(8),
    });
    let step = Commit {
        gone: vec!["gone".into()],
        covered,
        ..commit(12, 8, &now)
    };
    let written = db.commit(FEED, &step, &[]).unwrap();
    let expected = Written {
        added: 1,
        returned: 1,
        status: 1,
        usage: 1,
        fields: 1,
        removed: 3,
        events: 3,
    };
    assert_eq!(written, expected);
    assert_eq!(written.changed(), 4);
    assert_eq!(
        column(
            &db,
            "SELECT id FROM runs WHERE removed_at IS NOT NULL ORDER BY id"
        ),
        ["absent", "absent-too", "gone"]
    );
    let mut twice = written;
    twice.add(written);
    let doubled = Written {
        added: 2,
        returned: 2,
        status: 2,
        usage: 2,
        fields: 2,
        removed: 6,
        events: 6,
    };
    assert_eq!(twice, doubled);
}

#[test]
fn an_audit_in_progress_is_kept_and_forgotten_with_the_commit() {
    let mut db = db();
    let cursor = Cursor {
        offset: 7,
        watermark: Some(Watermark {
            started: at(6),
            id: "r6".into(),
        }),
    };
    for decided in [None, Some(at(5))] {
        let mut step = commit(10, 1, &[]);
        step.feed.audit = Some(Audit {
            began_at: at(1),
            cursor: cursor.clone(),
            decided,
        });
        db.commit(FEED, &step, &[]).unwrap();
        assert_eq!(db.feed(FEED).unwrap(), step.feed);
    }
    db.commit(FEED, &commit(11, 1, &[]), &[]).unwrap();
    assert_eq!(db.feed(FEED).unwrap().audit, None);
}

#[test]
fn a_failure_that_goes_on_is_noted_again_after_a_while() {
    let mut db = db();
    let noted = |db: &Db| column(db, "SELECT unixepoch(last_error_at) FROM cursors");
    for (now, expected) in [(1_000, "1000"), (1_059, "1000"), (1_060, "1060")] {
        db.record_failure(FEED, Condition::Failing, "unreachable", at(now))
            .unwrap();
        assert_eq!(noted(&db), [expected], "at {now}");
    }
}

#[test]
fn what_is_unseen_is_listed_within_bounds_and_without_a_start() {
    let mut db = db();
    let mut items: Vec<Value> = (0..1_005)
        .map(|n| run(&format!("r{n:04}"), n, "SUCCEEDED"))
        .collect();
    items.push(json!({"id": "no-start", "status": "SUCCEEDED"}));
    db.commit(FEED, &commit(5_000, 1, &items), &[]).unwrap();
    let unseen = |from: Option<i64>, to: Option<i64>, except: &[&str]| {
        let except: Vec<String> = except.iter().map(|id| (*id).to_owned()).collect();
        db.unseen(
            FEED,
            &[Gap {
                from: from.map(at),
                to: to.map(at),
            }],
            &except,
        )
        .unwrap()
    };
    assert_eq!(unseen(Some(3), Some(5), &["r0004"]), ["r0003", "r0005"]);
    assert_eq!(
        unseen(Some(1_003), None, &[]),
        ["r1003", "r1004", "no-start"]
    );
    let most = unseen(None, None, &["r0000", "r0001", "r0002"]);
    assert_eq!(
        (most.len(), most.first().map(String::as_str)),
        (1_000, Some("r0003"))
    );
}

#[test]
fn a_status_that_is_no_end_did_not_happen_at_the_end() {
    let mut db = db();
    db.commit(FEED, &commit(10, 1, &[run("a", 1, "READY")]), &[])
        .unwrap();
    let mut odd = run("a", 1, "ABORTING");
    odd["finishedAt"] = json!(at(7).to_string());
    db.commit(FEED, &commit(20, 1, &[odd]), &[]).unwrap();
    assert_eq!(
        column(
            &db,
            "SELECT unixepoch(occurred_at) FROM events ORDER BY seq"
        ),
        ["1", "20"]
    );
}

#[test]
fn the_overview_tells_lost_tasks_from_failing_ones() {
    let mut db = db();
    db.commit(FEED, &commit(10, 1, &[]), &[]).unwrap();
    let state = |db: &Db| {
        let task = db.overview(at(15)).unwrap().tasks.remove(0);
        (task.is_lost(), task.state, task.last_success_age_seconds)
    };
    assert_eq!(state(&db), (false, "ok".into(), Some(5)));
    for (condition, lost, name) in [
        (Condition::Failing, false, "failing"),
        (Condition::NotFound, true, "not found"),
        (Condition::Forbidden, true, "forbidden"),
    ] {
        db.record_failure(FEED, condition, "why", at(12)).unwrap();
        assert_eq!(state(&db), (lost, name.into(), Some(5)));
    }
}
