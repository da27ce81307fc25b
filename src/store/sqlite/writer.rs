//! The writing side: runs the trait's operations on the database's thread.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::connection::Db;
use super::executor::{Executor, Writer};
use super::lock::InstanceLock;
use super::reader::SqliteReader;
use crate::files::Readers;
use crate::model::{Details, Exchange, Exchanged, Registration, Retention, Task, Timestamp};
use crate::store::details::{DetailsAnswer, DetailsDue, DetailsSaved};
use crate::store::error::StoreError;
use crate::store::pruning::{PrunePosition, PruneStep};
use crate::store::reports::Selection;
use crate::store::states::Condition;
use crate::store::traits::Store;
use crate::store::written::Committed;
use crate::sync::{Commit, Cursor, FeedState, Gap, OpenRuns};

/// A mirror in a SQLite file, for writing.
#[derive(Debug)]
pub struct SqliteStore {
    executor: Executor,
    raised: watch::Sender<u64>,
}

impl SqliteStore {
    /// Locks and opens the database at `path`, creates it if there is none, migrates its schema, and starts its thread.
    /// Only its owner may read it.
    ///
    /// # Errors
    /// As [`SqliteStore::open_for`].
    pub fn open(path: &Path) -> Result<(Self, Writer), StoreError> {
        Self::open_for(path, Readers::Owner)
    }

    /// As [`SqliteStore::open`], but lets `readers` read it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it; when the file cannot be used, cannot be trusted, is another
    /// program's, is of a newer version, or has a schema that somebody changed. None of these changes the file.
    pub fn open_for(path: &Path, readers: Readers) -> Result<(Self, Writer), StoreError> {
        let lock = InstanceLock::acquire(path)?;
        Self::start(path, Db::open_for(path, readers)?, Some(lock))
    }

    /// Whether another process holds the database at `path`.
    pub fn is_held(path: &Path) -> bool {
        InstanceLock::is_held(path)
    }

    /// A reader of the database, which lies at `path`. Its connection closes before the store's: the last
    /// one to close writes the log back into the file, and a reader may not.
    ///
    /// # Errors
    /// As for [`SqliteReader::open`].
    pub fn reader(&self, path: &Path) -> Result<SqliteReader, StoreError> {
        SqliteReader::open_with(path, self.executor.clone())
    }

    /// Opens the database at `path` concurrently with the process that writes it, to retry or drop deliveries: each change
    /// is a transaction of its own, which waits for the write lock.
    ///
    /// # Errors
    /// When there is none, or it is not one this version can write.
    pub fn open_beside(path: &Path) -> Result<(Self, Writer), StoreError> {
        Self::start(path, Db::open_beside(path)?, None)
    }

    /// Creates a database in memory, and a reader on it: the same schema and statements, without a file or a thread. It
    /// lives as long as either of the two.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn in_memory() -> Result<(Self, SqliteReader), StoreError> {
        let executor = Executor::inline(Db::in_memory()?);
        Ok((Self::on(executor.clone()), SqliteReader::on(executor)))
    }

    /// Runs SQL as an operator does who deletes rows by hand, without regard to foreign keys. For simulations.
    ///
    /// # Errors
    /// When SQLite fails.
    #[doc(hidden)]
    pub async fn by_hand(&self, sql: &str) -> Result<(), StoreError> {
        let sql = sql.to_owned();
        self.executor.call(move |db| db.by_hand(&sql)).await
    }

    /// The text that a query by hand gives. For simulations.
    ///
    /// # Errors
    /// When SQLite fails.
    #[doc(hidden)]
    pub async fn ask_by_hand(&self, sql: &str) -> Result<String, StoreError> {
        let sql = sql.to_owned();
        let ask = move |db: &mut Db| Ok(db.connection.query_row(&sql, [], |row| row.get(0))?);
        self.executor.call(ask).await
    }

    /// Gives free space back to the file system as [`Store::release_space`] does, but keeps none.
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn release_all_space(&self) -> Result<bool, StoreError> {
        self.executor.call(Db::release_all_space).await
    }

    /// Writes the file anew, without free space. Needs as much space again on the disk; nobody else can write meanwhile.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub async fn rewrite(&self) -> Result<(), StoreError> {
        self.executor.call(Db::rewrite).await
    }

    fn start(
        path: &Path,
        db: Db,
        lock: Option<InstanceLock>,
    ) -> Result<(Self, Writer), StoreError> {
        let (executor, writer) = Executor::spawn("store", path, db, lock)?;
        Ok((Self::on(executor), writer))
    }

    /// Notifies of events that may be due.
    fn notify(&self, events: u64) {
        if events > 0 {
            self.raised.send_modify(|raised| *raised += events);
        }
    }

    fn on(executor: Executor) -> Self {
        Self {
            executor,
            raised: watch::Sender::new(0),
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn open_feed(&self, task: &Task, now: Timestamp) -> Result<FeedState, StoreError> {
        let task = task.clone();
        self.executor.call(move |db| db.open_feed(&task, now)).await
    }

    async fn open_runs(
        &self,
        feed_id: &str,
        cursor: &Cursor,
        within: u64,
        after: Option<&str>,
    ) -> Result<OpenRuns, StoreError> {
        let (feed_id, cursor) = (feed_id.to_owned(), cursor.clone());
        let after = after.map(str::to_owned);
        self.executor
            .call(move |db| db.open_runs(&feed_id, &cursor, within, after.as_deref()))
            .await
    }

    async fn distances(
        &self,
        feed_id: &str,
        cursor: &Cursor,
        ids: &[String],
    ) -> Result<Vec<u64>, StoreError> {
        let (feed_id, cursor, ids) = (feed_id.to_owned(), cursor.clone(), ids.to_vec());
        self.executor
            .call(move |db| db.distances(&feed_id, &cursor, &ids))
            .await
    }

    async fn unseen(
        &self,
        feed_id: &str,
        gaps: &[Gap],
        except: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let (feed_id, gaps, except) = (feed_id.to_owned(), gaps.to_vec(), except.to_vec());
        self.executor
            .call(move |db| db.unseen(&feed_id, &gaps, &except))
            .await
    }

    async fn commit(&self, feed_id: &str, commit: Commit) -> Result<Committed, StoreError> {
        let feed_id = feed_id.to_owned();
        let committed = self
            .executor
            .call(move |db| db.commit(&feed_id, &commit))
            .await?;
        self.notify(committed.written.events + committed.released);
        Ok(committed)
    }

    async fn record_failure(
        &self,
        feed_id: &str,
        condition: Condition,
        error: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (feed_id, error) = (feed_id.to_owned(), error.to_owned());
        self.executor
            .call(move |db| db.record_failure(&feed_id, condition, &error, now))
            .await
    }

    async fn save_task(&self, task: &Task, now: Timestamp) -> Result<(), StoreError> {
        let task = task.clone();
        self.executor.call(move |db| db.save_task(&task, now)).await
    }

    async fn resolved(
        &self,
        reference: &str,
        max_age: Duration,
        max_age_if_lost: Duration,
        now: Timestamp,
    ) -> Result<Option<(Task, bool)>, StoreError> {
        let reference = reference.to_owned();
        self.executor
            .call(move |db| db.resolved(&reference, max_age, max_age_if_lost, now))
            .await
    }

    async fn save_reference(
        &self,
        reference: &str,
        found: Result<&Task, &str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let reference = reference.to_owned();
        let found = found.cloned().map_err(str::to_owned);
        self.executor
            .call(move |db| {
                db.save_reference(&reference, found.as_ref().map_err(String::as_str), now)
            })
            .await
    }

    async fn forget_failures_except(&self, wanted: &[String]) -> Result<(), StoreError> {
        let wanted = wanted.to_vec();
        self.executor
            .call(move |db| db.forget_failures_except(&wanted))
            .await
    }

    async fn register(&self, sinks: &[Registration], now: Timestamp) -> Result<(), StoreError> {
        let sinks = sinks.to_vec();
        self.executor.call(move |db| db.register(&sinks, now)).await
    }

    async fn open_temporary(&self, sink: &Registration, now: Timestamp) -> Result<(), StoreError> {
        let sink = sink.clone();
        self.executor
            .call(move |db| db.open_temporary(&sink, now))
            .await
    }

    async fn close_temporary(&self, now: Timestamp) -> Result<(), StoreError> {
        self.executor.call(move |db| db.close_temporary(now)).await
    }

    async fn restore(&self, sink: &Registration, now: Timestamp) -> Result<bool, StoreError> {
        let sink = sink.clone();
        self.executor.call(move |db| db.restore(&sink, now)).await
    }

    async fn remove_subscription(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let name = name.to_owned();
        self.executor
            .call(move |db| db.remove_subscription(&name))
            .await
    }

    async fn exchange(&self, exchange: Exchange, now: Timestamp) -> Result<Exchanged, StoreError> {
        self.executor
            .call(move |db| db.exchange(&exchange, now))
            .await
    }

    async fn retry_deliveries(
        &self,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let selection = selection.clone();
        self.executor
            .call(move |db| db.retry_deliveries(&selection, now))
            .await
    }

    async fn drop_deliveries(
        &self,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let selection = selection.clone();
        self.executor
            .call(move |db| db.drop_deliveries(&selection, now))
            .await
    }

    async fn prune(
        &self,
        retention: &Retention,
        from: &PrunePosition,
        now: Timestamp,
    ) -> Result<PruneStep, StoreError> {
        let (retention, from) = (*retention, from.clone());
        self.executor
            .call(move |db| db.prune(&retention, &from, now))
            .await
    }

    async fn due_details(
        &self,
        details: Details,
        limits: (usize, usize),
        now: Timestamp,
    ) -> Result<DetailsDue, StoreError> {
        let call = move |db: &mut Db| db.due_details(details, limits, now);
        self.executor.call(call).await
    }

    async fn save_details(
        &self,
        answers: Vec<(String, DetailsAnswer)>,
        now: Timestamp,
    ) -> Result<DetailsSaved, StoreError> {
        let call = move |db: &mut Db| db.save_details(&answers, now);
        let saved = self.executor.call(call).await?;
        self.notify(saved.released);
        Ok(saved)
    }

    async fn release_overdue(
        &self,
        now: Timestamp,
    ) -> Result<(u64, Option<Timestamp>), StoreError> {
        let call = move |db: &mut Db| db.release_overdue(now);
        let (released, next) = self.executor.call(call).await?;
        self.notify(released);
        Ok((released, next))
    }

    async fn release_events(&self, now: Timestamp) -> Result<u64, StoreError> {
        let released = self.executor.call(move |db| db.release_events(now)).await?;
        self.notify(released);
        Ok(released)
    }

    async fn release_space(&self) -> Result<bool, StoreError> {
        self.executor.call(Db::release_space).await
    }

    async fn request_audit(&self, feed_id: &str, now: Timestamp) -> Result<i64, StoreError> {
        let feed_id = feed_id.to_owned();
        self.executor
            .call(move |db| db.request_audit(&feed_id, now))
            .await
    }

    async fn renew_audits(&self, feed_id: &str) -> Result<(), StoreError> {
        let feed_id = feed_id.to_owned();
        self.executor
            .call(move |db| db.renew_audits(&feed_id))
            .await
    }

    async fn begin_audit(&self, feed_id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let feed_id = feed_id.to_owned();
        self.executor
            .call(move |db| db.begin_audit(&feed_id, now))
            .await
    }

    async fn finish_audit(
        &self,
        feed_id: &str,
        result: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (feed_id, result) = (feed_id.to_owned(), result.to_owned());
        self.executor
            .call(move |db| db.finish_audit(&feed_id, &result, now))
            .await
    }

    fn notifications(&self) -> watch::Receiver<u64> {
        self.raised.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Reader;
    use crate::store::conformance::builders::{FEED, HOOK, commit_of, exchange, registration};

    #[tokio::test]
    async fn the_lock_is_released_when_the_writer_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.db");
        let (store, writer) = SqliteStore::open(&path).unwrap();
        let task = Task {
            id: "task".into(),
            ..Task::default()
        };
        store.open_feed(&task, Timestamp::now()).await.unwrap();
        assert!(matches!(
            SqliteStore::open(&path),
            Err(StoreError::Locked { .. })
        ));
        let reader = store.reader(&path).unwrap();
        assert_eq!(
            reader.known_task("task").await.unwrap(),
            Some("task".into())
        );
        drop(store);
        drop(reader);
        writer.join();
        let log = dir.path().join("runs.db-wal");
        let left = std::fs::metadata(log).unwrap().len();
        assert_eq!(left, 0, "closing writes the log back");
        SqliteStore::open(&path).unwrap();
    }

    /// A daemon that polls often asks the database all the time, and changes nothing.
    #[tokio::test]
    async fn the_log_is_written_back_while_the_database_is_only_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.db");
        let (store, _) = SqliteStore::open(&path).unwrap();
        let log = dir.path().join("runs.db-wal");
        store
            .save_task(&Task::default(), Timestamp::now())
            .await
            .unwrap();
        assert_ne!(std::fs::metadata(&log).unwrap().len(), 0);
        let (began, cursor) = (std::time::Instant::now(), Cursor::default());
        while std::fs::metadata(&log).unwrap().len() > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "the log is never written back"
            );
            store.open_runs("task", &cursor, 10, None).await.unwrap();
        }
    }

    /// What is written into an unlinked file is lost, and what was delivered would be delivered again.
    #[tokio::test]
    async fn nothing_is_written_or_read_once_the_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.db");
        let (store, _) = SqliteStore::open(&path).unwrap();
        let reader = SqliteReader::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (now, task, all) = (Timestamp::now(), Task::default(), Selection::default());
        let hook = registration(HOOK, false);
        let outcomes = [
            store.open_feed(&task, now).await.map(drop),
            store
                .record_failure("task", Condition::Failing, "error", now)
                .await,
            store.save_task(&task, now).await,
            store.save_reference("~task", Err("error"), now).await,
            store.forget_failures_except(&[]).await,
            store.register(&[], now).await,
            store.open_temporary(&hook, now).await,
            store.close_temporary(now).await,
            store.restore(&hook, now).await.map(drop),
            store.remove_subscription(HOOK).await.map(drop),
            store.exchange(exchange(HOOK), now).await.map(drop),
            store.retry_deliveries(&all, now).await.map(drop),
            store.drop_deliveries(&all, now).await.map(drop),
            store.commit(FEED, commit_of(0, &[])).await.map(drop),
            store
                .prune(&Retention::default(), &PrunePosition::default(), now)
                .await
                .map(drop),
            store.release_space().await.map(drop),
            store.release_all_space().await.map(drop),
            store.rewrite().await,
            reader.sinks().await.map(drop),
        ];
        for (n, outcome) in outcomes.into_iter().enumerate() {
            assert!(
                matches!(outcome, Err(StoreError::Replaced { .. })),
                "{n}: {outcome:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_reader_answers_while_a_write_is_in_progress() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.db");
        let (store, _) = SqliteStore::open(&path).unwrap();
        let reader = SqliteReader::open(&path).unwrap();
        let (began, has_begun) = std::sync::mpsc::channel();
        let (end, may_end) = std::sync::mpsc::channel();
        let executor = store.executor.clone();
        let writing = tokio::spawn(async move {
            executor
                .call(move |db| {
                    let transaction = db.connection.transaction()?;
                    transaction.execute(
                        "INSERT INTO tasks (id, first_seen_at, updated_at) VALUES ('task', '', '')",
                        [],
                    )?;
                    began.send(()).unwrap();
                    may_end.recv().unwrap();
                    Ok(transaction.commit()?)
                })
                .await
        });
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap())
            .await
            .unwrap();
        assert_eq!(reader.known_task("task").await.unwrap(), None);
        end.send(()).unwrap();
        writing.await.unwrap().unwrap();
        let known = reader.known_task("task").await.unwrap();
        assert_eq!(known.as_deref(), Some("task"));
    }
}
