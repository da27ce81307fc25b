//! Sinks that come and go, catch up and fail.

use std::time::Duration;

use super::builders::{
    HOOK, at, exchange, failures_of, limits, of_all, pairs, registration, registration_of, settled,
};
use super::mirror::Mirror;
use crate::model::{EXCHANGE_CHUNK, Exchange, Order, Overdue, TEMPORARY_SINK, Verdict};
use crate::store::reports::{Selection, Which};
use crate::store::states::SinkState;

pub async fn what_status_shows_of_a_sink(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror
        .settle(20, 1, "a", Verdict::Retry { at: at(30) })
        .await;
    mirror.settle(21, 2, "b", Verdict::SetAside).await;
    let status = mirror.sink(HOOK).await.unwrap();
    assert_eq!(
        (status.state, status.pending, status.dead),
        (SinkState::Failing, 1, 1)
    );
    assert_eq!(status.r#type, "webhook");
    assert_eq!(status.oldest, Some(at(10).to_string()));
    assert_eq!(
        status.failing_since,
        Some(at(20).to_string()),
        "since the first failure"
    );
    assert_eq!(status.last_error.as_deref(), Some("no"));
    mirror.settle(30, 1, "a", Verdict::Delivered).await;
    let status = mirror.sink(HOOK).await.unwrap();
    assert_eq!(
        (status.state, status.pending, status.dead),
        (SinkState::Ok, 0, 1)
    );
    assert_eq!(
        (status.last_delivered_at, status.failing_since),
        (Some(at(30).to_string()), None)
    );
}

pub async fn what_a_failing_sink_has_been_owed_for_too_long_is_set_aside(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    let set_aside = async |seconds| {
        let which = Overdue::OwedFor(Duration::from_secs(seconds));
        mirror.set_aside(95, which, "failing").await
    };
    assert_eq!(set_aside(1).await, 0, "it has not failed");
    mirror.fail(30, 60).await;
    assert_eq!(set_aside(1).await, 0, "it has not failed for so long");
    mirror.fail(90, 60).await;
    mirror.see(91, &[("c", "READY")]).await;
    // The mirror was off for long.
    mirror.fail(9_000_000, 60).await;
    assert_eq!(set_aside(121).await, 0, "two pauses");
    mirror.fail(9_000_010, 60).await;
    assert_eq!(set_aside(131).await, 0, "and part of one");
    assert_eq!(set_aside(130).await, 3, "all but what is new");
    assert_eq!(mirror.due(9_000_020).await, pairs(&[(4, "c")]));
    mirror.settle(9_000_020, 4, "c", Verdict::Delivered).await;
    mirror.see(9_000_021, &[("d", "READY")]).await;
    assert_eq!(set_aside(0).await, 1, "what is owed since it works");
    mirror.see(9_000_022, &[("e", "READY")]).await;
    assert_eq!(mirror.set_aside(96, Overdue::All, "gone").await, 1);
    assert_eq!(mirror.due(9_000_030).await, []);
}

pub async fn what_is_in_flight_is_not_set_aside(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    let count = EXCHANGE_CHUNK + 3;
    mirror.see_many(10, "r", count).await;
    let clear = Exchange {
        set_aside: Some((Overdue::All, "gone".into())),
        fetch: limits(Order::Run, &[1, 3]),
        ..exchange(HOOK)
    };
    assert_eq!(mirror.exchange(&clear, 20).await.set_aside, EXCHANGE_CHUNK);
    assert_eq!(mirror.exchange(&clear, 20).await.set_aside, 1);
    assert_eq!(mirror.due(20).await, pairs(&[(1, "r0"), (3, "r2")]));
}

pub async fn setting_aside_ends_after_a_chunk(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see_many(10, "r", EXCHANGE_CHUNK + 1).await;
    for (count, dead) in [
        (EXCHANGE_CHUNK, EXCHANGE_CHUNK),
        (1, EXCHANGE_CHUNK + 1),
        (0, EXCHANGE_CHUNK + 1),
    ] {
        assert_eq!(mirror.set_aside(20, Overdue::All, "gone").await, count);
        assert_eq!(mirror.sink(HOOK).await.unwrap().dead, dead as u64);
    }
}

pub async fn a_sink_added_later_starts_now_or_at_the_beginning(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY"), ("b", "FAILED")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    let hook = registration(HOOK, false);
    let now = registration("now", false);
    let beginning = ["all", "failures"].map(|name| registration(name, true));
    let four = [&[hook.clone(), now][..], &beginning[..]].concat();
    mirror.store.register(&four, at(30)).await.unwrap();
    // While the past is being copied, the present waits for its turn: the order of a run must not be lost.
    mirror.see(40, &[("a", "SUCCEEDED")]).await;
    assert_eq!(mirror.owed("now").await, [5]);
    assert!(mirror.owed("all").await.is_empty());
    let status = mirror.sink("all").await.unwrap();
    assert_eq!(status.state, SinkState::CatchingUp);
    mirror.catch_up(100, "all").await;
    mirror.catch_up(100, "failures").await;
    assert_eq!(mirror.owed("all").await, [1, 2, 3, 4, 5]);
    assert_eq!(mirror.owed("failures").await, [3]);
    mirror.see(50, &[("c", "READY")]).await;
    assert_eq!(mirror.owed("all").await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(mirror.owed("failures").await, [3]);

    // Registering the same sinks without one restarts no backlog, and removes only that one.
    let three = [&[hook][..], &beginning[..]].concat();
    mirror.store.register(&three, at(60)).await.unwrap();
    let sinks = mirror.reader.sinks().await.unwrap();
    let states: Vec<_> = sinks
        .iter()
        .map(|sink| (sink.name.as_str(), sink.state))
        .collect();
    let expected = [
        ("all", SinkState::Ok),
        ("failures", SinkState::Ok),
        (HOOK, SinkState::Ok),
        ("now", SinkState::Removed),
    ];
    assert_eq!(states, expected);
    mirror.catch_up(61, "all").await;
    assert_eq!(mirror.owed("all").await, [1, 2, 3, 4, 5, 6]);
}

pub async fn a_long_backlog_is_copied_in_chunks(mirror: Mirror) {
    let chunk = EXCHANGE_CHUNK as i64;
    mirror.start(&[]).await;
    mirror.see_many(10, "r", EXCHANGE_CHUNK - 1).await;
    mirror.see_many(10, "s", EXCHANGE_CHUNK - 1).await;
    mirror.see(20, &[("r0", "FAILED"), ("s0", "RUNNING")]).await;
    let beginning = ["all", "failures"];
    mirror.register_from_beginning(&beginning, 30).await;
    let all = "all";

    assert!(!mirror.copy_backlog(40, all).await);
    let first: Vec<i64> = (1..=chunk).collect();
    assert_eq!(mirror.owed("all").await, first);
    // An event of a run whose earlier ones are still to be copied, and a start in between.
    mirror.see(41, &[("s0", "FAILED")]).await;
    assert_eq!(mirror.owed("all").await, first);
    mirror.register_from_beginning(&beginning, 42).await;
    assert!(!mirror.copy_backlog(43, all).await, "there may be more");
    assert_eq!(mirror.owed("all").await.len(), 2 * EXCHANGE_CHUNK);
    assert_eq!(
        mirror.sink("all").await.unwrap().state,
        SinkState::CatchingUp
    );
    assert!(mirror.copy_backlog(44, all).await);
    assert!(mirror.copy_backlog(45, all).await, "and stays so");
    let complete: Vec<i64> = (1..=2 * chunk + 1).collect();
    assert_eq!(mirror.owed("all").await, complete);
    assert_eq!(mirror.sink("all").await.unwrap().state, SinkState::Ok);

    mirror.catch_up(46, "failures").await;
    assert_eq!(
        mirror.owed("failures").await,
        [2 * chunk - 1, 2 * chunk + 1]
    );
}

pub async fn a_sink_that_comes_back_goes_on_where_it_stopped(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.settle(11, 1, "a", Verdict::Delivered).await;
    mirror.register(&[], 20).await;
    mirror
        .settle(25, 2, "b", Verdict::Retry { at: at(26) })
        .await;
    mirror.see(30, &[("a", "RUNNING")]).await;
    assert_eq!(mirror.owed(HOOK).await, [2], "the log keeps what comes");
    let status = mirror.sink(HOOK).await.unwrap();
    assert_eq!((status.state, status.pending), (SinkState::Removed, 1));
    let subscription = mirror.subscription(HOOK).await.unwrap();
    assert_eq!((subscription.position, subscription.pending), (2, 2));

    mirror.register(&[HOOK], 40).await;
    mirror.see(41, &[("b", "RUNNING")]).await;
    assert_eq!(mirror.owed(HOOK).await, [2], "in their turn");
    mirror.catch_up(100, HOOK).await;
    let status = mirror.sink(HOOK).await.unwrap();
    assert_eq!(
        status.failing_since, None,
        "what it did long ago does not count"
    );
    assert_eq!(mirror.due(100).await, pairs(&[(2, "b"), (3, "a")]));
    for (seq, run) in [(2, "b"), (3, "a"), (4, "b")] {
        mirror.settle(50, seq, run, Verdict::Delivered).await;
    }
    mirror.register(&[], 60).await;
    assert!(
        mirror.reader.sinks().await.unwrap().is_empty(),
        "nothing is owed to it now"
    );
    mirror.see(70, &[("a", "SUCCEEDED")]).await;
    let subscription = mirror.subscription(HOOK).await.unwrap();
    assert_eq!((subscription.position, subscription.pending), (4, 1));
    assert!(!subscription.configured);
    mirror.register(&[HOOK], 80).await;
    mirror.catch_up(80, HOOK).await;
    assert_eq!(mirror.due(100).await, pairs(&[(5, "a")]));
    let subscription = mirror.subscription(HOOK).await.unwrap();
    assert_eq!((subscription.position, subscription.missed), (5, 0));
}

pub async fn a_commit_owes_its_events_to_every_subscription(mirror: Mirror) {
    mirror.start(&[HOOK, "failures"]).await;
    mirror.see(10, &[("a", "READY"), ("b", "FAILED")]).await;
    assert_eq!(mirror.owed(HOOK).await, [1, 2, 3]);
    assert_eq!(mirror.owed("failures").await, [3]);
    // Other filters count from the next commit on.
    let other = [
        registration(HOOK, false),
        registration_of(failures_of("failures"), false),
    ]
    .map(|sink| match sink.subscription.sink.as_str() {
        HOOK => registration_of(failures_of(HOOK), false),
        _ => sink,
    });
    mirror.store.register(&other, at(20)).await.unwrap();
    mirror.see(30, &[("a", "FAILED"), ("c", "READY")]).await;
    assert_eq!(mirror.owed(HOOK).await, [1, 2, 3, 4]);
    let subscription = mirror.subscription(HOOK).await.unwrap();
    assert_eq!(subscription.events, Some(vec!["ACTOR.RUN.FAILED".into()]));
}

pub async fn a_temporary_subscription_changes_no_other_and_gets_nothing_afterwards(mirror: Mirror) {
    let temporary = registration(TEMPORARY_SINK, false);
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY")]).await;
    mirror
        .store
        .open_temporary(&temporary, at(20))
        .await
        .unwrap();
    mirror.see(21, &[("b", "READY"), ("c", "READY")]).await;
    let done = Exchange {
        settled: vec![settled(2, "b", Verdict::Delivered)],
        ..exchange(TEMPORARY_SINK)
    };
    mirror.exchange(&done, 22).await;
    mirror.store.close_temporary(at(23)).await.unwrap();
    mirror.see(24, &[("d", "READY")]).await;
    assert_eq!(mirror.owed(HOOK).await, [1, 2, 3, 4]);
    assert_eq!(mirror.owed(TEMPORARY_SINK).await, [3]);

    // The next one gets what was left, and what comes from then on.
    mirror
        .store
        .open_temporary(&temporary, at(30))
        .await
        .unwrap();
    mirror.see(31, &[("e", "READY")]).await;
    assert_eq!(mirror.owed(TEMPORARY_SINK).await, [3, 5]);
    // A process that was killed leaves it open; a configuration file closes it.
    mirror.register(&[HOOK], 40).await;
    mirror.see(41, &[("f", "READY")]).await;
    assert_eq!(mirror.owed(TEMPORARY_SINK).await, [3, 5]);
    assert_eq!(mirror.owed(HOOK).await.len(), 6);

    let all = Selection {
        sink: Some(TEMPORARY_SINK.into()),
        ..of_all(Which::All)
    };
    mirror.store.drop_deliveries(&all, at(50)).await.unwrap();
    mirror
        .store
        .open_temporary(&temporary, at(51))
        .await
        .unwrap();
    mirror.store.close_temporary(at(52)).await.unwrap();
    assert_eq!(mirror.subscription(TEMPORARY_SINK).await, None);
}

pub async fn a_subscription_can_be_removed_for_good(mirror: Mirror) {
    mirror.start(&[HOOK, "other"]).await;
    mirror.see_many(10, "r", 12_000).await;
    let removed = mirror.store.remove_subscription(HOOK).await.unwrap();
    assert_eq!(removed, Some(12_000));
    assert_eq!(mirror.subscription(HOOK).await, None);
    assert!(mirror.owed(HOOK).await.is_empty());
    assert_eq!(mirror.owed("other").await.len(), 12_000);
    let again = mirror.store.remove_subscription(HOOK).await.unwrap();
    assert_eq!(again, None);
    mirror.register(&[HOOK, "other"], 20).await;
    mirror.see(30, &[("new", "READY")]).await;
    assert_eq!(mirror.owed(HOOK).await, [12_001], "it is new");
}

/// A worker may outlive a moment in which its sink was not configured.
pub async fn every_exchange_says_whether_the_sink_is_live(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    let is_live = async || mirror.exchange(&exchange(HOOK), 10).await.live;
    assert!(is_live().await);
    mirror.register(&[], 20).await;
    assert!(is_live().await, "nothing is to be copied for it");
    mirror.see(30, &[("a", "READY")]).await;
    mirror.register(&[HOOK], 40).await;
    assert!(!is_live().await);
    mirror.catch_up(50, HOOK).await;
    assert!(is_live().await);
    assert_eq!(mirror.due(50).await, pairs(&[(1, "a")]));
}
