//! The documented endpoints, without a network: from path and query to status and body.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::task::SimTask;
use super::world::World;
use crate::model::{RunStatus, Timestamp};

/// A status and a JSON body.
pub(super) type Answer = (u16, Value);

/// Answers an authorized `GET path?query`.
pub(super) fn answer(world: &World, path: &str, query: &str) -> Answer {
    let parts: Vec<String> = path
        .trim_matches('/')
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let result = Parameters::parse(query).and_then(|parameters| match parts.as_slice() {
        ["v2", "users", "me"] => Ok(json!({"id": "simulated", "username": owner(world)})),
        ["v2", "actor-tasks"] => Ok(tasks(world, &parameters)),
        ["v2", "actor-tasks", task] => Ok(world.task_item(find(world, task)?)),
        ["v2", "actor-tasks", task, "runs"] => {
            let task = find(world, task)?;
            let Parameters {
                offset,
                limit,
                desc,
                statuses,
                ..
            } = &parameters;
            let page = world.list(&task.id, *offset, *limit, *desc, statuses.as_deref());
            Ok(envelope(
                page.total,
                page.offset,
                page.limit,
                *desc,
                page.items,
            ))
        }
        ["v2", "actor-runs"] => Ok(runs(world, &parameters, |_| true)),
        ["v2", "actors" | "acts", actor, "runs"] => {
            Ok(runs(world, &parameters, |task| task.act_id == *actor))
        }
        ["v2", "actor-runs", run] => world
            .run_detail(run)
            .ok_or_else(|| not_found("Actor run was not found")),
        _ => Err(not_found("There is nothing at this address")),
    });
    match result {
        Ok(data) => (200, json!({"data": data})),
        Err(refusal) => refusal,
    }
}

/// An error, with a body like Apify's.
pub(super) fn refusal(status: u16, kind: &str, message: &str) -> Answer {
    (status, json!({"error": {"type": kind, "message": message}}))
}

fn not_found(message: &str) -> Answer {
    refusal(404, "record-not-found", message)
}

fn owner(world: &World) -> &str {
    world
        .tasks()
        .first()
        .map_or("nobody", |task| &task.username)
}

fn find<'w>(world: &'w World, reference: &str) -> Result<&'w SimTask, Answer> {
    let task = world
        .find_task(reference)
        .ok_or_else(|| not_found("Actor task was not found"))?;
    if task.forbidden {
        return Err(refusal(
            403,
            "insufficient-permissions",
            "Insufficient permissions for the Actor task.",
        ));
    }
    Ok(task)
}

fn tasks(world: &World, parameters: &Parameters) -> Value {
    let all = world.tasks();
    let in_order: Vec<&SimTask> = if parameters.desc {
        all.iter().rev().collect()
    } else {
        all.iter().collect()
    };
    let items = in_order
        .into_iter()
        .skip(parameters.offset as usize)
        .take(parameters.limit as usize);
    let items = items.map(|task| world.task_item(task)).collect();
    envelope(
        all.len() as u64,
        parameters.offset,
        parameters.limit,
        parameters.desc,
        items,
    )
}

/// A list of the runs of several tasks, by start.
fn runs(world: &World, parameters: &Parameters, of: impl Fn(&SimTask) -> bool) -> Value {
    let within = |item: &Value| {
        let started = item["startedAt"].as_str().and_then(Timestamp::parse);
        parameters.after.is_none_or(|after| started >= Some(after))
            && parameters
                .before
                .is_none_or(|before| started <= Some(before))
    };
    let statuses = parameters.statuses.as_deref();
    let mut items: Vec<Value> = world
        .tasks()
        .iter()
        .filter(|task| of(task))
        .flat_map(|task| {
            (0..task.run_count() as u64)
                .step_by(1_000)
                .flat_map(|offset| world.list(&task.id, offset, 1_000, false, statuses).items)
        })
        .filter(within)
        .collect();
    items.sort_by(|a, b| a["startedAt"].as_str().cmp(&b["startedAt"].as_str()));
    if parameters.desc {
        items.reverse();
    }
    let total = items.len() as u64;
    let page = items
        .into_iter()
        .skip(parameters.offset as usize)
        .take(parameters.limit as usize)
        .collect();
    envelope(
        total,
        parameters.offset,
        parameters.limit,
        parameters.desc,
        page,
    )
}

fn envelope(total: u64, offset: u64, limit: u64, desc: bool, items: Vec<Value>) -> Value {
    json!({"total": total, "offset": offset, "limit": limit, "desc": desc, "count": items.len(), "items": items})
}

/// The query of a list.
struct Parameters {
    offset: u64,
    limit: u64,
    desc: bool,
    statuses: Option<Vec<RunStatus>>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, Answer> {
        let mut parsed = Self {
            offset: 0,
            limit: 1_000,
            desc: false,
            statuses: None,
            after: None,
            before: None,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            // The API accepts it, but the mirror must never send it.
            if name == "token" {
                return Err(refusal(400, "token-in-url", "The token is in the URL."));
            }
            if parsed.set(&name, &value).is_none() {
                let message = format!("Invalid value provided: {name} cannot be {value:?}");
                return Err(refusal(400, "invalid-value", &message));
            }
        }
        Ok(parsed)
    }

    /// Sets one parameter; `None` if its value is invalid. Unknown parameters are ignored.
    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "offset" => self.offset = value.parse().ok()?,
            "limit" => {
                let limit: u64 = value.parse().ok()?;
                self.limit = (limit > 0).then(|| limit.min(1_000))?;
            }
            "desc" => match value {
                "true" | "1" => self.desc = true,
                "false" | "0" | "" => {}
                _ => return None,
            },
            "status" => {
                let statuses: Vec<RunStatus> = value.split(',').map(RunStatus::from_api).collect();
                let known = |status: &RunStatus| !matches!(status, RunStatus::Other(_));
                self.statuses = Some(statuses.iter().all(known).then_some(statuses)?);
            }
            "startedAfter" => self.after = Some(Timestamp::parse(value)?),
            "startedBefore" => self.before = Some(Timestamp::parse(value)?),
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (World, String, String) {
        let mut world = World::new(1);
        let task = world.add_task("janedoe", "my task");
        let run = world.create(&task, Timestamp::from_millis(1_000));
        world.create(&task, Timestamp::from_millis(2_000));
        (world, task, run)
    }

    #[test]
    fn lists_tasks_and_runs() {
        let (world, task, run) = world();
        let (status, body) = answer(
            &world,
            "/v2/actor-tasks/~my%20task/runs",
            "limit=1&desc=true",
        );
        assert_eq!(
            (status, &body["data"]["total"], &body["data"]["count"]),
            (200, &json!(2), &json!(1))
        );
        assert_eq!(
            body["data"]["items"][0]["startedAt"],
            "1970-01-01T00:00:02.000Z"
        );
        let (_, body) = answer(
            &world,
            &format!("/v2/actor-tasks/{task}/runs"),
            "status=SUCCEEDED,FAILED",
        );
        assert_eq!(body["data"]["items"], json!([]));
        let (_, body) = answer(&world, "/v2/actor-tasks", "");
        assert_eq!(body["data"]["items"][0]["id"], json!(task));
        let (_, body) = answer(&world, &format!("/v2/actor-tasks/{task}"), "");
        assert_eq!(body["data"]["name"], "my task");
        let (_, body) = answer(&world, &format!("/v2/actor-runs/{run}"), "");
        assert_eq!(body["data"]["statusMessage"], "The run is READY");
        let act = body["data"]["actId"].as_str().unwrap().to_owned();
        let (_, body) = answer(
            &world,
            &format!("/v2/acts/{act}/runs"),
            "startedAfter=1970-01-01T00:00:02Z",
        );
        assert_eq!(body["data"]["total"], 1);
        let (_, body) = answer(
            &world,
            "/v2/actor-runs",
            "startedBefore=1970-01-01T00:00:01.000Z&desc=1",
        );
        assert_eq!(body["data"]["items"][0]["id"], json!(run));
    }

    #[test]
    fn errors_are_as_documented() {
        let (mut world, task, _) = world();
        let list = format!("/v2/actor-tasks/{task}/runs");
        for (path, query, status, kind) in [
            ("/v2/actor-tasks/nobody~this", "", 404, "record-not-found"),
            ("/v2/actor-runs/nothing", "", 404, "record-not-found"),
            ("/v3", "", 404, "record-not-found"),
            (&list, "offset=-1", 400, "invalid-value"),
            (&list, "limit=x", 400, "invalid-value"),
            (&list, "desc=yes", 400, "invalid-value"),
            (&list, "status=DONE", 400, "invalid-value"),
            (&list, "token=abc", 400, "token-in-url"),
        ] {
            let (found, body) = answer(&world, path, query);
            assert_eq!(
                (found, &body["error"]["type"]),
                (status, &json!(kind)),
                "{path}?{query}"
            );
        }
        world.change_task(&task, |task| task.forbidden = true);
        assert_eq!(answer(&world, &list, "").0, 403);
    }
}
