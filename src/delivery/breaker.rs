//! The circuit breaker of a sink.
//!
//! A run whose events are not accepted delays only itself. But when attempts for many different runs fail and none
//! succeeds in between, the sink as a whole is failing: then trying every event in turn would keep the database and the
//! receiver busy for nothing. Instead no attempt is made for a while, then a single one, the probe, whose outcome counts
//! for all; waits double with every failure. Attempts that began before are not waited for, and neither is a probe that
//! hangs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::policy::backoff;
use crate::model::{MAX_RETRY_WAIT, Seed};

/// The longest time without an attempt unless the receiver asks for more, and so the longest it takes to notice that a
/// sink works again.
pub const MAX_OPEN: Duration = Duration::from_secs(60);

/// Decides whether a sink is attempted at all. Its times are uptimes, so setting the clock does not move them.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    /// So many different runs must fail in a row.
    threshold: usize,
    seed: Seed,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Attempts are made freely.
    Closed {
        /// The runs that failed since the last success; fewer than the threshold.
        failed: BTreeSet<String>,
    },
    /// No attempt is made.
    Open {
        until: Duration,
        /// Since the last success, this one included.
        openings: u32,
    },
    /// The probe may begin.
    HalfOpen { openings: u32 },
    /// The probe is in flight; from `until` on, another one may begin.
    Probing { until: Duration, openings: u32 },
}

/// How much a sink may be attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// As much as it takes.
    Free,
    /// One attempt, the probe.
    Probe,
    /// Nothing before this uptime.
    Wait(Duration),
}

impl CircuitBreaker {
    /// A closed breaker, which opens when `threshold` different runs in a row have failed.
    pub fn new(threshold: usize, seed: Seed) -> Self {
        let state = State::Closed {
            failed: BTreeSet::new(),
        };
        Self {
            threshold,
            seed,
            state,
        }
    }

    /// An attempt was answered: closes the breaker.
    pub fn succeeded(&mut self) {
        self.state = State::Closed {
            failed: BTreeSet::new(),
        };
    }

    /// The probe began at `now`.
    pub fn probed(&mut self, now: Duration) {
        if let State::HalfOpen { openings } = self.state {
            let until = now.saturating_add(MAX_OPEN);
            self.state = State::Probing { until, openings };
        }
    }

    /// An attempt for `run_id` failed at `now`; the receiver may have asked to be spared for `retry_after`, of which
    /// [`MAX_RETRY_WAIT`] at most is granted. Unless the breaker is closed, only the last probe counts.
    pub fn failed(
        &mut self,
        run_id: &str,
        is_probe: bool,
        retry_after: Option<Duration>,
        now: Duration,
    ) {
        let openings = match &mut self.state {
            State::Closed { failed } => {
                failed.insert(run_id.to_owned());
                if failed.len() < self.threshold {
                    return;
                }
                1
            }
            State::HalfOpen { openings } | State::Probing { openings, .. } if is_probe => {
                openings.saturating_add(1)
            }
            // Attempts that were in flight when it opened say nothing new.
            State::Open { .. } | State::HalfOpen { .. } | State::Probing { .. } => return,
        };
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_WAIT);
        let wait = backoff(openings, MAX_OPEN, self.seed).max(asked);
        self.state = State::Open {
            until: now.saturating_add(wait),
            openings,
        };
    }

    /// An operator asks for an attempt: the probe may begin at once, whatever the receiver asked for.
    pub fn retried(&mut self) {
        if let State::Open { openings, .. } | State::Probing { openings, .. } = self.state {
            self.state = State::HalfOpen { openings };
        }
    }

    /// Takes note that it is `now`: a breaker that was open for long enough becomes half-open, also one whose probe hangs.
    pub fn advance(&mut self, now: Duration) {
        if let State::Open { until, openings } | State::Probing { until, openings } = self.state
            && now >= until
        {
            self.state = State::HalfOpen { openings };
        }
    }

    /// Whether the sink was answering when last attempted, as far as the breaker knows.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// How much the sink may be attempted, since the last [`Self::advance`].
    pub fn admission(&self) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Free,
            State::Open { until, .. } | State::Probing { until, .. } => Admission::Wait(until),
            State::HalfOpen { .. } => Admission::Probe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Until when `breaker` is open.
    fn open_until(breaker: &CircuitBreaker) -> Duration {
        match breaker.admission() {
            Admission::Wait(until) => until,
            _ => panic!("{breaker:?} is not open"),
        }
    }

    #[test]
    fn a_run_that_fails_delays_only_itself() {
        let mut breaker = CircuitBreaker::new(3, Seed(1));
        for n in 0..100 {
            breaker.failed("a", false, None, at(n));
            breaker.failed("b", false, None, at(n));
        }
        assert_eq!(breaker.admission(), Admission::Free);
        breaker.succeeded();
        breaker.failed("c", false, None, at(101));
        assert_eq!(
            breaker.admission(),
            Admission::Free,
            "failures before a success do not count"
        );
    }

    #[test]
    fn many_runs_that_fail_open_it() {
        let mut breaker = CircuitBreaker::new(3, Seed(1));
        for run in ["a", "b", "c"] {
            assert!(breaker.is_closed());
            breaker.failed(run, false, None, at(0));
        }
        let until = open_until(&breaker);
        assert!((at(1_000)..=at(2_000)).contains(&until), "{until:?}");
        breaker.failed("d", false, None, at(10));
        assert_eq!(
            open_until(&breaker),
            until,
            "what was in flight does not prolong it"
        );
        breaker.advance(until - at(1));
        assert_eq!(open_until(&breaker), until);

        breaker.advance(until);
        assert_eq!(breaker.admission(), Admission::Probe);
        assert!(!breaker.is_closed());
        breaker.failed("d", false, None, until);
        assert_eq!(
            breaker.admission(),
            Admission::Probe,
            "nor does it take the probe's place"
        );
        breaker.probed(until);
        assert_eq!(breaker.admission(), Admission::Wait(until + MAX_OPEN));
        breaker.failed("e", true, None, until);
        let next = open_until(&breaker);
        assert!(
            (at(2_000)..=at(4_000)).contains(&(next - until)),
            "one failed probe is enough, and waits grow: {next:?}"
        );

        breaker.advance(next);
        breaker.succeeded();
        assert_eq!(breaker.admission(), Admission::Free);
        for run in ["a", "b"] {
            breaker.failed(run, false, None, next);
        }
        assert!(breaker.is_closed(), "it counts anew");
    }

    #[test]
    fn a_probe_that_hangs_is_followed_by_another() {
        let mut breaker = CircuitBreaker::new(1, Seed(1));
        breaker.failed("a", false, None, at(0));
        let until = open_until(&breaker);
        breaker.advance(until);
        breaker.probed(until);
        breaker.advance(until + MAX_OPEN - at(1));
        assert_eq!(open_until(&breaker), until + MAX_OPEN);
        breaker.advance(until + MAX_OPEN);
        assert_eq!(breaker.admission(), Admission::Probe);
    }

    #[test]
    fn waits_are_bounded_and_wishes_granted_within_bounds() {
        let mut breaker = CircuitBreaker::new(1, Seed(1));
        let mut now = at(0);
        for _ in 0..20 {
            breaker.failed("a", true, None, now);
            let until = open_until(&breaker);
            assert!(until - now <= MAX_OPEN);
            now = until;
            breaker.advance(now);
        }
        for (asked, granted) in [(50_000, 50_000), (5_000_000, 3_600_000)] {
            let mut breaker = CircuitBreaker::new(1, Seed(1));
            breaker.failed("a", false, Some(at(asked)), at(0));
            assert_eq!(open_until(&breaker), at(granted));
        }
    }
}
