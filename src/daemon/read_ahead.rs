//! The pages of a feed: those that its machine asks for, and those that it will ask for next, which are requested meanwhile.

use std::collections::VecDeque;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{ApiError, BodyRight, Client, ErrorClass, Held, Read};
use crate::sync::{Page, Window};

/// What a body is expected to have for each entry that is asked for, before one was read, in bytes.
const ENTRY: usize = 1 << 10;

/// What a body is expected to have at least, in bytes.
const SMALLEST: usize = 16 << 10;

/// What it is expected to have at most: a right to more could only be had while nobody reads ahead.
const LARGEST: usize = 4 << 20;

/// Reads of one list. Dropping it cancels them.
#[derive(Debug)]
pub struct ReadAhead {
    client: Client,
    task_id: String,
    reads: VecDeque<Reading>,
    /// The size of the last body, in bytes.
    last: Option<usize>,
}

/// Why a read failed, and when.
type Failed = (ApiError, Instant);

/// A read that was begun.
#[derive(Debug)]
struct Reading {
    read: AbortOnDropHandle<Result<Option<Read>, Failed>>,
    /// Cancelled when it is the next to be stored, so that it may take the memory of a page.
    turn: CancellationToken,
}

impl ReadAhead {
    /// No reads of the list of the task `task_id`.
    pub fn new(client: Client, task_id: String) -> Self {
        Self {
            client,
            task_id,
            reads: VecDeque::new(),
            last: None,
        }
    }

    /// Cancels all reads.
    pub fn clear(&mut self) {
        self.reads.clear();
    }

    /// The page of the first of `windows`, and the right to hold it. Requests the others as well, as far as there is room, of
    /// which the first `begun` may have been requested before. Only the first is tried again where it fails; the others wait
    /// for that, or are dropped where too many were requested.
    ///
    /// # Errors
    /// When no attempt at the first succeeds.
    pub async fn next(
        &mut self,
        windows: &[Window],
        begun: usize,
    ) -> Result<(Page, Held), ApiError> {
        self.reads.truncate(begun);
        for window in windows.iter().skip(self.reads.len()) {
            let expected = self.expected(window);
            let turn = CancellationToken::new();
            let right = if self.reads.is_empty() {
                self.client.memory().body(expected).await
            } else {
                match self.client.memory().body_ahead(expected, turn.clone()) {
                    Some(right) => right,
                    None => break,
                }
            };
            self.begin(*window, right, turn);
        }
        let read = match (self.take().await, windows.first()) {
            (Ok(Some(read)), _) => read,
            // It was not begun, for want of a window or of room, or it failed.
            (other, Some(window)) => {
                let throttled = |(error, _): &Failed| error.class() == ErrorClass::Throttled;
                if other.as_ref().is_err_and(throttled) {
                    // The next attempt would have to wait for the turns of all others.
                    self.reads.clear();
                }
                let expected = self.expected(window);
                let client = &self.client;
                client
                    .runs_again(&self.task_id, window, expected, other.err())
                    .await?
            }
            (_, None) => std::future::pending().await,
        };
        self.last = Some(read.bytes);
        Ok((read.page, read.held))
    }

    fn begin(&mut self, window: Window, right: BodyRight, turn: CancellationToken) {
        let (client, task_id) = (self.client.clone(), self.task_id.clone());
        let read = tokio::spawn(async move {
            let read = client.runs(&task_id, &window, right).await;
            read.map_err(|error| (error, Instant::now()))
        });
        self.reads.push_back(Reading {
            read: AbortOnDropHandle::new(read),
            turn,
        });
    }

    /// The first page; `None` if it was not read. The one after it becomes a page while that is stored.
    async fn take(&mut self) -> Result<Option<Read>, Failed> {
        let Some(first) = self.reads.front_mut() else {
            return Ok(None);
        };
        first.turn.cancel();
        let read = match (&mut first.read).await {
            Ok(read) => read,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        };
        self.reads.pop_front();
        if let Some(next) = self.reads.front() {
            next.turn.cancel();
        }
        read
    }

    /// How many bytes the body of a window is expected to have.
    fn expected(&self, window: &Window) -> usize {
        let expected = match self.last {
            Some(last) => last.saturating_add(last / 4),
            None => ENTRY.saturating_mul(window.limit as usize),
        };
        expected.clamp(SMALLEST, LARGEST)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::testing::client;
    use crate::model::Timestamp;
    use crate::simulator::{Fault, Faults, Server, World};
    use crate::sync::Listing;

    fn windows(offsets: &[u64]) -> Vec<Window> {
        let window = |&offset| Window {
            listing: Listing::All,
            offset,
            limit: 2,
        };
        offsets.iter().map(window).collect()
    }

    /// A list of a hundred runs, and reads of it.
    async fn list() -> (Server, ReadAhead) {
        let mut world = World::new(1);
        let task = world.add_task("janedoe", "it");
        for second in 0..100 {
            world.create(&task, Timestamp::from_millis(second * 1_000));
        }
        let server = Server::start(world).await.unwrap();
        let reads = ReadAhead::new(client(&server), task);
        (server, reads)
    }

    /// The offsets of the pages that are given, as their answers say.
    async fn given(reads: &mut ReadAhead, commands: &[(&[u64], usize)]) -> Vec<u64> {
        let mut given = Vec::new();
        for (offsets, begun) in commands {
            let (page, _held) = reads.next(&windows(offsets), *begun).await.unwrap();
            given.push(page.offset.unwrap());
        }
        given
    }

    #[tokio::test]
    async fn reads_that_were_begun_go_on_and_all_others_are_dropped() {
        let (server, mut reads) = list().await;
        let commands: [(&[u64], usize); 5] = [
            (&[0], 0),
            (&[10, 20, 30], 0),
            (&[20, 30, 40], 2),
            (&[50, 60], 0),
            (&[60, 70], 1),
        ];
        assert_eq!(given(&mut reads, &commands).await, [0, 10, 20, 50, 60]);
        let asked = server.take_requests();
        let times = |offset: u64| {
            let part = format!("offset={offset}&");
            asked.iter().filter(|path| path.contains(&part)).count()
        };
        assert_eq!([20, 60].map(times), [1, 1], "{asked:?}");
    }

    #[tokio::test]
    async fn the_first_is_tried_again_and_others_wait_for_it() {
        for fault in [Fault::Status(500), Fault::Throttle(None)] {
            others_wait_for_the_first(fault).await;
        }
    }

    async fn others_wait_for_the_first(fault: Fault) {
        let (server, mut reads) = list().await;
        server.set_faults(Faults::matching("offset=10&", fault));
        let first = reads.next(&windows(&[0, 10, 20]), 0).await.unwrap().0;
        assert_eq!(first.offset, Some(0));
        let asked = windows(&[10, 20]);
        {
            let mut second = std::pin::pin!(reads.next(&asked, 2));
            let failed = |path: &String| path.contains("offset=10&");
            while !server.take_requests().iter().any(failed) {
                let soon = Duration::from_millis(5);
                assert!(tokio::time::timeout(soon, &mut second).await.is_err());
            }
            server.set_faults(Faults::none());
            assert_eq!(second.await.unwrap().0.offset, Some(10));
        }
        assert_eq!(given(&mut reads, &[(&[20], 1)]).await, [20]);
    }
}
