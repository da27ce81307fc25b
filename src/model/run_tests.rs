//! Runs from the API's items.

use super::*;
use serde_json::json;

/// Both ways to read an item give the same run.
#[test]
fn a_run_from_text_is_the_one_from_its_tree() {
    let full = r#"{"id": "r", "status": "TIMED-OUT", "startedAt": "2019-11-30T07:34:24.202Z", "buildNumberInt": 10000,
        "meta": {"origin": "WEB", "clientIp": null, "scheduledAt": "2019-08-24T14:15:22+01:00"}, "usageTotalUsd": 0.1}"#;
    let odd = [
        full,
        r#"{"id":"r","status":"READY","meta":null,"finishedAt":null,"usageTotalUsd":1e2,"buildNumberInt":1.0}"#,
        r#"{"id":"r","status":"R\u00e4","userId":"a\"b\\","actId":"\ud83d\ude00","x":{"y":[1,{}]},"meta":{"z":1,"origin":7}}"#,
        r#"{"id":"a","id":"b","status":"X","status":"READY","actId":"a","actId":7,"meta":{"origin":"A"},"meta":{"userAgent":"B"}}"#,
        r#"{"id":"r","status":"READY","startedAt":7,"finishedAt":1575099264202,"\u0061ctId":"a","usageTotalUsd":"1"}"#,
        r#"{"id":"r","status":"READY","usageTotalUsd":123456789012345678901234567890,"buildNumberInt":12345678901234567890}"#,
    ];
    for text in odd {
        let tree = Run::from_json(&serde_json::from_str(text).unwrap());
        assert_eq!(Run::from_text(text), tree.ok(), "{text}");
        assert!(Run::from_text(text).is_some(), "{text}");
    }
    for text in [
        "[]",
        "{}",
        r#"{"id":"r"}"#,
        r#"{"id":"r","status":7}"#,
        r#"{"id":"a/b","status":"READY"}"#,
        r#"{"id":"","status":"READY"}"#,
        r#"{"id":"r","status":"READY","actId":"\ud83d"}"#,
        r#"{"id":"r","status":"READY","x":"\ud83d"}"#,
        r#"{"id":"r","status":"READY","x":NaN}"#,
        r#"{"id":"r","status":"READY","meta":"text"}"#,
        r#"{"id":"r","status":"READY"} 1"#,
    ] {
        assert_eq!(Run::from_text(text), None, "{text}");
    }
}

#[test]
fn a_full_item_leaves_extra_empty() {
    let run = Run::from_json(&json!({
        "id": "r", "actId": "a", "userId": "u", "actorTaskId": null, "status": "TIMED-OUT",
        "startedAt": "2019-11-30T07:34:24.202Z", "finishedAt": "2019-12-12T09:30:12.202Z",
        "buildId": "b", "buildNumber": "0.0.2", "buildNumberInt": 10000,
        "meta": {"origin": "WEB", "clientIp": null, "userAgent": "x", "scheduleId": "s", "scheduledAt": "2019-08-24T14:15:22Z"},
        "usageTotalUsd": 0.2, "defaultKeyValueStoreId": "k", "defaultDatasetId": "d", "defaultRequestQueueId": "q"
    }))
    .unwrap();
    assert_eq!(run.extra, Map::new());
    assert_eq!(run.status, RunStatus::TimedOut);
    assert_eq!(run.build_number_int, Some(10000));
    assert_eq!(
        run.scheduled_at.as_deref(),
        Some("2019-08-24T14:15:22Z"),
        "the API's text"
    );
    assert_eq!(run.usage_total_usd, Some(0.2));
}

#[test]
fn a_run_survives_a_round_trip_through_its_values() {
    let run = Run::from_json(&json!({
        "id": "r", "status": "READY", "actId": "a", "buildNumberInt": 7, "usageTotalUsd": 0.1,
        "meta": {"userAgent": "x"}
    }))
    .unwrap();
    let again = |values| Run::from_values("r".into(), RunStatus::Ready, values, Map::new());
    assert_eq!(again(run.values()), Ok(run.clone()));
    assert_eq!(run.values().len(), Run::COLUMNS.len());
    let mut mistyped = run.values();
    mistyped[0] = FieldValue::Real(1.0);
    assert_eq!(again(mistyped), Err("task_id"));
    assert_eq!(again(Vec::new()), Err("task_id"));
}

#[test]
fn an_overlay_replaces_only_the_fields_it_has() {
    let run = |json| Run::from_json(&json).unwrap();
    let old = run(json!({"id": "r", "status": "READY", "actId": "a", "buildId": "b", "x": 1}));
    let new = run(json!({"id": "r", "status": "FAILED", "actId": "A", "userId": "u", "y": 1}));
    let both = run(
        json!({"id": "r", "status": "READY", "actId": "A", "buildId": "b", "userId": "u", "x": 1}),
    );
    assert_eq!(old.overlaid(&new), both);
}

#[test]
fn unknown_and_mistyped_fields_are_kept_in_place() {
    let run = Run::from_json(&json!({
        "id": "r", "status": "RUNNING", "usageTotalUsd": "0.2", "startedAt": 7,
        "generalAccess": "FOLLOW_USER_SETTING", "meta": {"origin": "CLI", "region": {"a": [1]}}
    }))
    .unwrap();
    assert_eq!(
        Value::Object(run.extra),
        json!({"usageTotalUsd": "0.2", "startedAt": 7, "generalAccess": "FOLLOW_USER_SETTING", "meta": {"region": {"a": [1]}}})
    );
    assert_eq!((run.usage_total_usd, run.started_at), (None, None));
    assert_eq!(run.origin.as_deref(), Some("CLI"));
}

#[test]
fn every_field_but_the_id_may_be_missing() {
    let run = Run::from_json(&json!({"id": "r"})).unwrap();
    assert!(!run.status.is_terminal());
    assert_eq!(run.status.as_str(), "UNKNOWN");
    let kept = Run::from_json(&json!({"id": "r", "meta": "text"})).unwrap();
    assert_eq!(Value::Object(kept.extra), json!({"meta": "text"}));
}

#[test]
fn an_item_without_a_usable_id_and_status_is_rejected() {
    for (item, error) in [
        (json!([1]), InvalidRun::NotAnObject),
        (json!({"status": "READY"}), InvalidRun::NoId),
        (json!({"id": ""}), InvalidRun::NoId),
        (json!({"id": 5}), InvalidRun::NoId),
        (json!({"id": ".."}), InvalidRun::UnusableId),
        (json!({"id": "a/b"}), InvalidRun::UnusableId),
        (json!({"id": "x".repeat(101)}), InvalidRun::UnusableId),
        (
            json!({"id": "a", "status": "ä".repeat(51)}),
            InvalidRun::LongStatus,
        ),
    ] {
        assert_eq!(Run::from_json(&item), Err(error), "{item}");
    }
}
