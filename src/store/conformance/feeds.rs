//! What is kept of a feed from poll to poll, and what a poll asks of the mirror.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::builders::{FEED, at, commit, run, task};
use super::mirror::Mirror;
use crate::model::Task;
use crate::store::states::Condition;
use crate::sync::{Audit, Baseline, Commit, Cursor, FeedState, Gap, MAX_OPEN, Watermark};

pub async fn a_new_feed_is_fresh_and_a_known_one_goes_on(mirror: Mirror) {
    let fresh = mirror.store.open_feed(&task(FEED), at(0)).await.unwrap();
    assert_eq!(fresh, FeedState::default());
    let mut step = commit(10, 7, &[]);
    step.feed.audited_at = Some(at(8));
    step.feed.audit_due_at = Some(at(99));
    mirror.commit(&step).await;
    let known = mirror.store.open_feed(&task(FEED), at(20)).await.unwrap();
    assert_eq!(known, step.feed);
    let other = mirror.store.open_feed(&task("other"), at(20)).await;
    assert_eq!(other.unwrap(), FeedState::default());
}

pub async fn what_counts_as_history_is_kept(mirror: Mirror) {
    mirror.start(&[]).await;
    for baseline in [
        None,
        Some(Baseline::Nothing),
        Some(Baseline::UpTo(at(5))),
        Some(Baseline::Everything),
        Some(Baseline::Nothing),
    ] {
        let mut step = commit(10, 1, &[]);
        step.feed.baseline = baseline;
        mirror.commit(&step).await;
        assert_eq!(mirror.reader.feed(FEED).await.unwrap(), Some(step.feed));
    }
}

pub async fn a_task_made_after_the_first_look_at_the_account_has_no_history(mirror: Mirror) {
    let made = |id: &str, second| Task {
        created_at: Some(at(second).to_string()),
        ..task(id)
    };
    let open = async |task: Task, now| {
        let feed = mirror.store.open_feed(&task, at(now)).await.unwrap();
        feed.baseline
    };
    // The first look is at 100, whatever was stored of tasks before.
    mirror
        .store
        .save_task(&task("first"), at(50))
        .await
        .unwrap();
    assert_eq!(open(made("first", 60), 100).await, None);
    let nothing = Some(Baseline::Nothing);
    for (created, baseline) in [(99, None), (100, None), (101, nothing)] {
        let task = made(&format!("made at {created}"), created);
        assert_eq!(open(task, 500).await, baseline, "made at {created}");
    }
    assert_eq!(open(task("of unknown age"), 500).await, None);
    mirror
        .store
        .save_task(&made(FEED, 200), at(500))
        .await
        .unwrap();
    assert_eq!(open(task(FEED), 500).await, nothing, "what is known counts");
    fail(&mirror, 501, Condition::Failing, "no answer").await;
    assert_eq!(open(task(FEED), 502).await, nothing, "nothing was read yet");
    let mut step = commit(503, 0, &[]);
    step.feed.baseline = Some(Baseline::Everything);
    mirror.commit(&step).await;
    assert_eq!(open(task(FEED), 504).await, step.feed.baseline);
}

async fn fail(mirror: &Mirror, now: i64, condition: Condition, error: &str) {
    mirror
        .store
        .record_failure(FEED, condition, error, at(now))
        .await
        .unwrap();
}

pub async fn a_failure_is_noted_once_and_cleared_by_the_next_success(mirror: Mirror) {
    mirror.start(&[]).await;
    let noted = async || {
        let status = mirror.task_status(100).await;
        (status.last_error, status.last_error_at)
    };
    let text = |text: &str, second| (Some(text.to_owned()), Some(at(second).to_string()));
    mirror.commit(&commit(10, 0, &[])).await;
    for now in [11, 12] {
        fail(&mirror, now, Condition::Failing, "unreachable").await;
    }
    assert_eq!(noted().await, text("unreachable", 11));
    fail(&mirror, 13, Condition::Forbidden, "forbidden").await;
    assert_eq!(noted().await, text("forbidden", 13));
    let unfinished = Commit {
        finished: false,
        ..commit(14, 1, &[])
    };
    mirror.commit(&unfinished).await;
    assert_eq!(noted().await, text("forbidden", 13), "not a success yet");
    mirror.commit(&commit(14, 1, &[])).await;
    assert_eq!(noted().await, (None, None));
    let status = mirror.task_status(100).await;
    assert_eq!(status.last_success_at, Some(at(14).to_string()));
    assert_eq!(status.state, Condition::Ok);
}

pub async fn a_failure_that_goes_on_is_noted_again_after_a_while(mirror: Mirror) {
    mirror.start(&[]).await;
    for (now, expected) in [(1_000, 1_000), (1_059, 1_000), (1_060, 1_060)] {
        fail(&mirror, now, Condition::Failing, "unreachable").await;
        let noted = mirror.task_status(now).await.last_error_at;
        assert_eq!(noted, Some(at(expected).to_string()), "at {now}");
    }
}

pub async fn lost_tasks_differ_from_failing_ones(mirror: Mirror) {
    mirror.start(&[]).await;
    mirror.commit(&commit(10, 1, &[])).await;
    let state = async || {
        let task = mirror.task_status(15).await;
        (task.is_lost(), task.state, task.last_success_age_seconds)
    };
    assert_eq!(state().await, (false, Condition::Ok, Some(5)));
    for (condition, lost) in [
        (Condition::Failing, false),
        (Condition::NotFound, true),
        (Condition::Forbidden, true),
    ] {
        fail(&mirror, 12, condition, "why").await;
        assert_eq!(state().await, (lost, condition, Some(5)));
    }
}

pub async fn the_overview_counts_the_rows_of_a_feed(mirror: Mirror) {
    mirror.start(&[]).await;
    let items = [
        run("open", 1, "RUNNING"),
        run("settling", 2, "SUCCEEDED"),
        run("gone", 3, "READY"),
    ];
    let mut step = commit(10, 3, &items);
    step.feed.complete = false;
    mirror.commit(&step).await;
    let status = mirror.task_status(10).await;
    assert_eq!(status.state, Condition::FirstSync);
    assert!(!status.first_sync_complete);
    assert_eq!((status.rows, status.open_runs, status.removed), (3, 2, 0));

    let gone = Commit {
        gone: vec!["gone".into()],
        ..commit(11, 4, &[])
    };
    mirror.commit(&gone).await;
    let status = mirror.task_status(11).await;
    assert_eq!(status.state, Condition::Ok);
    assert!(status.first_sync_complete);
    assert_eq!((status.rows, status.open_runs, status.removed), (3, 1, 1));
    assert_eq!((status.cursor, status.server_total), (4, Some(4)));
    assert_eq!(status.watermark, Some(at(4).to_string()));
}

pub async fn an_audit_in_progress_is_kept_and_forgotten_with_the_commit(mirror: Mirror) {
    mirror.start(&[]).await;
    let cursor = Cursor {
        offset: 7,
        tail: 3,
        watermark: Some(Watermark {
            started: at(6),
            id: "r6".into(),
        }),
    };
    for decided in [None, Some(at(5))] {
        let mut step = commit(10, 1, &[]);
        step.feed.audit = Some(Audit {
            began_at: at(1),
            cursor: cursor.clone(),
            decided,
        });
        mirror.commit(&step).await;
        assert_eq!(mirror.reader.feed(FEED).await.unwrap(), Some(step.feed));
        assert_eq!(mirror.task_status(10).await.audit_offset, Some(7));
    }
    mirror.commit(&commit(11, 1, &[])).await;
    let feed = mirror.reader.feed(FEED).await.unwrap().unwrap();
    assert_eq!(feed.audit, None);
    assert_eq!(mirror.task_status(11).await.audit_offset, None);
}

pub async fn distances_are_counted_in_the_list_behind_the_watermark(mirror: Mirror) {
    mirror.start(&[]).await;
    let status = |n: &i64| {
        if [3, 30, 31, 49].contains(n) {
            "RUNNING"
        } else {
            "SUCCEEDED"
        }
    };
    let items: Vec<Value> = (0..50)
        .map(|n| run(&format!("r{n}"), n, status(&n)))
        .collect();
    mirror.commit(&commit(10_000, 50, &items)).await;
    let cursor = Cursor {
        offset: 49,
        tail: 0,
        watermark: Some(Watermark {
            started: at(48),
            id: "r48".into(),
        }),
    };
    // r48 is the first entry behind the cursor, r30 the nineteenth; r49 was learned ahead of it.
    for (within, reach) in [
        (1_000, 46),
        (46, 46),
        (45, 19),
        (20, 19),
        (19, 19),
        (18, 18),
        (10, 0),
    ] {
        let open = mirror
            .store
            .open_runs(FEED, &cursor, within, None)
            .await
            .unwrap();
        assert_eq!((open.runs.len(), open.reach), (4, reach), "within {within}");
    }
    let ids = ["r30", "r3", "r31", "r49", "nobody"].map(str::to_owned);
    let mut distances = mirror.store.distances(FEED, &cursor, &ids).await.unwrap();
    distances.sort_unstable();
    assert_eq!(distances, [0, 18, 19, 46]);
}

pub async fn what_is_unseen_is_listed_within_bounds_and_without_a_start(mirror: Mirror) {
    mirror.start(&[]).await;
    let mut items: Vec<Value> = (0..1_005)
        .map(|n| run(&format!("r{n:04}"), n, "SUCCEEDED"))
        .collect();
    items.push(json!({"id": "no-start", "status": "SUCCEEDED"}));
    mirror.commit(&commit(5_000, 1, &items)).await;
    let unseen = async |from: Option<i64>, to: Option<i64>, except: &[&str]| {
        let except: Vec<String> = except.iter().map(|id| (*id).to_owned()).collect();
        let gaps = [Gap {
            from: from.map(at),
            to: to.map(at),
        }];
        mirror.store.unseen(FEED, &gaps, &except).await.unwrap()
    };
    assert_eq!(
        unseen(Some(3), Some(5), &["r0004"]).await,
        ["r0003", "r0005"]
    );
    assert_eq!(
        unseen(Some(1_003), None, &[]).await,
        ["r1003", "r1004", "no-start"]
    );
    let most = unseen(None, None, &["r0000", "r0001", "r0002"]).await;
    assert_eq!(
        (most.len(), most.first().map(String::as_str)),
        (1_000, Some("r0003"))
    );
    let gone = Commit {
        gone: vec!["r0003".into()],
        ..commit(5_001, 1, &[])
    };
    mirror.commit(&gone).await;
    assert_eq!(
        unseen(Some(3), Some(4), &[]).await,
        ["r0004"],
        "only listed"
    );
}

pub async fn of_very_many_open_runs_all_are_loaded_in_turn(mirror: Mirror) {
    mirror.start(&[]).await;
    let count = MAX_OPEN + MAX_OPEN / 4;
    let id = |n: usize| format!("r{:05}", (n * 7_919) % 100_000);
    let items: Vec<_> = (0..count)
        .map(|n| run(&id(n), n as i64, "RUNNING"))
        .collect();
    mirror.commit(&commit(1, count as u64, &items)).await;
    let cursor = Cursor::default();
    let load = async |after: Option<String>| {
        let open = mirror.store.open_runs(FEED, &cursor, 10, after.as_deref());
        let open = open.await.unwrap().runs;
        assert!(open.len() <= MAX_OPEN);
        open.into_iter().map(|open| open.id).collect::<Vec<_>>()
    };
    let newest: HashSet<String> = (count - MAX_OPEN / 2..count).map(id).collect();
    let (mut seen, mut after) = (HashSet::new(), None);
    for _ in 0..5 {
        let open = load(after.clone()).await;
        assert!(newest.iter().all(|id| open.contains(id)) || after.is_some());
        // As a poll reads them singly: by id, after the one read last.
        let mut later: Vec<&String> = open
            .iter()
            .filter(|id| after.as_ref().is_none_or(|after| *id > after))
            .collect();
        later.sort();
        after = later
            .iter()
            .take(2 * MAX_OPEN / 5)
            .next_back()
            .map(|id| (*id).clone());
        seen.extend(later.into_iter().take(2 * MAX_OPEN / 5).cloned());
    }
    assert_eq!(seen.len(), count);
}

pub async fn the_interval_between_successes_is_known_and_grows_slowly(mirror: Mirror) {
    mirror.start(&[]).await;
    let mut seen = Vec::new();
    // Every five minutes from cron, then nobody for a week, then a daemon again.
    for now in [1_000, 1_300, 1_600, 606_600, 606_900, 606_960, 606_970] {
        mirror.commit(&commit(now, 0, &[])).await;
        seen.push(mirror.task_status(now).await.success_interval_seconds);
    }
    let expected = [
        None,
        Some(300),
        Some(300),
        Some(1_200),
        Some(300),
        Some(60),
        Some(60),
    ];
    assert_eq!(seen, expected);
}
