//! The interface of the mirror's database.
//!
//! [`Store`] is the writing side, one for each daemon; [`Reader`] reads over connections of its own and never queues
//! behind commits. SQL, connections and driver errors stay inside the implementation. `store/conformance` runs the same
//! tests against every implementation.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::details::{DetailsAnswer, DetailsDue, DetailsSaved};
use super::error::StoreError;
use super::pruning::{PrunePosition, PruneStep, Pruned};
use super::reports::{
    AuditRequest, Delivery, EventFilter, Health, LoggedEvent, Overview, Selection, SinkStatus,
    SubscriptionStatus,
};
use super::states::Condition;
use super::written::Committed;
use crate::model::{
    Details, Exchange, Exchanged, Registration, Retention, RunStatus, Task, Timestamp,
};
use crate::sync::{Commit, Cursor, FeedState, Gap, OpenRuns, Stored};

/// How often a feed that finds nothing new, or keeps failing with the same error, updates its row.
pub const HEARTBEAT: Duration = Duration::from_secs(60);

/// The most runs that one page of an audit has read singly.
pub const MAX_UNSEEN: usize = 1_000;

/// The most unreadable items that are kept of a feed.
pub const MAX_UNREADABLE: usize = 1_000;

/// How long a request for an audit is kept.
pub const AUDIT_REQUESTS_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// The writing side of the mirror. Unless its description says otherwise, a method that writes is one atomic
/// transaction, on disk when the method returns. A method whose caller stops waiting may still take effect.
///
/// # Errors
/// Every method fails with a [`StoreError`]; [`StoreError::is_temporary`] says whether a retry makes sense.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores `task` and returns the state of its feed, the default state for a new feed. The first call ever notes `now`
    /// as the time since when the mirror has looked at the account. Of a task that was created later, by its `created_at`,
    /// no run is history, as long as none has been read.
    async fn open_feed(&self, task: &Task, now: Timestamp) -> Result<FeedState, StoreError>;

    /// The open runs of a feed, and how far behind the cursor the farthest of those within `within` entries lies. Where there
    /// are more than [`MAX_OPEN`](crate::sync::MAX_OPEN), half of them are the newest, and half those whose ids come after
    /// `after`, from the first on again after the last: so that whoever goes on after the last one read gets to all.
    ///
    /// Distances are counted in the mirror, so they include runs deleted since; the true distance is rarely larger.
    async fn open_runs(
        &self,
        feed_id: &str,
        cursor: &Cursor,
        within: u64,
        after: Option<&str>,
    ) -> Result<OpenRuns, StoreError>;

    /// How far behind the cursor the runs `ids` lie, in entries, in no particular order; runs without a start are
    /// omitted.
    async fn distances(
        &self,
        feed_id: &str,
        cursor: &Cursor,
        ids: &[String],
    ) -> Result<Vec<u64>, StoreError>;

    /// The listed runs of a feed that started within any of `gaps` and are not among `except`; at most [`MAX_UNSEEN`],
    /// oldest first. A gap without an end also contains runs without a start.
    async fn unseen(
        &self,
        feed_id: &str,
        gaps: &[Gap],
        except: &[String],
    ) -> Result<Vec<String>, StoreError>;

    /// Applies `commit` to a feed that was opened: rows, their events, the deliveries that every subscription asks for,
    /// and the cursor.
    /// Unchanged rows are not written; a commit that finds nothing new writes at most a heartbeat.
    ///
    /// Where `judgement.details` asks for it, the event of a run that failed, by a list, waits until the details of the run are
    /// stored, for [`DETAILS_WAIT`](crate::model::DETAILS_WAIT) at most: until then no sink and no reader gets it.
    ///
    /// An observation that must be confirmed is not stored, see [`Committed::unconfirmed`]. An item that cannot be read is
    /// kept, at most [`MAX_UNREADABLE`] of a feed, and logged once, until a run with its id is seen.
    async fn commit(&self, feed_id: &str, commit: Commit) -> Result<Committed, StoreError>;

    /// Records that a feed's last poll failed, for `status`; a success clears it. A repeated failure with the same
    /// message is written only once a minute.
    async fn record_failure(
        &self,
        feed_id: &str,
        condition: Condition,
        error: &str,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Stores a task as the API describes it; fields absent from `task` keep their stored values.
    async fn save_task(&self, task: &Task, now: Timestamp) -> Result<(), StoreError>;

    /// The task that `reference` last resolved to, and whether that is fresh: less than `max_age` ago, or `max_age_if_lost`
    /// where its feed did not find the task, with no failure since.
    async fn resolved(
        &self,
        reference: &str,
        max_age: Duration,
        max_age_if_lost: Duration,
        now: Timestamp,
    ) -> Result<Option<(Task, bool)>, StoreError>;

    /// Records the task that `reference` resolves to, or why it could not be resolved. A failure keeps the task it
    /// resolved to before.
    async fn save_reference(
        &self,
        reference: &str,
        found: Result<&Task, &str>,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Forgets failures of references that are not among `wanted`, the configured ones.
    async fn forget_failures_except(&self, wanted: &[String]) -> Result<(), StoreError>;

    /// Makes these sinks, and no others, the configured subscriptions, as a configuration file does. A new sink is owed
    /// events from now on, or the whole log; one that returns goes on from its position; one that is removed keeps its
    /// position and its outbox. Closes the temporary subscription.
    async fn register(&self, sinks: &[Registration], now: Timestamp) -> Result<(), StoreError>;

    /// Opens the temporary subscription, which a command without a configuration file has for itself beside all others:
    /// it gets events from now on, and what was left of the last one.
    async fn open_temporary(&self, sink: &Registration, now: Timestamp) -> Result<(), StoreError>;

    /// Closes the temporary subscription, if it is open: commits no longer owe it anything. What it is owed stays for
    /// the next one.
    async fn close_temporary(&self, now: Timestamp) -> Result<(), StoreError>;

    /// Registers a sink whose row was deleted, from now on; returns whether there was no row.
    async fn restore(&self, sink: &Registration, now: Timestamp) -> Result<bool, StoreError>;

    /// Ends the subscription `name` for good, with everything it is owed; returns how many deliveries that were, or
    /// `None` if there is no such subscription. Works in several transactions, like [`Store::retry_deliveries`].
    async fn remove_subscription(&self, name: &str) -> Result<Option<u64>, StoreError>;

    /// Writes results to the outbox and reads due events from it, see [`Exchange`]. A delivery that was dropped
    /// meanwhile stays dropped, one that was retried by hand stays due whatever a failed attempt from before says, and a
    /// failed attempt does not make a delivery due that waits for an earlier event of its run.
    async fn exchange(&self, exchange: Exchange, now: Timestamp) -> Result<Exchanged, StoreError>;

    /// Makes the deliveries of `selection` due at `now`, as if they had never been attempted and their sinks had not
    /// failed until now, and counts them in [`Exchanged::retries`]; returns how many there were. Works in several
    /// transactions: after a failure, those already committed stay.
    async fn retry_deliveries(
        &self,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Removes the deliveries of `selection` from the outbox; returns how many there were. The events stay. Works in
    /// several transactions, like [`Store::retry_deliveries`].
    async fn drop_deliveries(
        &self,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Removes what `retention` does not keep, from `from` on: at most [`PRUNE_CHUNK`](super::PRUNE_CHUNK) rows, and looks
    /// at no more. To remove all, call it until it returns no position to go on from.
    ///
    /// Never removed are: runs that are listed; events that a sink is owed or gave up on, or that a configured subscription
    /// has yet to copy; and whatever is referred to by a table that is somebody else's. A run is removed with all its
    /// events or, for now, not at all. No number and no id of a removed event is ever used again, and a removed run that is
    /// listed again raises the events that it would have raised if it had been kept.
    async fn prune(
        &self,
        retention: &Retention,
        from: &PrunePosition,
        now: Timestamp,
    ) -> Result<PruneStep, StoreError>;

    /// Runs whose details are to be read at `now`: some that events wait for and some others, at most as many as `limits` says,
    /// in this order. Looks through a part of the runs that were stored before details were wanted, and forgets runs whose
    /// details are not wanted any more.
    async fn due_details(
        &self,
        details: Details,
        limits: (usize, usize),
        now: Timestamp,
    ) -> Result<DetailsDue, StoreError>;

    /// Stores the answers to single reads of runs whose details were due. The event of the end that they show gets them, if
    /// it still waits; whatever the answer, the events of these runs wait no longer. An answer that shows a run in another
    /// state than the stored one counts as failed, and changes nothing else. What failed is due again after growing waits.
    async fn save_details(
        &self,
        answers: Vec<(String, DetailsAnswer)>,
        now: Timestamp,
    ) -> Result<DetailsSaved, StoreError>;

    /// Lets all events go that have waited for [`DETAILS_WAIT`](crate::model::DETAILS_WAIT); returns how many, and when the next
    /// has.
    async fn release_overdue(&self, now: Timestamp)
    -> Result<(u64, Option<Timestamp>), StoreError>;

    /// Lets all events go that wait for details; returns how many.
    async fn release_events(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Gives a part of the space that is free within the database back to the file system; returns whether there is more to
    /// give back. Does nothing for a database that keeps its space.
    async fn release_space(&self) -> Result<bool, StoreError>;

    /// Asks the daemon for an audit of a feed; returns the number of the request. Everybody who asks before the audit
    /// begins gets the same one.
    async fn request_audit(&self, feed_id: &str, now: Timestamp) -> Result<i64, StoreError>;

    /// Makes requests for an audit of a feed whose audits were interrupted new ones.
    async fn renew_audits(&self, feed_id: &str) -> Result<(), StoreError>;

    /// Begins the audit of a feed that was asked for; returns false if none was.
    async fn begin_audit(&self, feed_id: &str, now: Timestamp) -> Result<bool, StoreError>;

    /// Answers the requests for an audit of a feed that have begun, with `result`, which is JSON. Removes requests that are
    /// older than a day.
    async fn finish_audit(
        &self,
        feed_id: &str,
        result: &str,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Notifies whenever a commit has raised events, or events wait no longer for details. Changes by other processes are not notified.
    fn notifications(&self) -> watch::Receiver<u64>;
}

/// The reading side of the mirror.
///
/// # Errors
/// Every method fails with a [`StoreError`]; [`StoreError::Replaced`] when the database is no longer the one that was
/// opened.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Reads a row: whether the database answers at all.
    async fn ping(&self) -> Result<(), StoreError>;

    /// What can be said without counting rows: takes milliseconds, however many runs there are.
    async fn health(&self) -> Result<Health, StoreError>;

    /// How many runs there are in each status, without those that the account no longer lists. Reads every run.
    async fn runs_by_status(&self) -> Result<Vec<(RunStatus, u64)>, StoreError>;

    /// The state of every feed and sink; ages count until `now`.
    async fn overview(&self, now: Timestamp) -> Result<Overview, StoreError>;

    /// The state of every sink that is configured, or that was removed with events still owed.
    async fn sinks(&self) -> Result<Vec<SinkStatus>, StoreError>;

    /// Every subscription, by name.
    async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>, StoreError>;

    /// The stored state of a feed; `None` for a task whose runs are not mirrored.
    async fn feed(&self, feed_id: &str) -> Result<Option<FeedState>, StoreError>;

    /// The stored run `id`.
    async fn run(&self, id: &str) -> Result<Option<Stored>, StoreError>;

    /// Events of `filter` with a sequence number greater than `after`; at most `limit`, in order. Also returns the sequence
    /// number up to which the log was read.
    async fn events_after(
        &self,
        after: i64,
        filter: &EventFilter,
        limit: u64,
    ) -> Result<(Vec<LoggedEvent>, i64), StoreError>;

    /// The sequence number after which the last `count` events of `filter` come.
    async fn seq_before_last(&self, count: u64, filter: &EventFilter) -> Result<i64, StoreError>;

    /// The sequence number of the newest event that was observed before `time`; 0 if there is none.
    async fn seq_before(&self, time: Timestamp) -> Result<i64, StoreError>;

    /// The id of the task that `reference` names, as far as the mirror knows: an id, `username~name`, `~name`, or a
    /// name it was configured under before.
    async fn known_task(&self, reference: &str) -> Result<Option<String>, StoreError>;

    /// Deliveries of `selection`, at most `limit`, oldest first.
    async fn deliveries(
        &self,
        selection: &Selection,
        limit: u64,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// What pruning would remove now, until it ends.
    async fn prunable(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, StoreError>;

    /// The feeds of which an audit was asked for that has not ended.
    async fn requested_audits(&self) -> Result<Vec<String>, StoreError>;

    /// What became of the request `id` for an audit; `None` if there is no such request.
    async fn audit_request(&self, id: i64) -> Result<Option<AuditRequest>, StoreError>;
}
