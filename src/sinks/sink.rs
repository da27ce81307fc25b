//! The interface of a sink, and helpers for sinks that write lines.

use std::io::{self, Write};

use async_trait::async_trait;

use crate::model::{AttemptOutcome, Due, SinkLimits};

/// A destination of events.
#[async_trait]
pub trait Sink: Send + Sync {
    /// How many events it takes at once, and in which order.
    fn limits(&self) -> SinkLimits;

    /// Delivers `events`, in order; returns an outcome for each, in the same order. May be dropped at any point; the
    /// events are then delivered again.
    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome>;
}

/// `events` as one JSON object per line, in one buffer, so that lines do not mix with other writers' output.
pub(super) fn lines(events: &[Due]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(events.iter().map(|event| event.payload.len() + 1).sum());
    for event in events {
        lines.extend_from_slice(event.payload.as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// Writes on a thread that may block: a disk can be slow, and standard output can be a pipe that nobody reads.
pub(super) async fn blocking(
    write: impl FnOnce() -> io::Result<()> + Send + 'static,
    what: &str,
) -> AttemptOutcome {
    match tokio::task::spawn_blocking(write)
        .await
        .unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
    {
        Ok(()) => AttemptOutcome::Delivered,
        Err(error) => AttemptOutcome::Failed {
            error: format!("{what}: {error}"),
            retry_after: None,
        },
    }
}

pub(super) fn write_out(mut stream: impl Write, lines: &[u8]) -> io::Result<()> {
    stream.write_all(lines)?;
    stream.flush()
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
            attempts: 0,
            waited: std::time::Duration::ZERO,
        }
    }
}
