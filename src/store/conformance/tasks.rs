//! Tasks, and what their names mean.

use std::time::Duration;

use super::{FEED, Mirror, at};
use crate::model::Task;

pub async fn references_are_believed_for_a_while(mirror: Mirror) {
    let hour = Duration::from_secs(3_600);
    let fresh = async |now| {
        let resolved = mirror.store.resolved("me~it", hour, at(now)).await.unwrap();
        resolved.map(|(task, fresh)| (task.id, fresh))
    };
    assert_eq!(fresh(0).await, None);
    let task = Task {
        id: FEED.into(),
        ..Task::default()
    };
    mirror
        .store
        .save_reference("me~it", Ok(&task), at(0))
        .await
        .unwrap();
    for (now, believed) in [(0, true), (3_599, true), (3_600, false), (-1, false)] {
        assert_eq!(fresh(now).await, Some((FEED.into(), believed)), "at {now}");
    }
    mirror
        .store
        .save_reference("me~it", Err("not found"), at(10))
        .await
        .unwrap();
    assert_eq!(
        fresh(11).await,
        Some((FEED.into(), false)),
        "its last meaning is kept"
    );
    let unresolved = mirror.reader.overview(at(11)).await.unwrap().unresolved;
    assert_eq!(
        (unresolved.len(), unresolved[0].error.as_str()),
        (1, "not found")
    );
    mirror
        .store
        .forget_failures_except(&["me~it".to_owned()])
        .await
        .unwrap();
    assert_eq!(
        mirror
            .reader
            .overview(at(11))
            .await
            .unwrap()
            .unresolved
            .len(),
        1
    );
    mirror.store.forget_failures_except(&[]).await.unwrap();
    assert_eq!(
        mirror
            .reader
            .overview(at(11))
            .await
            .unwrap()
            .unresolved
            .len(),
        0
    );
}

pub async fn a_task_keeps_what_an_answer_left_out(mirror: Mirror) {
    let named = Task {
        id: "t".into(),
        name: Some("it".into()),
        username: Some("me".into()),
        ..Task::default()
    };
    mirror
        .store
        .save_reference("old~name", Ok(&named), at(0))
        .await
        .unwrap();
    let bare = Task {
        id: "t".into(),
        ..Task::default()
    };
    mirror.store.save_task(&bare, at(1)).await.unwrap();
    let resolved = mirror
        .store
        .resolved("old~name", Duration::from_secs(60), at(1))
        .await
        .unwrap();
    assert_eq!(resolved, Some((named, true)));
    for reference in ["t", "me~it", "~it", "old~name"] {
        let known = mirror.reader.known_task(reference).await.unwrap();
        assert_eq!(known.as_deref(), Some("t"), "{reference}");
    }
    assert_eq!(mirror.reader.known_task("you~it").await.unwrap(), None);
}
