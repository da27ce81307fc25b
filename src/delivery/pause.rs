//! When to leave a sink alone as a whole: pure.
//!
//! A run whose events are not accepted delays only itself. But when the attempts for many different runs fail with none
//! succeeding in between, it is the sink that is ill: then trying every event in turn would keep the database busy, and
//! the receiver down. Instead one event is tried at a time, at growing intervals, and what becomes of it counts for all.

use std::collections::HashSet;
use std::time::Duration;

use super::policy::wait;
use crate::model::{MAX_RETRY_WAIT as MAX_WAIT, Seed, Timestamp};

/// The longest a sink is left alone that does not ask for more, and so the longest it takes to notice that it is well
/// again.
pub const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Whether, and how much, a sink may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Freely.
    Free,
    /// One attempt at a time.
    Probe,
    /// Not before this.
    Wait(Timestamp),
}

/// Decides when a sink is to be left alone.
#[derive(Debug)]
pub struct Pause {
    /// Failures of so many different runs in a row are the sink's.
    threshold: usize,
    seed: Seed,
    failed: HashSet<String>,
    /// Pauses since the last success.
    pauses: u32,
    until: Option<Timestamp>,
}

impl Pause {
    /// A sink that is well. `threshold` different runs in a row must fail for it to be ill.
    pub fn new(threshold: usize, seed: Seed) -> Self {
        Self {
            threshold,
            seed,
            failed: HashSet::new(),
            pauses: 0,
            until: None,
        }
    }

    /// An attempt succeeded: the sink is well.
    pub fn succeeded(&mut self) {
        self.failed.clear();
        (self.pauses, self.until) = (0, None);
    }

    /// An attempt for `run_id` failed; the sink may have asked to be left alone for `asked`.
    pub fn failed(&mut self, run_id: &str, asked: Option<Duration>, now: Timestamp) {
        // Attempts that were under way when the pause began say nothing new.
        if matches!(self.leave(now), Leave::Wait(_)) {
            return;
        }
        if self.pauses == 0 {
            self.failed.insert(run_id.to_owned());
            if self.failed.len() < self.threshold {
                return;
            }
            self.failed.clear();
        }
        self.pauses = self.pauses.saturating_add(1);
        let wait =
            wait(self.pauses, MAX_PAUSE, self.seed).max(asked.unwrap_or_default().min(MAX_WAIT));
        self.until = Some(now.plus(wait));
    }

    /// Whether the sink is ill.
    pub fn is_paused(&self) -> bool {
        self.until.is_some()
    }

    /// How much it may be tried at `now`.
    pub fn leave(&self, now: Timestamp) -> Leave {
        match self.until {
            None => Leave::Free,
            // One that lies farther ahead than any pause was begun before the clock was set back.
            Some(until) if now < until && until.since(now) <= MAX_WAIT => Leave::Wait(until),
            Some(_) => Leave::Probe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_run_that_fails_delays_only_itself() {
        let mut pause = Pause::new(3, Seed(1));
        for n in 0..100 {
            pause.failed("a", None, at(n));
            pause.failed("b", None, at(n));
        }
        assert_eq!(pause.leave(at(100)), Leave::Free);
        pause.succeeded();
        pause.failed("c", None, at(101));
        assert_eq!(
            pause.leave(at(101)),
            Leave::Free,
            "failures before a success do not count"
        );
    }

    #[test]
    fn many_runs_that_fail_are_the_sinks_failure() {
        let mut pause = Pause::new(3, Seed(1));
        for run in ["a", "b", "c"] {
            assert!(!pause.is_paused());
            pause.failed(run, None, at(0));
        }
        assert!(pause.is_paused());
        let Leave::Wait(until) = pause.leave(at(0)) else {
            panic!("{pause:?}")
        };
        assert!((1_000..=2_000).contains(&until.as_millis()), "{until}");
        pause.failed("d", None, at(10));
        assert_eq!(
            pause.leave(at(10)),
            Leave::Wait(until),
            "what was under way does not lengthen it"
        );

        assert_eq!(pause.leave(until), Leave::Probe);
        pause.failed("e", None, until);
        let Leave::Wait(next) = pause.leave(until) else {
            panic!("{pause:?}")
        };
        assert!(
            (2_000..=4_000).contains(&next.since(until).as_millis()),
            "one failed probe is enough, and waits grow"
        );

        pause.succeeded();
        assert_eq!(pause.leave(next), Leave::Free);
    }

    #[test]
    fn pauses_are_bounded_and_wishes_obeyed_within_that() {
        let mut pause = Pause::new(1, Seed(1));
        let mut now = at(0);
        for _ in 0..20 {
            pause.failed("a", None, now);
            let Leave::Wait(until) = pause.leave(now) else {
                panic!("{pause:?}")
            };
            assert!(until.since(now) <= MAX_PAUSE);
            now = until;
        }
        let mut pause = Pause::new(1, Seed(1));
        pause.failed("a", Some(Duration::from_secs(50)), at(0));
        assert_eq!(pause.leave(at(0)), Leave::Wait(at(50_000)));
        let mut pause = Pause::new(1, Seed(1));
        pause.failed("a", Some(Duration::from_secs(5_000)), at(0));
        assert_eq!(pause.leave(at(0)), Leave::Wait(at(0).plus(MAX_WAIT)));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_lengthen_a_pause() {
        let mut pause = Pause::new(1, Seed(1));
        pause.failed("a", None, at(10_000_000));
        assert_eq!(pause.leave(at(0)), Leave::Probe);
    }
}
