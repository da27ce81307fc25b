//! Sinks that come and go, catch up and fail.

use super::builders::{HOOK, all_of, at, exchange, failures_of, limits, pairs, registration};
use super::mirror::Mirror;
use crate::model::{EXCHANGE_CHUNK, Exchange, Order, Overdue, Verdict};
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
    mirror.see(90, &[("c", "READY")]).await;
    let set_aside = async |until: i64| {
        mirror
            .set_aside(95, Overdue::OwedSince(at(until)), "failing")
            .await
    };
    assert_eq!(set_aside(50).await, 0, "it has not failed");
    mirror
        .settle(30, 1, "a", Verdict::Retry { at: at(31) })
        .await;
    assert_eq!(
        set_aside(29).await,
        0,
        "it has not been failing for so long"
    );
    assert_eq!(set_aside(50).await, 3, "all but what is new");
    assert_eq!(mirror.due(95).await, pairs(&[(4, "c")]));
    assert_eq!(mirror.set_aside(96, Overdue::All, "gone").await, 1);
    assert_eq!(mirror.due(96).await, []);
}

pub async fn what_is_in_flight_is_not_set_aside(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    let count = EXCHANGE_CHUNK + 3;
    mirror.see_many(10, "r", count, &[all_of(HOOK)]).await;
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
    mirror
        .see_many(10, "r", EXCHANGE_CHUNK + 1, &[all_of(HOOK)])
        .await;
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
    let failures = failures_of("failures");
    let sinks = [all_of(HOOK), all_of("now"), all_of("all"), failures.clone()];
    let hook = registration(HOOK, false);
    let now = registration("now", false);
    let beginning = ["all", "failures"].map(|name| registration(name, true));
    let four = [&[hook.clone(), now][..], &beginning[..]].concat();
    mirror.store.register(&four, at(30)).await.unwrap();
    // While the past is being copied, the present waits for its turn: the order of a run must not be lost.
    mirror.see_for(40, &[("a", "SUCCEEDED")], &sinks).await;
    assert_eq!(mirror.owed("now").await, [5]);
    assert!(mirror.owed("all").await.is_empty());
    let status = mirror.sink("all").await.unwrap();
    assert_eq!(status.state, SinkState::CatchingUp);
    mirror.catch_up(100, &all_of("all")).await;
    mirror.catch_up(100, &failures).await;
    assert_eq!(mirror.owed("all").await, [1, 2, 3, 4, 5]);
    assert_eq!(mirror.owed("failures").await, [3]);
    mirror.see_for(50, &[("c", "READY")], &sinks).await;
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
    mirror.catch_up(61, &all_of("all")).await;
    assert_eq!(mirror.owed("all").await, [1, 2, 3, 4, 5, 6]);
}

pub async fn a_long_backlog_is_copied_in_chunks(mirror: Mirror) {
    let chunk = EXCHANGE_CHUNK as i64;
    mirror.start(&[]).await;
    mirror.see_many(10, "r", EXCHANGE_CHUNK - 1, &[]).await;
    mirror.see_many(10, "s", EXCHANGE_CHUNK - 1, &[]).await;
    mirror
        .see_for(20, &[("r0", "FAILED"), ("s0", "RUNNING")], &[])
        .await;
    let beginning = ["all", "failures"];
    mirror.register_from_beginning(&beginning, 30).await;
    let subscriptions = [all_of("all"), failures_of("failures")];
    let all = &subscriptions[0];

    assert!(!mirror.copy_backlog(40, all).await);
    let first: Vec<i64> = (1..=chunk).collect();
    assert_eq!(mirror.owed("all").await, first);
    // An event of a run whose earlier ones are still to be copied, and a start in between.
    mirror
        .see_for(41, &[("s0", "FAILED")], &subscriptions)
        .await;
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

    mirror.catch_up(46, &subscriptions[1]).await;
    assert_eq!(
        mirror.owed("failures").await,
        [2 * chunk - 1, 2 * chunk + 1]
    );
}

pub async fn a_sink_that_is_removed_keeps_what_it_is_owed_and_goes_on_from_there(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.settle(11, 1, "a", Verdict::Delivered).await;
    mirror.register(&[], 20).await;
    mirror
        .settle(25, 2, "b", Verdict::Retry { at: at(26) })
        .await;
    mirror.see_for(30, &[("a", "RUNNING")], &[]).await;
    let status = mirror.sink(HOOK).await.unwrap();
    assert_eq!((status.state, status.pending), (SinkState::Removed, 1));

    // Registered again, from the beginning: it gets the events it missed.
    mirror.register_from_beginning(&[HOOK], 40).await;
    mirror.catch_up(100, &all_of(HOOK)).await;
    let status = mirror.sink(HOOK).await.unwrap();
    assert_eq!(
        status.failing_since, None,
        "what it did long ago does not count"
    );
    assert_eq!(mirror.due(100).await, pairs(&[(2, "b"), (3, "a")]));
    mirror.settle(50, 2, "b", Verdict::Delivered).await;
    mirror.settle(50, 3, "a", Verdict::Delivered).await;
    mirror.register(&[], 60).await;
    assert!(
        mirror.reader.sinks().await.unwrap().is_empty(),
        "nothing is owed to it, so it is forgotten"
    );
    mirror.see_for(70, &[("a", "SUCCEEDED")], &[]).await;
    mirror.register(&[HOOK], 80).await;
    assert!(mirror.copy_backlog(80, &all_of(HOOK)).await);
    assert_eq!(mirror.due(100).await, [], "it starts now");
    mirror.see(90, &[("a", "RUNNING")]).await;
    assert_eq!(mirror.due(100).await.len(), 1);
}

/// A worker may outlive a moment in which its sink was not configured.
pub async fn every_exchange_says_whether_the_sink_is_live(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    let is_live = async || mirror.exchange(&exchange(HOOK), 10).await.live;
    assert!(is_live().await);
    mirror.register(&[], 20).await;
    assert!(is_live().await, "nothing is to be copied for it");
    mirror.see_for(30, &[("a", "READY")], &[]).await;
    mirror.register_from_beginning(&[HOOK], 40).await;
    assert!(!is_live().await);
    mirror.catch_up(50, &all_of(HOOK)).await;
    assert!(is_live().await);
    assert_eq!(mirror.due(50).await, pairs(&[(1, "a")]));
}
