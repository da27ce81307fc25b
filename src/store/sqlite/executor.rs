//! SQLite on one thread, for callers on many.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::connection::Db;
use crate::store::error::StoreError;

/// Calls waiting for the thread; a caller beyond that waits to hand in its own.
const QUEUE: usize = 64;

type Call = Box<dyn FnOnce(&mut Db) + Send>;

/// Runs calls on a [`Db`], one after the other.
#[derive(Clone, Debug)]
pub(super) enum Executor {
    /// On a thread of its own: SQLite blocks.
    Thread(mpsc::Sender<Call>),
    /// On the caller's thread, for a database in memory, which never blocks for long.
    Inline(Arc<Mutex<Db>>),
}

/// The database's thread, which ends when the last handle on it is dropped.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

impl Executor {
    /// Runs calls on `db` on a thread called `name`, which holds `guard` until `db` is closed.
    pub fn spawn(
        name: &str,
        path: &Path,
        mut db: Db,
        guard: impl Send + 'static,
    ) -> Result<(Self, Writer), StoreError> {
        let (calls, mut queue) = mpsc::channel::<Call>(QUEUE);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Some(call) = queue.blocking_recv() {
                    call(&mut db);
                }
                // The guard outlives the connection, whose closing still writes the log back into the file.
                drop(db);
                drop(guard);
            })
            .map_err(|source| StoreError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok((Self::Thread(calls), Writer { thread }))
    }

    /// Runs calls on `db` wherever they are made.
    pub fn inline(db: Db) -> Self {
        Self::Inline(Arc::new(Mutex::new(db)))
    }

    /// Runs `call` and gives its result. A call that was handed in is carried out even if its caller stops waiting.
    ///
    /// # Errors
    /// What `call` gives, or [`StoreError::Closed`] when the thread is gone.
    pub async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Db) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let calls = match self {
            Self::Thread(calls) => calls,
            Self::Inline(db) => {
                return call(&mut db.lock().unwrap_or_else(PoisonError::into_inner));
            }
        };
        let (answer, answered) = oneshot::channel();
        let call: Call = Box::new(move |db| {
            // A caller that was cancelled takes no answer; the effect of its call stands all the same.
            let _ = answer.send(call(db));
        });
        calls.send(call).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

impl Writer {
    /// Waits until the database is closed, which takes until every handle on it is dropped.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the database's thread ended in a panic");
        }
    }
}
