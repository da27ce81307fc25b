//! What is due, and what becomes of it.

use super::{HOOK, Mirror, all_of, at, commit, fetch, pairs, run, settled};
use crate::model::{Exchange, MAX_RETRY_WAIT, Order, Overdue, Verdict};
use crate::store::reports::{Selection, Which};
use crate::store::states::SinkState;

pub async fn one_event_of_a_run_is_due_at_a_time(mirror: Mirror) {
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    mirror.see(30, &[("a", "SUCCEEDED")]).await;
    assert_eq!(mirror.due(30).await, pairs(&[(1, "a"), (2, "b")]));
    mirror.settle(31, 1, "a", Verdict::Delivered).await;
    assert_eq!(mirror.due(31).await, pairs(&[(2, "b"), (3, "a")]));
    mirror
        .settle(32, 3, "a", Verdict::Retry { at: at(50) })
        .await;
    assert_eq!(
        mirror.due(49).await,
        pairs(&[(2, "b")]),
        "later events of the run wait too"
    );
    let fetched = mirror.fetch(Order::Run, 49, &[2]).await;
    assert_eq!(fetched.next_due, Some(at(50)));
    let again = mirror.fetch(Order::Run, 50, &[2]).await.events.remove(0);
    assert_eq!(
        (again.seq, again.attempts, again.first_attempt_at),
        (3, 1, Some(at(32)))
    );
    mirror.settle(51, 3, "a", Verdict::SetAside).await;
    assert_eq!(
        mirror.due(51).await,
        pairs(&[(2, "b"), (4, "a")]),
        "a dead letter holds nothing up"
    );
}

pub async fn a_stream_gets_everything_in_order(mirror: Mirror) {
    mirror.see(10, &[("a", "READY"), ("b", "SUCCEEDED")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    let seqs = async |except: &[i64]| {
        let events = mirror.fetch(Order::Stream, 20, except).await.events;
        events.iter().map(|due| due.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(&[]).await, [1, 2, 3, 4]);
    assert_eq!(seqs(&[1, 2]).await, [3, 4]);
    let delivered =
        [(1, "a"), (2, "b"), (3, "b")].map(|(seq, run)| settled(seq, run, Verdict::Delivered));
    mirror.record(21, &delivered).await;
    assert_eq!(seqs(&[]).await, [4]);
    assert_eq!(
        mirror.due(21).await,
        pairs(&[(4, "a")]),
        "a sink that takes runs apart could go on from there"
    );
}

pub async fn an_attempt_does_not_make_an_event_due_before_its_turn(mirror: Mirror) {
    mirror.see(10, &[("a", "READY")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    // A stream's batch, which fails as a whole.
    let retry = Verdict::Retry { at: at(30) };
    mirror
        .record(21, &[settled(1, "a", retry), settled(2, "a", retry)])
        .await;
    assert_eq!(mirror.due(30).await, pairs(&[(1, "a")]));
    mirror.settle(31, 1, "a", Verdict::SetAside).await;
    // The second is in flight when somebody retries the first.
    let first = Selection {
        seqs: vec![1],
        which: Which::Failed,
        ..Selection::default()
    };
    assert_eq!(
        mirror.store.retry_deliveries(&first, at(32)).await.unwrap(),
        1
    );
    mirror
        .settle(33, 2, "a", Verdict::Retry { at: at(34) })
        .await;
    assert_eq!(mirror.due(40).await, pairs(&[(1, "a")]));
}

pub async fn fetching_is_bounded_in_bytes(mirror: Mirror) {
    let big = "x".repeat(5 << 20);
    for id in ["a", "b"].map(|run| format!("{run}{big}")) {
        mirror.see(10, &[(&id, "READY")]).await;
    }
    let fetched = mirror.fetch(Order::Run, 10, &[]).await;
    assert_eq!(
        fetched.events.len(),
        1,
        "each body is larger than what is read at once"
    );
}

pub async fn a_clock_that_was_set_back_does_not_delay_retries(mirror: Mirror) {
    mirror.see(10, &[("a", "READY")]).await;
    mirror
        .settle(
            20,
            1,
            "a",
            Verdict::Retry {
                at: at(20).plus(MAX_RETRY_WAIT),
            },
        )
        .await;
    assert_eq!(mirror.due(20).await, []);
    assert_eq!(mirror.due(-100 * 86_400).await.len(), 1);
    let stream = mirror.fetch(Order::Stream, -100 * 86_400, &[]).await;
    assert_eq!(stream.events.len(), 1, "and a stream reads it once");
}

pub async fn events_held_by_the_worker_do_not_hide_others(mirror: Mirror) {
    mirror
        .see(10, &[("a", "READY"), ("b", "READY"), ("c", "READY")])
        .await;
    for order in [Order::Run, Order::Stream] {
        let fetched = mirror.exchange(fetch(order, 1, &[1, 2]), 10).await.fetched;
        let seqs: Vec<i64> = fetched.events.iter().map(|due| due.seq).collect();
        assert_eq!(seqs, [3]);
    }
}

pub async fn the_health_of_a_sink(mirror: Mirror) {
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror
        .settle(20, 1, "a", Verdict::Retry { at: at(30) })
        .await;
    mirror.settle(21, 2, "b", Verdict::SetAside).await;
    let sink = mirror.sink().await;
    assert_eq!(
        (sink.state, sink.pending, sink.dead),
        (SinkState::Failing, 1, 1)
    );
    assert_eq!(sink.oldest, Some(at(10).to_string()));
    assert_eq!(
        sink.failing_since,
        Some(at(20).to_string()),
        "since the first failure"
    );
    assert_eq!(sink.last_error.as_deref(), Some("no"));
    mirror.settle(30, 1, "a", Verdict::Delivered).await;
    let sink = mirror.sink().await;
    assert_eq!((sink.state, sink.pending, sink.dead), (SinkState::Ok, 0, 1));
    assert_eq!(
        (sink.last_delivered_at, sink.failing_since),
        (Some(at(30).to_string()), None)
    );
}

pub async fn a_failing_sinks_overdue_deliveries_are_set_aside(mirror: Mirror) {
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    mirror.see(90, &[("c", "READY")]).await;
    let owed_since = |second| Overdue::OwedSince(at(second));
    assert_eq!(
        mirror.set_aside(owed_since(50), 95).await,
        0,
        "it has not failed"
    );
    mirror
        .settle(30, 1, "a", Verdict::Retry { at: at(31) })
        .await;
    assert_eq!(
        mirror.set_aside(owed_since(29), 95).await,
        0,
        "it has not been failing for so long"
    );
    assert_eq!(
        mirror.set_aside(owed_since(50), 95).await,
        3,
        "all but what is new"
    );
    assert_eq!(mirror.due(95).await, pairs(&[(4, "c")]));
    assert_eq!(mirror.set_aside(Overdue::All, 96).await, 1);
    assert_eq!(mirror.due(96).await, []);
    let dead = mirror
        .reader
        .deliveries(&Selection::default(), 10)
        .await
        .unwrap();
    assert!(
        dead.iter()
            .all(|delivery| delivery.last_error.as_deref() == Some("given up"))
    );
}

/// As a worker does whose answer was lost.
pub async fn an_exchange_made_again_changes_nothing(mirror: Mirror) {
    let items: Vec<_> = ["a", "b", "c"].map(|id| run(id, 1, "READY")).into();
    mirror.commit(&commit(10, 1, &items)).await;
    let exchange = Exchange {
        backlog: Some(all_of(HOOK)),
        settled: vec![
            settled(1, "a", Verdict::Delivered),
            settled(2, "b", Verdict::Retry { at: at(50) }),
            settled(3, "c", Verdict::SetAside),
        ],
        ..fetch(Order::Run, 100, &[])
    };
    let first = mirror.exchange(exchange.clone(), 20).await;
    let again = mirror.exchange(exchange, 20).await;
    assert_eq!(first, again);
    let sink = mirror.sink().await;
    assert_eq!((sink.pending, sink.dead), (1, 1));
    assert_eq!(mirror.due(50).await, pairs(&[(2, "b")]));
}
