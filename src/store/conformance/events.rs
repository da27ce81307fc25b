//! The event log.

use serde_json::{Value, json};

use super::builders::{FEED, at, commit, commit_of, confirmed, run, task};
use super::mirror::Mirror;

pub async fn ids_and_bodies_of_events(mirror: Mirror) {
    mirror.start(&[]).await;
    for (now, status) in [(10, "READY"), (20, "RUNNING")] {
        let step = commit(now, 1, &[run("odd.id~1", 1, status)]);
        mirror.commit(&step).await;
    }
    assert_eq!(
        mirror.event_fields("id").await,
        ["evt_odd%2Eid%7E1_CREATED", "evt_odd%2Eid%7E1_RUNNING_-_1"]
    );
    let bodies = mirror.events().await;
    let (seq, text) = &bodies[1];
    let body: Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        body,
        json!({
            "id": "evt_odd%2Eid%7E1_RUNNING_-_1", "sequence": 2, "userId": "user", "createdAt": "1970-01-01T00:00:20.000Z",
            "eventType": "ACTOR.RUN.RUNNING",
            "eventData": {"actorId": "act", "actorTaskId": "task", "actorRunId": "odd.id~1"},
            "status": "RUNNING", "previousStatus": "READY", "resource": run("odd.id~1", 1, "RUNNING"),
        })
    );
    assert_eq!(*seq, 2);
    assert!(
        text.starts_with(r#"{"id":"evt_"#) && !text.contains('\n'),
        "one line, the id first"
    );
}

pub async fn ids_are_made_of_what_happened(mirror: Mirror) {
    mirror.start(&[]).await;
    // Two lives, both with an end, and a cost that comes late.
    let seen = [
        ("READY", None, 1.0),
        ("RUNNING", None, 1.0),
        ("FAILED", Some(30), 1.0),
        ("FAILED", Some(30), 2.0),
        ("READY", None, 2.0),
        ("RUNNING", None, 2.0),
        ("SUCCEEDED", Some(60), 3.0),
    ];
    for (now, (status, end, cost)) in (10..).step_by(10).zip(seen) {
        let mut item = run("a", 1, status);
        item["finishedAt"] = json!(end.map(|second| at(second).to_string()));
        item["usageTotalUsd"] = json!(cost);
        mirror.commit(&confirmed(commit(now, 1, &[item]))).await;
    }
    let expected = [
        "evt_a_CREATED",
        "evt_a_RUNNING_-_1",
        "evt_a_FAILED_30000",
        "evt_a_RESURRECTED_30000",
        "evt_a_RUNNING_30000_1",
        "evt_a_SUCCEEDED_60000",
    ];
    assert_eq!(mirror.event_fields("id").await, expected);
}

pub async fn transitions_that_cannot_be_told_apart_get_different_ids(mirror: Mirror) {
    mirror.start(&[]).await;
    for (now, status) in (10..).zip(["FAILED", "READY", "FAILED", "READY", "ODD", "READY", "ODD"]) {
        let step = confirmed(commit_of(now, &[("a", status)]));
        mirror.commit(&step).await;
    }
    let expected = [
        "evt_a_CREATED",
        "evt_a_FAILED_-",
        "evt_a_RESURRECTED_-",
        "evt_a_FAILED_-_x4",
        "evt_a_RESURRECTED_-_x5",
        "evt_a_ODD_-_1",
        "evt_a_READY_-_2",
        "evt_a_ODD_-_3",
    ];
    assert_eq!(mirror.event_fields("id").await, expected);
}

/// Raises events 1 and 3 for [`FEED`], 2 and 4 for `other`.
async fn two_feeds(mirror: &Mirror) {
    mirror.start(&["all"]).await;
    mirror.store.open_feed(&task("other"), at(0)).await.unwrap();
    for (feed, id) in [(FEED, "a"), ("other", "b"), (FEED, "c"), ("other", "d")] {
        let step = commit_of(10, &[(id, "READY")]);
        mirror.store.commit(feed, step).await.unwrap();
    }
}

pub async fn events_are_read_in_order_in_parts_and_by_feed(mirror: Mirror) {
    two_feeds(&mirror).await;
    let other = ["other".to_owned()];
    let both = ["other".to_owned(), FEED.to_owned()];
    for (after, feeds, limit, expected, through) in [
        (0, None, 100, &[1, 2, 3, 4][..], 4),
        (0, None, 3, &[1, 2, 3], 3),
        (3, None, 3, &[4], 4),
        (4, None, 3, &[], 4),
        (9, None, 3, &[], 9),
        (0, Some(&other[..]), 100, &[2, 4], 4),
        (0, Some(&other), 1, &[2], 2),
        (0, Some(&both), 100, &[1, 2, 3, 4], 4),
        (0, Some(&[]), 100, &[], 4),
    ] {
        let (events, looked) = mirror
            .reader
            .events_after(after, feeds, limit)
            .await
            .unwrap();
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(
            (seqs.as_slice(), looked),
            (expected, through),
            "{limit} of {feeds:?} after {after}"
        );
    }
}

pub async fn the_last_events_are_found_from_the_end(mirror: Mirror) {
    two_feeds(&mirror).await;
    let other = ["other".to_owned()];
    for (count, feeds, expected) in [
        (0, None, 4),
        (1, None, 3),
        (4, None, 0),
        (9, None, 0),
        (1, Some(&other[..]), 2),
        (2, Some(&other[..]), 0),
    ] {
        let before = mirror.reader.seq_before_last(count, feeds).await.unwrap();
        assert_eq!(before, expected, "the last {count} of {feeds:?}");
    }
}
