//! Which events a change raises: their ids, and those that the log has, or had until they were pruned.

use rusqlite::{Connection, OptionalExtension};

use super::pruned::had_id;
use super::rows::Marks;
use crate::model::EventType;
use crate::store::error::StoreError;
use crate::store::event_id::{Identity, another, event_id};
use crate::sync::{Change, Stored, Transition};

/// What `change` raises, as ids and transitions, and the marks of the run's row after it; `stored` and `marks` are of
/// the row before it.
///
/// A transition that the log has already is not raised again: the run's row was deleted by hand. Another transition that
/// would have the id of one in the log gets an id with a number: an end that comes without its time can repeat.
pub fn identify(
    connection: &Connection,
    stored: Option<&Stored>,
    change: &Change,
    mut marks: Marks,
) -> Result<(Marks, Vec<(String, Transition)>), StoreError> {
    let run = &change.row.run;
    let before = stored.and_then(|stored| stored.run.finished_at.clone());
    update_end(&mut marks, before);
    let mut raised = Vec::new();
    for transition in &change.transitions {
        let end = marks.last_end.as_deref();
        let identity = match &transition.kind {
            EventType::Created => Identity::Created,
            EventType::Resurrected => Identity::Resurrected { end },
            EventType::Entered(status) if status.is_terminal() => Identity::Ended {
                status: status.as_str(),
                end: run.finished_at.as_deref(),
            },
            EventType::Entered(status) => {
                marks.others += 1;
                Identity::Other {
                    status: status.as_str(),
                    end,
                    nth: marks.others,
                }
            }
        };
        let id = event_id(&run.id, identity);
        let kind = transition.kind.name();
        let log = Log {
            connection,
            run_id: &run.id,
        };
        if stored.is_none() && log.has_first_sight(&kind, run.finished_at.as_deref())? {
            continue;
        }
        if log.ends_with(&id, &kind)? {
            continue;
        }
        // A run without a row that the log once knew: its row was deleted by hand, and its events were pruned.
        if stored.is_none() && had_id(connection, &id)? {
            continue;
        }
        marks.events += 1;
        let id = log.free(id, marks.events)?;
        raised.push((id, transition.clone()));
    }
    update_end(&mut marks, run.finished_at.clone());
    Ok((marks, raised))
}

/// Notes when the run ended, if it is known; a new end begins a new count.
fn update_end(marks: &mut Marks, end: Option<String>) {
    if end.is_some() && end != marks.last_end {
        marks.last_end = end;
        marks.others = 0;
    }
}

/// The events of a run in the log.
struct Log<'a> {
    connection: &'a Connection,
    run_id: &'a str,
}

impl Log<'_> {
    /// Whether the log shows that a run without a row was seen before: that it was created, or that it last ended so.
    /// The ids of earlier versions do not tell.
    fn has_first_sight(&self, kind: &str, end: Option<&str>) -> Result<bool, StoreError> {
        let sql = if kind == EventType::Created.name() {
            "SELECT 1 FROM events WHERE run_id = ?1 AND type = ?2 AND ?3 IS ?3"
        } else {
            "SELECT 1 FROM events WHERE seq = (SELECT max(seq) FROM events WHERE run_id = ?1) AND type = ?2
                 AND json_extract(payload, '$.resource.finishedAt') IS ?3"
        };
        self.finds(sql, (self.run_id, kind, end))
    }

    /// Whether the last event of the run is `id`, of the type `kind`.
    fn ends_with(&self, id: &str, kind: &str) -> Result<bool, StoreError> {
        self.finds(
            "SELECT 1 FROM events WHERE id = ?2 AND type = ?3 AND run_id = ?1
                 AND seq = (SELECT max(seq) FROM events WHERE run_id = ?1)",
            (self.run_id, id, kind),
        )
    }

    /// `id`, or one like it that no event has or had, numbered from `nth` on.
    fn free(&self, id: String, nth: u64) -> Result<String, StoreError> {
        let is_taken = |id: &str| -> Result<bool, StoreError> {
            Ok(self.finds("SELECT 1 FROM events WHERE id = ?1", [id])?
                || had_id(self.connection, id)?)
        };
        if !is_taken(&id)? {
            return Ok(id);
        }
        let mut nth = nth;
        loop {
            let other = another(&id, nth);
            if !is_taken(&other)? {
                return Ok(other);
            }
            nth += 1;
        }
    }

    fn finds(&self, sql: &str, values: impl rusqlite::Params) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(values, |_| Ok(())).optional()?;
        Ok(found.is_some())
    }
}
