//! Decodes the bodies of answers.
//!
//! A list must have `data.items`, an array whose text is whole. Everything else may be absent or odd: an item that cannot
//! be read takes its place in the list beside the others, and what the answer says of itself counts where it can be
//! understood. Items are parsed one at a time, and only if they are within the limits of `limits.rs`.

use serde_json::Value;
use thiserror::Error;

use super::error::BYTE_ORDER_MARK;
use super::limits::{Budget, MAX_ITEM, MAX_ITEMS, refuse, weigh};
use super::split::{Scanner, mend, read_text, short};
use crate::model::{Task, Timestamp, is_usable_id};
use crate::sync::{Entry, Page, Seen, Unreadable};

/// The most of an unreadable item that is kept, in bytes.
const MAX_ODD_BODY: usize = 4 << 10;

/// Ends what is kept of an item of which not all is.
const CUT: &str = "…";

/// The largest position or count that is believed. No account has a trillion runs, and sums of such numbers stay within what
/// a database can store.
const MAX_POSITION: u64 = 1_000_000_000_000;

/// Why a body cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unusable {
    /// It is not what was expected.
    #[error("{0}")]
    Malformed(String),
    /// It takes more memory than any answer may.
    #[error("{0}")]
    TooLarge(String),
}

impl From<String> for Unusable {
    fn from(problem: String) -> Self {
        Self::Malformed(problem)
    }
}

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
pub fn run_page(body: &[u8], latest: Timestamp) -> Result<Page, Unusable> {
    let (list, items) = List::read(body)?;
    let mut budget = Budget::of_page(body.len());
    let mut entries = Vec::with_capacity(items.len());
    for item in items {
        let weight = weigh(item);
        if !budget.takes(weight) {
            let problem =
                "its items take more memory than any page may; ask for fewer (`sync.page_size`)";
            return Err(Unusable::TooLarge(problem.to_owned()));
        }
        entries.push(entry(item, weight, latest));
    }
    Ok(Page {
        offset: list.offset,
        limit: list.limit,
        total: list.total,
        desc: list.desc,
        entries,
    })
}

/// Decodes a single run. A start after `latest` is not believed.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn run(body: &[u8], latest: Timestamp) -> Result<Seen, Unusable> {
    let json = read(single(body)?)?;
    Seen::from_json(json, latest).map_err(|error| Unusable::Malformed(error.to_string()))
}

/// Decodes a single task.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn task(body: &[u8]) -> Result<Task, Unusable> {
    Ok(read_task(single(body)?)?)
}

/// Decodes a page of the list of tasks.
///
/// # Errors
/// A description of what is wrong with the body.
pub fn task_page(body: &[u8]) -> Result<TaskPage, Unusable> {
    let (list, items) = List::read(body)?;
    let task = |item| match weigh(item) {
        ..=MAX_ITEM => read_task(item),
        _ => Err(too_large()),
    };
    Ok(TaskPage {
        offset: list.offset,
        total: list.total,
        tasks: items.into_iter().map(task).collect(),
    })
}

/// A scanner at the beginning of a body.
fn scanner(body: &[u8]) -> Scanner<'_> {
    Scanner::new(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body))
}

/// The text of `data` in the answer to a single read, if it may be parsed.
fn single(body: &[u8]) -> Result<&[u8], Unusable> {
    let data = data(body)?;
    match weigh(data) {
        ..=MAX_ITEM => Ok(data),
        _ => Err(Unusable::TooLarge(too_large())),
    }
}

/// The text of `data` in a body.
fn data(body: &[u8]) -> Result<&[u8], String> {
    let mut data = None;
    let mut scanner = scanner(body);
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
    items: Option<Vec<&'a [u8]>>,
}

impl<'a> List<'a> {
    fn read(body: &'a [u8]) -> Result<(Self, Vec<&'a [u8]>), Unusable> {
        let mut list = None;
        let mut scanner = scanner(body);
        scanner.members(|key, scanner| {
            if key == "data" {
                list = Some(Self::read_data(scanner)?);
            } else {
                scanner.value()?;
            }
            Ok(())
        })?;
        scanner.end()?;
        let missing = |field: &str| format!("missing field `{field}`");
        let mut list = list.ok_or_else(|| missing("data"))?;
        let items = list.items.take().ok_or_else(|| missing("data.items"))?;
        if items.len() > MAX_ITEMS {
            let problem = format!("it has more than {MAX_ITEMS} items");
            return Err(Unusable::TooLarge(problem));
        }
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
                    let items = scanner.elements(MAX_ITEMS);
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
fn count(json: &[u8]) -> Option<u64> {
    let (quoted, plain) = (read_text(json), short(json)?);
    let text = quoted.as_deref().unwrap_or(&plain).trim();
    if let Ok(number) = text.parse::<u64>() {
        return (number <= MAX_POSITION).then_some(number);
    }
    let number: f64 = text.parse().ok()?;
    let is_count = (0.0..MAX_POSITION as f64).contains(&number) && number.fract() == 0.0;
    is_count.then_some(number as u64)
}

/// Yes or no, also as a number or as text; `None` for anything else.
fn flag(json: &[u8]) -> Option<bool> {
    let (quoted, plain) = (read_text(json), short(json)?);
    match quoted.as_deref().unwrap_or(&plain).trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Parses a value, mended if it must be. What is not UTF-8 becomes U+FFFD.
fn read(json: &[u8]) -> Result<Value, String> {
    let parse = |json: &str| match refuse(json.as_bytes()) {
        Some(reason) => Err(reason.to_owned()),
        None => serde_json::from_str(json).map_err(|error| error.to_string()),
    };
    let json = String::from_utf8_lossy(json);
    parse(&json).or_else(|error| parse(&mend(&json)).map_err(|_| error))
}

fn read_task(json: &[u8]) -> Result<Task, String> {
    Task::from_json(&read(json)?).ok_or_else(|| "the task has no usable id".to_owned())
}

fn too_large() -> String {
    format!("it takes more than {} MiB of memory", MAX_ITEM >> 20)
}

/// An item of a run list, which takes `weight` when it is parsed.
fn entry(item: &[u8], weight: usize, latest: Timestamp) -> Entry {
    let plain = str::from_utf8(item).ok().filter(|_| weight <= MAX_ITEM);
    let plain = plain.filter(|json| refuse(json.as_bytes()).is_none());
    if let Some(seen) = plain.and_then(|json| Seen::from_text(json, latest)) {
        return Entry::Run(seen);
    }
    let json = match weight {
        ..=MAX_ITEM => read(item),
        _ => Err(too_large()),
    };
    let seen =
        json.and_then(|json| Seen::from_json(json, latest).map_err(|error| error.to_string()));
    match seen {
        Ok(seen) => Entry::Run(seen),
        Err(reason) => Entry::Unreadable(Unreadable {
            id: find_id(item),
            reason,
            body: cut(item),
        }),
    }
}

/// The id of an item that cannot be read, if at least that can and is usable.
fn find_id(item: &[u8]) -> Option<String> {
    let mut id = None;
    // The item may break off after its id.
    let _ = Scanner::new(item).members(|key, scanner| {
        let value = scanner.value()?;
        if key == "id" {
            id = read_text(value).filter(|id| is_usable_id(id));
        }
        Ok(())
    });
    id
}

/// The beginning of an item, in at most [`MAX_ODD_BODY`] bytes.
fn cut(item: &[u8]) -> String {
    let text = String::from_utf8_lossy(&item[..item.len().min(MAX_ODD_BODY)]);
    if item.len() <= MAX_ODD_BODY && text.len() <= MAX_ODD_BODY {
        return text.into_owned();
    }
    let mut ends = (0..=MAX_ODD_BODY - CUT.len()).rev();
    let end = ends.find(|at| text.is_char_boundary(*at));
    format!("{}{CUT}", &text[..end.unwrap_or_default()])
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
