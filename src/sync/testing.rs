//! Short ways to write pages in tests.

use serde_json::json;

use super::page::{Page, Seen};
use crate::model::Timestamp;

/// An item with an id, a start in seconds, and a status.
pub fn item(id: &str, second: i64, status: &str) -> Seen {
    let started = Timestamp::from_millis(second * 1_000).to_string();
    Seen::from_json(json!({"id": id, "startedAt": started, "status": status})).unwrap()
}

/// A page at `offset` of a list of `total`, of succeeded runs given by id and start in seconds.
pub fn page(offset: u64, total: u64, items: &[(&str, i64)]) -> Page {
    let items = items.iter().map(|(id, second)| item(id, *second, "SUCCEEDED")).collect();
    Page { offset, limit: Some(1000), total: Some(total), items }
}
