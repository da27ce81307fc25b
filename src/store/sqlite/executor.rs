//! SQLite on one thread, for callers on many.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::checkpoint::IDLE;
use super::connection::Db;
use crate::store::error::StoreError;

/// Capacity of the queue of calls; further callers wait.
const QUEUE: usize = 64;

type Call = Box<dyn FnOnce(&mut Db) + Send>;

/// Runs calls on a [`Db`], one after the other.
#[derive(Clone, Debug)]
pub(super) enum Executor {
    /// Runs calls on a dedicated thread, because SQLite blocks.
    Thread(mpsc::Sender<Call>),
    /// Runs calls on the caller's thread, for a database in memory, which never blocks for long.
    Inline(Arc<Mutex<Db>>),
}

/// The database's thread, which ends when the last handle on it is dropped.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

impl Executor {
    /// Starts a thread called `name` that runs calls on `db` and holds `guard` until `db` is closed.
    pub fn spawn(
        name: &str,
        path: &Path,
        mut db: Db,
        guard: impl Send + 'static,
    ) -> Result<(Self, Writer), StoreError> {
        let io = |source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        let (calls, mut queue) = mpsc::channel::<Call>(QUEUE);
        let timers = Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(io)?;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut last = LastChange::of(&db);
                while let Some(call) = next(&timers, &mut queue, &mut db, &mut last) {
                    call(&mut db);
                }
                // Also where readers keep the connection from being the last. The guard must outlive both.
                if db.has_log() {
                    db.write_log_back();
                }
                drop(db);
                drop(guard);
            })
            .map_err(io)?;
        Ok((Self::Thread(calls), Writer { thread }))
    }

    /// Runs calls on `db` on the thread of the caller.
    pub fn inline(db: Db) -> Self {
        Self::Inline(Arc::new(Mutex::new(db)))
    }

    /// Runs `call` and returns its result, unless the file was deleted or replaced. A queued call runs even if its caller
    /// stops waiting.
    ///
    /// # Errors
    /// The error of `call`; [`StoreError::Replaced`], or [`StoreError::Closed`] when the thread has ended.
    pub async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Db) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let call = move |db: &mut Db| {
            db.check_file()?;
            call(db)
        };
        let calls = match self {
            Self::Thread(calls) => calls,
            Self::Inline(db) => {
                return call(&mut db.lock().unwrap_or_else(PoisonError::into_inner));
            }
        };
        let (answer, answered) = oneshot::channel();
        let call: Call = Box::new(move |db| {
            // The caller may have been cancelled; its call still took effect.
            let _ = answer.send(call(db));
        });
        calls.send(call).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

/// When the database was last found changed.
struct LastChange {
    changes: u64,
    at: Instant,
}

impl LastChange {
    fn of(db: &Db) -> Self {
        Self {
            changes: db.connection.total_changes(),
            at: Instant::now(),
        }
    }

    /// How much of [`IDLE`] is left. Calls that change nothing do not count: polls that find nothing new come more often.
    fn left(&mut self, db: &Db) -> Duration {
        if self.changes != db.connection.total_changes() {
            *self = Self::of(db);
        }
        IDLE.saturating_sub(self.at.elapsed())
    }
}

/// The next call; `None` when the last handle was dropped. Before it, writes the log back if that has not changed for
/// [`IDLE`].
fn next(
    timers: &Runtime,
    queue: &mut mpsc::Receiver<Call>,
    db: &mut Db,
    last: &mut LastChange,
) -> Option<Call> {
    while db.has_log() {
        let left = last.left(db);
        if !left.is_zero() {
            match timers.block_on(async { timeout(left, queue.recv()).await }) {
                Ok(call) => return call,
                Err(_) => continue,
            }
        }
        db.write_log_back();
        // Where a reader kept it from being written back, the next attempt waits too.
        *last = LastChange::of(db);
    }
    queue.blocking_recv()
}

impl Writer {
    /// Waits until the database is closed, after every handle on it was dropped.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the database's thread ended in a panic");
        }
    }
}
