//! Which pages may be in memory at once, so that memory is bounded however many feeds there are, and however long their pages
//! wait for the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The most pages in memory at once, of feeds that read and store them: twice as many as there may be attempts in flight, up to
/// this.
const MAX_PAGES: usize = 16;

/// The most pages in memory at once, of feeds that read runs singly before they store them: as many as there may be attempts in
/// flight, up to this.
const MAX_KEPT: usize = 8;

/// How long a feed waits for the right to keep its page while it reads runs singly.
const KEPT_WITHIN: Duration = Duration::from_secs(60);

/// The right to hold one page in memory, which ends when this is dropped.
#[derive(Debug)]
pub struct Held {
    _permit: Option<OwnedSemaphorePermit>,
    /// Whether it lasts while runs are read singly.
    is_kept: bool,
}

/// The rights that there are.
#[derive(Debug)]
pub struct Pages {
    /// One for each page in memory.
    pages: Arc<Semaphore>,
    /// One for each page that waits for single reads, which may take long: other feeds go on with `pages`.
    kept: Arc<Semaphore>,
}

impl Held {
    fn of(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            _permit: permit,
            is_kept: false,
        }
    }
}

impl Pages {
    /// As many as go with so many attempts in flight.
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            pages: Arc::new(Semaphore::new((2 * concurrency).min(MAX_PAGES))),
            kept: Arc::new(Semaphore::new(concurrency.min(MAX_KEPT))),
        }
    }

    /// Rights to hold pages, as many as are free now, up to `wanted`; one is always left, for a feed that has none.
    pub fn try_hold(&self, wanted: usize) -> Vec<Held> {
        let pages = &self.pages;
        let free = || {
            let is_left = pages.available_permits() > 1;
            let permit = is_left.then(|| Arc::clone(pages).try_acquire_owned().ok());
            permit.flatten().map(|permit| Held::of(Some(permit)))
        };
        std::iter::from_fn(free).take(wanted).collect()
    }

    /// Changes rights to hold pages into one to keep them while runs are read singly, which can take long. Returns `None` if
    /// there is none for a minute: the pages have to be dropped, and read again later.
    pub async fn keep(&self, mut held: Vec<Held>) -> Option<Held> {
        if held.last().is_some_and(|held| held.is_kept) {
            return held.pop();
        }
        let kept = timeout(KEPT_WITHIN, Arc::clone(&self.kept).acquire_owned()).await;
        drop(held);
        Some(Held {
            is_kept: true,
            ..Held::of(kept.ok()?.ok())
        })
    }

    pub(super) async fn hold(&self) -> Held {
        // An error would mean that it was closed, which nothing does.
        Held::of(Arc::clone(&self.pages).acquire_owned().await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is held for long is not held against others, and there is not much of it.
    #[tokio::test(start_paused = true)]
    async fn pages_that_are_kept_make_room_for_others() {
        let pages = Pages::new(4);
        let all = pages.try_hold(1_000).len();
        let mut kept = Vec::new();
        while let Some(page) = pages.keep(pages.try_hold(1)).await {
            assert_eq!(pages.try_hold(1_000).len(), all);
            kept.push(page);
        }
        assert!((1..=MAX_KEPT).contains(&kept.len()), "{}", kept.len());
        let again = pages.keep(kept).await.unwrap();
        drop(again);
        pages.keep(pages.try_hold(1)).await.unwrap();
    }
}
