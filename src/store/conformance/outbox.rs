//! What is due for a sink, and what recording attempts makes of it.

use std::time::Duration;

use super::builders::{HOOK, at, commit, exchange, limits, of_all, pairs, run, settled};
use super::mirror::Mirror;
use crate::model::{Exchange, FetchLimits, MAX_RETRY_WAIT, Order, Overdue, Settled, Verdict};
use crate::store::reports::{Selection, Which};
use crate::store::states::{DeliveryState, SinkState};

pub async fn one_event_of_a_run_is_due_at_a_time(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
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
        "what comes after it has to wait too"
    );
    let fetched = mirror.fetch(Order::Run, 49, &[2]).await;
    assert_eq!(fetched.next_due, Some(at(50)));
    let again = mirror.fetch(Order::Run, 50, &[2]).await.events.remove(0);
    assert_eq!(
        (again.seq, again.attempts, again.waited),
        (3, 1, Duration::from_secs(18))
    );
    mirror.settle(51, 3, "a", Verdict::SetAside).await;
    assert_eq!(
        mirror.due(51).await,
        pairs(&[(2, "b"), (4, "a")]),
        "what was set aside holds nothing up"
    );
}

pub async fn a_stream_gets_everything_in_order_whatever_the_runs(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY"), ("b", "SUCCEEDED")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    let seqs = async |except: &[i64]| {
        let fetched = mirror.fetch(Order::Stream, 20, except).await;
        fetched.events.iter().map(|due| due.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(&[]).await, [1, 2, 3, 4]);
    assert_eq!(seqs(&[1, 2]).await, [3, 4]);
    let record = Exchange {
        settled: [(1, "a"), (2, "b"), (3, "b")]
            .map(|(seq, run)| settled(seq, run, Verdict::Delivered))
            .into(),
        ..exchange(HOOK)
    };
    mirror.exchange(&record, 21).await;
    assert_eq!(seqs(&[]).await, [4]);
    assert_eq!(
        mirror.due(21).await,
        pairs(&[(4, "a")]),
        "and a sink ordered by run could continue from there"
    );
}

pub async fn having_been_tried_does_not_make_an_event_due_before_its_turn(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    // A stream's batch, which fails as a whole.
    let record = Exchange {
        settled: [1, 2]
            .map(|seq| settled(seq, "a", Verdict::Retry { at: at(30) }))
            .into(),
        ..exchange(HOOK)
    };
    mirror.exchange(&record, 21).await;
    assert_eq!(mirror.due(30).await, pairs(&[(1, "a")]));
    mirror.settle(31, 1, "a", Verdict::SetAside).await;
    // The first is retried by hand while the second is in flight.
    let first = Selection {
        seqs: vec![1],
        ..of_all(Which::Failed)
    };
    let retried = mirror.store.retry_deliveries(&first, at(32)).await;
    assert_eq!(retried.unwrap(), 1);
    mirror
        .settle(33, 2, "a", Verdict::Retry { at: at(34) })
        .await;
    assert_eq!(mirror.due(40).await, pairs(&[(1, "a")]));
}

pub async fn an_event_is_the_same_on_every_attempt(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY")]).await;
    let first = mirror.fetch(Order::Run, 10, &[]).await.events.remove(0);
    assert_eq!((first.attempts, first.waited), (0, Duration::ZERO));
    assert_eq!(first.id, "evt_a_CREATED");
    assert_eq!(mirror.events().await, [(1, first.payload.clone())]);
    for (now, attempts) in [(20, 1), (30, 2)] {
        let verdict = Verdict::Retry { at: at(now) };
        mirror.settle(now, 1, "a", verdict).await;
        let again = mirror.fetch(Order::Run, now, &[]).await.events.remove(0);
        assert_eq!((&again.id, &again.payload), (&first.id, &first.payload));
        assert_eq!((again.attempts, again.waited), (attempts, Duration::ZERO));
    }
}

pub async fn of_the_time_between_attempts_only_the_scheduled_wait_counts(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY")]).await;
    let mut waited = 0;
    // On time; late, as the mirror was off; early, as a stream is; and with the clock set back.
    let gaps = [
        (100, 30, 130, 30),
        (130, 40, 9_000_000, 40),
        (9_000_000, 50, 9_000_020, 20),
        (9_000_020, 60, 5, 0),
    ];
    for (attempts, (now, wait, next, counts)) in (0..).zip(gaps) {
        let attempt = Settled {
            attempts,
            waited: Duration::from_secs(waited),
            ..settled(1, "a", Verdict::Retry { at: at(now + wait) })
        };
        let record = Exchange {
            settled: vec![attempt],
            ..exchange(HOOK)
        };
        mirror.exchange(&record, now).await;
        let due = mirror
            .fetch(Order::Stream, next, &[])
            .await
            .events
            .remove(0);
        waited += counts;
        assert_eq!(due.waited.as_secs(), waited, "at {next}");
    }
    let retried = mirror
        .store
        .retry_deliveries(&of_all(Which::All), at(6))
        .await;
    assert_eq!(retried.unwrap(), 1);
    let due = mirror.fetch(Order::Run, 7, &[]).await.events.remove(0);
    assert_eq!(due.waited, Duration::ZERO);
}

pub async fn fetching_is_bounded_in_bytes(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    for id in ["a", "b"] {
        let mut large = run(id, 1, "READY");
        large["title"] = "x".repeat(5 << 20).into();
        mirror.commit(&commit(10, 0, &[large])).await;
    }
    for order in [Order::Run, Order::Stream] {
        let fetched = mirror.fetch(order, 10, &[]).await;
        assert_eq!(
            fetched.events.len(),
            1,
            "each of them is larger than what may be read at once"
        );
        for (bytes, count) in [(0, 1), (64 << 20, 2)] {
            let fetch = Exchange {
                fetch: FetchLimits {
                    bytes,
                    ..limits(order, &[])
                },
                ..exchange(HOOK)
            };
            let events = mirror.exchange(&fetch, 10).await.fetched.events;
            assert_eq!(events.len(), count, "{bytes} bytes");
        }
    }
}

pub async fn a_clock_that_was_set_back_does_not_put_retries_off(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY")]).await;
    let soon = at(20).plus(MAX_RETRY_WAIT);
    mirror.settle(20, 1, "a", Verdict::Retry { at: soon }).await;
    assert_eq!(mirror.due(20).await, []);
    let long_ago = -100 * 86_400;
    assert_eq!(mirror.due(long_ago).await.len(), 1);
    assert_eq!(
        mirror
            .fetch(Order::Stream, long_ago, &[])
            .await
            .events
            .len(),
        1,
        "and is not read twice by a stream"
    );
}

pub async fn what_is_held_does_not_hide_what_else_is_due(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror
        .see(10, &[("a", "READY"), ("b", "READY"), ("c", "READY")])
        .await;
    for order in [Order::Run, Order::Stream] {
        let fetch = Exchange {
            fetch: FetchLimits {
                events: 1,
                ..limits(order, &[1, 2])
            },
            ..exchange(HOOK)
        };
        let fetched = mirror.exchange(&fetch, 10).await.fetched;
        let seqs: Vec<_> = fetched.events.iter().map(|due| due.seq).collect();
        assert_eq!(seqs, [3]);
    }
}

pub async fn a_delivery_set_aside_in_flight_stays_set_aside_unless_it_arrives(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY")]).await;
    assert_eq!(mirror.due(10).await, pairs(&[(1, "a")]));
    assert_eq!(mirror.set_aside(20, Overdue::All, "gone").await, 1);
    mirror
        .settle(30, 1, "a", Verdict::Retry { at: at(40) })
        .await;
    let dead = mirror.deliveries(&of_all(Which::All)).await.remove(0);
    assert_eq!(dead.state, DeliveryState::Dead);
    assert_eq!(dead.dead_at, Some(at(20).to_string()));
    assert_eq!(mirror.due(50).await, []);
    mirror.settle(51, 1, "a", Verdict::Delivered).await;
    assert!(mirror.owed(HOOK).await.is_empty());
}

pub async fn the_parts_of_an_exchange_follow_one_another(mirror: Mirror) {
    mirror.start(&[]).await;
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.see(20, &[("a", "RUNNING"), ("c", "READY")]).await;
    mirror.register_from_beginning(&[HOOK], 30).await;
    // What is copied can be settled; what has failed since can be set aside; what is left is fetched.
    let all = Exchange {
        backlog: true,
        settled: vec![settled(1, "a", Verdict::Retry { at: at(40) })],
        set_aside: Some((Overdue::All, "too late".into())),
        ..exchange(HOOK)
    };
    let exchanged = mirror.exchange(&all, 15).await;
    assert_eq!((exchanged.live, exchanged.set_aside), (true, 4));
    assert!(exchanged.fetched.events.is_empty());
    let mut dead = mirror.deliveries(&of_all(Which::Dead)).await;
    dead.truncate(2);
    let reasons: Vec<_> = dead
        .iter()
        .map(|delivery| (delivery.seq, delivery.last_error.as_deref()))
        .collect();
    assert_eq!(reasons, [(1, Some("too late")), (2, Some("too late"))]);
}

/// All that decides what is delivered next.
async fn outbox(mirror: &Mirror) -> Vec<(i64, DeliveryState, Option<String>)> {
    let deliveries = mirror.deliveries(&of_all(Which::All)).await;
    deliveries
        .into_iter()
        .map(|delivery| (delivery.seq, delivery.state, delivery.due_at))
        .collect()
}

pub async fn a_repeated_exchange_changes_nothing_that_matters(mirror: Mirror) {
    mirror.start(&[]).await;
    mirror
        .see(10, &[("a", "READY"), ("b", "READY"), ("c", "READY")])
        .await;
    for (now, status) in [(20, "RUNNING"), (21, "ABORTING")] {
        mirror
            .see(now, &[("a", status), ("b", status), ("c", status)])
            .await;
    }
    mirror.register_from_beginning(&[HOOK], 30).await;
    let copy = Exchange {
        backlog: true,
        ..exchange(HOOK)
    };
    let record = Exchange {
        settled: vec![
            settled(1, "a", Verdict::Delivered),
            settled(2, "b", Verdict::Retry { at: at(50) }),
            settled(3, "c", Verdict::SetAside),
        ],
        ..exchange(HOOK)
    };
    let set_aside = Exchange {
        set_aside: Some((Overdue::All, "gone".into())),
        ..exchange(HOOK)
    };
    for (name, step, owed) in [
        ("copy", copy, 9),
        ("record", record, 8),
        ("set aside", set_aside, 8),
    ] {
        let first = mirror.exchange(&step, 40).await;
        let after = outbox(&mirror).await;
        assert_eq!(after.len(), owed, "{name}");
        let again = mirror.exchange(&step, 41).await;
        assert_eq!(outbox(&mirror).await, after, "{name}");
        let seqs = |fetched: &[crate::model::Due]| fetched.iter().map(|due| due.seq).collect();
        let (first, again): (Vec<_>, Vec<_>) =
            (seqs(&first.fetched.events), seqs(&again.fetched.events));
        assert_eq!(first, again, "{name}");
    }
    let status = mirror.sink(HOOK).await.unwrap();
    assert_eq!((status.pending, status.dead), (0, 8));
}

pub async fn sinks_do_not_get_in_each_others_way(mirror: Mirror) {
    mirror.start(&[HOOK, "other"]).await;
    let step = commit(10, 2, &[run("a", 1, "READY"), run("b", 2, "READY")]);
    mirror.commit(&step).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    mirror.settle(30, 1, "a", Verdict::Delivered).await;
    mirror
        .settle(30, 2, "b", Verdict::Retry { at: at(90) })
        .await;
    assert_eq!(mirror.due(40).await, pairs(&[(3, "a")]));
    let other = mirror.exchange(&exchange("other"), 40).await.fetched.events;
    let seqs: Vec<_> = other.iter().map(|due| (due.seq, due.attempts)).collect();
    assert_eq!(seqs, [(1, 0), (2, 0)]);
    assert_eq!(mirror.set_aside(50, Overdue::All, "gone").await, 2);
    assert_eq!(mirror.owed("other").await, [1, 2, 3]);
    let status = mirror.sink("other").await.unwrap();
    assert_eq!((status.state, status.dead), (SinkState::Ok, 0));
}
