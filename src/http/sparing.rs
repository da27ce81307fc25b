//! Values that are expensive to find, found no more often than is worth it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

/// A value is kept so many times as long as it took to find: finding it takes at most this part of a thread.
const KEPT: u32 = 50;

/// A value that is found again when it is asked for, but so rarely that this takes two percent of the time at most, and by
/// one at a time, however many ask.
#[derive(Debug)]
pub struct Sparing<T> {
    known: watch::Sender<Option<Known<T>>>,
    turn: Arc<Mutex<()>>,
    /// How long a value is kept at most.
    longest: Duration,
}

#[derive(Debug)]
struct Known<T> {
    value: Arc<T>,
    until: Instant,
}

impl<T: Send + Sync + 'static> Sparing<T> {
    /// A value that is kept for `longest` at most, whatever it took to find.
    pub fn kept_at_most(longest: Duration) -> Self {
        Self {
            known: watch::Sender::new(None),
            turn: Arc::default(),
            longest,
        }
    }

    /// The value, as it was when it was last found; `None` if it never was. Where it is time to find it again, waits for
    /// that, but no longer than `within`. `find` goes on when nobody waits any more; its `None` leaves what is known.
    pub async fn recent<F>(&self, within: Duration, find: impl FnOnce() -> F) -> Option<Arc<T>>
    where
        F: Future<Output = Option<T>> + Send + 'static,
    {
        self.refresh(within, find).await;
        let known = self.known.borrow();
        known.as_ref().map(|known| Arc::clone(&known.value))
    }

    /// As [`Sparing::recent`], but `None` if the value should have been found again, and was not in time.
    pub async fn fresh<F>(&self, within: Duration, find: impl FnOnce() -> F) -> Option<Arc<T>>
    where
        F: Future<Output = Option<T>> + Send + 'static,
    {
        match self.refresh(within, find).await {
            true => self
                .known
                .borrow()
                .as_ref()
                .map(|known| Arc::clone(&known.value)),
            false => None,
        }
    }

    /// Finds the value if it is time to; returns whether it is known as it now is.
    async fn refresh<F>(&self, within: Duration, find: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let mut changes = self.known.subscribe();
        let is_recent = |known: &Known<T>| Instant::now() < known.until;
        if changes.borrow_and_update().as_ref().is_some_and(is_recent) {
            return true;
        }
        if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
            let (known, longest) = (self.known.clone(), self.longest);
            let (finding, began) = (find(), Instant::now());
            tokio::spawn(async move {
                let found = finding.await;
                let kept = began.elapsed().saturating_mul(KEPT).min(longest);
                let until = Instant::now() + kept;
                drop(turn);
                known.send_modify(|known| {
                    if let Some(value) = found {
                        let value = Arc::new(value);
                        *known = Some(Known { value, until });
                    }
                });
            });
        }
        // Those who wait hold a sender each.
        matches!(timeout(within, changes.changed()).await, Ok(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Finds how often something was found, in a second each time.
    fn count(
        finds: &Arc<AtomicU32>,
    ) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = Option<u32>> + Send>> {
        let finds = Arc::clone(finds);
        move || {
            Box::pin(async move {
                sleep(SECOND).await;
                Some(finds.fetch_add(1, Ordering::Relaxed) + 1)
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_found_again_after_fifty_times_its_cost() {
        let (sparing, finds) = (Sparing::kept_at_most(60 * SECOND), Arc::default());
        let get = async || {
            sparing
                .recent(2 * SECOND, count(&finds))
                .await
                .map(|found| *found)
        };
        assert_eq!(get().await, Some(1));
        advance(49 * SECOND).await;
        assert_eq!(get().await, Some(1));
        advance(SECOND).await;
        assert_eq!(get().await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn no_value_is_kept_longer_than_that() {
        let (sparing, finds) = (Sparing::kept_at_most(SECOND), Arc::default());
        assert_eq!(
            sparing.fresh(2 * SECOND, count(&finds)).await.as_deref(),
            Some(&1)
        );
        advance(SECOND).await;
        assert_eq!(
            sparing.fresh(2 * SECOND, count(&finds)).await.as_deref(),
            Some(&2)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_one_finds() {
        let (sparing, finds) = (Sparing::kept_at_most(60 * SECOND), Arc::default());
        let get = || sparing.recent(2 * SECOND, count(&finds));
        let (first, second, third) = tokio::join!(get(), get(), get());
        assert_eq!(
            [first, second, third].map(|found| found.as_deref().copied()),
            [Some(1); 3]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_asked_and_what_is_known_stays() {
        let (sparing, finds) = (Sparing::kept_at_most(60 * SECOND), Arc::default());
        let soon = SECOND / 2;
        assert_eq!(
            sparing.recent(soon, count(&finds)).await,
            None,
            "not found yet"
        );
        assert_eq!(
            sparing.recent(SECOND, count(&finds)).await.as_deref(),
            Some(&1),
            "the first goes on"
        );
        advance(50 * SECOND).await;
        assert_eq!(sparing.fresh(soon, count(&finds)).await, None);
        assert_eq!(
            sparing
                .recent(Duration::ZERO, count(&finds))
                .await
                .as_deref(),
            Some(&1)
        );
        sleep(SECOND).await;
        assert_eq!(
            sparing
                .fresh(Duration::ZERO, count(&finds))
                .await
                .as_deref(),
            Some(&2)
        );
        advance(50 * SECOND).await;
        let fails = || async { None };
        assert_eq!(
            sparing.recent(SECOND, fails).await.as_deref(),
            Some(&2),
            "a failure leaves it"
        );
    }
}
