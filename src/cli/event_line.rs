//! An event for people: one aligned line.

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
    fn what_others_wrote_is_escaped() {
        let hostile = "{\"status\": \"a\\nb\", \"previousStatus\": \"\\u001b[2J\", \"eventData\": {\"actorRunId\": \"\u{202e}\"}}";
        let line = EventLine::of(hostile).unwrap();
        assert_eq!(line.change, r"\u{1b}[2J → a\nb");
        assert_eq!(line.run, r"\u{202e}");
    }
}
