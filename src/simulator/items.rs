//! Runs and tasks as JSON, with the fields of Apify's OpenAPI description.

use serde_json::{Value, json};

use super::task::{SimRun, SimTask};

/// A run, as an item of a list.
pub(super) fn listed(run: &SimRun, task: &SimTask, user_id: &str) -> Value {
    let scheduled = run.origin == "SCHEDULER";
    json!({
        "id": run.id,
        "actId": task.act_id,
        "userId": user_id,
        "actorTaskId": task.id,
        "status": run.status.as_str(),
        "startedAt": run.started_at.to_string(),
        "finishedAt": run.finished_at.map(|at| at.to_string()),
        "buildId": "HG7ML7M8z78YcAPEB",
        "buildNumber": "0.0.2",
        "buildNumberInt": 2,
        "meta": {
            "origin": run.origin,
            "clientIp": (run.origin == "WEB").then_some("203.0.113.7"),
            "userAgent": (run.origin == "CLI").then_some("ApifyCLI"),
            "scheduleId": scheduled.then_some("asdLZtadYvn4mBZmm"),
            "scheduledAt": scheduled.then(|| run.started_at.to_string()),
        },
        "usageTotalUsd": run.usage_milli_usd as f64 / 1_000.0,
        "defaultKeyValueStoreId": format!("k{}", &run.id[1..]),
        "defaultDatasetId": format!("d{}", &run.id[1..]),
        "defaultRequestQueueId": format!("q{}", &run.id[1..]),
    })
}

/// A run, as the answer to a single read: with more fields than in a list, but without `buildNumberInt`.
pub(super) fn detailed(run: &SimRun, task: &SimTask, user_id: &str) -> Value {
    let mut item = listed(run, task, user_id);
    if let Value::Object(fields) = &mut item {
        fields.remove("buildNumberInt");
        fields.insert(
            "statusMessage".to_owned(),
            json!(format!("The run is {}", run.status)),
        );
        fields.insert(
            "isStatusMessageTerminal".to_owned(),
            json!(run.status.is_terminal()),
        );
        fields.insert(
            "exitCode".to_owned(),
            json!(run.status.is_terminal().then_some(0)),
        );
        fields.insert(
            "stats".to_owned(),
            json!({
                "restartCount": 0,
                "durationMillis": run.finished_at.map(|at| at.since(run.started_at).as_millis() as u64),
                "computeUnits": run.usage_milli_usd as f64 / 250.0,
            }),
        );
        fields.insert(
            "options".to_owned(),
            json!({"build": "latest", "timeoutSecs": 300, "memoryMbytes": 1024}),
        );
        fields.insert(
            "containerUrl".to_owned(),
            json!(format!("https://{}.runs.apify.net", run.id.to_lowercase())),
        );
    }
    item
}

/// A task, as an item of a list and as the answer to a single read.
pub(super) fn task(task: &SimTask, user_id: &str) -> Value {
    json!({
        "id": task.id,
        "userId": user_id,
        "actId": task.act_id,
        "actName": format!("{}-actor", task.name),
        "actUsername": task.username,
        "name": task.name,
        "username": task.username,
        "createdAt": task.created_at.to_string(),
        "modifiedAt": task.created_at.to_string(),
        "stats": {"totalRuns": task.run_count()},
    })
}
