//! One JSON object a line, on standard output.

use std::io;

use async_trait::async_trait;

use super::{Sink, blocking, lines, write_out};
use crate::model::{AttemptOutcome, Due, SinkLimits};

/// Writes events to standard output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stdout;

#[async_trait]
impl Sink for Stdout {
    fn limits(&self) -> SinkLimits {
        SinkLimits::STREAM
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        let lines = lines(events);
        let write = move || write_out(io::stdout(), &lines);
        vec![blocking(write, "standard output").await; events.len()]
    }
}
