//! `type = "stdout"`: one JSON object per line, on standard output; on a terminal, one line for people.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use async_trait::async_trait;

use super::event_line::EventLine;
use super::options::{BuildError, CheckError, Place, SinkOptions};
use super::sink::{STREAM_WAITS, Sink, blocking, json};
use crate::model::{AttemptOutcome, Due, SinkLimits};
use crate::options::{Environment, Problem, Reader};
use crate::stdio::{Patience, write_lines};
use crate::text::{MAX_SHOWN, escape};

/// The configuration, which has no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StdoutOptions;

/// Reads the keys of this type.
pub(super) fn read(_: &mut Reader<'_>) -> Option<Arc<dyn SinkOptions>> {
    Some(Arc::new(StdoutOptions))
}

#[async_trait]
impl SinkOptions for StdoutOptions {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn place(&self) -> Option<Place> {
        Some(Place::StandardOutput)
    }

    fn resolve(self: Arc<Self>, _: &Environment) -> Result<Arc<dyn SinkOptions>, Problem> {
        Ok(self)
    }

    async fn build(&self, _: &[String]) -> Result<Arc<dyn Sink>, BuildError> {
        Ok(Arc::new(Stdout {
            watched: io::stdout().is_terminal(),
        }))
    }

    async fn check(&self, _: &Environment) -> Result<String, CheckError> {
        Ok("is standard output".to_owned())
    }
}

/// A sink that writes events to standard output for people, whether or not that is a terminal.
pub(crate) fn for_people() -> Arc<dyn Sink> {
    Arc::new(Stdout { watched: true })
}

/// Writes events to standard output.
struct Stdout {
    /// Whether people read them.
    watched: bool,
}

#[async_trait]
impl Sink for Stdout {
    fn limits(&self) -> SinkLimits {
        SinkLimits::STREAM
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        let line = if self.watched { text } else { inert };
        blocking(events, "standard output", line, |lines, cancelled| {
            let without_progress = Some(STREAM_WAITS);
            write_lines(
                lines,
                Patience {
                    without_progress,
                    cancelled,
                },
            )
        })
        .await
    }
}

/// An event as JSON, without its end. The journal divides long lines, and takes `<N>` at the beginning of a part for its
/// priority: so there is no `<` in it, which in JSON can only be within a text.
fn inert(event: &Due) -> String {
    json(event).replace('<', "\\u003c")
}

/// An event as a line for people, without its end.
fn text(event: &Due) -> String {
    let Ok(line) = EventLine::of(&event.payload) else {
        // A row that somebody changed.
        return escape(&event.payload, MAX_SHOWN);
    };
    let line = line.watched();
    let line = line.trim_end();
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => strip_str(line).to_string(),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sink::testing::due;
    use super::*;

    #[test]
    fn people_get_one_line_whatever_a_row_holds() {
        for (payload, shown) in [
            (
                r#"{"createdAt": "2026-01-02T03:04:05.678Z", "eventType": "ACTOR.RUN.CREATED", "status": "READY", "eventData": {"actorRunId": "abc"}}"#,
                "03:04:05  ACTOR.RUN.CREATED      abc  READY",
            ),
            ("no\nevent\u{1b}", r"no\nevent\u{1b}"),
        ] {
            let line = text(&due(1, "abc", payload));
            assert_eq!(strip_str(&line).to_string(), shown);
        }
    }

    #[test]
    fn no_part_of_a_line_for_programs_begins_with_a_priority() {
        let payload = r#"{"status":"x<0>y"}"#;
        let line = inert(&due(1, "abc", payload));
        assert!(!line.contains('<'), "{line}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&line), value(payload));
    }
}
