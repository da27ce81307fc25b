//! The writer thread: SQLite on one thread, for callers on many.

use std::path::Path;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::db::Db;
use super::error::StoreError;
use super::lock::InstanceLock;

/// Calls waiting for the writer; a caller beyond that waits to hand in its own.
const QUEUE: usize = 64;

type Call = Box<dyn FnOnce(&mut Db) + Send>;

/// The database as tasks of the daemon use it: calls are carried out one after the other, on a thread of their own.
#[derive(Clone, Debug)]
pub struct Store {
    calls: mpsc::Sender<Call>,
}

/// Ends the writer thread when every [`Store`] is gone.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

impl Store {
    /// Locks and opens the database at `path` and starts its thread.
    ///
    /// # Errors
    /// See [`InstanceLock::acquire`] and [`Db::open`].
    pub fn open(path: &Path) -> Result<(Self, Writer), StoreError> {
        let lock = InstanceLock::acquire(path)?;
        let mut db = Db::open(path)?;
        let (calls, mut queue) = mpsc::channel::<Call>(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                while let Some(call) = queue.blocking_recv() {
                    call(&mut db);
                }
                // The lock outlives the connection, whose closing still writes the log back into the file.
                drop(db);
                drop(lock);
            })
            .map_err(|source| StoreError::Io {
                path: path.to_owned(),
                source,
            })?;
        Ok((Self { calls }, Writer { thread }))
    }

    /// Runs `call` on the database and gives back what it says. A call that was handed in is carried out even if
    /// nobody waits for it any more.
    ///
    /// # Errors
    /// What `call` says, or [`StoreError::Closed`] when the thread is gone.
    pub async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Db) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let call: Call = Box::new(move |db| {
            // Nobody waits for the answer of a call whose caller was cancelled; what it did stands all the same.
            let _ = answer.send(call(db));
        });
        self.calls
            .send(call)
            .await
            .map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

impl Writer {
    /// Waits until the database is closed, which takes until every [`Store`] is dropped.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the database's thread ended in a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[tokio::test]
    async fn calls_are_answered_and_the_lock_goes_with_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.db");
        let (store, writer) = Store::open(&path).unwrap();
        let tasks = store
            .call(|db| Ok(db.overview(Timestamp::now())?.tasks.len()))
            .await
            .unwrap();
        assert_eq!(tasks, 0);
        assert!(matches!(Store::open(&path), Err(StoreError::Locked { .. })));
        drop(store);
        writer.join();
        assert!(
            !dir.path().join("runs.db-wal").exists(),
            "closing writes the log back"
        );
        Store::open(&path).unwrap();
    }
}
