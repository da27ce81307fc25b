//! One JSON object a line, on standard output.

use std::io::{self, Write};

use super::Sink;
use crate::store::Due;

/// Writes events to standard output, or to another stream in tests.
#[derive(Debug)]
pub struct Stdout<W = io::Stdout> {
    stream: W,
}

impl Default for Stdout {
    fn default() -> Self {
        Self { stream: io::stdout() }
    }
}

impl<W: Write + Send> Sink for Stdout<W> {
    fn deliver(&mut self, events: &[Due]) -> io::Result<()> {
        // One write for the batch: lines never mix with what other threads print.
        let mut lines = String::with_capacity(events.iter().map(|event| event.payload.len() + 1).sum());
        for event in events {
            lines.push_str(&event.payload);
            lines.push('\n');
        }
        self.stream.write_all(lines.as_bytes())?;
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_event() {
        let mut sink = Stdout { stream: Vec::new() };
        let event = |seq, payload: &str| Due { seq, payload: payload.into() };
        sink.deliver(&[event(1, r#"{"a":1}"#), event(2, r#"{"b":2}"#)]).unwrap();
        assert_eq!(sink.stream, b"{\"a\":1}\n{\"b\":2}\n");
    }
}
