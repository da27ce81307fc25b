//! An event for people: one aligned line.

use serde_json::Value;

/// The parts of an event that people look at.
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
            event
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or("-")
                .to_owned()
        };
        let change = match event.pointer("/previousStatus").and_then(Value::as_str) {
            Some(previous) => format!("{previous} → {}", text("/status")),
            None => text("/status"),
        };
        Ok(Self {
            sequence: event["sequence"].to_string(),
            time: text("/createdAt"),
            kind: text("/eventType"),
            run: text("/eventData/actorRunId"),
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
}
