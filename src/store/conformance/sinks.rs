//! Sinks that come and go.

use super::{HOOK, Mirror, all_of, at, commit, pairs, registration, run};
use crate::model::{EXCHANGE_CHUNK, Subscription, Verdict};

fn states(states: &[(&str, &str)]) -> Vec<(String, String)> {
    states
        .iter()
        .map(|(name, state)| ((*name).to_owned(), (*state).to_owned()))
        .collect()
}

pub async fn a_sink_added_later_starts_now_or_at_the_beginning(mirror: Mirror) {
    mirror.see(10, &[("a", "READY"), ("b", "FAILED")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    let failures = Subscription {
        sink: "failures".into(),
        types: Some(vec!["ACTOR.RUN.FAILED".into()]),
    };
    let sinks = [all_of(HOOK), all_of("now"), all_of("all"), failures.clone()];
    let all = registration("all", true);
    let rest = [
        registration(HOOK, false),
        all.clone(),
        registration("failures", true),
    ];
    let mut registrations = rest.to_vec();
    registrations.push(registration("now", false));
    mirror.store.register(&registrations, at(30)).await.unwrap();

    // While the backlog is copied, new events wait for it: the order of a run must not be lost.
    mirror
        .commit_for(&commit(40, 1, &[run("a", 1, "SUCCEEDED")]), &sinks)
        .await;
    assert_eq!(
        (mirror.owed("now").await, mirror.owed("all").await),
        (vec![5], vec![])
    );
    assert_eq!(
        mirror.states().await[0],
        ("all".to_owned(), "catching up".to_owned())
    );
    assert_eq!(mirror.catch_up(&all_of("all")).await, 1);
    mirror.catch_up(&failures).await;
    assert_eq!(
        (mirror.owed("all").await, mirror.owed("failures").await),
        (vec![1, 2, 3, 4, 5], vec![3])
    );
    mirror
        .commit_for(&commit(50, 1, &[run("c", 1, "READY")]), &sinks)
        .await;
    assert_eq!(
        (
            mirror.owed("all").await.len(),
            mirror.owed("failures").await.len()
        ),
        (6, 1)
    );

    // The next start finds the same sinks but one: nothing begins anew, and nobody else counts as removed.
    mirror.store.register(&rest, at(60)).await.unwrap();
    let expected = [
        ("all", "ok"),
        ("failures", "ok"),
        (HOOK, "ok"),
        ("now", "removed"),
    ];
    assert_eq!(mirror.states().await, states(&expected));
}

pub async fn a_removed_sink_keeps_its_deliveries_and_goes_on_from_there(mirror: Mirror) {
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.settle(11, 1, "a", Verdict::Delivered).await;
    mirror.store.register(&[], at(20)).await.unwrap();
    mirror
        .settle(25, 2, "b", Verdict::Retry { at: at(26) })
        .await;
    let unwanted = commit(30, 1, &[run("a", 1, "RUNNING")]);
    mirror.commit_for(&unwanted, &[]).await;
    assert_eq!(mirror.states().await, states(&[(HOOK, "removed")]));
    assert_eq!(mirror.sink().await.pending, 1);

    // Back again: what it missed, or not.
    mirror
        .store
        .register(&[registration(HOOK, true)], at(40))
        .await
        .unwrap();
    mirror.catch_up(&all_of(HOOK)).await;
    assert_eq!(
        mirror.sink().await.failing_since,
        None,
        "old failures do not count"
    );
    assert_eq!(mirror.due(100).await, pairs(&[(2, "b"), (3, "a")]));
    mirror.settle(50, 2, "b", Verdict::Delivered).await;
    mirror.settle(50, 3, "a", Verdict::Delivered).await;
    mirror.store.register(&[], at(60)).await.unwrap();
    assert_eq!(mirror.states().await, [], "nothing is owed to it");
    mirror
        .commit_for(&commit(70, 1, &[run("a", 1, "SUCCEEDED")]), &[])
        .await;
    mirror
        .store
        .register(&[registration(HOOK, false)], at(80))
        .await
        .unwrap();
    mirror.catch_up(&all_of(HOOK)).await;
    assert_eq!(mirror.due(100).await, [], "it starts now");
    mirror.see(90, &[("a", "RUNNING")]).await;
    assert_eq!(mirror.due(100).await.len(), 1);
}

pub async fn a_long_backlog_is_copied_in_parts(mirror: Mirror) {
    let count = 2 * EXCHANGE_CHUNK + 1;
    let items: Vec<_> = (0..count)
        .map(|n| run(&format!("r{n}"), 1, "READY"))
        .collect();
    mirror.commit_for(&commit(10, 1, &items), &[]).await;
    mirror
        .store
        .register(&[registration("all", true)], at(20))
        .await
        .unwrap();
    assert_eq!(mirror.catch_up(&all_of("all")).await, 3);
    assert_eq!(
        mirror.owed("all").await,
        (1..=count as i64).collect::<Vec<_>>()
    );
}
