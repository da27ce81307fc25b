//! An event for people: one aligned line, with colours.

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use crate::text::{MAX_SHOWN, escape};

/// The parts of an event that people look at, escaped.
pub struct EventLine {
    /// Its number.
    pub sequence: String,
    /// When it was observed.
    pub time: String,
    /// Its type.
    pub kind: String,
    /// The run it is about.
    pub run: String,
    /// The status, or the change of status.
    pub change: String,
}

impl EventLine {
    /// Reads an event's body.
    ///
    /// # Errors
    /// When that is not JSON.
    pub fn of(payload: &str) -> serde_json::Result<Self> {
        let event: Value = serde_json::from_str(payload)?;
        let text = |path: &str| {
            let text = event.pointer(path).and_then(Value::as_str);
            text.map(|text| escape(text, MAX_SHOWN))
        };
        let or_dash = |path: &str| text(path).unwrap_or_else(|| "-".to_owned());
        let change = match text("/previousStatus") {
            Some(previous) => format!("{previous} → {}", or_dash("/status")),
            None => or_dash("/status"),
        };
        Ok(Self {
            sequence: escape(&event["sequence"], MAX_SHOWN),
            time: or_dash("/createdAt"),
            kind: or_dash("/eventType"),
            run: or_dash("/eventData/actorRunId"),
            change,
        })
    }

    /// The line of somebody who watches: the time of day, the type, the run, and the change of its status.
    pub fn watched(&self) -> String {
        let clock = self.time.get(11..19).unwrap_or(&self.time);
        format!(
            "{}  {} {}  {}\n",
            dimmed(clock),
            self.kind(),
            self.run,
            self.change
        )
    }

    /// The line of somebody who looks back: the event's number and full time too.
    pub fn logged(&self) -> String {
        let (sequence, time, run) = (&self.sequence, dimmed(&self.time), &self.run);
        format!(
            "{sequence:>8}  {time}  {} {run:<17}  {}\n",
            self.kind(),
            self.change
        )
    }

    fn kind(&self) -> String {
        let style = match self.kind.rsplit('.').next() {
            Some("SUCCEEDED") => AnsiColor::Green.on_default(),
            Some("FAILED" | "TIMED_OUT") => AnsiColor::Red.on_default(),
            Some("ABORTED" | "RESURRECTED") => AnsiColor::Yellow.on_default(),
            _ => Style::new(),
        };
        format!("{style}{:<22}{style:#}", self.kind)
    }
}

fn dimmed(text: &str) -> String {
    let style = Style::new().dimmed();
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_lacks_everything_is_still_a_line() {
        let line = EventLine::of("{}").unwrap();
        assert_eq!((line.time.as_str(), line.change.as_str()), ("-", "-"));
    }

    #[test]
    fn lines_are_aligned_and_coloured_by_type() {
        let payload = r#"{"sequence": 7, "createdAt": "2026-01-02T03:04:05.678Z", "eventType": "ACTOR.RUN.SUCCEEDED",
            "status": "SUCCEEDED", "previousStatus": "RUNNING", "eventData": {"actorRunId": "abc"}}"#;
        let line = EventLine::of(payload).unwrap();
        assert!(line.watched().contains("\u{1b}[32mACTOR.RUN.SUCCEEDED"));
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        assert_eq!(
            plain(&line.watched()),
            "03:04:05  ACTOR.RUN.SUCCEEDED    abc  RUNNING → SUCCEEDED\n"
        );
        assert_eq!(
            plain(&line.logged()),
            "       7  2026-01-02T03:04:05.678Z  ACTOR.RUN.SUCCEEDED    abc                RUNNING → SUCCEEDED\n"
        );
    }

    #[test]
    fn what_others_wrote_is_escaped() {
        let hostile = "{\"status\": \"a\\nb\", \"previousStatus\": \"\\u001b[2J\", \"eventData\": {\"actorRunId\": \"\u{202e}\"}}";
        let line = EventLine::of(hostile).unwrap();
        assert_eq!(line.change, r"\u{1b}[2J → a\nb");
        assert_eq!(line.run, r"\u{202e}");
    }
}
