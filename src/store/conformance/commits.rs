//! What a commit writes.

use serde_json::{Value, json};

use super::{FEED, HOOK, Mirror, all_of, at, commit, registration, run};
use crate::model::Subscription;
use crate::store::states::Condition;
use crate::store::traits::HEARTBEAT;
use crate::store::written::Written;
use crate::sync::{Audit, Commit, Covered, Cursor, OpenRun, Watermark};

pub async fn rows_events_deliveries_and_cursor_move_together(mirror: Mirror) {
    let sinks = [registration(HOOK, false), registration("failures", false)];
    mirror.store.register(&sinks, at(1)).await.unwrap();
    let failures = Subscription {
        sink: "failures".into(),
        types: Some(vec!["ACTOR.RUN.FAILED".into()]),
    };
    let step = commit(10, 2, &[run("a", 1, "RUNNING"), run("b", 2, "FAILED")]);
    let written = mirror.commit_for(&step, &[all_of(HOOK), failures]).await;
    assert_eq!(
        written,
        Written {
            added: 2,
            events: 3,
            ..Written::default()
        }
    );
    assert_eq!(mirror.feed().await, step.feed);
    let events: Vec<String> = mirror
        .bodies()
        .await
        .iter()
        .map(|body| {
            format!("{} {} {}", body["sequence"], body["id"], body["eventType"]).replace('"', "")
        })
        .collect();
    assert_eq!(
        events,
        [
            "1 evt_a_1 ACTOR.RUN.CREATED",
            "2 evt_b_1 ACTOR.RUN.CREATED",
            "3 evt_b_2 ACTOR.RUN.FAILED"
        ]
    );
    assert_eq!(mirror.owed(HOOK).await, [1, 2, 3]);
    assert_eq!(mirror.owed("failures").await, [3]);
    let stored = mirror.reader.run("a").await.unwrap().unwrap();
    assert_eq!(stored.run, step.observed[0].seen.run);
}

pub async fn a_failed_poll_is_recorded_once_and_cleared_by_the_next_success(mirror: Mirror) {
    mirror.commit(&commit(10, 0, &[])).await;
    let recorded = async || {
        let task = mirror
            .reader
            .overview(at(20))
            .await
            .unwrap()
            .tasks
            .remove(0);
        (task.state, task.last_error, task.last_error_at)
    };
    let fail = async |condition, error: &str, now| {
        mirror
            .store
            .record_failure(FEED, condition, error, at(now))
            .await
            .unwrap();
    };
    for now in [11, 12] {
        fail(Condition::Failing, "unreachable", now).await;
        let since = Some(at(11).to_string());
        assert_eq!(
            recorded().await,
            (Condition::Failing, Some("unreachable".into()), since)
        );
    }
    fail(Condition::Forbidden, "forbidden", 13).await;
    let (state, error, _) = recorded().await;
    assert_eq!(
        (state, error.as_deref()),
        (Condition::Forbidden, Some("forbidden"))
    );
    mirror.commit(&commit(14, 0, &[])).await;
    assert_eq!(recorded().await, (Condition::Ok, None, None));
    let task = mirror
        .reader
        .overview(at(20))
        .await
        .unwrap()
        .tasks
        .remove(0);
    assert_eq!(task.last_success_at, Some(at(14).to_string()));
    assert_eq!(task.last_success_age_seconds, Some(6));
}

pub async fn lost_tasks_are_told_from_failing_ones(mirror: Mirror) {
    mirror.commit(&commit(10, 1, &[])).await;
    for (condition, lost) in [
        (Condition::Failing, false),
        (Condition::NotFound, true),
        (Condition::Forbidden, true),
    ] {
        mirror
            .store
            .record_failure(FEED, condition, "why", at(12))
            .await
            .unwrap();
        let task = mirror
            .reader
            .overview(at(15))
            .await
            .unwrap()
            .tasks
            .remove(0);
        assert_eq!((task.is_lost(), task.state), (lost, condition));
        assert_eq!(task.last_success_age_seconds, Some(5));
    }
}

pub async fn a_lasting_failure_is_recorded_again_after_a_heartbeat(mirror: Mirror) {
    let heartbeat = HEARTBEAT.as_secs() as i64;
    for (now, recorded) in [
        (1_000, 1_000),
        (999 + heartbeat, 1_000),
        (1_000 + heartbeat, 1_000 + heartbeat),
    ] {
        mirror
            .store
            .record_failure(FEED, Condition::Failing, "unreachable", at(now))
            .await
            .unwrap();
        let task = mirror
            .reader
            .overview(at(now))
            .await
            .unwrap()
            .tasks
            .remove(0);
        assert_eq!(
            task.last_error_at,
            Some(at(recorded).to_string()),
            "at {now}"
        );
    }
}

pub async fn the_later_of_two_entries_with_one_id_counts(mirror: Mirror) {
    let twice = [run("a", 1, "SUCCEEDED"), run("a", 2, "FAILED")];
    let mut first = commit(10, 2, &twice);
    first.judgement.history_until = Some(at(2));
    assert_eq!(mirror.commit(&first).await.added, 1);
    assert_eq!(
        mirror.commit(&commit(11, 2, &twice)).await,
        Written::default()
    );
    assert_eq!(mirror.status("a").await, "FAILED");
    assert_eq!(
        mirror.bodies().await,
        [] as [Value; 0],
        "and raises nothing"
    );
}

pub async fn a_run_that_names_another_task_belongs_to_the_feed_that_lists_it(mirror: Mirror) {
    let mut foreign = run("a", 1, "READY");
    foreign["actorTaskId"] = json!("another");
    for now in [10, 11] {
        mirror
            .commit(&commit(now, 1, std::slice::from_ref(&foreign)))
            .await;
    }
    let stored = mirror.reader.run("a").await.unwrap().unwrap();
    assert_eq!(stored.run.task_id.as_deref(), Some("another"));
    assert_eq!(mirror.bodies().await.len(), 1);
    assert_eq!(
        mirror.open_runs().await,
        [OpenRun {
            id: "a".into(),
            active: true
        }]
    );
}

pub async fn a_run_that_is_gone_is_marked_kept_and_no_longer_open(mirror: Mirror) {
    mirror
        .commit(&commit(10, 1, &[run("a", 1, "RUNNING")]))
        .await;
    let gone = Commit {
        gone: vec!["a".into()],
        ..commit(11, 1, &[])
    };
    assert_eq!(
        mirror.commit(&gone).await,
        Written {
            removed: 1,
            ..Written::default()
        }
    );
    assert_eq!(mirror.commit(&gone).await, Written::default(), "once");
    assert!(mirror.is_removed("a").await);
    assert_eq!(mirror.open_runs().await, []);
    let returned = mirror
        .commit(&commit(12, 1, &[run("a", 1, "RUNNING")]))
        .await;
    assert_eq!(
        returned,
        Written {
            returned: 1,
            ..Written::default()
        }
    );
    assert!(!mirror.is_removed("a").await, "it is back");
    assert_eq!(mirror.open_runs().await.len(), 1);
}

pub async fn ids_and_bodies_of_events(mirror: Mirror) {
    mirror
        .commit(&commit(10, 1, &[run("odd.id/1", 1, "READY")]))
        .await;
    mirror
        .commit(&commit(20, 1, &[run("odd.id/1", 1, "RUNNING")]))
        .await;
    let bodies = mirror.bodies().await;
    assert_eq!(bodies[0]["id"], "evt_odd%2Eid%2F1_1");
    assert_eq!(
        bodies[1],
        json!({
            "id": "evt_odd%2Eid%2F1_2", "sequence": 2, "userId": "user", "createdAt": "1970-01-01T00:00:20.000Z",
            "eventType": "ACTOR.RUN.RUNNING",
            "eventData": {"actorId": "act", "actorTaskId": "task", "actorRunId": "odd.id/1"},
            "status": "RUNNING", "previousStatus": "READY", "resource": run("odd.id/1", 1, "RUNNING"),
        })
    );
    let (events, _) = mirror.reader.events_after(1, None, 10).await.unwrap();
    let payload = &events[0].payload;
    assert!(
        payload.starts_with(r#"{"id":"evt_"#) && !payload.contains('\n'),
        "one line, the id first"
    );
}

pub async fn changes_are_counted_by_kind(mirror: Mirror) {
    let ids = [
        "status",
        "usage",
        "fields",
        "back",
        "gone",
        "absent",
        "absent-too",
    ];
    let before: Vec<Value> = ids
        .iter()
        .zip(1..)
        .map(|(id, second)| run(id, second, "RUNNING"))
        .collect();
    mirror.commit(&commit(10, 7, &before)).await;
    mirror
        .commit(&Commit {
            gone: vec!["back".into()],
            ..commit(11, 7, &[])
        })
        .await;

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
    let written = mirror.commit(&step).await;
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
    for (id, removed) in [
        ("status", false),
        ("back", false),
        ("gone", true),
        ("absent", true),
        ("absent-too", true),
    ] {
        assert_eq!(mirror.is_removed(id).await, removed, "{id}");
    }
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

pub async fn an_audit_in_progress_is_stored_and_removed_with_the_commit(mirror: Mirror) {
    let watermark = Some(Watermark {
        started: at(6),
        id: "r6".into(),
    });
    let cursor = Cursor {
        offset: 7,
        watermark,
    };
    for decided in [None, Some(at(5))] {
        let mut step = commit(10, 1, &[]);
        step.feed.audit = Some(Audit {
            began_at: at(1),
            cursor: cursor.clone(),
            decided,
        });
        mirror.commit(&step).await;
        assert_eq!(mirror.feed().await, step.feed);
    }
    mirror.commit(&commit(11, 1, &[])).await;
    assert_eq!(mirror.feed().await.audit, None);
}

pub async fn commits_that_raise_events_notify(mirror: Mirror) {
    let mut notifications = mirror.store.notifications();
    mirror.see(10, &[("a", "READY")]).await;
    assert!(notifications.has_changed().unwrap());
    notifications.mark_unchanged();
    mirror.see(11, &[("a", "READY")]).await;
    assert!(!notifications.has_changed().unwrap(), "nothing happened");
}
