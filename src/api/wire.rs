//! Decodes the bodies of answers.
//!
//! A list must have `data.items`, an array whose text is whole. Everything else may be absent or odd: an item that cannot
//! be read takes its place in the list beside the others, and what the answer says of itself counts where it can be
//! understood.

use std::borrow::Cow;

use serde_json::Value;

use super::error::BYTE_ORDER_MARK;
use super::split::{Scanner, mend, read_text};
use crate::model::{Task, Timestamp};
use crate::sync::{Entry, Page, Seen, Unreadable};

/// The most of an unreadable item that is kept, in bytes.
const MAX_ODD_BODY: usize = 4 << 10;

/// Ends what is kept of an item of which not all is.
const CUT: &str = "…";

/// The largest position or count that is understood: the largest integer of SQLite.
const MAX_POSITION: u64 = i64::MAX as u64;

/// One page of tasks.
#[derive(Debug)]
pub struct TaskPage {
    /// The offset of its first task, if the server reports it.
    pub offset: Option<u64>,
    /// How many tasks there are, if the server reports it.
    pub total: Option<u64>,
    /// The tasks, or why one cannot be read, in the server's order.
    pub tasks: Vec<Result<Task, String>>,
}

/// Decodes a page of a run list. Starts after `latest` are not believed.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn run_page(body: &[u8], latest: Timestamp) -> Result<Page, String> {
    let body = text(body);
    let (list, items) = List::read(&body)?;
    let entries = items.into_iter().map(|item| entry(item, latest));
    Ok(Page {
        offset: list.offset,
        limit: list.limit,
        total: list.total,
        desc: list.desc,
        entries: entries.collect(),
    })
}

/// Decodes a single run. A start after `latest` is not believed.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn run(body: &[u8], latest: Timestamp) -> Result<Seen, String> {
    let json = read(data(&text(body))?)?;
    Seen::from_json(json, latest).map_err(|error| error.to_string())
}

/// Decodes a single task.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn task(body: &[u8]) -> Result<Task, String> {
    read_task(data(&text(body))?)
}

/// Decodes a page of the list of tasks.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn task_page(body: &[u8]) -> Result<TaskPage, String> {
    let body = text(body);
    let (list, items) = List::read(&body)?;
    Ok(TaskPage {
        offset: list.offset,
        total: list.total,
        tasks: items.into_iter().map(read_task).collect(),
    })
}

/// The text of a body. What is not UTF-8 becomes U+FFFD.
fn text(body: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body))
}

/// The text of `data` in a body.
fn data(body: &str) -> Result<&str, String> {
    let mut data = None;
    let mut scanner = Scanner::new(body);
    scanner.members(|key, scanner| {
        let value = scanner.value()?;
        if key == "data" {
            data = Some(value);
        }
        Ok(())
    })?;
    scanner.end()?;
    data.ok_or_else(|| "missing field `data`".to_owned())
}

/// A list, its items as text.
#[derive(Default)]
struct List<'a> {
    offset: Option<u64>,
    limit: Option<u64>,
    total: Option<u64>,
    desc: Option<bool>,
    items: Option<Vec<&'a str>>,
}

impl<'a> List<'a> {
    fn read(body: &'a str) -> Result<(Self, Vec<&'a str>), String> {
        let mut list = None;
        let mut scanner = Scanner::new(body);
        scanner.members(|key, scanner| {
            if key == "data" {
                list = Some(Self::read_data(scanner)?);
            } else {
                scanner.value()?;
            }
            Ok(())
        })?;
        scanner.end()?;
        let mut list = list.ok_or("missing field `data`")?;
        let items = list.items.take().ok_or("missing field `data.items`")?;
        Ok((list, items))
    }

    fn read_data(scanner: &mut Scanner<'a>) -> Result<Self, String> {
        let mut list = Self::default();
        let data = scanner.members(|key, scanner| {
            match key {
                "offset" => list.offset = count(scanner.value()?),
                "limit" => list.limit = count(scanner.value()?),
                "total" => list.total = count(scanner.value()?),
                "desc" => list.desc = flag(scanner.value()?),
                "items" => {
                    let items = scanner.elements();
                    list.items = Some(items.map_err(|problem| format!("`items`: {problem}"))?);
                }
                _ => drop(scanner.value()?),
            }
            Ok(())
        });
        data.map_err(|problem| format!("`data`: {problem}"))?;
        Ok(list)
    }
}

/// A position or count, also as a fraction that is a whole number, or as text; `None` for anything else.
fn count(json: &str) -> Option<u64> {
    let quoted = read_text(json);
    let text = quoted.as_deref().unwrap_or(json).trim();
    if let Ok(number) = text.parse::<u64>() {
        return (number <= MAX_POSITION).then_some(number);
    }
    let number: f64 = text.parse().ok()?;
    let is_count = (0.0..MAX_POSITION as f64).contains(&number) && number.fract() == 0.0;
    is_count.then_some(number as u64)
}

/// Yes or no, also as a number or as text; `None` for anything else.
fn flag(json: &str) -> Option<bool> {
    let quoted = read_text(json);
    match quoted.as_deref().unwrap_or(json).trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Parses a value, mended if it must be.
fn read(json: &str) -> Result<Value, String> {
    serde_json::from_str(json)
        .or_else(|error| serde_json::from_str(&mend(json)).map_err(|_| error.to_string()))
}

fn read_task(json: &str) -> Result<Task, String> {
    Task::from_json(&read(json)?).ok_or_else(|| "the task has no id".to_owned())
}

/// An item of a run list.
fn entry(item: &str, latest: Timestamp) -> Entry {
    let seen = read(item)
        .and_then(|json| Seen::from_json(json, latest).map_err(|error| error.to_string()));
    match seen {
        Ok(seen) => Entry::Run(seen),
        Err(reason) => Entry::Unreadable(Unreadable {
            id: find_id(item),
            reason,
            body: cut(item),
        }),
    }
}

/// The id of an item that cannot be read, if at least that can.
fn find_id(item: &str) -> Option<String> {
    let mut id = None;
    // The item may break off after its id.
    let _ = Scanner::new(item).members(|key, scanner| {
        let value = scanner.value()?;
        if key == "id" {
            id = read_text(value).filter(|id| !id.is_empty());
        }
        Ok(())
    });
    id
}

/// The beginning of `text`, in at most [`MAX_ODD_BODY`] bytes.
fn cut(text: &str) -> String {
    if text.len() <= MAX_ODD_BODY {
        return text.to_owned();
    }
    let mut ends = (0..=MAX_ODD_BODY - CUT.len()).rev();
    let end = ends.find(|at| text.is_char_boundary(*at));
    format!("{}{CUT}", &text[..end.unwrap_or_default()])
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
