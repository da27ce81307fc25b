//! The reading side, over a connection and a thread of its own.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::connection::Db;
use super::executor::Executor;
use crate::model::{Retention, RunStatus, Timestamp};
use crate::store::error::StoreError;
use crate::store::pruning::Pruned;
use crate::store::query::{Part, QueryError};
use crate::store::reports::{
    AuditRequest, Delivery, EventFilter, Health, LoggedEvent, Overview, Selection, SinkStatus,
    SubscriptionStatus,
};
use crate::store::traits::Reader;
use crate::sync::{FeedState, Stored};

/// A mirror in a SQLite file, for reading only.
#[derive(Debug)]
pub struct SqliteReader {
    executor: Executor,
}

impl SqliteReader {
    /// Opens the database at `path` read-only; another process may be writing it.
    ///
    /// # Errors
    /// When there is none, or it is not one this version can read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, ())
    }

    /// As [`SqliteReader::open`]; holds `guard` until the connection is closed.
    pub(super) fn open_with(path: &Path, guard: impl Send + 'static) -> Result<Self, StoreError> {
        let db = Db::open_for_reading(path)?;
        let (executor, _) = Executor::spawn("reader", path, db, guard)?;
        Ok(Self::on(executor))
    }

    pub(super) fn on(executor: Executor) -> Self {
        Self { executor }
    }

    /// Answers the question `sql`: calls `each`, on the thread of the reader, with `state` and every part of the answer
    /// until it returns false; returns `state`.
    ///
    /// # Errors
    /// When the question is wrong or does more than read, or the database fails.
    pub async fn query<S: Send + 'static>(
        self,
        sql: String,
        mut state: S,
        mut each: impl FnMut(&mut S, Part) -> bool + Send + 'static,
    ) -> Result<S, QueryError> {
        let answer = move |db: &mut Db| {
            let answered = db.query(&sql, &mut |part| each(&mut state, part));
            Ok(answered.map(|()| state))
        };
        self.executor.call(answer).await?
    }

    /// Copies the whole database, as it is at one moment, to the new file `to`, which only its owner may read. It appears
    /// under that name when it is complete, checked and on the disk. Calls `go_on`, on the thread of the reader, with the
    /// bytes that are copied and those that there are; returns the size, or `None` if that ended the copy.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is such a file; when the database or the copy cannot be read or written, or the
    /// folder of the copy cannot be trusted.
    pub async fn backup(
        self,
        to: PathBuf,
        go_on: impl Fn(u64, u64) -> bool + Send + 'static,
    ) -> Result<Option<u64>, StoreError> {
        self.executor.call(move |db| db.backup(&to, &go_on)).await
    }

    /// Whether the file gives its free space back step by step; one of an earlier version must be rewritten for that.
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn releases_space(&self) -> Result<bool, StoreError> {
        self.read(Db::releases_space).await
    }

    /// Runs `read`.
    async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&Db) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.executor.call(move |db| db.read_current(read)).await
    }
}

#[async_trait]
impl Reader for SqliteReader {
    async fn ping(&self) -> Result<(), StoreError> {
        self.read(Db::ping).await
    }

    async fn health(&self) -> Result<Health, StoreError> {
        self.read(Db::health).await
    }

    async fn runs_by_status(&self) -> Result<Vec<(RunStatus, u64)>, StoreError> {
        self.read(Db::runs_by_status).await
    }

    async fn overview(&self, now: Timestamp) -> Result<Overview, StoreError> {
        self.read(move |db| db.overview(now)).await
    }

    async fn sinks(&self) -> Result<Vec<SinkStatus>, StoreError> {
        self.read(Db::sinks).await
    }

    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, StoreError> {
        self.read(Db::subscriptions).await
    }

    async fn feed(&self, feed_id: &str) -> Result<Option<FeedState>, StoreError> {
        let feed_id = feed_id.to_owned();
        self.read(move |db| db.feed(&feed_id)).await
    }

    async fn run(&self, id: &str) -> Result<Option<Stored>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| db.run(&id)).await
    }

    async fn events_after(
        &self,
        after: i64,
        filter: &EventFilter,
        limit: u64,
    ) -> Result<(Vec<LoggedEvent>, i64), StoreError> {
        let filter = filter.clone();
        self.read(move |db| db.events_after(after, &filter, limit))
            .await
    }

    async fn seq_before_last(&self, count: u64, filter: &EventFilter) -> Result<i64, StoreError> {
        let filter = filter.clone();
        self.read(move |db| db.seq_before_last(count, &filter))
            .await
    }

    async fn seq_before(&self, time: Timestamp) -> Result<i64, StoreError> {
        self.read(move |db| db.seq_before(time)).await
    }

    async fn known_task(&self, reference: &str) -> Result<Option<String>, StoreError> {
        let reference = reference.to_owned();
        self.read(move |db| db.known_task(&reference)).await
    }

    async fn deliveries(
        &self,
        selection: &Selection,
        limit: u64,
    ) -> Result<Vec<Delivery>, StoreError> {
        let selection = selection.clone();
        self.read(move |db| db.deliveries(&selection, limit)).await
    }

    async fn prunable(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        let retention = *retention;
        self.read(move |db| db.prunable(&retention, now)).await
    }

    async fn requested_audits(&self) -> Result<Vec<String>, StoreError> {
        self.read(Db::requested_audits).await
    }

    async fn audit_request(&self, id: i64) -> Result<Option<AuditRequest>, StoreError> {
        self.read(move |db| db.audit_request(id)).await
    }
}
