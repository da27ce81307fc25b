//! Retries: which failures, how often, and the backoff between them. Only this file uses the `backoff` crate.

use std::time::{Duration, Instant};

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

use super::error::ApiError;

/// How requests are retried. Apify asks clients to wait a random time between D and 2·D, where D starts at 500 ms and
/// doubles.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryPolicy {
    /// The first D.
    pub first: Duration,
    /// The largest D.
    pub ceiling: Duration,
    /// The most attempts, including the first.
    pub attempts: u32,
    /// The most attempts while connecting fails. Fewer, so that an unreachable server is reported soon.
    pub connects: u32,
    /// The time after which there are no more attempts.
    pub within: Duration,
    /// The longest `Retry-After` that is honoured.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            ceiling: Duration::from_secs(5),
            attempts: 10,
            connects: 5,
            within: Duration::from_secs(120),
            max_retry_after: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// Fewer attempts, in less time: for requests of which many are made, and that are made again soon if they fail.
    pub fn briefly(self) -> Self {
        let within = Duration::from_secs(10);
        Self {
            attempts: self.attempts.min(3),
            connects: self.connects.min(3),
            within: self.within.min(within),
            max_retry_after: self.max_retry_after.min(within),
            ..self
        }
    }

    /// Makes `request` until it succeeds, fails permanently, or reaches a limit; `failed` is how a first attempt ended, and when: the
    /// wait after it counts from then.
    pub async fn run_after<T, F>(
        &self,
        mut failed: Option<(ApiError, Instant)>,
        mut request: impl FnMut() -> F,
    ) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let mut waits = self.waits();
        let mut attempt = 1;
        loop {
            let (error, passed) = match failed.take() {
                Some((error, at)) => (error, at.elapsed()),
                None => match request().await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => (error, Duration::ZERO),
                },
            };
            let Some(wait) = self.next(&mut waits, attempt, &error) else {
                return Err(error);
            };
            tracing::debug!(attempt, ?wait, ?passed, "retrying: {error}");
            tokio::time::sleep(wait.saturating_sub(passed)).await;
            attempt += 1;
        }
    }

    /// How long to wait after attempt number `attempt` failed with `error`; `None` for no further attempt.
    fn next(
        &self,
        waits: &mut ExponentialBackoff,
        attempt: u32,
        error: &ApiError,
    ) -> Option<Duration> {
        let most = if error.never_connected() {
            self.connects
        } else {
            self.attempts
        };
        if !error.is_retryable() || attempt >= most {
            return None;
        }
        let wait = waits.next_backoff()?;
        Some(
            error
                .retry_after()
                .map_or(wait, |asked| asked.min(self.max_retry_after).max(wait)),
        )
    }

    /// `backoff` draws from an interval around its current value: 1.5·D ± a third is D to 2·D.
    fn waits(&self) -> ExponentialBackoff {
        let middle = |d: Duration| d.mul_f64(1.5);
        ExponentialBackoff {
            current_interval: middle(self.first),
            initial_interval: middle(self.first),
            randomization_factor: 1.0 / 3.0,
            multiplier: 2.0,
            max_interval: middle(self.ceiling),
            max_elapsed_time: Some(self.within),
            ..ExponentialBackoff::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::ErrorClass;
    use reqwest::{StatusCode, Url};

    fn error(status: u16, retry_after: Option<u64>) -> ApiError {
        let url = Url::parse("http://127.0.0.1/").unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let body = br#"{"error": {"type": "some-type"}}"#;
        ApiError::from_status(&url, status, body, retry_after.map(Duration::from_secs))
    }

    #[test]
    fn waits_lie_between_d_and_twice_d_and_d_doubles_up_to_the_ceiling() {
        let policy = RetryPolicy::default();
        for _ in 0..200 {
            let mut waits = policy.waits();
            for (nth, d) in (1..).zip([500, 1_000, 2_000, 4_000, 5_000, 5_000]) {
                let wait = policy
                    .next(&mut waits, nth, &error(503, None))
                    .unwrap()
                    .as_millis();
                assert!(
                    (d - 1..=2 * d + 1).contains(&wait),
                    "wait {nth}: {wait} ms, D = {d} ms"
                );
            }
        }
    }

    #[test]
    fn retry_after_is_honoured_within_limits() {
        let policy = RetryPolicy::default();
        let after = |seconds| {
            policy
                .next(&mut policy.waits(), 1, &error(429, Some(seconds)))
                .unwrap()
        };
        assert_eq!(after(7), Duration::from_secs(7));
        assert_eq!(after(86_400), policy.max_retry_after);
        assert!(
            after(0) >= Duration::from_millis(499),
            "never less than the usual wait"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_limited_and_permanent_failures_are_not_retried() {
        for (status, expected) in [
            (503, 10),
            (429, 10),
            (408, 10),
            (400, 1),
            (401, 1),
            (403, 1),
            (404, 1),
            (302, 1),
        ] {
            let mut attempts = 0;
            let result: Result<(), _> = RetryPolicy::default()
                .run_after(None, || {
                    attempts += 1;
                    std::future::ready(Err(error(status, None)))
                })
                .await;
            assert_eq!(attempts, expected, "{status}");
            assert_ne!(result.unwrap_err().class(), ErrorClass::Malformed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn brief_retries_end_within_seconds() {
        for (status, retry_after) in [(503, None), (429, Some(3_600))] {
            let began = tokio::time::Instant::now();
            let mut attempts = 0;
            let result: Result<(), _> = RetryPolicy::default()
                .briefly()
                .run_after(None, || {
                    attempts += 1;
                    std::future::ready(Err(error(status, retry_after)))
                })
                .await;
            result.unwrap_err();
            assert_eq!(attempts, 3, "{status}");
            assert!(began.elapsed() <= Duration::from_secs(20), "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_end_with_the_first_success() {
        let mut attempts = 0;
        let answer = RetryPolicy::default()
            .run_after(None, || {
                attempts += 1;
                std::future::ready(if attempts < 4 {
                    Err(error(500, None))
                } else {
                    Ok(attempts)
                })
            })
            .await;
        assert_eq!(answer.unwrap(), 4);
    }
}
