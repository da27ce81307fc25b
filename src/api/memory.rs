//! Which bodies and pages may be in memory at once, so that memory is bounded however many feeds there are, how far they read
//! ahead, and how long their pages wait for the database.
//!
//! A body is asked for with a right to as many bytes as it is expected to have ([`BodyRight`]). Bodies that are read ahead may
//! take most of the room, and wait there until it is their turn; the page that a feed needs next may take all of it, so that it
//! never waits for pages that are read ahead. A body whose turn it is becomes a page, which takes several times its memory, and
//! of which only few are held at once ([`Held`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The most bytes of bodies at once, as far as they have no more than they are expected to.
const BODIES: usize = 32 << 20;

/// The most of these that are of bodies read ahead.
const AHEAD: usize = 24 << 20;

/// In what pieces bytes are counted.
const PIECE: usize = 4 << 10;

/// The most pages at once, of feeds that read and store them.
const MAX_PAGES: usize = 4;

/// The most pages at once, of feeds that read runs singly before they store them.
const MAX_KEPT: usize = 4;

/// How long a feed waits for the right to keep its page while it reads runs singly.
const KEPT_WITHIN: Duration = Duration::from_secs(60);

/// The rights that there are.
#[derive(Debug)]
pub struct Memory {
    bodies: Arc<Semaphore>,
    ahead: Arc<Semaphore>,
    /// One, for a body that is larger than expected and finds no room.
    large: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    /// For pages that wait for single reads, which may take long: other feeds go on with `pages`.
    kept: Arc<Semaphore>,
}

/// The right to hold the body of an answer, which ends when this is dropped.
#[derive(Debug)]
pub struct BodyRight {
    memory: Arc<Memory>,
    /// For how many bytes there are permits.
    bytes: usize,
    permits: Vec<OwnedSemaphorePermit>,
    is_large: bool,
    turn: CancellationToken,
}

/// The right to hold one page, which ends when this is dropped.
#[derive(Debug)]
pub struct Held {
    _permit: Option<OwnedSemaphorePermit>,
    /// Whether it lasts while runs are read singly.
    is_kept: bool,
}

impl Default for Memory {
    fn default() -> Self {
        let of_bytes = |bytes| Arc::new(Semaphore::new(bytes / PIECE));
        Self {
            bodies: of_bytes(BODIES),
            ahead: of_bytes(AHEAD),
            large: Arc::new(Semaphore::new(1)),
            pages: Arc::new(Semaphore::new(MAX_PAGES)),
            kept: Arc::new(Semaphore::new(MAX_KEPT)),
        }
    }
}

/// As permits.
fn pieces(bytes: usize) -> u32 {
    let most = BODIES / PIECE;
    u32::try_from(bytes.div_ceil(PIECE).min(most)).unwrap_or(u32::MAX)
}

impl Memory {
    /// The right to a body of `expected` bytes, for the page that a feed needs next. Waits for other such pages, at most.
    pub async fn body(self: &Arc<Self>, expected: usize) -> BodyRight {
        let turn = CancellationToken::new();
        turn.cancel();
        // An error would mean that it was closed, which nothing does.
        let room = Arc::clone(&self.bodies).acquire_many_owned(pieces(expected));
        BodyRight {
            memory: Arc::clone(self),
            bytes: expected,
            permits: room.await.into_iter().collect(),
            is_large: false,
            turn,
        }
    }

    /// The right to a body of `expected` bytes that is read ahead, if there is room now; its turn comes when `turn` is
    /// cancelled.
    pub fn body_ahead(
        self: &Arc<Self>,
        expected: usize,
        turn: CancellationToken,
    ) -> Option<BodyRight> {
        Some(BodyRight {
            permits: self.room_ahead(expected)?.into(),
            memory: Arc::clone(self),
            bytes: expected,
            is_large: false,
            turn,
        })
    }

    fn room_ahead(&self, bytes: usize) -> Option<[OwnedSemaphorePermit; 2]> {
        let room = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(pieces(bytes)).ok();
        Some([room(&self.ahead)?, room(&self.bodies)?])
    }

    /// The right to hold a page. Waits for pages that are being stored.
    pub(super) async fn page(&self) -> Held {
        Held {
            _permit: Arc::clone(&self.pages).acquire_owned().await.ok(),
            is_kept: false,
        }
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
            _permit: kept.ok()?.ok(),
            is_kept: true,
        })
    }
}

impl BodyRight {
    /// Extends it to a body of `bytes`; returns whether there is room. Before its turn it waits for none: what is on its way holds
    /// up others. Later it waits for other bodies that are larger than expected.
    pub(super) async fn grow(&mut self, bytes: usize) -> bool {
        if self.is_large || bytes <= self.bytes {
            return true;
        }
        // In steps, so that a body takes few permits however it arrives.
        let step = (bytes - self.bytes).max(self.bytes / 2).max(64 << 10);
        if !self.turn.is_cancelled() {
            let room = self.memory.room_ahead(step);
            let is_room = room.is_some();
            self.permits.extend(room.into_iter().flatten());
            self.bytes += if is_room { step } else { 0 };
            return is_room;
        }
        let bodies = Arc::clone(&self.memory.bodies);
        if let Ok(room) = bodies.try_acquire_many_owned(pieces(step)) {
            self.permits.push(room);
            self.bytes += step;
            return true;
        }
        let large = Arc::clone(&self.memory.large).acquire_owned().await;
        self.permits.extend(large);
        self.is_large = true;
        true
    }

    /// Waits for its turn.
    pub(super) async fn turn(&self) {
        self.turn.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn ahead(memory: &Arc<Memory>) -> Vec<BodyRight> {
        let one = || memory.body_ahead(MIB, CancellationToken::new());
        std::iter::from_fn(one).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_page_never_waits_for_pages_that_are_read_ahead() {
        let memory = Arc::new(Memory::default());
        let ahead = ahead(&memory);
        assert_eq!(ahead.len(), AHEAD / MIB);
        let next = memory.body(MIB).await;
        assert_eq!(next.permits.len(), 1);
    }

    /// A body that is larger than expected waits for no room before its turn, and then for no more than one other.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_larger_than_expected_finds_room_when_it_is_its_turn() {
        let memory = Arc::new(Memory::default());
        let turn = CancellationToken::new();
        let mut first = memory.body_ahead(MIB, turn.clone()).unwrap();
        assert!(first.grow(MIB + 1).await);
        let others = ahead(&memory);
        assert!(!first.grow(2 * MIB).await, "it is not its turn");
        let mut next = Vec::new();
        while let Ok(body) = timeout(Duration::ZERO, memory.body(MIB)).await {
            next.push(body);
        }
        turn.cancel();
        assert!(first.grow(2 * MIB).await && first.is_large);
        let mut second = next.pop().unwrap();
        let early = timeout(Duration::from_secs(9), second.grow(2 * MIB)).await;
        assert!(early.is_err(), "one at a time");
        drop(first);
        assert!(second.grow(2 * MIB).await);
        drop((others, next, second));
        assert_eq!(memory.bodies.available_permits(), BODIES / PIECE);
        assert_eq!(memory.ahead.available_permits(), AHEAD / PIECE);
    }

    /// What is held for long is not held against others, and there is not much of it.
    #[tokio::test(start_paused = true)]
    async fn pages_that_are_kept_make_room_for_others() {
        let memory = Memory::default();
        let mut kept = Vec::new();
        while let Some(page) = memory.keep(vec![memory.page().await]).await {
            assert_eq!(memory.pages.available_permits(), MAX_PAGES);
            kept.push(page);
        }
        assert_eq!(kept.len(), MAX_KEPT);
        drop(memory.keep(kept).await.unwrap());
        memory.keep(vec![memory.page().await]).await.unwrap();
    }
}
