//! Deliveries as people look after them.

use std::time::Duration;

use super::builders::{HOOK, at, exchange, of_all, of_event, pairs};
use super::mirror::Mirror;
use crate::model::{EXCHANGE_CHUNK, Order, Overdue, Verdict};
use crate::store::reports::{Selection, Which};
use crate::store::states::DeliveryState::{Dead, Retrying, Waiting};

/// Events 1, 2 and 3 of the runs a, b and c, then 4 of a and 5 of b: the first dead, the second to be retried.
async fn one_dead_one_retrying(mirror: &Mirror) {
    mirror.start(&[HOOK]).await;
    mirror
        .see(10, &[("a", "READY"), ("b", "READY"), ("c", "READY")])
        .await;
    mirror.see(20, &[("a", "RUNNING"), ("b", "RUNNING")]).await;
    mirror.settle(30, 1, "a", Verdict::SetAside).await;
    mirror
        .settle(30, 2, "b", Verdict::Retry { at: at(900) })
        .await;
}

pub async fn deliveries_are_listed_by_state_oldest_first(mirror: Mirror) {
    one_dead_one_retrying(&mirror).await;
    let dead = [(1, Dead)];
    let failed = [(1, Dead), (2, Retrying)];
    let all = [
        (1, Dead),
        (2, Retrying),
        (3, Waiting),
        (4, Waiting),
        (5, Waiting),
    ];
    assert_eq!(mirror.states(Which::Dead).await, dead);
    assert_eq!(mirror.states(Which::Failed).await, failed);
    assert_eq!(mirror.states(Which::All).await, all);
    let first = &mirror
        .reader
        .deliveries(&of_all(Which::All), 1)
        .await
        .unwrap()[..];
    assert_eq!((first.len(), first[0].id.as_str()), (1, "evt_a_CREATED"));
}

pub async fn an_event_can_be_tried_again_or_dropped(mirror: Mirror) {
    one_dead_one_retrying(&mirror).await;
    let store = &mirror.store;
    let other = Selection {
        sink: Some("other".into()),
        ..of_all(Which::Failed)
    };
    assert_eq!(store.retry_deliveries(&other, at(40)).await.unwrap(), 0);

    let failed = of_all(Which::Failed);
    assert_eq!(store.retry_deliveries(&failed, at(40)).await.unwrap(), 2);
    assert_eq!(
        mirror.due(40).await,
        pairs(&[(3, "c"), (1, "a"), (2, "b")]),
        "one of each run, the oldest"
    );
    let fetched = mirror.fetch(Order::Run, 40, &[]).await;
    assert!(
        fetched.events.iter().all(|due| due.attempts == 0),
        "as if never attempted"
    );

    let second = of_event(2);
    assert_eq!(store.drop_deliveries(&second, at(50)).await.unwrap(), 1);
    assert_eq!(
        mirror.due(50).await,
        pairs(&[(3, "c"), (1, "a"), (5, "b")]),
        "the next of its run takes its place"
    );
    let everything = of_all(Which::All);
    assert_eq!(store.drop_deliveries(&everything, at(60)).await.unwrap(), 4);
    assert_eq!(mirror.states(Which::All).await, []);
    assert_eq!(mirror.events().await.len(), 5, "the events stay");
    // Dropped in flight: nothing brings it back.
    mirror
        .settle(61, 3, "c", Verdict::Retry { at: at(70) })
        .await;
    assert_eq!(mirror.states(Which::All).await, []);
}

/// An attempt from before says nothing about whatever the operator has repaired.
pub async fn a_failure_in_flight_does_not_undo_a_retry_by_hand(mirror: Mirror) {
    one_dead_one_retrying(&mirror).await;
    let verdicts = [
        Verdict::SetAside,
        Verdict::Retry { at: at(900) },
        Verdict::Delivered,
    ];
    for verdict in verdicts {
        let retried = mirror.store.retry_deliveries(&of_event(2), at(40)).await;
        assert_eq!(retried.unwrap(), 1);
        mirror.settle_attempt(41, 2, "b", 1, verdict).await;
        let is_due = mirror.due(42).await.contains(&(2, "b".to_owned()));
        assert_eq!(is_due, verdict != Verdict::Delivered, "{verdict:?}");
    }
    assert_eq!(
        mirror.states(Which::All).await,
        [(1, Dead), (3, Waiting), (4, Waiting), (5, Waiting)]
    );
}

pub async fn a_retry_by_hand_is_a_new_beginning_for_a_sink_that_failed_for_long(mirror: Mirror) {
    one_dead_one_retrying(&mirror).await;
    let failed = async |seconds| {
        let which = Overdue::OwedFor(Duration::from_secs(seconds));
        mirror.set_aside(900, which, "failing").await
    };
    mirror.fail(100, 60).await;
    mirror.fail(160, 60).await;
    assert_eq!(failed(61).await, 0);
    assert_eq!(failed(60).await, 4);
    let all = of_all(Which::All);
    let retried = mirror.store.retry_deliveries(&all, at(200)).await;
    assert_eq!(retried.unwrap(), 5);
    // The first attempt fails like those before it.
    let again = Verdict::Retry { at: at(202) };
    mirror.settle(201, 1, "a", again).await;
    assert_eq!(failed(1).await, 0);
    mirror.fail(300, 60).await;
    mirror.fail(360, 60).await;
    assert_eq!(failed(61).await, 0);
    assert_eq!(failed(60).await, 5);
}

pub async fn a_number_given_twice_counts_once(mirror: Mirror) {
    one_dead_one_retrying(&mirror).await;
    let thrice = Selection {
        seqs: vec![1, 1, 2, 1],
        ..of_event(1)
    };
    assert_eq!(mirror.deliveries(&thrice).await.len(), 2);
    let store = &mirror.store;
    assert_eq!(store.retry_deliveries(&thrice, at(40)).await.unwrap(), 2);
    assert_eq!(store.drop_deliveries(&thrice, at(40)).await.unwrap(), 2);
}

pub async fn a_worker_is_told_of_retries_by_hand(mirror: Mirror) {
    one_dead_one_retrying(&mirror).await;
    let retries = async || mirror.exchange(&exchange(HOOK), 40).await.retries;
    assert_eq!(retries().await, 0);
    let store = &mirror.store;
    store.drop_deliveries(&of_event(3), at(40)).await.unwrap();
    assert_eq!(retries().await, 0);
    let failed = of_all(Which::Failed);
    store.retry_deliveries(&failed, at(40)).await.unwrap();
    assert_eq!(retries().await, 2);
}

pub async fn many_deliveries_are_changed_in_chunks(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see_many(10, "r", 12_000).await;
    while mirror.set_aside(20, Overdue::All, "gone").await == EXCHANGE_CHUNK {}
    assert_eq!(mirror.sink(HOOK).await.unwrap().dead, 12_000);
    let store = &mirror.store;
    let dead = of_all(Which::Dead);
    assert_eq!(store.retry_deliveries(&dead, at(30)).await.unwrap(), 12_000);
    let status = mirror.sink(HOOK).await.unwrap();
    assert_eq!((status.pending, status.dead), (12_000, 0));
    let all = of_all(Which::All);
    assert_eq!(store.drop_deliveries(&all, at(30)).await.unwrap(), 12_000);
    assert!(mirror.owed(HOOK).await.is_empty());
}

pub async fn a_delivery_dropped_in_flight_stays_dropped(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    let verdicts = [
        Verdict::Delivered,
        Verdict::Retry { at: at(60) },
        Verdict::SetAside,
    ];
    for ((run, verdict), first) in ["a", "b", "c"].into_iter().zip(verdicts).zip([1, 3, 5]) {
        mirror.see(10, &[(run, "READY")]).await;
        mirror.see(20, &[(run, "RUNNING")]).await;
        let fetched = mirror.fetch(Order::Run, 30, &[]).await;
        assert!(fetched.events.iter().any(|due| due.seq == first));
        let dropped = mirror.store.drop_deliveries(&of_event(first), at(40)).await;
        assert_eq!(dropped.unwrap(), 1);
        mirror.settle(50, first, run, verdict).await;
        assert!(!mirror.owed(HOOK).await.contains(&first), "{verdict:?}");
    }
    assert_eq!(
        mirror.states(Which::All).await,
        [(2, Waiting), (4, Waiting), (6, Waiting)]
    );
    assert_eq!(mirror.due(50).await, pairs(&[(2, "a"), (4, "b"), (6, "c")]));
}
