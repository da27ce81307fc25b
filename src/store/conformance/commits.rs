//! What a commit does to rows, events, deliveries and the cursor.

use serde_json::{Value, json};

use super::builders::{
    FEED, LATEST, at, commit, commit_of, confirmed, exchange, of_all, run, settled,
};
use super::mirror::Mirror;
use crate::model::{Exchange, Overdue, RunStatus, Verdict};
use crate::store::reports::{EventFilter, Which};
use crate::store::traits::HEARTBEAT;
use crate::store::written::Written;
use crate::sync::{Baseline, Commit, Covered, Cursor, OpenRun, Seen};

pub async fn rows_events_deliveries_and_cursor_move_together(mirror: Mirror) {
    mirror.start(&["all", "failures"]).await;
    assert_eq!(mirror.reader.feed(FEED).await.unwrap(), None);
    let step = commit(10, 2, &[run("a", 1, "RUNNING"), run("b", 2, "FAILED")]);
    let written = mirror.commit(&step).await;
    let expected = Written {
        added: 2,
        events: 3,
        ..Written::default()
    };
    assert_eq!(written, expected);
    assert_eq!(
        mirror.reader.feed(FEED).await.unwrap(),
        Some(step.feed.clone())
    );
    let seqs: Vec<i64> = mirror.events().await.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(
        mirror.event_fields("id").await,
        ["evt_a_CREATED", "evt_b_CREATED", "evt_b_FAILED_-"]
    );
    assert_eq!(
        mirror.event_fields("eventType").await,
        ["ACTOR.RUN.CREATED", "ACTOR.RUN.CREATED", "ACTOR.RUN.FAILED"]
    );
    assert_eq!(mirror.owed("all").await, [1, 2, 3]);
    assert_eq!(mirror.owed("failures").await, [3]);
}

pub async fn a_run_is_read_back_as_it_was_seen(mirror: Mirror) {
    mirror.start(&[]).await;
    let documented: Value = json!({
        "id": "full", "actId": "act", "userId": "user", "actorTaskId": FEED, "status": "SUCCEEDED",
        "startedAt": "2019-11-30T07:34:24.202Z", "finishedAt": "2019-12-12T09:30:12.202Z",
        "buildId": "build", "buildNumber": "0.0.2", "buildNumberInt": 2,
        "meta": {"origin": "SCHEDULER", "clientIp": "1.2.3.4", "userAgent": "me", "scheduleId": "s",
            "scheduledAt": "2019-11-30T07:34:00.000Z", "new": [1, null]},
        "usageTotalUsd": 0.1, "defaultKeyValueStoreId": "kvs", "defaultDatasetId": "ds",
        "defaultRequestQueueId": "rq", "generalAccess": "RESTRICTED", "deep": {"er": {"est": 1.5}},
    });
    let bare = json!({"id": "bare"});
    let odd = json!({"id": "odd", "status": "ON-HOLD", "startedAt": "soon", "usageTotalUsd": "much",
        "buildNumberInt": 0.5, "userId": 7, "meta": "none", "text": "a\u{0}b 'quoted' \"twice\" ü"});
    let items = [documented, bare, odd];
    let step = commit(10, 3, &items);
    assert_eq!(mirror.commit(&step).await.added, 3);
    for item in items {
        let mut seen = Seen::from_json(item, LATEST).unwrap().run;
        // Where it names no task, it is one of the feed's.
        seen.task_id.get_or_insert(FEED.to_owned());
        let stored = mirror.run(&seen.id).await;
        let settles = seen.status.is_terminal();
        assert_eq!((stored.run, stored.removed), (seen, false));
        assert_eq!(stored.settles_at.is_some(), settles);
    }
    assert_eq!(
        mirror.commit(&step).await,
        Written::default(),
        "and found to be the same"
    );
    assert_eq!(mirror.reader.run("nobody").await.unwrap(), None);
}

pub async fn nothing_new_writes_nothing_but_a_heartbeat(mirror: Mirror) {
    mirror.start(&["all"]).await;
    let items = [run("a", 1, "RUNNING"), run("b", 2, "READY")];
    mirror.commit(&commit(10, 2, &items)).await;
    let events = mirror.events().await;
    let beat = 10 + HEARTBEAT.as_secs() as i64;
    for (now, noted) in [
        (11, 10),
        (beat - 1, 10),
        (beat, beat),
        (beat + 1, beat),
        (5, 5),
        (5, 5),
    ] {
        let written = mirror.commit(&commit(now, 2, &items)).await;
        assert_eq!(written, Written::default());
        let status = mirror.task_status(now).await;
        assert_eq!(
            status.last_success_at,
            Some(at(noted).to_string()),
            "at {now}"
        );
    }
    let unfinished = Commit {
        finished: false,
        ..commit(999, 2, &items)
    };
    mirror.commit(&unfinished).await;
    assert_eq!(
        mirror.task_status(999).await.last_success_at,
        Some(at(5).to_string()),
        "an unfinished poll is no sign of life"
    );
    assert_eq!(mirror.events().await, events);
    assert_eq!(mirror.owed("all").await, [1, 2]);
}

pub async fn of_two_entries_with_one_id_the_later_counts_and_raises_nothing_by_itself(
    mirror: Mirror,
) {
    mirror.start(&[]).await;
    let twice = [run("a", 1, "SUCCEEDED"), run("a", 2, "FAILED")];
    let mut first = commit(10, 2, &twice);
    first.judgement.history = Baseline::UpTo(at(2));
    assert_eq!(mirror.commit(&first).await.added, 1);
    assert_eq!(
        mirror.commit(&commit(11, 2, &twice)).await,
        Written::default()
    );
    assert_eq!(mirror.run("a").await.run.status, RunStatus::Failed);
    assert_eq!(mirror.events().await, []);
}

pub async fn what_a_list_shows_from_before_is_left_to_a_single_read(mirror: Mirror) {
    mirror.start(&[]).await;
    let seen = |now, status, end: Option<i64>| {
        let mut item = run("a", 1, status);
        item["finishedAt"] = json!(end.map(|second| at(second).to_string()));
        commit(now, 2, &[item, run("b", 2, "READY")])
    };
    mirror.commit(&seen(10, "SUCCEEDED", Some(5))).await;
    let before = mirror.run("a").await;
    let events = mirror.events().await;
    for (now, status, end) in [
        (11, "RUNNING", None),
        (12, "READY", None),
        (13, "FAILED", Some(4)),
    ] {
        let lagging = mirror.commit_all(&seen(now, status, end)).await;
        assert_eq!(lagging.unconfirmed, ["a"], "{status}");
        assert_eq!(lagging.written, Written::default(), "{status}");
        assert_eq!(mirror.run("a").await, before, "{status}");
    }
    assert_eq!(mirror.events().await, events);

    let resurrected = confirmed(seen(20, "RUNNING", None));
    assert_eq!(mirror.commit(&resurrected).await.events, 1);
    let again = mirror.run("a").await;
    assert_eq!(again.last_end, Some(at(5).to_string()));
    let lagging = mirror.commit_all(&seen(21, "SUCCEEDED", Some(5))).await;
    assert_eq!(lagging.unconfirmed, ["a"], "its end from before");
    assert_eq!(mirror.run("a").await, again);
    let ended = mirror.commit(&seen(30, "SUCCEEDED", Some(25))).await;
    assert_eq!((ended.status, ended.events), (1, 1), "a later end");
}

pub async fn a_run_that_names_another_task_belongs_to_the_feed_that_lists_it(mirror: Mirror) {
    mirror.start(&[]).await;
    let mut foreign = run("a", 1, "READY");
    foreign["actorTaskId"] = json!("another");
    for now in [10, 11] {
        let step = commit(now, 1, std::slice::from_ref(&foreign));
        mirror.commit(&step).await;
    }
    assert_eq!(
        mirror.run("a").await.run.task_id.as_deref(),
        Some("another")
    );
    for (feed, count) in [(FEED, 1), ("another", 0)] {
        let filter = EventFilter {
            feeds: Some(vec![feed.to_owned()]),
            ..EventFilter::default()
        };
        let read = mirror.reader.events_after(0, &filter, 100).await;
        let (events, _) = read.unwrap();
        assert_eq!(events.len(), count, "{feed}");
    }
    let open = mirror
        .store
        .open_runs(FEED, &Cursor::default(), 1_000, None)
        .await
        .unwrap();
    let expected = OpenRun {
        id: "a".into(),
        active: true,
    };
    assert_eq!(open.runs, [expected]);
}

pub async fn a_run_that_is_gone_is_marked_kept_and_no_longer_re_read(mirror: Mirror) {
    mirror.start(&[]).await;
    let open_runs = async || {
        let cursor = Cursor::default();
        let open = mirror
            .store
            .open_runs(FEED, &cursor, 1_000, None)
            .await
            .unwrap();
        open.runs.len()
    };
    let listed = commit(10, 1, &[run("a", 1, "RUNNING")]);
    mirror.commit(&listed).await;
    let gone = Commit {
        gone: vec!["a".into()],
        ..commit(11, 1, &[])
    };
    let removed = Written {
        removed: 1,
        ..Written::default()
    };
    assert_eq!(mirror.commit(&gone).await, removed);
    assert_eq!(mirror.commit(&gone).await, Written::default(), "once");
    let kept = mirror.run("a").await;
    assert_eq!((kept.removed, kept.run.status), (true, RunStatus::Running));
    assert_eq!(open_runs().await, 0);

    let back = commit(12, 1, &[run("a", 1, "RUNNING")]);
    assert_eq!(mirror.commit(&back).await.returned, 1);
    assert!(!mirror.run("a").await.removed, "it is back");
    assert_eq!(open_runs().await, 1);
}

pub async fn what_a_commit_changed_is_counted_by_kind(mirror: Mirror) {
    mirror.start(&[]).await;
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
    let gone = Commit {
        gone: vec!["back".into()],
        ..commit(11, 7, &[])
    };
    mirror.commit(&gone).await;

    let mut now: Vec<Value> = before[..4].to_vec();
    now[0]["status"] = json!("FAILED");
    now[1]["usageTotalUsd"] = json!(9);
    now[2]["buildId"] = json!("b");
    now.push(run("new", 8, "FAILED"));
    let step = Commit {
        gone: vec!["gone".into()],
        covered: Some(Covered {
            after: None,
            before: at(8),
        }),
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
    for id in ids.into_iter().chain(["new"]) {
        let removed = ["absent", "absent-too", "gone"].contains(&id);
        assert_eq!(mirror.run(id).await.removed, removed, "{id}");
    }
}

pub async fn a_commit_notifies_when_it_raises_events_and_nothing_else_does(mirror: Mirror) {
    let mut notified = mirror.store.notifications();
    mirror.start(&["all"]).await;
    let mut history = commit_of(10, &[("old", "SUCCEEDED")]);
    history.judgement.history = Baseline::UpTo(at(5));
    assert_eq!(mirror.commit(&history).await.added, 1);
    assert!(!notified.has_changed().unwrap(), "rows without events");

    let step = commit_of(20, &[("a", "READY"), ("b", "READY")]);
    mirror.commit(&step).await;
    assert!(notified.has_changed().unwrap());
    notified.mark_unchanged();
    mirror.commit(&step).await;
    assert!(!notified.has_changed().unwrap(), "nothing new");
    mirror.commit(&commit_of(21, &[("a", "RUNNING")])).await;
    assert!(
        notified.has_changed().unwrap(),
        "a sink that is not live may have to copy them"
    );
    notified.mark_unchanged();

    let exchange = Exchange {
        backlog: true,
        settled: vec![settled(1, "a", Verdict::Retry { at: at(30) })],
        set_aside: Some((Overdue::All, "gone".into())),
        ..exchange("all")
    };
    mirror.exchange(&exchange, 22).await;
    let all = of_all(Which::All);
    assert_eq!(
        mirror.store.retry_deliveries(&all, at(23)).await.unwrap(),
        3
    );
    assert_eq!(mirror.store.drop_deliveries(&all, at(24)).await.unwrap(), 3);
    assert!(!notified.has_changed().unwrap());
}
