//! A run as the API tells of it.

use serde_json::{Map, Value};
use thiserror::Error;

use super::{RunStatus, Timestamp};

/// An item that cannot be mirrored at all.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidRun {
    /// The item is not a JSON object.
    #[error("a run is not a JSON object")]
    NotAnObject,
    /// Without an id there is nothing to store it under.
    #[error("a run has no usable `id` (a non-empty string)")]
    NoId,
}

/// One run: a typed field for every column of the mirror, and the rest in `extra`.
///
/// Every field but the id may be missing or null. Times stay in the API's own text, so that nothing is lost in
/// converting; a value whose type is not the documented one is kept in `extra`, under its own name.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The run's id: 17 letters and digits at Apify, any non-empty text here.
    pub id: String,
    /// `actorTaskId`.
    pub task_id: Option<String>,
    /// `actId`.
    pub act_id: Option<String>,
    /// `userId`.
    pub user_id: Option<String>,
    /// `status`; a run listed without one has the status `UNKNOWN`, which is not terminal.
    pub status: RunStatus,
    /// `startedAt`, as given.
    pub started_at: Option<String>,
    /// `finishedAt`, as given.
    pub finished_at: Option<String>,
    /// `buildId`.
    pub build_id: Option<String>,
    /// `buildNumber`.
    pub build_number: Option<String>,
    /// `buildNumberInt`.
    pub build_number_int: Option<i64>,
    /// `meta.origin`.
    pub origin: Option<String>,
    /// `meta.clientIp`.
    pub client_ip: Option<String>,
    /// `meta.userAgent`.
    pub user_agent: Option<String>,
    /// `meta.scheduleId`.
    pub schedule_id: Option<String>,
    /// `meta.scheduledAt`, as given.
    pub scheduled_at: Option<String>,
    /// `usageTotalUsd`, in US dollars.
    pub usage_total_usd: Option<f64>,
    /// `defaultKeyValueStoreId`.
    pub default_key_value_store_id: Option<String>,
    /// `defaultDatasetId`.
    pub default_dataset_id: Option<String>,
    /// `defaultRequestQueueId`.
    pub default_request_queue_id: Option<String>,
    /// Every field without a place above; nested ones keep their place (`{"meta": {"new": 1}}`).
    pub extra: Map<String, Value>,
}

impl Run {
    /// Reads one item of a list, or the answer to a single read.
    ///
    /// # Errors
    /// Only when there is no id to store it under.
    pub fn from_json(item: &Value) -> Result<Self, InvalidRun> {
        let mut rest = item.as_object().ok_or(InvalidRun::NotAnObject)?.clone();
        let id = take_text(&mut rest, "id")
            .filter(|id| !id.is_empty())
            .ok_or(InvalidRun::NoId)?;
        let mut meta = match rest.remove("meta") {
            Some(Value::Object(meta)) => meta,
            Some(Value::Null) | None => Map::new(),
            Some(other) => {
                rest.insert("meta".to_owned(), other);
                Map::new()
            }
        };
        let run = Self {
            id,
            task_id: take_text(&mut rest, "actorTaskId"),
            act_id: take_text(&mut rest, "actId"),
            user_id: take_text(&mut rest, "userId"),
            status: take_text(&mut rest, "status").map_or_else(
                || RunStatus::Other("UNKNOWN".to_owned()),
                |name| RunStatus::from_api(&name),
            ),
            started_at: take_text(&mut rest, "startedAt"),
            finished_at: take_text(&mut rest, "finishedAt"),
            build_id: take_text(&mut rest, "buildId"),
            build_number: take_text(&mut rest, "buildNumber"),
            build_number_int: take(&mut rest, "buildNumberInt", Value::as_i64),
            origin: take_text(&mut meta, "origin"),
            client_ip: take_text(&mut meta, "clientIp"),
            user_agent: take_text(&mut meta, "userAgent"),
            schedule_id: take_text(&mut meta, "scheduleId"),
            scheduled_at: take_text(&mut meta, "scheduledAt"),
            usage_total_usd: take(&mut rest, "usageTotalUsd", Value::as_f64),
            default_key_value_store_id: take_text(&mut rest, "defaultKeyValueStoreId"),
            default_dataset_id: take_text(&mut rest, "defaultDatasetId"),
            default_request_queue_id: take_text(&mut rest, "defaultRequestQueueId"),
            extra: Map::new(),
        };
        if !meta.is_empty() {
            rest.insert("meta".to_owned(), Value::Object(meta));
        }
        Ok(Self { extra: rest, ..run })
    }

    /// `startedAt` as an instant; `None` when it is missing or no time.
    pub fn started(&self) -> Option<Timestamp> {
        self.started_at.as_deref().and_then(Timestamp::parse)
    }

    /// `finishedAt` as an instant; `None` when it is missing or no time.
    pub fn finished(&self) -> Option<Timestamp> {
        self.finished_at.as_deref().and_then(Timestamp::parse)
    }
}

/// Takes a field out of `from` when it has the documented type; a null goes without trace, anything else stays.
fn take<T>(
    from: &mut Map<String, Value>,
    key: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Option<T> {
    let value = from.get(key)?;
    let taken = read(value);
    if taken.is_some() || value.is_null() {
        from.remove(key);
    }
    taken
}

fn take_text(from: &mut Map<String, Value>, key: &str) -> Option<String> {
    take(from, key, |value| value.as_str().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_full_item_leaves_nothing_over() {
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
            "the API's own text"
        );
        assert_eq!(run.usage_total_usd, Some(0.2));
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
    fn everything_but_the_id_may_be_missing() {
        let run = Run::from_json(&json!({"id": "r"})).unwrap();
        assert!(!run.status.is_terminal());
        assert_eq!(run.status.as_str(), "UNKNOWN");
        let kept = Run::from_json(&json!({"id": "r", "meta": "text"})).unwrap();
        assert_eq!(Value::Object(kept.extra), json!({"meta": "text"}));
    }

    #[test]
    fn an_item_without_an_id_is_refused() {
        for (item, error) in [
            (json!([1]), InvalidRun::NotAnObject),
            (json!({"status": "READY"}), InvalidRun::NoId),
            (json!({"id": ""}), InvalidRun::NoId),
            (json!({"id": 5}), InvalidRun::NoId),
        ] {
            assert_eq!(Run::from_json(&item), Err(error), "{item}");
        }
    }
}
