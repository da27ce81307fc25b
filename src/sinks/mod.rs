//! Where events go: small adapters behind one trait.
//!
//! A sink takes a batch of events and says what became of it. Remembering what it is owed, and trying again, is
//! [`crate::delivery`]'s business.

mod exec;
mod file;
mod signature;
mod stdout;
mod webhook;

pub use exec::Exec;
pub use file::File;
pub use signature::{InvalidKey, SigningKeys};
pub use stdout::Stdout;
pub use webhook::{OWN_HEADERS, Webhook, WebhookOptions};

use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;

use crate::store::Due;

/// The most events that a sink which takes them in a stream is handed at once.
const STREAM_BATCH: usize = 500;

/// What became of a batch of events: one answer for all of them. No message contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of them have arrived.
    Delivered,
    /// They may not have arrived, but may well do so later.
    Failed {
        /// What happened.
        error: String,
        /// How long the receiver asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// They were not accepted; a few more attempts will show whether that is for good.
    Rejected {
        /// What happened.
        error: String,
    },
    /// They will never be accepted.
    Refused {
        /// What the receiver said.
        error: String,
    },
    /// Nothing will ever be accepted any more.
    Gone {
        /// What the receiver said.
        error: String,
    },
}

/// In which order a sink takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All of them in the order of their numbers; one that cannot be delivered holds up the rest.
    Sink,
    /// Those of each run in order, runs independent of each other.
    Run,
}

/// How a sink takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// In which order.
    pub order: Order,
    /// The most events in a batch, at least 1.
    pub batch: usize,
    /// The most batches at once, at least 1.
    pub concurrency: usize,
}

impl Intake {
    /// One batch after the other, in order.
    pub const STREAM: Self = Self {
        order: Order::Sink,
        batch: STREAM_BATCH,
        concurrency: 1,
    };
}

/// An answer that is still to come.
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Somewhere events go.
pub trait Sink: Send + Sync {
    /// How it takes them.
    fn intake(&self) -> Intake;

    /// Hands over `events`, in order. May be dropped at any point; the events are then handed over again.
    fn deliver<'a>(&'a self, events: &'a [Due]) -> Delivering<'a>;
}

/// `events` as one JSON object a line, in one piece: lines must not mix with what others write.
fn lines(events: &[Due]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(events.iter().map(|event| event.payload.len() + 1).sum());
    for event in events {
        lines.extend_from_slice(event.payload.as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// Writes on a thread where that may block: a disk may be slow, and nobody may be reading our standard output.
async fn blocking(write: impl FnOnce() -> io::Result<()> + Send + 'static, what: &str) -> Outcome {
    match tokio::task::spawn_blocking(write)
        .await
        .unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
    {
        Ok(()) => Outcome::Delivered,
        Err(error) => Outcome::Failed {
            error: format!("{what}: {error}"),
            retry_after: None,
        },
    }
}

fn write_out(mut stream: impl Write, lines: &[u8]) -> io::Result<()> {
    stream.write_all(lines)?;
    stream.flush()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An event of a run, as sinks get it.
    pub fn due(seq: i64, run_id: &str, payload: &str) -> Due {
        Due {
            seq,
            id: format!("evt_{run_id}_{seq}"),
            run_id: run_id.to_owned(),
            payload: payload.to_owned(),
            attempts: 0,
            first_attempt_at: None,
        }
    }
}
