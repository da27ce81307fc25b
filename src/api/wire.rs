//! Decodes the bodies of answers.
//!
//! An envelope must have the fields that positions depend on (`data`, `data.offset`, `data.items`). An item must have an
//! id; it may lack any other field and have unknown ones.

use serde::Deserialize;
use serde_json::Value;

use crate::model::Task;
use crate::sync::{Page, Seen};

/// The largest position or count accepted: the largest integer of SQLite.
const MAX_POSITION: u64 = i64::MAX as u64;

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

#[derive(Deserialize)]
struct List<T> {
    offset: u64,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    total: Option<u64>,
    items: Vec<T>,
}

/// One page of tasks.
pub struct TaskPage {
    /// The offset of its first task.
    pub offset: u64,
    /// How many tasks there are, if the server reports it.
    pub total: Option<u64>,
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// Decodes a page of a run list.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn run_page(body: &[u8]) -> Result<Page, String> {
    let list: List<Value> = data(body)?;
    let items = list
        .items
        .into_iter()
        .map(Seen::from_json)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let total = list.total.map(|total| total.min(MAX_POSITION));
    if list.offset > MAX_POSITION {
        return Err(format!("`data.offset` is {}", list.offset));
    }
    Ok(Page {
        offset: list.offset,
        limit: list.limit,
        total,
        items,
    })
}

/// Decodes a single run.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn run(body: &[u8]) -> Result<Seen, String> {
    Seen::from_json(data(body)?).map_err(|error| error.to_string())
}

/// Decodes a single task.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn task(body: &[u8]) -> Result<Task, String> {
    let task: Task = data(body)?;
    if task.id.is_empty() {
        Err("the task has no id".to_owned())
    } else {
        Ok(task)
    }
}

/// Decodes a page of the list of tasks.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn task_page(body: &[u8]) -> Result<TaskPage, String> {
    let list: List<Task> = data(body)?;
    Ok(TaskPage {
        offset: list.offset,
        total: list.total,
        tasks: list.items,
    })
}

fn data<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, String> {
    let envelope: Envelope<T> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(envelope.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_positions_depend_on_are_required() {
        for (body, expected) in [
            (r#"{"data": {"items": []}}"#, "missing field `offset`"),
            (r#"{"data": {"offset": 0}}"#, "missing field `items`"),
            (r#"{"data": {"offset": -1, "items": []}}"#, "invalid value"),
            (r#"{"data": {"offset": "0", "items": []}}"#, "invalid type"),
            (
                r#"{"data": {"offset": 18446744073709551615, "items": []}}"#,
                "`data.offset` is 18446744073709551615",
            ),
            (
                r#"{"data": {"offset": 0, "items": [{"status": "READY"}]}}"#,
                "no usable `id`",
            ),
            (r#"{"data": null}"#, "invalid type"),
            ("<html></html>", "expected value"),
            ("", "EOF"),
        ] {
            let error = run_page(body.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn the_rest_of_an_envelope_is_optional() {
        let page = run_page(br#"{"data": {"offset": 3, "limit": null, "new": {}, "items": [{"id": "r"}]}, "more": 1}"#)
            .unwrap();
        assert_eq!(
            (page.offset, page.limit, page.total, page.items.len()),
            (3, None, None, 1)
        );
    }

    /// A page with one item that has these fields beside its id.
    fn item(fields: &str) -> Result<Page, String> {
        run_page(
            format!(r#"{{"data": {{"offset": 0, "items": [{{"id": "r", {fields}}}]}}}}"#)
                .as_bytes(),
        )
    }

    #[test]
    fn hostile_values_are_rejected_or_kept() {
        let number = |text: &str| item(&format!(r#""usageTotalUsd": {text}"#));
        assert!(number("1e999").unwrap_err().contains("number out of range"));
        assert!(number("NaN").unwrap_err().contains("expected"));
        assert_eq!(
            number("123456789012345678901234567890").unwrap().items[0]
                .run
                .usage_total_usd,
            Some(1.2345678901234568e29)
        );
        assert!(
            item(r#""status": "\ud800""#)
                .unwrap_err()
                .contains("hex escape"),
            "a lone surrogate cannot be stored"
        );

        let twice = item(r#""status": "READY", "status": "RUNNING""#).unwrap();
        assert_eq!(
            twice.items[0].run.status.as_str(),
            "RUNNING",
            "the last of duplicate keys counts"
        );
        let long = "x".repeat(10 << 20);
        assert_eq!(
            item(&format!(r#""statusMessage": "{long}""#))
                .unwrap()
                .items[0]
                .run
                .extra["statusMessage"],
            long
        );

        let wrong = item(
            r#""status": 7, "startedAt": [], "meta": "none", "usageTotalUsd": "much", "buildId": {"a": 1}"#,
        );
        let run = &wrong.unwrap().items[0].run;
        assert_eq!(
            (&run.started_at, run.usage_total_usd, &run.build_id),
            (&None, None, &None)
        );
        assert_eq!(
            run.extra["buildId"],
            serde_json::json!({"a": 1}),
            "a value of another type is kept"
        );
    }

    #[test]
    fn numbers_keep_every_digit() {
        let seen = item(r#""usageTotalUsd": 0.9459797745628737, "extra": 0.9459797745628737"#)
            .unwrap()
            .items
            .remove(0);
        assert_eq!(
            seen.run.usage_total_usd.map(f64::to_bits),
            Some(0.945_979_774_562_873_7_f64.to_bits())
        );
        assert!(
            seen.json
                .to_string()
                .contains(r#""extra":0.9459797745628737"#),
            "{}",
            seen.json
        );
    }

    #[test]
    fn deep_nesting_is_an_error_and_does_not_overflow_the_stack() {
        let body = format!(
            r#"{{"data": {{"offset": 0, "items": [{}]}}}}"#,
            "[".repeat(1_000_000)
        );
        assert!(
            run_page(body.as_bytes())
                .unwrap_err()
                .contains("recursion limit")
        );
    }
}
