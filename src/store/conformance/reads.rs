//! What polls and people ask.

use serde_json::{Value, json};

use super::{FEED, Mirror, at, commit, run};
use crate::model::Task;
use crate::sync::{Cursor, Gap, Watermark};

pub async fn distances_are_counted_behind_the_watermark(mirror: Mirror) {
    let status = |n| {
        if [3, 30, 31, 49].contains(&n) {
            "RUNNING"
        } else {
            "SUCCEEDED"
        }
    };
    let items: Vec<Value> = (0..50)
        .map(|n| run(&format!("r{n}"), n, status(n)))
        .collect();
    mirror.commit(&commit(10_000, 50, &items)).await;
    let watermark = Some(Watermark {
        started: at(48),
        id: "r48".into(),
    });
    let cursor = Cursor {
        offset: 49,
        watermark,
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
        let open = mirror.store.open_runs(FEED, &cursor, within).await.unwrap();
        assert_eq!((open.runs.len(), open.reach), (4, reach), "within {within}");
    }
    let ids = ["r30", "r3", "r31", "r49", "nobody"].map(str::to_owned);
    let distances = mirror.store.distances(FEED, &cursor, &ids).await.unwrap();
    assert_eq!(distances, [0, 18, 19, 46]);
}

pub async fn unseen_runs_are_bounded_and_include_those_without_a_start(mirror: Mirror) {
    let mut items: Vec<Value> = (0..1_005)
        .map(|n| run(&format!("r{n:04}"), n, "SUCCEEDED"))
        .collect();
    items.push(json!({"id": "no-start", "status": "SUCCEEDED"}));
    mirror.commit(&commit(5_000, 1, &items)).await;
    let unseen = async |from: Option<i64>, to: Option<i64>, except: &[&str]| {
        let except: Vec<String> = except.iter().map(|id| (*id).to_owned()).collect();
        let gap = Gap {
            from: from.map(at),
            to: to.map(at),
        };
        mirror.store.unseen(FEED, &[gap], &except).await.unwrap()
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
}

pub async fn the_log_is_read_in_batches_and_by_feed(mirror: Mirror) {
    let other = Task {
        id: "other".into(),
        ..Task::default()
    };
    mirror.store.open_feed(&other, at(1)).await.unwrap();
    for (n, feed) in [FEED, "other", FEED, "other", FEED].into_iter().enumerate() {
        let items = [run(&format!("r{n}"), 1, "READY")];
        mirror
            .store
            .commit(feed, commit(10, 1, &items), &[])
            .await
            .unwrap();
    }
    let after = async |after, feeds: Option<&[String]>, limit| {
        let (events, through) = mirror
            .reader
            .events_after(after, feeds, limit)
            .await
            .unwrap();
        (
            events.iter().map(|event| event.seq).collect::<Vec<_>>(),
            through,
        )
    };
    let feeds = ["other".to_owned()];
    assert_eq!(after(0, None, 2).await, (vec![1, 2], 2));
    assert_eq!(after(2, None, 10).await, (vec![3, 4, 5], 5));
    assert_eq!(
        after(0, Some(&feeds), 10).await,
        (vec![2, 4], 5),
        "read through to the end"
    );
    assert_eq!(
        after(9, None, 10).await,
        (vec![], 9),
        "a number ahead of the log"
    );
    assert_eq!(mirror.reader.seq_before_last(2, None).await.unwrap(), 3);
    assert_eq!(
        mirror
            .reader
            .seq_before_last(1, Some(&feeds))
            .await
            .unwrap(),
        2
    );
    assert_eq!(mirror.reader.seq_before_last(99, None).await.unwrap(), 0);
}
