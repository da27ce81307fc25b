//! The event log.

use serde_json::{Value, json};

use super::builders::{FEED, all_of, at, commit, commit_of, run, task};
use super::mirror::Mirror;

pub async fn ids_and_bodies_of_events(mirror: Mirror) {
    mirror.start(&[]).await;
    for (now, status) in [(10, "READY"), (20, "RUNNING")] {
        let step = commit(now, 1, &[run("odd.id/1", 1, status)]);
        mirror.commit(&step, &[]).await;
    }
    assert_eq!(
        mirror.event_fields("id").await,
        ["evt_odd%2Eid%2F1_1", "evt_odd%2Eid%2F1_2"]
    );
    let bodies = mirror.events().await;
    let (seq, text) = &bodies[1];
    let body: Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        body,
        json!({
            "id": "evt_odd%2Eid%2F1_2", "sequence": 2, "userId": "user", "createdAt": "1970-01-01T00:00:20.000Z",
            "eventType": "ACTOR.RUN.RUNNING",
            "eventData": {"actorId": "act", "actorTaskId": "task", "actorRunId": "odd.id/1"},
            "status": "RUNNING", "previousStatus": "READY", "resource": run("odd.id/1", 1, "RUNNING"),
        })
    );
    assert_eq!(*seq, 2);
    assert!(
        text.starts_with(r#"{"id":"evt_"#) && !text.contains('\n'),
        "one line, the id first"
    );
}

/// Raises events 1 and 3 for [`FEED`], 2 and 4 for `other`.
async fn two_feeds(mirror: &Mirror) {
    mirror.start(&["all"]).await;
    mirror.store.open_feed(&task("other"), at(0)).await.unwrap();
    for (feed, id) in [(FEED, "a"), ("other", "b"), (FEED, "c"), ("other", "d")] {
        let step = commit_of(10, &[(id, "READY")]);
        mirror
            .store
            .commit(feed, step, &[all_of("all")])
            .await
            .unwrap();
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
