//! Which feeds are fresh: when polls last succeeded, and how far apart they do.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Moment, Timestamp};

/// How long a feed is fresh after a success, however often it is polled.
const LEAST_FRESH: Duration = Duration::from_secs(120);

/// For how many of its usual intervals a feed is fresh.
const FRESH_INTERVALS: u32 = 3;

/// From how many intervals the usual one is found: one long outage does not make the next one look usual.
const INTERVALS: usize = 5;

/// Which feeds are fresh.
#[derive(Debug)]
pub struct Freshness {
    began: Instant,
    feeds: Mutex<Feeds>,
}

/// The feeds that the daemon polls, and when they last succeeded.
#[derive(Debug, Default)]
struct Feeds {
    /// Those of the tasks that are wanted; `None` until all of these are known.
    expected: Option<BTreeSet<String>>,
    /// Whether some name leads to no task.
    is_unresolved: bool,
    successes: HashMap<String, Successes>,
}

/// The successes of one feed.
#[derive(Debug)]
struct Successes {
    last: Moment,
    /// The times between the last ones, the newest last.
    intervals: VecDeque<Duration>,
}

impl Freshness {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            feeds: Mutex::default(),
        }
    }

    /// Takes which feeds are to be polled from now on: those with these ids, `None` where tasks could not be discovered; and
    /// whether some name leads to no task.
    pub(super) fn expect(&self, ids: Option<BTreeSet<String>>, is_unresolved: bool) {
        self.lock().expect(ids, is_unresolved);
    }

    /// Notes that a poll of the feed `id` has succeeded.
    pub(super) fn succeeded(&self, id: &str) {
        let now = self.now();
        self.lock().succeeded(id, now);
    }

    /// Whether every task is found, and the feed of each is fresh: it has succeeded within three times the interval in which
    /// it usually does, or within two minutes. By the monotonic clock.
    pub fn all_are_fresh(&self) -> bool {
        let now = self.now();
        self.lock().all_are_fresh(now.uptime)
    }

    /// The feeds that are to be polled, with their last success in this process; `None` while it is not known which.
    pub fn expected(&self) -> Option<HashMap<String, Option<Timestamp>>> {
        let feeds = self.lock();
        let last = |id: &String| Some(feeds.successes.get(id)?.last.wall);
        let expected = feeds.expected.as_ref()?.iter();
        Some(expected.map(|id| (id.clone(), last(id))).collect())
    }

    fn now(&self) -> Moment {
        Moment {
            wall: Timestamp::now(),
            uptime: self.began.elapsed(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Feeds> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeds {
    fn expect(&mut self, ids: Option<BTreeSet<String>>, is_unresolved: bool) {
        self.is_unresolved = is_unresolved;
        // While tasks cannot be discovered, those stay that were found before.
        if let Some(expected) = ids {
            self.successes.retain(|id, _| expected.contains(id));
            self.expected = Some(expected);
        }
    }

    fn succeeded(&mut self, id: &str, now: Moment) {
        let Some(successes) = self.successes.get_mut(id) else {
            let first = Successes {
                last: now,
                intervals: VecDeque::new(),
            };
            self.successes.insert(id.to_owned(), first);
            return;
        };
        let interval = now.uptime.saturating_sub(successes.last.uptime);
        if successes.intervals.len() == INTERVALS {
            successes.intervals.pop_front();
        }
        successes.intervals.push_back(interval);
        successes.last = now;
    }

    fn all_are_fresh(&self, uptime: Duration) -> bool {
        let is_fresh = |id: &String| {
            let successes = self.successes.get(id);
            successes.is_some_and(|successes| successes.are_fresh(uptime))
        };
        let expected = self.expected.as_ref();
        !self.is_unresolved && expected.is_some_and(|expected| expected.iter().all(is_fresh))
    }
}

impl Successes {
    fn are_fresh(&self, uptime: Duration) -> bool {
        let within = self
            .usual()
            .saturating_mul(FRESH_INTERVALS)
            .max(LEAST_FRESH);
        uptime.saturating_sub(self.last.uptime) <= within
    }

    /// The median of the intervals, the lower one of two; zero before there are any.
    fn usual(&self) -> Duration {
        let mut sorted = Vec::from_iter(self.intervals.iter().copied());
        sorted.sort_unstable();
        let middle = sorted.len().saturating_sub(1) / 2;
        sorted.get(middle).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Option<BTreeSet<String>> {
        Some(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    /// Feeds that succeeded at these seconds.
    fn feeds(expected: &[&str], successes: &[(&str, u64)]) -> Feeds {
        let mut feeds = Feeds::default();
        feeds.expect(ids(expected), false);
        for (id, second) in successes {
            let now = Moment {
                wall: Timestamp::from_millis(0),
                uptime: Duration::from_secs(*second),
            };
            feeds.succeeded(id, now);
        }
        feeds
    }

    #[track_caller]
    fn assert_fresh_until(feeds: &Feeds, second: u64) {
        let fresh = |second| feeds.all_are_fresh(Duration::from_secs(second));
        assert_eq!((fresh(second), fresh(second + 1)), (true, false));
    }

    #[test]
    fn a_feed_is_fresh_for_three_of_its_intervals_and_at_least_two_minutes() {
        assert_fresh_until(&feeds(&["a"], &[("a", 10)]), 130);
        assert_fresh_until(&feeds(&["a"], &[("a", 10), ("a", 20)]), 140);
        assert_fresh_until(&feeds(&["a"], &[("a", 0), ("a", 100)]), 400);
        // As it was observed, whatever the setting: the rate limit may make it longer.
        let slow = [("a", 0), ("a", 170), ("a", 340), ("a", 500)];
        assert_fresh_until(&feeds(&["a"], &slow), 500 + 3 * 170);
    }

    #[test]
    fn an_outage_does_not_make_the_next_one_usual() {
        let outage = [("a", 0), ("a", 60), ("a", 120), ("a", 9_000)];
        assert_fresh_until(&feeds(&["a"], &outage), 9_000 + 3 * 60);
        let long_ago: Vec<_> = (0..6)
            .map(|n| ("a", n))
            .chain([("a", 1_005), ("a", 2_005), ("a", 3_005)])
            .collect();
        assert_fresh_until(&feeds(&["a"], &long_ago), 3_005 + 3_000);
    }

    #[test]
    fn every_feed_that_is_expected_counts_and_no_other() {
        let both = [("a", 0), ("b", 50)];
        assert_fresh_until(&feeds(&["a", "b"], &both), 120);
        assert_fresh_until(&feeds(&["b"], &both), 170);
        let now = Duration::ZERO;
        assert!(
            !feeds(&["a", "b"], &[("a", 0)]).all_are_fresh(now),
            "b has not succeeded"
        );
        assert!(
            feeds(&[], &[]).all_are_fresh(now),
            "an account without tasks"
        );
    }

    #[test]
    fn tasks_that_are_not_found_are_not_fresh() {
        let now = Duration::ZERO;
        let mut feeds = Feeds::default();
        assert!(!feeds.all_are_fresh(now), "nothing is known yet");
        feeds.expect(None, false);
        assert!(!feeds.all_are_fresh(now), "nothing was discovered yet");
        feeds.expect(ids(&["a"]), false);
        feeds.succeeded("a", Moment::default());
        assert!(feeds.all_are_fresh(now));
        feeds.expect(ids(&["a"]), true);
        assert!(!feeds.all_are_fresh(now), "a name leads to no task");
        feeds.expect(None, false);
        assert!(feeds.all_are_fresh(now), "the discovered ones stay");
        feeds.expect(ids(&["b"]), false);
        assert_eq!(
            feeds.successes.len(),
            0,
            "what is not polled any more is forgotten"
        );
    }
}
