//! Deliveries changed by hand.

use super::{HOOK, Mirror, at, commit, pairs, run};
use crate::model::{Order, Overdue, Verdict};
use crate::store::reports::{Selection, Which};
use crate::store::states::DeliveryState::{self, Dead, Retrying, Waiting};

async fn listed(mirror: &Mirror, which: Which) -> Vec<(i64, DeliveryState)> {
    let selection = Selection {
        which,
        ..Selection::default()
    };
    let deliveries = mirror.reader.deliveries(&selection, 100).await.unwrap();
    deliveries
        .into_iter()
        .map(|delivery| (delivery.seq, delivery.state))
        .collect()
}

pub async fn a_delivery_can_be_retried_or_dropped(mirror: Mirror) {
    mirror
        .see(10, &[("a", "READY"), ("b", "READY"), ("c", "READY")])
        .await;
    mirror.see(20, &[("a", "RUNNING"), ("b", "RUNNING")]).await;
    mirror.settle(30, 1, "a", Verdict::SetAside).await;
    mirror
        .settle(30, 2, "b", Verdict::Retry { at: at(900) })
        .await;
    assert_eq!(listed(&mirror, Which::Dead).await, [(1, Dead)]);
    assert_eq!(
        listed(&mirror, Which::Failed).await,
        [(1, Dead), (2, Retrying)]
    );
    let all = [
        (1, Dead),
        (2, Retrying),
        (3, Waiting),
        (4, Waiting),
        (5, Waiting),
    ];
    assert_eq!(listed(&mirror, Which::All).await, all);
    let other = Selection {
        sink: Some("other".into()),
        which: Which::Failed,
        ..Selection::default()
    };
    assert_eq!(
        mirror.store.retry_deliveries(&other, at(40)).await.unwrap(),
        0
    );

    let failed = Selection {
        which: Which::Failed,
        ..Selection::default()
    };
    assert_eq!(
        mirror
            .store
            .retry_deliveries(&failed, at(40))
            .await
            .unwrap(),
        2
    );
    let due = pairs(&[(3, "c"), (1, "a"), (2, "b")]);
    assert_eq!(mirror.due(40).await, due, "one of each run, the oldest");
    let events = mirror.fetch(Order::Run, 40, &[]).await.events;
    assert!(
        events.iter().all(|due| due.attempts == 0),
        "as if never tried"
    );

    let second = Selection {
        seqs: vec![2],
        which: Which::All,
        ..Selection::default()
    };
    assert_eq!(
        mirror.store.drop_deliveries(&second, at(50)).await.unwrap(),
        1
    );
    let due = pairs(&[(3, "c"), (1, "a"), (5, "b")]);
    assert_eq!(
        mirror.due(50).await,
        due,
        "the next of its run takes its place"
    );
    let everything = Selection {
        which: Which::All,
        ..Selection::default()
    };
    assert_eq!(
        mirror
            .store
            .drop_deliveries(&everything, at(60))
            .await
            .unwrap(),
        4
    );
    assert_eq!(listed(&mirror, Which::All).await, []);
    assert_eq!(mirror.bodies().await.len(), 5, "the events stay");
}

pub async fn a_delivery_dropped_in_flight_stays_dropped(mirror: Mirror) {
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    let everything = Selection {
        which: Which::All,
        ..Selection::default()
    };
    mirror
        .store
        .drop_deliveries(&everything, at(60))
        .await
        .unwrap();
    mirror
        .settle(61, 1, "a", Verdict::Retry { at: at(70) })
        .await;
    mirror.settle(61, 2, "b", Verdict::SetAside).await;
    assert_eq!(mirror.owed(HOOK).await, [] as [i64; 0]);
}

pub async fn many_deliveries_are_changed_in_parts(mirror: Mirror) {
    let items: Vec<_> = (0..12_000)
        .map(|n| run(&format!("r{n}"), 1, "READY"))
        .collect();
    mirror.commit(&commit(10, 1, &items)).await;
    let mut parts = 0;
    while mirror.set_aside(Overdue::All, 20).await > 0 {
        parts += 1;
    }
    assert_eq!((parts, mirror.sink().await.dead), (3, 12_000));
    let dead = Selection::default();
    assert_eq!(
        mirror.store.retry_deliveries(&dead, at(30)).await.unwrap(),
        12_000
    );
    let all = Selection {
        which: Which::All,
        ..Selection::default()
    };
    assert_eq!(
        mirror.store.drop_deliveries(&all, at(30)).await.unwrap(),
        12_000
    );
}
