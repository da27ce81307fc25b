//! What has become of requests, for `/metrics`.

use std::time::Duration;

use super::error::{ApiError, ErrorClass};
use crate::measure::{Counter, Histogram};

/// The bounds of [`RequestCounts::seconds`].
const SECONDS: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A page of a task's runs.
    Runs,
    /// A single run.
    Run,
    /// A single task.
    Task,
    /// A page of the account's tasks.
    Tasks,
}

impl Endpoint {
    /// All of them.
    const ALL: [Self; 4] = [Self::Runs, Self::Run, Self::Task, Self::Tasks];

    /// Its name, e.g. `runs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Run => "run",
            Self::Task => "task",
            Self::Tasks => "tasks",
        }
    }
}

/// Counts attempts that were answered or failed, since the client was made.
#[derive(Debug)]
pub struct RequestCounts {
    /// By endpoint: those that succeeded, then those that failed, by class.
    ended: [(Counter, [Counter; ErrorClass::ALL.len()]); Endpoint::ALL.len()],
    /// How long they took, from connecting to the last byte.
    pub seconds: Histogram,
}

impl RequestCounts {
    pub(super) fn new() -> Self {
        Self {
            ended: Default::default(),
            seconds: Histogram::new(&SECONDS),
        }
    }

    /// Counts an attempt that took so long.
    pub(super) fn add<T>(&self, endpoint: Endpoint, result: &Result<T, ApiError>, took: Duration) {
        let (succeeded, failed) = &self.ended[endpoint as usize];
        match result {
            Ok(_) => succeeded.add(1),
            Err(error) => failed[error.class() as usize].add(1),
        }
        self.seconds.observe(took);
    }

    /// How many attempts there were, by endpoint and outcome: `ok`, or the name of an error's class.
    pub fn outcomes(&self) -> impl Iterator<Item = (Endpoint, &'static str, u64)> {
        let ended = Endpoint::ALL.into_iter().zip(&self.ended);
        ended.flat_map(|(endpoint, (succeeded, failed))| {
            let succeeded = std::iter::once(("ok", succeeded));
            let failed = ErrorClass::ALL
                .into_iter()
                .map(ErrorClass::name)
                .zip(failed);
            let all = succeeded.chain(failed);
            all.map(move |(outcome, count)| (endpoint, outcome, count.get()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::Url;

    #[test]
    fn attempts_are_counted_by_endpoint_and_outcome() {
        let counts = RequestCounts::new();
        let url = Url::parse("http://127.0.0.1/").unwrap();
        let failed = |class| Err::<(), _>(ApiError::new(class, &url, ""));
        counts.add(Endpoint::Runs, &Ok(()), Duration::from_millis(1));
        // Each another number of times.
        for (times, class) in (1..).zip(ErrorClass::ALL) {
            for _ in 0..times {
                counts.add(Endpoint::Task, &failed(class), Duration::from_secs(60));
            }
        }
        let counted: Vec<_> = counts.outcomes().filter(|(.., count)| *count > 0).collect();
        let names = [
            "token refused",
            "forbidden",
            "not found",
            "throttled",
            "temporary",
            "malformed",
            "too large",
            "redirected",
            "other",
        ];
        let of_classes: Vec<_> = (1..)
            .zip(names)
            .map(|(times, name)| (Endpoint::Task, name, times))
            .collect();
        assert_eq!(counted[0], (Endpoint::Runs, "ok", 1));
        assert_eq!(counted[1..], of_classes);
        assert_eq!(counts.outcomes().count(), 40);
        let seconds = counts.seconds.read();
        assert_eq!((seconds.at_most[9].1, seconds.count), (1, 46));
    }
}
