//! What a database must be able to do for the mirror, by name.
//!
//! [`Store`] is the writing side, one for each daemon; [`Reader`] answers people's questions over connections of its
//! own and never queues behind commits. Nobody outside an implementation sees SQL, a connection or a driver's error.
//! `store/conformance` holds every implementation to the same tests.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::error::StoreError;
use super::reports::{Delivery, LoggedEvent, Overview, Selection, SinkStatus};
use super::states::Condition;
use super::written::Written;
use crate::model::{Exchange, Exchanged, Registration, Subscription, Task, Timestamp};
use crate::sync::{Commit, Cursor, FeedState, Gap, OpenRuns, Stored};

/// How often a feed that finds nothing new, or fails in the same way, writes that it is still there.
pub const HEARTBEAT: Duration = Duration::from_secs(60);

/// The mirror as the daemon writes it. Every method that writes is one transaction: it happens whole or not at all,
/// and when it has returned, it is on disk. A method whose caller stops waiting may still be carried out.
///
/// # Errors
/// Every method fails with a [`StoreError`]; [`StoreError::is_temporary`] says whether a retry makes sense.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores `task` and gives the state of its feed; a fresh state for a feed that is new.
    async fn open_feed(&self, task: &Task, now: Timestamp) -> Result<FeedState, StoreError>;

    /// The open runs of a feed, and how far back those lie that are within `within` entries of the cursor.
    ///
    /// Distances are counted in the mirror, so they include runs deleted since: the true distance is rarely larger.
    async fn open_runs(
        &self,
        feed_id: &str,
        cursor: &Cursor,
        within: u64,
    ) -> Result<OpenRuns, StoreError>;

    /// How far behind the cursor the runs `ids` lie, in entries, in no particular order; those without a start are
    /// left out.
    async fn distances(
        &self,
        feed_id: &str,
        cursor: &Cursor,
        ids: &[String],
    ) -> Result<Vec<u64>, StoreError>;

    /// The listed runs of a feed that started within any of `gaps` and are not among `except`; at most a thousand,
    /// oldest first. A gap without an end also holds those without a start.
    async fn unseen(
        &self,
        feed_id: &str,
        gaps: &[Gap],
        except: &[String],
    ) -> Result<Vec<String>, StoreError>;

    /// Applies `commit` to a feed that was opened: rows, their events, the deliveries that `subscriptions` ask for (of
    /// sinks that are registered), and the cursor.
    /// Rows that are already as they must be are not written; a commit that finds nothing new writes at most a
    /// heartbeat.
    async fn commit(
        &self,
        feed_id: &str,
        commit: Commit,
        subscriptions: &[Subscription],
    ) -> Result<Written, StoreError>;

    /// Notes that a feed's last poll failed, for `status`; a success clears it. A failure that goes on with the same
    /// message is written again only every [`HEARTBEAT`].
    async fn record_failure(
        &self,
        feed_id: &str,
        condition: Condition,
        error: &str,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Stores what the API reports of a task; what this answer left out is kept.
    async fn save_task(&self, task: &Task, now: Timestamp) -> Result<(), StoreError>;

    /// The task that `reference` was last found to mean, and whether that was less than `max_age` ago and nothing else
    /// has been heard since.
    async fn resolved(
        &self,
        reference: &str,
        max_age: Duration,
        now: Timestamp,
    ) -> Result<Option<(Task, bool)>, StoreError>;

    /// Notes what `reference` was found to mean, the task included, or why that could not be found out. A failure
    /// keeps the last task known under that name.
    async fn save_reference(
        &self,
        reference: &str,
        found: Result<&Task, &str>,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Forgets what went wrong with references that are not among `wanted`, the configured ones.
    async fn forget_failures_except(&self, wanted: &[String]) -> Result<(), StoreError>;

    /// Registers these sinks, and no others, as configured. One that is new is owed what happens from now on, or all
    /// that has happened; one that comes back goes on, or starts from now; one that is gone keeps what it is owed.
    async fn register(&self, sinks: &[Registration], now: Timestamp) -> Result<(), StoreError>;

    /// Exchanges with the outbox what has changed since the last time: see [`Exchange`]. A delivery that somebody
    /// dropped meanwhile stays dropped, and one that is not its run's turn does not become due by having been tried.
    /// One answer holds about 8 MiB of event bodies at most, or a single larger event.
    async fn exchange(&self, exchange: Exchange, now: Timestamp) -> Result<Exchanged, StoreError>;

    /// Makes the deliveries of `selection` due at `now`, as if they had never been tried; gives how many there were.
    /// In parts: when it fails, those changed so far stay changed.
    async fn retry_deliveries(
        &self,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Takes the deliveries of `selection` out of the outbox; gives how many there were. The events stay. In parts, as
    /// [`Store::retry_deliveries`].
    async fn drop_deliveries(
        &self,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Changes whenever a commit has raised events, so that there may be deliveries. What other processes change is
    /// not notified.
    fn notifications(&self) -> watch::Receiver<u64>;
}

/// The mirror as people and programs read it.
///
/// # Errors
/// Every method fails with a [`StoreError`]; [`StoreError::Replaced`] when the database is no longer the one that was
/// opened.
#[async_trait]
pub trait Reader: Send + Sync {
    /// The state of everything at `now`.
    async fn overview(&self, now: Timestamp) -> Result<Overview, StoreError>;

    /// What sinks are owed: those that are configured, and those that were and are still owed something.
    async fn sinks(&self) -> Result<Vec<SinkStatus>, StoreError>;

    /// What is stored of a feed; `None` for a task whose runs are not mirrored.
    async fn feed(&self, feed_id: &str) -> Result<Option<FeedState>, StoreError>;

    /// What is stored of the run `id`.
    async fn run(&self, id: &str) -> Result<Option<Stored>, StoreError>;

    /// Events with a sequence number greater than `after`, of the feeds `feeds` or, if that is `None`, of all; at most
    /// `limit`, in order. Also gives up to which number the log has been looked through.
    async fn events_after(
        &self,
        after: i64,
        feeds: Option<&[String]>,
        limit: u64,
    ) -> Result<(Vec<LoggedEvent>, i64), StoreError>;

    /// The sequence number after which the last `count` events of `feeds` come.
    async fn seq_before_last(
        &self,
        count: u64,
        feeds: Option<&[String]>,
    ) -> Result<i64, StoreError>;

    /// The id of the task that `reference` names, as far as the mirror knows: an id, `username~name`, `~name`, or a
    /// name it was configured under before.
    async fn known_task(&self, reference: &str) -> Result<Option<String>, StoreError>;

    /// Deliveries of `selection`, at most `limit`, oldest first.
    async fn deliveries(
        &self,
        selection: &Selection,
        limit: u64,
    ) -> Result<Vec<Delivery>, StoreError>;
}
