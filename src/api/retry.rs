//! Trying again: which failures, how often, how long apart. The only place that uses the `backoff` crate.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

use super::error::ApiError;

/// How a request is retried. Apify asks clients to wait a random time between D and 2·D, D being 500 ms at first and
/// doubling.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryPolicy {
    /// D at first.
    pub first: Duration,
    /// Where D stops doubling.
    pub ceiling: Duration,
    /// The most attempts in all, the first included.
    pub attempts: u32,
    /// The most attempts when no connection is made at all: whoever called us learns sooner that nobody is there.
    pub connects: u32,
    /// No attempt is made after this long.
    pub within: Duration,
    /// The longest a server's `Retry-After` is obeyed for.
    pub longest_asked: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            ceiling: Duration::from_secs(5),
            attempts: 10,
            connects: 5,
            within: Duration::from_secs(120),
            longest_asked: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// Attempts `request` until it succeeds, fails for good, or has been tried enough.
    pub async fn run<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let mut waits = self.waits();
        let mut attempt = 1;
        loop {
            let error = match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(wait) = self.next(&mut waits, attempt, &error) else {
                return Err(error);
            };
            tracing::debug!(attempt, ?wait, "will try again: {error}");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// How long to wait after the `attempt`-th attempt failed with `error`; `None` when there is no use in another.
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
                .map_or(wait, |asked| asked.min(self.longest_asked).max(wait)),
        )
    }

    /// `backoff` draws from an interval around its current value: 1.5·D, give or take a third of it, is D to 2·D.
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
    use crate::api::ErrorClass;
    use reqwest::{StatusCode, Url};

    fn error(status: u16, retry_after: Option<u64>) -> ApiError {
        let url = Url::parse("http://127.0.0.1/").unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        ApiError::from_status(&url, status, b"", retry_after.map(Duration::from_secs))
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
    fn what_the_server_asks_for_is_obeyed_within_bounds() {
        let policy = RetryPolicy::default();
        let after = |seconds| {
            policy
                .next(&mut policy.waits(), 1, &error(429, Some(seconds)))
                .unwrap()
        };
        assert_eq!(after(7), Duration::from_secs(7));
        assert_eq!(after(86_400), policy.longest_asked);
        assert!(
            after(0) >= Duration::from_millis(499),
            "but never less than the usual wait"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_bounded_and_hopeless_failures_are_not_repeated() {
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
                .run(|| {
                    attempts += 1;
                    std::future::ready(Err(error(status, None)))
                })
                .await;
            assert_eq!(attempts, expected, "{status}");
            assert_ne!(result.unwrap_err().class(), ErrorClass::Malformed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_ends_it() {
        let mut attempts = 0;
        let answer = RetryPolicy::default()
            .run(|| {
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
