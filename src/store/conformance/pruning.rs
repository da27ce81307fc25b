//! What is pruned, what is kept nevertheless, and what comes after.

use std::time::Duration;

use serde_json::{Value, json};

use super::builders::{HOOK, at, commit, commit_of, confirmed, of_all, of_event, run};
use super::mirror::Mirror;
use crate::model::{Retention, Verdict};
use crate::store::pruning::{PRUNE_CHUNK, PrunePosition, Pruned};
use crate::store::reports::{Selection, Which};
use crate::sync::Commit;

/// Keeps everything of each kind that is given for so many seconds.
fn keep(runs: Option<u64>, events: Option<u64>, dead: Option<u64>) -> Retention {
    Retention {
        removed_runs: runs.map(Duration::from_secs),
        events: events.map(Duration::from_secs),
        dead_deliveries: dead.map(Duration::from_secs),
    }
}

fn pruned(runs: u64, events: u64, dead_deliveries: u64) -> Pruned {
    Pruned {
        runs,
        events,
        dead_deliveries,
    }
}

/// Prunes until nothing is left, after checking that it is what was announced.
async fn prune(mirror: &Mirror, now: i64, retention: &Retention) -> Pruned {
    let announced = mirror.reader.prunable(retention, at(now)).await.unwrap();
    let (mut all, mut next, mut steps) = (Pruned::default(), Some(PrunePosition::default()), 0);
    while let Some(from) = next {
        let step = mirror.store.prune(retention, &from, at(now)).await.unwrap();
        let Pruned {
            runs,
            events,
            dead_deliveries,
        } = step.pruned;
        assert!(runs + events + dead_deliveries <= PRUNE_CHUNK as u64);
        all += step.pruned;
        next = step.next;
        steps += 1;
        assert!(steps < 100, "it never ends");
    }
    assert_eq!(all, announced);
    let left = mirror.reader.prunable(retention, at(now)).await.unwrap();
    assert_eq!(left, Pruned::default());
    all
}

/// Has runs be found gone at `now`.
async fn remove(mirror: &Mirror, now: i64, runs: &[&str]) {
    let gone = Commit {
        gone: runs.iter().map(|id| (*id).to_owned()).collect(),
        ..commit_of(now, &[])
    };
    mirror.commit(&gone).await;
}

pub async fn what_is_older_than_it_is_kept_is_pruned_and_nothing_else(mirror: Mirror) {
    mirror.start(&[]).await;
    mirror
        .see(10, &[("a", "READY"), ("b", "READY"), ("c", "READY")])
        .await;
    remove(&mirror, 100, &["a"]).await;
    remove(&mirror, 200, &["b"]).await;
    mirror.see(210, &[("c", "RUNNING")]).await;

    let forever = Retention::default();
    assert_eq!(prune(&mirror, 9_000_000, &forever).await, pruned(0, 0, 0));
    let runs = keep(Some(50), None, None);
    assert_eq!(
        prune(&mirror, 150, &runs).await,
        pruned(0, 0, 0),
        "kept for 50 s"
    );
    assert_eq!(prune(&mirror, 151, &runs).await, pruned(1, 1, 0));
    assert_eq!(mirror.reader.run("a").await.unwrap(), None);
    assert!(mirror.run("b").await.removed);
    assert_eq!(mirror.event_fields("id").await.len(), 3);
    assert_eq!(mirror.task_status(300).await.rows, 2);

    let events = keep(None, Some(50), None);
    assert_eq!(prune(&mirror, 220, &events).await, pruned(0, 2, 0));
    assert_eq!(mirror.event_fields("id").await, ["evt_c_RUNNING_-_1"]);
    assert!(mirror.run("b").await.removed, "only its event");
    let both = keep(Some(1), Some(1), Some(1));
    assert_eq!(prune(&mirror, 9_000_000, &both).await, pruned(1, 1, 0));
    assert!(!mirror.run("c").await.removed, "a listed run stays");
}

pub async fn what_a_sink_is_owed_is_kept(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.see(20, &[("a", "RUNNING")]).await;
    remove(&mirror, 30, &["a", "b"]).await;
    let all = keep(Some(1), Some(1), Some(1));
    assert_eq!(prune(&mirror, 1_000, &all).await, pruned(0, 0, 0));
    mirror.settle(1_001, 1, "a", Verdict::Delivered).await;
    let runs = keep(Some(1), None, None);
    assert_eq!(
        prune(&mirror, 1_002, &runs).await,
        pruned(0, 0, 0),
        "one is owed"
    );
    assert_eq!(prune(&mirror, 1_003, &all).await, pruned(0, 1, 0));
    assert_eq!(mirror.owed(HOOK).await, [2, 3]);
    assert_eq!(mirror.due(1_004).await.len(), 2);
    mirror.settle(1_005, 3, "a", Verdict::Delivered).await;
    assert_eq!(prune(&mirror, 1_006, &all).await, pruned(1, 1, 0));
    // A sink that left the configuration is still owed what is in its outbox.
    mirror.register(&[], 1_007).await;
    assert_eq!(prune(&mirror, 1_008, &all).await, pruned(0, 0, 0));
    mirror
        .store
        .drop_deliveries(&of_event(2), at(1_009))
        .await
        .unwrap();
    assert_eq!(prune(&mirror, 1_010, &all).await, pruned(1, 1, 0));
}

pub async fn what_was_set_aside_is_kept_until_that_is_pruned(mirror: Mirror) {
    mirror.start(&[HOOK]).await;
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.settle(20, 1, "a", Verdict::SetAside).await;
    mirror.settle(40, 2, "b", Verdict::SetAside).await;
    remove(&mirror, 50, &["a", "b"]).await;
    let runs_and_events = keep(Some(1), Some(1), None);
    assert_eq!(
        prune(&mirror, 1_000, &runs_and_events).await,
        pruned(0, 0, 0)
    );
    let all = keep(Some(1), Some(1), Some(970));
    assert_eq!(prune(&mirror, 1_000, &all).await, pruned(1, 1, 1));
    let dead = Selection {
        which: Which::Dead,
        ..Selection::default()
    };
    assert_eq!(
        mirror
            .store
            .retry_deliveries(&dead, at(1_001))
            .await
            .unwrap(),
        1
    );
    assert_eq!(mirror.due(1_002).await, [(2, "b".to_owned())]);
    assert_eq!(prune(&mirror, 9_000, &all).await, pruned(0, 0, 0));
}

pub async fn what_a_configured_subscription_has_yet_to_copy_is_kept(mirror: Mirror) {
    mirror.start(&[]).await;
    mirror.see(10, &[("a", "READY"), ("b", "READY")]).await;
    mirror.register_from_beginning(&[HOOK], 20).await;
    mirror.see(30, &[("a", "RUNNING")]).await;
    remove(&mirror, 40, &["a"]).await;
    let all = keep(Some(1), Some(1), Some(1));
    assert_eq!(prune(&mirror, 1_000, &all).await, pruned(0, 0, 0));
    mirror.catch_up(1_001, HOOK).await;
    assert_eq!(mirror.owed(HOOK).await, [1, 2, 3]);
    assert_eq!(mirror.sink(HOOK).await.unwrap().missed, 0);

    // One that is not configured is told what it missed when it comes back.
    for (seq, run) in [(1, "a"), (2, "b"), (3, "a")] {
        mirror.settle(1_002, seq, run, Verdict::Delivered).await;
    }
    mirror.register(&[], 1_003).await;
    mirror.see(1_004, &[("b", "RUNNING")]).await;
    assert_eq!(prune(&mirror, 2_000, &all).await, pruned(1, 4, 0));
    mirror.see(2_001, &[("b", "FAILED")]).await;
    mirror.register(&[HOOK], 2_002).await;
    assert_eq!(prune(&mirror, 9_000, &all).await, pruned(0, 0, 0));
    mirror.catch_up(9_001, HOOK).await;
    assert_eq!(mirror.owed(HOOK).await, [5]);
    assert_eq!(mirror.sink(HOOK).await.unwrap().missed, 1);
}

/// A run as it ended at `second`.
fn ended(id: &str, status: &str, second: i64) -> Value {
    let mut run = run(id, 1, status);
    run["finishedAt"] = json!(at(second).to_string());
    run
}

pub async fn a_pruned_run_that_is_listed_again_goes_on_where_it_was(mirror: Mirror) {
    mirror.start(&[]).await;
    let all = keep(Some(1), Some(1), Some(1));
    let see = async |now, item: Value| {
        let step = confirmed(commit(now, 1, &[item]));
        let written = mirror.commit(&step).await;
        let mut ids = mirror.event_fields("id").await;
        let raised = ids.len() - written.events as usize;
        (written.returned, ids.split_off(raised))
    };
    let vanish = async |now| {
        remove(&mirror, now, &["a"]).await;
        assert_eq!(prune(&mirror, now + 10, &all).await.runs, 1);
        assert_eq!(mirror.reader.run("a").await.unwrap(), None);
    };
    let none: [&str; 0] = [];
    see(10, run("a", 1, "READY")).await;
    see(20, run("a", 1, "RUNNING")).await;
    vanish(30).await;
    assert_eq!(see(100, run("a", 1, "RUNNING")).await.1, none, "as it was");
    vanish(110).await;
    let raised = see(200, ended("a", "FAILED", 190)).await;
    assert_eq!(raised.1, [format!("evt_a_FAILED_{}", 190_000)]);
    assert_eq!(raised.0, 1, "it returned");
    vanish(210).await;
    assert_eq!(see(300, ended("a", "FAILED", 190)).await.1, none);
    vanish(310).await;
    let raised = see(400, run("a", 1, "RUNNING")).await.1;
    assert_eq!(raised, ["evt_a_RESURRECTED_190000"]);
    see(410, run("a", 1, "READY")).await;
    vanish(420).await;
    let raised = see(500, run("a", 1, "RUNNING")).await.1;
    assert_eq!(
        raised,
        ["evt_a_RUNNING_190000_2"],
        "the second since that end"
    );

    // What a list shows from before is left to a single read, as for a run that has a row.
    vanish(510).await;
    let before = mirror
        .commit_all(&commit(600, 1, &[ended("a", "FAILED", 190)]))
        .await;
    assert_eq!(before.unconfirmed, ["a"]);
    assert_eq!(before.written.added, 0);
    assert_eq!(mirror.reader.run("a").await.unwrap(), None);
}

pub async fn no_number_and_no_id_of_a_pruned_event_is_used_again(mirror: Mirror) {
    mirror.start(&[]).await;
    let events = keep(None, Some(1), None);
    let see = async |now, status| {
        mirror
            .commit(&confirmed(commit_of(now, &[("a", status)])))
            .await;
        let mut raised = mirror.events().await.into_iter().map(|(seq, _)| seq);
        let last = raised.next_back();
        let id = mirror.event_fields("id").await.pop();
        assert!(prune(&mirror, now + 5, &events).await.events > 0);
        assert_eq!(mirror.events().await, []);
        (last.unwrap(), id.unwrap())
    };
    assert_eq!(see(10, "READY").await.0, 1);
    assert_eq!(see(20, "FAILED").await, (2, "evt_a_FAILED_-".to_owned()));
    assert_eq!(
        see(30, "READY").await,
        (3, "evt_a_RESURRECTED_-".to_owned())
    );
    assert_eq!(see(40, "FAILED").await, (4, "evt_a_FAILED_-_x4".to_owned()));
    assert_eq!(
        see(50, "READY").await,
        (5, "evt_a_RESURRECTED_-_x5".to_owned())
    );
}

pub async fn pruning_goes_on_where_it_stopped(mirror: Mirror) {
    mirror.start(&["failures", HOOK]).await;
    let count = PRUNE_CHUNK + 200;
    mirror.see_many(10, "a", count).await;
    let ids: Vec<String> = (0..count).map(|n| format!("a{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    // These are kept: more than one step looks at.
    mirror.see_many(11, "b", count).await;
    let first = Selection {
        seqs: (1..=count as i64).collect(),
        which: Which::All,
        ..Selection::default()
    };
    mirror.store.drop_deliveries(&first, at(12)).await.unwrap();
    remove(&mirror, 20, &ids).await;
    let all = keep(Some(1), Some(1), Some(1));
    assert_eq!(
        prune(&mirror, 1_000, &all).await,
        pruned(count as u64, count as u64, 0)
    );
    assert_eq!(mirror.task_status(1_000).await.rows, count as u64);
    assert_eq!(mirror.owed(HOOK).await.len(), count);
    mirror.see_many(1_001, "c", 3).await;
    remove(&mirror, 1_002, &["c0", "c1"]).await;
    let rest = of_all(Which::All);
    mirror
        .store
        .drop_deliveries(&rest, at(1_003))
        .await
        .unwrap();
    assert_eq!(
        prune(&mirror, 2_000, &all).await,
        pruned(2, count as u64 + 3, 0)
    );
}

pub async fn a_database_without_free_space_has_none_to_give_back(mirror: Mirror) {
    assert!(!mirror.store.release_space().await.unwrap());
}
