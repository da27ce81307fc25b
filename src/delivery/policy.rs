//! What becomes of a delivery after an attempt.
//!
//! Times are by the local clock, as they are stored: a retry survives a restart.

use std::time::Duration;

use crate::model::{AttemptOutcome, MAX_RETRY_WAIT, Seed, Timestamp, Verdict};

/// The shortest wait before another attempt.
pub const MIN_WAIT: Duration = Duration::from_secs(1);

/// After so many attempts an event is set aside that the sink rejects without saying that it always will.
pub const MAX_REJECTIONS: u32 = 10;

/// What is known of a delivery when an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Attempts made, this one included.
    pub attempts: u32,
    /// How long it had waited before this one, see [`Due::waited`](crate::model::Due::waited).
    pub waited: Duration,
    /// When this one ended.
    pub now: Timestamp,
    /// Sets this delivery's waits apart from others'.
    pub seed: Seed,
}

/// Judges an attempt: what was accepted is delivered, what never will be is set aside, and all else is retried until it
/// has waited for `give_up_after`. Time in which the mirror was off does not count, as nothing was tried then.
pub fn judge(outcome: &AttemptOutcome, attempt: Attempt, give_up_after: Duration) -> Verdict {
    let Attempt {
        attempts,
        waited,
        now,
        seed,
    } = attempt;
    let asked = match outcome {
        AttemptOutcome::Delivered => return Verdict::Delivered,
        AttemptOutcome::Refused { .. } | AttemptOutcome::Gone { .. } => return Verdict::SetAside,
        AttemptOutcome::Rejected { .. } if attempts >= MAX_REJECTIONS => return Verdict::SetAside,
        AttemptOutcome::Rejected { .. } => None,
        AttemptOutcome::Failed { retry_after, .. } => *retry_after,
    };
    if waited >= give_up_after {
        return Verdict::SetAside;
    }
    let wait =
        backoff(attempts, MAX_RETRY_WAIT, seed).max(asked.unwrap_or_default().min(MAX_RETRY_WAIT));
    Verdict::Retry { at: now.plus(wait) }
}

/// The wait after the `nth` failure in a row, up to `most`: between D and 2·D, where D doubles from [`MIN_WAIT`] to half
/// of `most`.
pub(super) fn backoff(nth: u32, most: Duration, seed: Seed) -> Duration {
    let doubled = MIN_WAIT.saturating_mul(1 << nth.saturating_sub(1).min(20));
    let d = doubled.min(most / 2);
    seed.doubled(d, u64::from(nth))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVE_UP: Duration = Duration::from_secs(32 * 3_600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn failed(retry_after: Option<u64>) -> AttemptOutcome {
        AttemptOutcome::Failed {
            error: "x".into(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn wait_of(outcome: &AttemptOutcome, attempts: u32) -> Option<f64> {
        let attempt = Attempt {
            attempts,
            waited: Duration::from_secs(100),
            now: at(100),
            seed: Seed(7),
        };
        match judge(outcome, attempt, GIVE_UP) {
            Verdict::Retry { at: when } => Some(when.since(at(100)).as_secs_f64()),
            _ => None,
        }
    }

    #[test]
    fn outcomes_and_what_they_come_to() {
        let error = || "x".to_owned();
        let cases: [(AttemptOutcome, u32, u64, &str); 12] = [
            (AttemptOutcome::Delivered, 1, 0, "delivered"),
            (AttemptOutcome::Delivered, 99, 999_999, "delivered"),
            (AttemptOutcome::Refused { error: error() }, 1, 0, "aside"),
            (AttemptOutcome::Gone { error: error() }, 1, 0, "aside"),
            (AttemptOutcome::Rejected { error: error() }, 1, 0, "retry"),
            (
                AttemptOutcome::Rejected { error: error() },
                MAX_REJECTIONS - 1,
                60,
                "retry",
            ),
            (
                AttemptOutcome::Rejected { error: error() },
                MAX_REJECTIONS,
                60,
                "aside",
            ),
            (
                AttemptOutcome::Rejected { error: error() },
                2,
                32 * 3_600,
                "aside",
            ),
            (failed(None), 1, 0, "retry"),
            (failed(None), 500, 32 * 3_600 - 1, "retry"),
            (failed(None), 2, 32 * 3_600, "aside"),
            (failed(Some(5)), 2, 32 * 3_600, "aside"),
        ];
        for (outcome, attempts, waited, expected) in cases {
            let attempt = Attempt {
                attempts,
                waited: Duration::from_secs(waited),
                now: at(0),
                seed: Seed(1),
            };
            let verdict = match judge(&outcome, attempt, GIVE_UP) {
                Verdict::Delivered => "delivered",
                Verdict::Retry { .. } => "retry",
                Verdict::SetAside => "aside",
            };
            assert_eq!(
                verdict, expected,
                "{outcome:?} after {attempts} attempts and {waited} s"
            );
        }
    }

    #[test]
    fn waits_grow_from_a_second_to_an_hour() {
        for (attempts, least, most) in [
            (1, 1.0, 2.0),
            (2, 2.0, 4.0),
            (3, 4.0, 8.0),
            (10, 512.0, 1_024.0),
            (12, 1_800.0, 3_600.0),
            (999, 1_800.0, 3_600.0),
        ] {
            let wait = wait_of(&failed(None), attempts).unwrap();
            assert!(
                (least..=most).contains(&wait),
                "after {attempts} attempts: {wait} s"
            );
        }
    }

    #[test]
    fn waits_differ_by_seed_and_fill_their_range() {
        let waits: Vec<_> = (0..1_000)
            .map(|seed| backoff(1, MAX_RETRY_WAIT, Seed(seed)))
            .collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(
            *least >= MIN_WAIT && *least < Duration::from_millis(1_050),
            "{least:?}"
        );
        assert!(
            *most <= 2 * MIN_WAIT && *most > Duration::from_millis(1_950),
            "{most:?}"
        );
    }

    #[test]
    fn what_the_receiver_asks_for_is_obeyed_within_bounds() {
        assert_eq!(wait_of(&failed(Some(90)), 1), Some(90.0));
        assert_eq!(wait_of(&failed(Some(9_999_999)), 1), Some(3_600.0));
        assert!(
            wait_of(&failed(Some(0)), 1).unwrap() >= 1.0,
            "never less than the usual wait"
        );
    }
}
