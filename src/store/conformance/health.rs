//! What health checks and metrics are told.

use super::builders::{FEED, HOOK, at, commit, commit_of, confirmed, run, task};
use super::mirror::Mirror;
use crate::model::{EventType, Order, RunStatus, Task};
use crate::store::reports::FeedHealth;
use crate::store::states::Condition;
use crate::sync::{Commit, Unreadable};

pub async fn a_database_answers_before_anything_is_in_it(mirror: Mirror) {
    mirror.reader.ping().await.unwrap();
    let health = mirror.reader.health().await.unwrap();
    assert_eq!((health.feeds, health.unreadable_items), (Vec::new(), 0));
    assert!(health.schema_version > 0);
    assert_eq!(mirror.reader.runs_by_status().await.unwrap(), []);
}

pub async fn health_tells_of_every_feed(mirror: Mirror) {
    let named = Task {
        name: Some("my-task".into()),
        username: Some("janedoe".into()),
        ..task("another")
    };
    mirror.start(&[]).await;
    mirror.store.open_feed(&named, at(0)).await.unwrap();
    let mut first = commit(10, 1, &[]);
    first.feed.complete = false;
    first.unreadable = vec![(
        0,
        Unreadable {
            id: None,
            reason: "no reason".into(),
            body: "{".into(),
        },
    )];
    mirror.commit(&first).await;
    let failed = mirror
        .store
        .record_failure("another", Condition::Forbidden, "no", at(5));
    failed.await.unwrap();
    let health = mirror.reader.health().await.unwrap();
    let another = FeedHealth {
        id: "another".into(),
        task: "janedoe~my-task".into(),
        state: Condition::Forbidden,
        last_success_at: None,
    };
    let this = FeedHealth {
        id: FEED.into(),
        task: FEED.into(),
        state: Condition::FirstSync,
        last_success_at: Some(at(10)),
    };
    assert_eq!(health.feeds, [another, this]);
    assert_eq!(health.unreadable_items, 1);
    mirror.reader.ping().await.unwrap();
}

pub async fn listed_runs_are_counted_by_status(mirror: Mirror) {
    mirror.start(&[]).await;
    let runs = [
        ("a", "READY"),
        ("b", "FAILED"),
        ("c", "FAILED"),
        ("d", "ODD"),
        ("e", "FAILED"),
    ];
    mirror.see(10, &runs).await;
    let gone = Commit {
        gone: vec!["c".into()],
        ..commit(11, 0, &[])
    };
    mirror.commit(&gone).await;
    let mut counts = mirror.reader.runs_by_status().await.unwrap();
    counts.sort_unstable_by_key(|(_, count)| *count);
    counts[..2].sort_unstable_by_key(|(status, _)| status.to_string());
    let odd = RunStatus::Other("ODD".into());
    assert_eq!(
        counts,
        [(odd, 1), (RunStatus::Ready, 1), (RunStatus::Failed, 2)]
    );
}

pub async fn a_commit_says_which_events_it_raised(mirror: Mirror) {
    mirror.start(&[]).await;
    let first = mirror
        .commit_all(&commit_of(10, &[("a", "READY"), ("b", "FAILED")]))
        .await;
    let failed = EventType::Entered(RunStatus::Failed);
    let expected = [(EventType::Created, 2), (failed, 1)];
    assert_eq!(first.raised, expected.into());
    let back = confirmed(commit(11, 0, &[run("b", 1, "RUNNING")]));
    let back = mirror.commit_all(&back).await;
    assert_eq!(back.raised, [(EventType::Resurrected, 1)].into());
    let nothing = mirror.commit_all(&commit(12, 0, &[])).await;
    assert!(nothing.raised.is_empty());
}

pub async fn what_is_due_says_when_it_was_observed(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY")]).await;
    let fetched = mirror.fetch(Order::Run, 99, &[]).await;
    assert_eq!(fetched.events[0].observed_at, at(10));
}
