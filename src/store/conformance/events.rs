//! The event log.

use serde_json::{Value, json};

use super::builders::{FEED, at, commit, commit_of, confirmed, run, task};
use super::mirror::Mirror;
use crate::store::reports::EventFilter;

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

/// A filter by feeds.
fn of(feeds: &[&str]) -> EventFilter {
    EventFilter {
        feeds: Some(feeds.iter().map(ToString::to_string).collect()),
        ..EventFilter::default()
    }
}

pub async fn events_are_read_in_order_in_parts_and_by_feed(mirror: Mirror) {
    two_feeds(&mirror).await;
    let (all, other) = (EventFilter::default(), of(&["other"]));
    for (after, filter, limit, expected, through) in [
        (0, &all, 100, &[1, 2, 3, 4][..], 4),
        (0, &all, 3, &[1, 2, 3], 3),
        (3, &all, 3, &[4], 4),
        (4, &all, 3, &[], 4),
        (9, &all, 3, &[], 9),
        (0, &other, 100, &[2, 4], 4),
        (0, &other, 1, &[2], 2),
        (0, &of(&["other", FEED]), 100, &[1, 2, 3, 4], 4),
        (0, &of(&[]), 100, &[], 4),
    ] {
        let read = mirror.reader.events_after(after, filter, limit).await;
        let (events, looked) = read.unwrap();
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(
            (seqs.as_slice(), looked),
            (expected, through),
            "{limit} of {filter:?} after {after}"
        );
    }
}

pub async fn the_last_events_are_found_from_the_end(mirror: Mirror) {
    two_feeds(&mirror).await;
    let (all, other) = (EventFilter::default(), of(&["other"]));
    for (count, filter, expected) in [
        (0, &all, 4),
        (1, &all, 3),
        (4, &all, 0),
        (9, &all, 0),
        (1, &other, 2),
        (2, &other, 0),
    ] {
        let before = mirror.reader.seq_before_last(count, filter).await;
        assert_eq!(before.unwrap(), expected, "the last {count} of {filter:?}");
    }
}

pub async fn events_are_selected_by_type_and_status(mirror: Mirror) {
    mirror.start(&[]).await;
    for (now, status) in [(10, "READY"), (20, "RUNNING"), (30, "FAILED")] {
        mirror.commit(&commit_of(now, &[("a", status)])).await;
    }
    // Raises two events at once.
    mirror.commit(&commit_of(40, &[("b", "FAILED")])).await;
    let filter = |types: &[&str], statuses: &[&str]| {
        let some = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            (!texts.is_empty()).then_some(texts)
        };
        EventFilter {
            feeds: Some(vec![FEED.to_owned()]),
            types: some(types),
            statuses: some(statuses),
            ..EventFilter::default()
        }
    };
    for (types, statuses, expected) in [
        (&[][..], &[][..], &[1, 2, 3, 4, 5][..]),
        (&["ACTOR.RUN.CREATED"], &[], &[1, 4]),
        (&["ACTOR.RUN.CREATED", "ACTOR.RUN.RUNNING"], &[], &[1, 2, 4]),
        (&[], &["FAILED"], &[3, 4, 5]),
        (&["ACTOR.RUN.CREATED"], &["FAILED"], &[4]),
        (&["ACTOR.RUN.ABORTED"], &[], &[]),
    ] {
        let filter = filter(types, statuses);
        let (events, through) = mirror.reader.events_after(0, &filter, 100).await.unwrap();
        let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
        assert_eq!((seqs.as_slice(), through), (expected, 5), "{filter:?}");
        // All but the first of them.
        let others = (expected.len() as u64).saturating_sub(1);
        let before = mirror.reader.seq_before_last(others, &filter).await;
        assert_eq!(before.unwrap(), expected.first().copied().unwrap_or(0));
    }
}

pub async fn the_events_since_a_time_are_found_from_the_end(mirror: Mirror) {
    mirror.start(&[]).await;
    for (now, status) in [(10, "READY"), (20, "RUNNING"), (30, "FAILED")] {
        mirror.commit(&commit_of(now, &[("a", status)])).await;
    }
    for (second, before) in [(0, 0), (10, 0), (11, 1), (20, 1), (30, 2), (31, 3), (99, 3)] {
        let seq = mirror.reader.seq_before(at(second)).await.unwrap();
        assert_eq!(seq, before, "{second} s");
    }
}
