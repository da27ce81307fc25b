//! Tasks, and the names under which they are configured.

use std::time::Duration;

use super::builders::{FEED, at, task};
use super::mirror::Mirror;
use crate::model::Task;
use crate::store::Condition;

async fn errors(mirror: &Mirror, now: i64) -> Vec<(String, String)> {
    let overview = mirror.reader.overview(at(now)).await.unwrap();
    overview
        .unresolved
        .into_iter()
        .map(|unresolved| (unresolved.reference, unresolved.error))
        .collect()
}

pub async fn references_stay_resolved_for_a_while(mirror: Mirror) {
    let hour = Duration::from_secs(3_600);
    let fresh = async |now| {
        let resolved = mirror
            .store
            .resolved("me~it", hour, hour, at(now))
            .await
            .unwrap();
        resolved.map(|(task, fresh)| (task.id, fresh))
    };
    assert_eq!(fresh(0).await, None);
    mirror
        .store
        .save_reference("me~it", Ok(&task(FEED)), at(0))
        .await
        .unwrap();
    for (now, expected) in [(0, true), (3_599, true), (3_600, false), (-1, false)] {
        assert_eq!(fresh(now).await, Some((FEED.into(), expected)), "at {now}");
    }
    assert_eq!(errors(&mirror, 1).await, []);
    mirror
        .store
        .save_reference("me~it", Err("not found"), at(10))
        .await
        .unwrap();
    assert_eq!(
        fresh(11).await,
        Some((FEED.into(), false)),
        "what it last meant is not forgotten"
    );
    let expected = ("me~it".to_owned(), "not found".to_owned());
    assert_eq!(errors(&mirror, 11).await, [expected]);
}

pub async fn a_reference_to_a_lost_task_is_trusted_for_less_long(mirror: Mirror) {
    let store = &mirror.store;
    let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
    store
        .save_reference("me~it", Ok(&task(FEED)), at(0))
        .await
        .unwrap();
    for (condition, fresh_after_a_minute) in [
        (Condition::Failing, true),
        (Condition::Forbidden, true),
        (Condition::NotFound, false),
    ] {
        store
            .record_failure(FEED, condition, "an error", at(1))
            .await
            .unwrap();
        for (now, fresh) in [(59, true), (60, fresh_after_a_minute)] {
            let resolved = store.resolved("me~it", hour, minute, at(now)).await;
            assert_eq!(
                resolved.unwrap(),
                Some((task(FEED), fresh)),
                "{condition} at {now}"
            );
        }
    }
}

pub async fn failures_of_references_no_longer_configured_are_forgotten(mirror: Mirror) {
    let store = &mirror.store;
    for reference in ["kept", "dropped"] {
        store
            .save_reference(reference, Err("not found"), at(0))
            .await
            .unwrap();
    }
    store
        .save_reference("found", Ok(&task(FEED)), at(0))
        .await
        .unwrap();
    store
        .forget_failures_except(&["kept".into()])
        .await
        .unwrap();
    let expected = ("kept".to_owned(), "not found".to_owned());
    assert_eq!(errors(&mirror, 1).await, [expected]);
    let hour = Duration::from_secs(3_600);
    assert_eq!(
        store.resolved("found", hour, hour, at(1)).await.unwrap(),
        Some((task(FEED), true)),
        "which is no failure"
    );
}

fn named(id: &str, username: &str, name: &str) -> Task {
    Task {
        username: Some(username.into()),
        name: Some(name.into()),
        ..task(id)
    }
}

pub async fn what_the_api_leaves_out_of_a_task_is_kept(mirror: Mirror) {
    let store = &mirror.store;
    let complete = Task {
        act_id: Some("act".into()),
        act_name: Some("actor".into()),
        user_id: Some("user".into()),
        created_at: Some(at(1).to_string()),
        modified_at: Some(at(2).to_string()),
        ..named(FEED, "me", "it")
    };
    store
        .save_reference("me~it", Ok(&complete), at(0))
        .await
        .unwrap();
    store.save_task(&task(FEED), at(1)).await.unwrap();
    store.open_feed(&task(FEED), at(2)).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let resolved = async || {
        let resolved = store.resolved("me~it", hour, hour, at(3)).await.unwrap();
        resolved.unwrap().0
    };
    assert_eq!(resolved().await, complete);
    let renamed = Task {
        name: Some("new".into()),
        ..task(FEED)
    };
    store.save_task(&renamed, at(3)).await.unwrap();
    let expected = Task {
        name: Some("new".into()),
        ..complete
    };
    assert_eq!(resolved().await, expected);
}

pub async fn tasks_are_known_by_their_names(mirror: Mirror) {
    let store = &mirror.store;
    store
        .save_task(&named("one", "me", "it"), at(0))
        .await
        .unwrap();
    store
        .save_task(&named("two", "you", "it2"), at(0))
        .await
        .unwrap();
    store
        .save_reference("me~before", Ok(&task("one")), at(0))
        .await
        .unwrap();
    store
        .save_reference("me~never", Err("not found"), at(0))
        .await
        .unwrap();
    for (reference, expected) in [
        ("one", Some("one")),
        ("me~it", Some("one")),
        ("~it", Some("one")),
        ("~it2", Some("two")),
        ("me~it2", None),
        ("me~before", Some("one")),
        ("me~never", None),
        ("it", None),
    ] {
        let known = mirror.reader.known_task(reference).await.unwrap();
        assert_eq!(known.as_deref(), expected, "{reference}");
    }
}
