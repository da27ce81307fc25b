//! How often the list of a task may be asked for. Apify answers 60 requests a second for each resource, and 429 to those beyond
//! that (docs.apify.com/api/v2, "Rate limiting").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The most requests a second for one list: a little less than is allowed, as they may arrive closer together than they were
/// sent.
const MOST: f64 = 58.0;

/// The fewest, however often requests are refused.
const FEWEST: f64 = 1.0;

/// By how many requests a second the rate recovers in a second.
const RECOVERY: f64 = 10.0;

/// How much later than its turn a request may be sent, as timers and busy machines are late, without making the next one later.
const MOST_LATE: Duration = Duration::from_millis(10);

/// The most lists of which something is remembered; the rate of others begins anew.
const MOST_LISTS: usize = 20_000;

/// The rates of lists.
#[derive(Debug, Default)]
pub(super) struct Rates {
    lists: Mutex<HashMap<String, Arc<List>>>,
}

/// A list, and who may ask for it next.
#[derive(Debug)]
struct List {
    /// Held by the request whose turn it is, until it is sent.
    gate: Arc<AsyncMutex<()>>,
    rate: Mutex<Rate>,
}

/// The turn of a request, until it is dropped. Nobody else has one for the same list.
#[derive(Debug)]
pub(super) struct Turn {
    list: Arc<List>,
    _gate: OwnedMutexGuard<()>,
}

impl Rates {
    /// Waits until the list of the task `task_id` may be asked for.
    pub async fn turn(&self, task_id: &str) -> Turn {
        let list = self.list(task_id);
        let gate = Arc::clone(&list.gate).lock_owned().await;
        let wait = list.rate().wait(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Turn { list, _gate: gate }
    }

    /// Takes notice that a request for the list was refused, which was sent at `sent`.
    pub fn refused(&self, task_id: &str, sent: Instant) {
        self.list(task_id).rate().refused(sent, Instant::now());
    }

    fn list(&self, task_id: &str) -> Arc<List> {
        let now = Instant::now();
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= MOST_LISTS && !lists.contains_key(task_id) {
            lists.retain(|_, list| Arc::strong_count(list) > 1 || list.rate().matters(now));
        }
        let list = lists.entry(task_id.to_owned()).or_insert_with(|| {
            Arc::new(List {
                gate: Arc::default(),
                rate: Mutex::new(Rate::new(now)),
            })
        });
        Arc::clone(list)
    }
}

impl List {
    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The request is sent now: the next turn comes later by the rate.
    pub fn sent(self) {
        self.list.rate().sent(Instant::now());
    }
}

/// The rate of one list.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// When the next request may begin.
    next: Instant,
    /// The rate after the last fall, and when that was.
    after_fall: f64,
    fell_at: Instant,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self {
            next: now,
            after_fall: MOST,
            fell_at: now,
        }
    }

    /// In requests a second.
    fn at(&self, now: Instant) -> f64 {
        let recovered = RECOVERY * now.saturating_duration_since(self.fell_at).as_secs_f64();
        (self.after_fall + recovered).min(MOST)
    }

    /// How long to wait until a request may be sent.
    fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// A request is sent. None follows at once, so that the rate holds in every second, however long it was not used; one that
    /// was a little late makes the next no later.
    fn sent(&mut self, now: Instant) {
        let late = now.checked_sub(MOST_LATE).unwrap_or(now);
        self.next = self.next.max(late) + Duration::from_secs_f64(1.0 / self.at(now));
    }

    /// Falls by a quarter, once for all requests that were sent before.
    fn refused(&mut self, sent: Instant, now: Instant) {
        if self.after_fall < MOST && sent <= self.fell_at {
            return;
        }
        self.after_fall = (self.at(now) * 0.75).max(FEWEST);
        self.fell_at = now;
    }

    /// Whether it differs from that of a list that was never asked for.
    fn matters(&self, now: Instant) -> bool {
        self.next > now || self.at(now) < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many requests begin from `now` on within a second, if each waits for its turn.
    fn in_a_second(rate: &mut Rate, now: Instant) -> usize {
        let mut at = now;
        let mut count = 0;
        loop {
            at += rate.wait(at);
            if at >= now + Duration::from_secs(1) {
                return count;
            }
            rate.sent(at);
            count += 1;
        }
    }

    #[test]
    fn no_more_begin_in_any_second_than_are_allowed() {
        let now = Instant::now();
        let mut rate = Rate::new(now);
        assert!((57..=60).contains(&in_a_second(&mut rate, now)));
        let later = now + Duration::from_secs(60);
        let second = in_a_second(&mut rate, later);
        assert!((57..=60).contains(&second), "no more after a rest");
    }

    #[test]
    fn refusals_lower_the_rate_once_and_it_recovers() {
        let now = Instant::now();
        let mut rate = Rate::new(now);
        for ms in 0..9 {
            rate.refused(now, now + Duration::from_millis(ms));
        }
        let second = in_a_second(&mut rate, now + Duration::from_millis(9));
        assert!((44..=50).contains(&second), "{second}");
        assert!(rate.matters(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(10);
        assert_eq!((rate.at(later), rate.matters(later)), (MOST, false));
        for n in 0..20 {
            let at = later + Duration::from_millis(n);
            rate.refused(at, at);
        }
        assert!(rate.at(later) < 1.1 * FEWEST);
    }
}
