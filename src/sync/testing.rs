//! Short ways to write pages in tests.

use serde_json::json;

use super::page::{Listing, Page, Seen, Window};
use crate::model::Timestamp;

/// An item with an id, a start in seconds, and a status.
pub fn item(id: &str, second: i64, status: &str) -> Seen {
    let started = at(second).to_string();
    Seen::from_json(json!({"id": id, "startedAt": started, "status": status})).unwrap()
}

/// A page at `offset` of a list of `total`, of succeeded runs given by id and start in seconds.
pub fn page(offset: u64, total: u64, items: &[(&str, i64)]) -> Page {
    let items = items
        .iter()
        .map(|(id, second)| item(id, *second, "SUCCEEDED"))
        .collect();
    Page {
        offset,
        limit: Some(1000),
        total: Some(total),
        items,
    }
}

/// The instant `second` seconds after the epoch.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

/// A run list as the API would show it.
pub struct List {
    pub items: Vec<Seen>,
    pub cap: u64,
    pub ignores_offset: bool,
}

impl List {
    /// Succeeded runs `r0`, `r1`, … that started at second 0, 1, …
    pub fn of(seconds: std::ops::Range<i64>) -> Self {
        let items = seconds
            .map(|second| item(&format!("r{second}"), second, "SUCCEEDED"))
            .collect();
        Self {
            items,
            cap: 1_000,
            ignores_offset: false,
        }
    }

    pub fn set(&mut self, id: &str, status: &str) {
        let at = self
            .items
            .iter()
            .position(|seen| seen.run.id == id)
            .unwrap();
        let second = self.items[at].run.started().unwrap().as_millis() / 1_000;
        self.items[at] = item(id, second, status);
    }

    pub fn answer(&self, window: &Window) -> Page {
        let mut items = self.items.clone();
        match window.listing {
            Listing::All => {}
            Listing::Newest => items.reverse(),
            Listing::Active => items.retain(|seen| !seen.run.status.is_terminal()),
        }
        let total = items.len() as u64;
        let offset = if self.ignores_offset {
            0
        } else {
            window.offset
        };
        let limit = u64::from(window.limit).min(self.cap);
        let items = items
            .into_iter()
            .skip(offset as usize)
            .take(limit as usize)
            .collect();
        Page {
            offset,
            limit: Some(limit),
            total: Some(total),
            items,
        }
    }
}
