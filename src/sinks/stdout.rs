//! One JSON object a line, on standard output.

use std::io;

use super::{Delivering, Sink, blocking, lines, write_out};
use crate::model::{Due, SinkLimits};

/// Writes events to standard output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stdout;

impl Sink for Stdout {
    fn limits(&self) -> SinkLimits {
        SinkLimits::STREAM
    }

    fn deliver<'a>(&'a self, events: &'a [Due]) -> Delivering<'a> {
        let lines = lines(events);
        Box::pin(blocking(
            move || write_out(io::stdout(), &lines),
            "standard output",
        ))
    }
}
