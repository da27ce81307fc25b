//! The interface of a sink, and helpers for sinks that write lines.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{AttemptOutcome, Due, SinkLimits};
use crate::stdio::Written;
use crate::text::escape_json;

/// How long a stream waits for its reader, and a batch for its stream when a pass ends.
pub(super) const STREAM_WAITS: Duration = Duration::from_secs(60);

/// A destination of events.
#[async_trait]
pub trait Sink: Send + Sync {
    /// How many events it takes at once, and in which order.
    fn limits(&self) -> SinkLimits;

    /// The longest that an attempt is expected to take. A pass gives that much time to those in flight when it ends.
    fn attempt_limit(&self) -> Duration {
        STREAM_WAITS
    }

    /// Delivers `events`, in order; returns an outcome for each, in the same order. May be dropped at any point; the
    /// events are then delivered again.
    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome>;
}

/// `events` as lines, in one buffer, so that they do not mix with other writers' output; and where each ends.
fn lines(events: &[Due], line: impl Fn(&Due) -> String) -> (Vec<u8>, Vec<usize>) {
    let mut lines = String::with_capacity(events.iter().map(|event| event.payload.len() + 1).sum());
    let mut ends = Vec::with_capacity(events.len());
    for event in events {
        lines.push_str(&line(event));
        lines.push('\n');
        ends.push(lines.len());
    }
    (lines.into_bytes(), ends)
}

/// An event as a JSON object on one line, without active characters. Control characters as they stand in a row that
/// somebody changed can only be layout in JSON, and become spaces.
pub(super) fn json(event: &Due) -> String {
    escape_json(&event.payload).replace(|c| c < ' ', " ")
}

/// Writes each of `events` as a `line`, without its end, with `write`, on a thread that may block: a disk can be slow, and
/// standard output can be a pipe that nobody reads. An event is delivered if its line was written as a whole. `write` is
/// given a flag that is set when nobody waits for it any more.
pub(super) async fn blocking(
    events: &[Due],
    what: &str,
    line: impl Fn(&Due) -> String,
    write: impl FnOnce(&[u8], &AtomicBool) -> Written + Send + 'static,
) -> Vec<AttemptOutcome> {
    let (lines, ends) = lines(events, line);
    let cancel = CancelOnDrop::default();
    let cancelled = Arc::clone(&cancel.0);
    let written = tokio::task::spawn_blocking(move || write(&lines, &cancelled)).await;
    let written = written.unwrap_or_else(|panicked| Written {
        bytes: 0,
        result: Err(io::Error::other(panicked)),
    });
    let error = written.result.err();
    let error = error.map_or_else(String::new, |error| format!("{what}: {error}"));
    outcomes(&ends, written.bytes, &error)
}

/// Sets its flag when it is dropped.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The outcomes of events whose lines have these `ends`, of which the first `written` bytes were written.
fn outcomes(ends: &[usize], written: usize, error: &str) -> Vec<AttemptOutcome> {
    let outcome = |end: &usize| {
        if *end <= written {
            return AttemptOutcome::Delivered;
        }
        AttemptOutcome::Failed {
            error: error.to_owned(),
            retry_after: None,
        }
    };
    ends.iter().map(outcome).collect()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An event of a run, as sinks receive it.
    pub fn due(seq: i64, run_id: &str, payload: &str) -> Due {
        Due {
            seq,
            id: format!("evt_{run_id}_{seq}"),
            run_id: run_id.to_owned(),
            payload: payload.to_owned(),
            observed_at: crate::model::Timestamp::default(),
            attempts: 0,
            waited: std::time::Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::due;
    use super::*;

    #[test]
    fn a_line_counts_once_its_end_is_written() {
        let events = [due(1, "a", "{\"a\":1}"), due(2, "b", "{}")];
        let (lines, ends) = lines(&events, json);
        assert_eq!(lines, b"{\"a\":1}\n{}\n");
        let delivered = |written| {
            let outcomes = outcomes(&ends, written, "full");
            let delivered = outcomes.iter().filter(|o| **o == AttemptOutcome::Delivered);
            assert_eq!(outcomes.len(), 2);
            delivered.count()
        };
        for (written, expected) in [(0, 0), (7, 0), (8, 1), (10, 1), (11, 2)] {
            assert_eq!(delivered(written), expected, "{written} bytes");
        }
    }

    #[test]
    fn a_line_has_no_active_characters_and_counts_as_it_is_written() {
        let events = [
            due(1, "a", "{\"a\":\"\u{9b}\u{2028}\u{202e}\"}"),
            due(2, "b", "{\n}"),
            due(3, "c", "{}\n\u{1b}[2J<0>forged"),
        ];
        let (lines, ends) = lines(&events, json);
        let forged = b"{}  [2J<0>forged\n";
        let own = b"{\"a\":\"\\u009b\\u2028\\u202e\"}\n{ }\n";
        assert_eq!(lines, [own.as_slice(), forged].concat());
        let end = lines.len() - forged.len();
        assert_eq!(ends, [end - 4, end, lines.len()]);
    }
}
