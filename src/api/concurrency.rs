//! How many requests may be in flight.
//!
//! Where that is not configured, it is found: it begins with a few, doubles while requests wait for others to end, until the
//! rate that is allowed is reached, grows by one afterwards, and is halved when the server refuses requests because there are too
//! many, or when answers only take longer for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::{FIRST_IN_FLIGHT as FIRST, InFlight, MOST_IN_FLIGHT as MOST};

/// Refusals halve the limit down to this.
const LEAST_AFTER_REFUSALS: usize = 4;

/// How much longer answers may take than before, when more are in flight.
const SLOWER: u32 = 2;

/// A request that waited longer for its turn by the rate was held up by that.
const RATE_WAIT: Duration = Duration::from_millis(2);

/// Lets requests begin.
#[derive(Debug)]
pub(super) struct Concurrency {
    permits: Arc<Semaphore>,
    /// How many requests wait for a permit.
    waiting: AtomicUsize,
    /// `None` where the number is configured.
    auto: Option<Mutex<Tuning>>,
}

/// A number that is being found, and how many permits there are.
#[derive(Debug)]
struct Tuning {
    auto: Auto,
    permits: usize,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Permit {
    permit: OwnedSemaphorePermit,
    granted: Instant,
}

/// Counts a request that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a request ended, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Whether the server refused it because there were too many.
    pub refused: bool,
    /// Whether another one waits for it to end.
    pub awaited: bool,
}

impl Concurrency {
    pub fn new(in_flight: InFlight) -> Self {
        let permits = in_flight.first();
        let auto = (in_flight == InFlight::Auto).then(|| {
            Mutex::new(Tuning {
                auto: Auto::new(Instant::now()),
                permits,
            })
        });
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            waiting: AtomicUsize::new(0),
            auto,
        }
    }

    /// Waits until a request may begin; `None` never comes, since nothing closes the semaphore.
    pub async fn begin(&self) -> Option<Permit> {
        let _waiting = Waiting::new(&self.waiting);
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(Permit {
            permit,
            granted: Instant::now(),
        })
    }

    /// Ends a request that was sent at `sent`.
    pub fn end(&self, permit: Permit, sent: Instant, refused: bool) {
        let Some(tuning) = &self.auto else {
            return;
        };
        let ended = Ended {
            began: sent,
            took: sent.elapsed(),
            refused,
            // Where requests wait for their turn by the rate, more in flight would not help.
            awaited: self.waiting.load(Ordering::Relaxed) > 0
                && sent.saturating_duration_since(permit.granted) < RATE_WAIT,
        };
        let mut tuning = tuning.lock().unwrap_or_else(PoisonError::into_inner);
        let before = tuning.auto.limit;
        let limit = tuning.auto.ended(ended, Instant::now());
        if limit != before {
            tracing::debug!(before, limit, "changed how many requests may be in flight");
        }
        if limit > tuning.permits {
            self.permits.add_permits(limit - tuning.permits);
            tuning.permits = limit;
        } else if limit < tuning.permits {
            // This one does not come back; the others follow as they end.
            permit.permit.forget();
            tuning.permits -= 1;
        }
    }
}

/// Finds how many requests to have in flight.
#[derive(Clone, Debug)]
struct Auto {
    limit: usize,
    /// Whether it still doubles.
    doubling: bool,
    /// Requests that began earlier say nothing about the limit.
    since: Instant,
    /// What has ended since: how many, in how much time, and for how many of them another waited.
    ended: u32,
    took: Duration,
    awaited: u32,
    /// The shortest mean time of a round.
    fastest: Option<Duration>,
}

impl Auto {
    fn new(now: Instant) -> Self {
        Self {
            limit: FIRST,
            doubling: true,
            since: now,
            ended: 0,
            took: Duration::ZERO,
            awaited: 0,
            fastest: None,
        }
    }

    /// Takes notice of a request that ended at `now`; returns how many may be in flight.
    fn ended(&mut self, ended: Ended, now: Instant) -> usize {
        if ended.began < self.since {
            return self.limit;
        }
        if ended.refused {
            // That one list is asked for too often must not stop others: its own rate falls as well.
            if self.limit > LEAST_AFTER_REFUSALS {
                self.halve(now);
            }
            return self.limit;
        }
        self.ended += 1;
        self.took += ended.took;
        self.awaited += u32::from(ended.awaited);
        if self.ended as usize >= self.limit {
            self.end_round(now);
        }
        self.limit
    }

    fn end_round(&mut self, now: Instant) {
        let mean = self.took / self.ended.max(1);
        let fastest = self.fastest.map_or(mean, |fastest| fastest.min(mean));
        self.fastest = Some(fastest);
        let is_slower = mean > fastest * SLOWER && self.limit > FIRST;
        if is_slower {
            self.halve(now);
            return;
        }
        // Where hardly any wait, more would not begin sooner.
        if self.awaited * 8 >= self.ended {
            let more = if self.doubling {
                self.limit * 2
            } else {
                self.limit + 1
            };
            self.begin_round(more.min(MOST), now);
        } else {
            self.doubling &= self.limit == FIRST;
            self.begin_round(self.limit, now);
        }
    }

    fn halve(&mut self, now: Instant) {
        self.doubling = false;
        self.begin_round((self.limit / 2).max(1), now);
    }

    fn begin_round(&mut self, limit: usize, now: Instant) {
        *self = Self {
            limit,
            since: now,
            ended: 0,
            took: Duration::ZERO,
            awaited: 0,
            ..*self
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays rounds in which every answer takes `took(limit)`; returns the limit after each.
    fn play(
        auto: &mut Auto,
        rounds: usize,
        awaited: bool,
        took: impl Fn(usize) -> u64,
    ) -> Vec<usize> {
        let mut now = auto.since;
        let round = |_| {
            let limit = auto.limit;
            let ended = Ended {
                began: now,
                took: Duration::from_millis(took(limit)),
                refused: false,
                awaited,
            };
            now += ended.took;
            for _ in 0..limit {
                auto.ended(ended, now);
            }
            auto.limit
        };
        (0..rounds).map(round).collect()
    }

    #[test]
    fn it_doubles_while_requests_wait_and_then_grows_by_one() {
        let mut auto = Auto::new(Instant::now());
        assert_eq!(play(&mut auto, 4, true, |_| 50), [16, 32, 64, 64]);
        let mut auto = Auto::new(Instant::now());
        assert_eq!(play(&mut auto, 2, false, |_| 50), [8, 8]);
        assert_eq!(play(&mut auto, 2, true, |_| 50), [16, 32]);
        assert_eq!(play(&mut auto, 2, false, |_| 50), [32, 32]);
        assert_eq!(play(&mut auto, 2, true, |_| 50), [33, 34]);
    }

    #[test]
    fn it_is_halved_once_for_all_requests_that_are_refused_together() {
        let mut auto = Auto::new(Instant::now());
        play(&mut auto, 2, true, |_| 50);
        let began = auto.since;
        let refused = Ended {
            began,
            took: Duration::from_millis(1),
            refused: true,
            awaited: true,
        };
        for n in 1..9 {
            assert_eq!(auto.ended(refused, began + Duration::from_millis(n)), 16);
        }
        let mut later = refused;
        let mut limits = Vec::new();
        for n in 0..6 {
            later.began = began + Duration::from_secs(n + 1);
            limits.push(auto.ended(later, later.began));
        }
        assert_eq!(limits, [8, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn it_is_halved_when_answers_only_take_longer() {
        // The server answers eight at a time.
        let mut auto = Auto::new(Instant::now());
        let limits = play(&mut auto, 40, true, |limit| 50 * (limit as u64).div_ceil(8));
        assert!(limits.iter().all(|limit| *limit <= 32), "{limits:?}");
        let last = limits.last().copied().unwrap();
        assert!((8..=17).contains(&last), "{limits:?}");
    }
}
