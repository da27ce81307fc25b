//! What only a single read shows of a run: how it ended, and what it used.

use std::time::Duration;

use serde_json::{Map, Value};

use super::status::RunStatus;

/// How long the event of a run that failed waits for the run's details, at most.
pub const DETAILS_WAIT: Duration = Duration::from_secs(10);

/// How often details are asked for before they are given up, until the run ends again.
pub const MAX_DETAILS_ATTEMPTS: u32 = 8;

/// The longest wait before details are asked for again.
const MAX_DETAILS_RETRY: Duration = Duration::from_secs(3_600);

/// The longest `statusMessage` that is kept, in bytes. Actors write it, for people.
const MAX_MESSAGE: usize = 16 << 10;

/// The longest `stats` or `options` that are kept, as JSON text in bytes. Apify's have less than one KiB.
const MAX_OBJECT: usize = 64 << 10;

/// Of which runs that have ended the details are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Details {
    /// Of none.
    #[default]
    None,
    /// Of those that failed or timed out.
    Failed,
    /// Of all.
    All,
}

impl Details {
    /// The statuses of the runs whose details are read.
    pub fn statuses(self) -> &'static [RunStatus] {
        match self {
            Self::None => &[],
            Self::Failed => &[RunStatus::Failed, RunStatus::TimedOut],
            Self::All => &RunStatus::TERMINAL,
        }
    }

    /// Whether the details of a run in `status` are read.
    pub fn wants(self, status: &RunStatus) -> bool {
        self.statuses().contains(status)
    }

    /// Whether the event of a run that ended in `status` waits for details, at most [`DETAILS_WAIT`].
    pub fn holds(self, status: &RunStatus) -> bool {
        self != Self::None && Self::Failed.wants(status)
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Failed => "failed",
            Self::All => "all",
        }
    }
}

/// How long to wait before details are asked for again after `attempts` that failed, at least one.
pub fn details_retry(attempts: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
    (Duration::from_secs(30) * doubled).min(MAX_DETAILS_RETRY)
}

/// The details of a run. A field that is missing, is not of its documented type or is longer than it may be is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunDetails {
    /// `statusMessage`.
    pub status_message: Option<String>,
    /// `exitCode`.
    pub exit_code: Option<i64>,
    /// `stats`, an object.
    pub stats: Option<Value>,
    /// `options`, an object.
    pub options: Option<Value>,
}

impl RunDetails {
    /// The details in `item`, the JSON text of an answer to a single read.
    pub fn from_json(item: &str) -> Self {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(item) else {
            return Self::default();
        };
        let mut object = |key| {
            let value = fields.remove(key).filter(Value::is_object);
            value.filter(|value| value.to_string().len() <= MAX_OBJECT)
        };
        let (stats, options) = (object("stats"), object("options"));
        let message = fields.get("statusMessage").and_then(Value::as_str);
        Self {
            status_message: message
                .filter(|text| text.len() <= MAX_MESSAGE)
                .map(str::to_owned),
            exit_code: fields.get("exitCode").and_then(Value::as_i64),
            stats,
            options,
        }
    }

    /// The run's memory, in MiB, and its time limit, in seconds: what `options` say of them.
    pub fn limits(&self) -> (Option<i64>, Option<i64>) {
        let option = |key| self.options.as_ref()?.get(key)?.as_i64();
        (option("memoryMbytes"), option("timeoutSecs"))
    }

    /// Adds them to the fields of a run, in the place of what is there.
    pub fn add_to(&self, run: &mut Map<String, Value>) {
        let fields = [
            (
                "statusMessage",
                self.status_message.clone().map(Value::from),
            ),
            ("exitCode", self.exit_code.map(Value::from)),
            ("stats", self.stats.clone()),
            ("options", self.options.clone()),
        ];
        for (key, value) in fields {
            if let Some(value) = value {
                run.insert(key.to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn details_are_read_where_they_have_their_types_and_bounds() {
        let item = json!({"id": "r", "statusMessage": "Out of memory", "exitCode": 137, "stats": {"memMaxBytes": 7},
            "options": {"memoryMbytes": 1024, "timeoutSecs": 300, "build": "latest"}});
        let details = RunDetails::from_json(&item.to_string());
        assert_eq!(details.limits(), (Some(1024), Some(300)));
        let mut run = json!({"id": "r", "exitCode": 0})
            .as_object()
            .unwrap()
            .clone();
        details.add_to(&mut run);
        assert_eq!(Value::Object(run), item);

        let odd = json!({"statusMessage": "x".repeat(MAX_MESSAGE + 1), "exitCode": "137", "stats": [1],
            "options": {"x": "y".repeat(MAX_OBJECT)}});
        for text in [&odd.to_string(), "[]", "", "{\"exitCode\": 1.5}"] {
            let details = RunDetails::from_json(text);
            assert_eq!(details, RunDetails::default(), "{text:.40}");
            assert_eq!(details.limits(), (None, None));
        }
    }

    #[test]
    fn what_is_wanted_and_waited_for() {
        use RunStatus::{Aborted, Failed, Running, Succeeded, TimedOut};
        let wanted = |details: Details| {
            [Running, Succeeded, Failed, TimedOut, Aborted]
                .map(|status| (details.wants(&status), details.holds(&status)))
        };
        let (no, yes, read) = ((false, false), (true, true), (true, false));
        assert_eq!(wanted(Details::None), [no; 5]);
        assert_eq!(wanted(Details::Failed), [no, no, yes, yes, no]);
        assert_eq!(wanted(Details::All), [no, read, yes, yes, read]);
    }

    #[test]
    fn waits_before_further_attempts_grow_up_to_an_hour() {
        let seconds = [1, 2, 3, 7, 8, u32::MAX].map(|attempts| details_retry(attempts).as_secs());
        assert_eq!(seconds, [30, 60, 120, 1_920, 3_600, 3_600]);
    }
}
