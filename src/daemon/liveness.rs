//! Whether every loop of the daemon goes on, for a watchdog. Each loop says by when it will be back; one that is not back by
//! then hangs. Errors of the API, of sinks and of the database are no hang: a loop that retries is back in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a loop may take for one step beyond what it waits for: for a transaction of the database and its retries, for the
/// turn of a commit, and for its turn on a busy machine.
const STEP: Duration = Duration::from_secs(15 * 60);

/// The loops, and by when each has to be back.
#[derive(Debug, Default)]
pub struct Liveness {
    loops: Mutex<Loops>,
}

#[derive(Debug, Default)]
struct Loops {
    /// The number of the next one.
    next: u64,
    running: HashMap<u64, Loop>,
}

#[derive(Debug)]
struct Loop {
    name: String,
    back_by: Option<Instant>,
}

/// A loop's own handle. Dropping it says that the loop has ended.
#[derive(Debug)]
pub struct Pulse {
    liveness: Arc<Liveness>,
    number: u64,
}

impl Liveness {
    /// Adds a loop, which has to be back within a step.
    pub fn enter(self: &Arc<Self>, name: impl Into<String>) -> Pulse {
        let mut loops = self.lock();
        let number = loops.next;
        loops.next += 1;
        let added = Loop {
            name: name.into(),
            back_by: Some(Instant::now() + STEP),
        };
        loops.running.insert(number, added);
        drop(loops);
        Pulse {
            liveness: Arc::clone(self),
            number,
        }
    }

    /// How many loops there are.
    pub fn count(&self) -> usize {
        self.lock().running.len()
    }

    /// The name of a loop that was not back in time.
    pub fn overdue(&self) -> Option<String> {
        let now = Instant::now();
        let loops = self.lock();
        let is_late = |found: &&Loop| found.back_by.is_some_and(|by| by < now);
        loops
            .running
            .values()
            .find(is_late)
            .map(|late| late.name.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Loops> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    /// The loop is here, and will be back within a step after `wait`.
    pub fn back_after(&self, wait: Duration) {
        let by = wait
            .checked_add(STEP)
            .and_then(|within| Instant::now().checked_add(within));
        if let Some(found) = self.liveness.lock().running.get_mut(&self.number) {
            found.back_by = by;
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.liveness.lock().running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_is_not_back_in_time_is_named() {
        let liveness = Arc::new(Liveness::default());
        let (feed, sink) = (
            liveness.enter("the feed of a"),
            liveness.enter("the sink b"),
        );
        feed.back_after(60 * SECOND);
        sink.back_after(Duration::MAX);
        advance(STEP + 60 * SECOND).await;
        assert_eq!(liveness.overdue(), None);
        advance(SECOND).await;
        assert_eq!(liveness.overdue().as_deref(), Some("the feed of a"));
        feed.back_after(Duration::ZERO);
        assert_eq!(liveness.overdue(), None);
        advance(STEP + SECOND).await;
        assert!(liveness.overdue().is_some());
        drop(feed);
        assert_eq!(liveness.overdue(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_never_says_anything_is_named() {
        let liveness = Arc::new(Liveness::default());
        let _pulse = liveness.enter("a");
        advance(STEP + SECOND).await;
        assert_eq!(liveness.overdue().as_deref(), Some("a"));
    }
}
