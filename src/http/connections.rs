//! The connections that are open, so many and no more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinError, JoinSet};

/// The open connections. Dropping this closes all of them.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    tasks: JoinSet<()>,
    /// The oldest first.
    open: VecDeque<Connection>,
    /// Told when one of them is not being answered any more.
    idle: Arc<Notify>,
}

#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    answering: Answering,
}

/// Whether a request of a connection is being answered, and not waited for, and not waiting for a client that does not read
/// its answer.
#[derive(Clone, Debug)]
pub struct Answering {
    requests: Arc<AtomicUsize>,
    /// Told when a connection is not being answered any more.
    idle: Arc<Notify>,
}

/// A request is being answered until this is dropped.
#[derive(Debug)]
pub struct Turn(Answering);

impl Answering {
    /// Begins to answer a request.
    pub fn begin(&self) -> Turn {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Turn(self.clone())
    }

    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.idle.notify_one();
    }
}

impl Connections {
    /// None yet, and at most `most` at any time.
    pub fn at_most(most: usize) -> Self {
        Self {
            most,
            tasks: JoinSet::new(),
            open: VecDeque::new(),
            idle: Arc::default(),
        }
    }

    /// Waits until there is room for one more. Where there is none, the oldest of those that are not being answered is
    /// closed: so clients that are slow, or idle, keep nobody out. Safe to cancel.
    pub async fn room(&mut self) {
        while self.open.len() >= self.most {
            let idle = self
                .open
                .iter()
                .position(|connection| connection.answering.is_idle());
            if let Some(connection) = idle.and_then(|place| self.open.remove(place)) {
                connection.task.abort();
            } else {
                // One that does not read its answer never ends, but is idle once there is one.
                let idle = Arc::clone(&self.idle);
                tokio::select! {
                    () = self.ended() => {}
                    () = idle.notified() => {}
                }
            }
        }
    }

    /// Adds a connection, which is served by what `serve` returns.
    pub fn add<F>(&mut self, serve: impl FnOnce(Answering) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let answering = Answering {
            requests: Arc::default(),
            idle: Arc::clone(&self.idle),
        };
        let task = self.tasks.spawn(serve(answering.clone()));
        self.open.push_back(Connection { task, answering });
        self.forget_ended();
    }

    /// Closes all of them, and waits until what serves them has ended.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }

    async fn ended(&mut self) {
        if let Some(ended) = self.tasks.join_next().await {
            report(ended);
        }
        self.forget_ended();
    }

    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            report(ended);
        }
        self.open
            .retain(|connection| !connection.task.is_finished());
    }
}

/// A request that makes the program panic ends its connection, and nothing else.
fn report(ended: Result<(), JoinError>) {
    if let Err(ended) = ended
        && ended.is_panic()
    {
        tracing::error!("a request over HTTP ended in a panic, which is a bug: {ended}");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;
    use tokio::time::{Duration, timeout};

    use super::*;

    /// Adds a connection that never ends; returns what is told when it is closed.
    fn add(connections: &mut Connections, is_answering: bool) -> oneshot::Receiver<()> {
        let (open, closed) = oneshot::channel();
        connections.add(|answering| {
            let turn = is_answering.then(|| answering.begin());
            async move {
                let _held = (open, turn);
                pending().await
            }
        });
        closed
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_that_is_not_being_answered_gives_way() {
        let mut connections = Connections::at_most(3);
        let mut busy = add(&mut connections, true);
        let mut oldest = add(&mut connections, false);
        let mut newest = add(&mut connections, false);
        connections.room().await;
        assert!((&mut oldest).await.is_err(), "closed");
        for kept in [&mut busy, &mut newest] {
            assert_eq!(kept.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_being_answered_a_new_one_waits_for_the_first_to_end() {
        let mut connections = Connections::at_most(2);
        let (end, ended) = oneshot::channel::<()>();
        let _busy = add(&mut connections, true);
        connections.add(|answering| {
            let turn = answering.begin();
            async move {
                let _ = ended.await;
                drop(turn);
            }
        });
        let waited = timeout(Duration::from_secs(1), connections.room()).await;
        assert!(waited.is_err(), "there is no room");
        end.send(()).unwrap();
        connections.room().await;
        assert_eq!(connections.open.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_read_its_answer_gives_way_once_there_is_one() {
        let mut connections = Connections::at_most(1);
        let (answer, answered) = oneshot::channel::<()>();
        connections.add(|answering| {
            let turn = answering.begin();
            async move {
                let _ = answered.await;
                drop(turn);
                pending().await
            }
        });
        {
            let mut room = std::pin::pin!(connections.room());
            assert!(timeout(Duration::from_secs(1), &mut room).await.is_err());
            answer.send(()).unwrap();
            room.await;
        }
        assert_eq!(connections.open.len(), 0);
    }

    #[tokio::test]
    async fn a_connection_that_panics_ends_alone() {
        let mut connections = Connections::at_most(1);
        connections.add(|answering| {
            let turn = answering.begin();
            async move {
                let _turn = turn;
                panic!("on purpose");
            }
        });
        connections.room().await;
        assert_eq!(connections.open.len(), 0);
    }
}
