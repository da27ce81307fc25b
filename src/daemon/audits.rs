//! Audits on request: made by a pass, or by the daemon when a command asks it through the database.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::context::Context;
use super::feed::{Feed, Poll};
use crate::api::{ApiError, ErrorClass};
use crate::model::Timestamp;
use crate::store::{StoreError, Written};
use crate::sync::Outcome;

/// What people are told of an audit that is unfinished.
pub const UNFINISHED: &str = "the list leaves out more runs that exist than one audit asks for singly; others may differ still";

/// The result of an audit in one feed.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditReport {
    /// Number of entries of the list compared with the mirror.
    pub compared: u64,
    /// The differences, repaired.
    pub repaired: Written,
    /// Whether the list leaves out so many runs that exist that others could not be compared.
    pub unfinished: bool,
}

/// An audit that was requested of a feed, which polls until it is over.
#[derive(Debug, Default)]
pub(super) struct RequestedAudit {
    /// The changes of the polls before it.
    written: Written,
    report: Option<AuditReport>,
    /// Whether it has left runs undecided so far, and how many it has marked as removed.
    undecided: bool,
    removed: u64,
}

/// What follows a poll of a feed whose audit was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another poll, or the next part of the audit.
    Poll,
    /// The audit is made again.
    Again,
    /// Nothing: the audit is over.
    Over,
}

impl RequestedAudit {
    /// Adds a poll of `feed`, or a part of its audit; returns whether the audit is over. One that has left runs undecided
    /// is made again, as long as that marks some.
    pub fn add(&mut self, feed: &mut Feed, poll: &Poll) -> bool {
        match self.take(poll, feed.audited()) {
            Next::Poll => false,
            Next::Again => {
                feed.request_audit();
                false
            }
            Next::Over => true,
        }
    }

    /// Adds a poll, after which the audit has compared so many entries.
    fn take(&mut self, poll: &Poll, compared: u64) -> Next {
        self.written.add(poll.written);
        self.undecided |= poll.undecided;
        self.removed += poll.written.removed;
        if let Outcome::Auditing | Outcome::Audited = poll.outcome {
            let report = self.report.get_or_insert_default();
            // The report includes the changes of the polls before the audit.
            report.repaired.add(std::mem::take(&mut self.written));
            report.compared = compared;
        }
        match poll.outcome {
            Outcome::Behind | Outcome::Auditing | Outcome::CaughtUp => Next::Poll,
            Outcome::Failed | Outcome::Stalled(_) => Next::Over,
            Outcome::Audited => self.audited(),
        }
    }

    fn audited(&mut self) -> Next {
        let (undecided, removed) = (self.undecided, self.removed);
        (self.undecided, self.removed) = (false, 0);
        if undecided && removed > 0 {
            return Next::Again;
        }
        if let Some(report) = &mut self.report {
            report.unfinished = undecided;
        }
        Next::Over
    }

    /// What it found; `None` if it never began.
    pub fn report(&self) -> Option<AuditReport> {
        self.report
    }

    /// Changes that are not part of the report.
    pub fn written(&self) -> Written {
        self.written
    }
}

/// What the daemon answers a command that asked for an audit, as JSON in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAnswer {
    /// How it ended.
    pub end: AuditEnd,
    /// Number of entries of the list compared with the mirror.
    pub compared: u64,
    /// Runs that were listed and not in the mirror.
    pub found: u64,
    /// Runs that were marked as removed and listed.
    pub returned: u64,
    /// Other runs of another status.
    pub status: u64,
    /// Other runs of another cost.
    pub usage: u64,
    /// Other runs that differed.
    pub fields: u64,
    /// Runs that are no longer listed.
    pub removed: u64,
    /// Events raised.
    pub events: u64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// How an audit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditEnd {
    /// It is complete.
    Audited,
    /// The server reports more entries than it shows.
    Stalled,
    /// The list leaves out so many runs that exist that others could not be compared.
    Unfinished,
    /// The API failed in a way that may pass.
    Failed,
    /// The token was refused.
    TokenRefused,
    /// The task does not exist, the token may not read it, or the daemon does not mirror it.
    Lost,
    /// The API answered what was not expected.
    Unexpected,
}

impl AuditEnd {
    fn of(outcome: Outcome, error: Option<&ApiError>) -> Self {
        match (outcome, error.map(ApiError::class)) {
            (Outcome::Audited, _) => Self::Audited,
            (Outcome::Stalled(_), _) => Self::Stalled,
            (_, None | Some(ErrorClass::Throttled | ErrorClass::Temporary)) => Self::Failed,
            (_, Some(ErrorClass::TokenRefused)) => Self::TokenRefused,
            (_, Some(ErrorClass::NotFound | ErrorClass::Forbidden)) => Self::Lost,
            (_, Some(_)) => Self::Unexpected,
        }
    }
}

impl AuditAnswer {
    fn new(end: AuditEnd, compared: u64, repaired: Written, error: Option<String>) -> Self {
        Self {
            end,
            compared,
            found: repaired.added,
            returned: repaired.returned,
            status: repaired.status,
            usage: repaired.usage,
            fields: repaired.fields,
            removed: repaired.removed,
            events: repaired.events,
            error,
        }
    }
}

/// Wakes the feeds of which an audit was asked for.
#[derive(Debug, Default)]
pub(super) struct Requests {
    feeds: HashMap<String, Arc<Notify>>,
}

impl Requests {
    /// What wakes the feed `id`.
    pub fn of(&mut self, id: &str) -> Arc<Notify> {
        Arc::clone(self.feeds.entry(id.to_owned()).or_default())
    }

    /// Forgets the feed `id`, which is no longer mirrored.
    pub fn forget(&mut self, id: &str) {
        self.feeds.remove(id);
    }

    /// Looks for requests in the database, wakes the feeds they are for, and refuses those that nobody can answer. `complete`
    /// if every task to mirror is known.
    pub async fn pass_on(&self, context: &Context, complete: bool) {
        if let Err(error) = self.try_pass_on(context, complete).await {
            tracing::debug!("could not look for requests for audits: {error}");
        }
    }

    async fn try_pass_on(&self, context: &Context, complete: bool) -> Result<(), StoreError> {
        for id in context.reader.requested_audits().await? {
            if let Some(feed) = self.feeds.get(&id) {
                feed.notify_one();
                continue;
            }
            let (end, why) = refusal(complete);
            let answer = AuditAnswer::new(end, 0, Written::default(), Some(why.to_owned()));
            context.store.begin_audit(&id, Timestamp::now()).await?;
            finish(context, &id, &answer).await?;
        }
        Ok(())
    }
}

/// Why the daemon cannot audit a task that it does not mirror; `complete` if it knows every task to mirror.
fn refusal(complete: bool) -> (AuditEnd, &'static str) {
    if complete {
        let why = "the running daemon does not mirror this task; name it in its configuration";
        (AuditEnd::Lost, why)
    } else {
        let why = "the running daemon could not look up all of its tasks yet; its log says why, try again when it has";
        (AuditEnd::Failed, why)
    }
}

/// The audits of one feed that commands ask for.
#[derive(Debug)]
pub(super) struct FeedRequests {
    wake: Arc<Notify>,
    audit: Option<RequestedAudit>,
}

impl FeedRequests {
    /// Makes audits that were interrupted be made again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(context: &Context, id: &str, wake: Arc<Notify>) -> Result<Self, StoreError> {
        context.store.renew_audits(id).await?;
        Ok(Self { wake, audit: None })
    }

    /// Takes note of a poll, and answers once the audit is over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn polled(
        &mut self,
        context: &Context,
        feed: &mut Feed,
        poll: &Poll,
    ) -> Result<(), StoreError> {
        let Some(audit) = &mut self.audit else {
            return Ok(());
        };
        if !audit.add(feed, poll) {
            return Ok(());
        }
        let report = audit.report().unwrap_or_default();
        let mut repaired = report.repaired;
        repaired.add(audit.written());
        let error = poll.error.as_ref();
        let end = match report.unfinished {
            true => AuditEnd::Unfinished,
            false => AuditEnd::of(poll.outcome, error),
        };
        let error = error.map(ToString::to_string);
        let error = error.or_else(|| report.unfinished.then(|| UNFINISHED.to_owned()));
        let answer = AuditAnswer::new(end, report.compared, repaired, error);
        self.audit = None;
        finish(context, &feed.task().id, &answer).await
    }

    /// Waits as long as `waits` does, or until an audit is asked for, which then begins.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sleep(
        &mut self,
        context: &Context,
        feed: &mut Feed,
        waits: impl Future<Output = ()>,
    ) -> Result<(), StoreError> {
        if self.audit.is_some() {
            waits.await;
            return Ok(());
        }
        tokio::select! {
            () = waits => return Ok(()),
            () = self.wake.notified() => {}
        }
        let id = &feed.task().id;
        if context.store.begin_audit(id, Timestamp::now()).await? {
            tracing::info!(task = feed.task().label(), "auditing on request");
            feed.request_audit();
            self.audit = Some(RequestedAudit::default());
        }
        Ok(())
    }
}

async fn finish(context: &Context, id: &str, answer: &AuditAnswer) -> Result<(), StoreError> {
    // Numbers and text always have a form in JSON.
    let json = serde_json::to_string(answer).unwrap_or_default();
    context
        .store
        .finish_audit(id, &json, Timestamp::now())
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Part of an audit that marked `removed` runs.
    fn part(outcome: Outcome, removed: u64, undecided: bool) -> Poll {
        Poll {
            wait: Duration::ZERO,
            outcome,
            written: Written {
                removed,
                ..Written::default()
            },
            error: None,
            undecided,
        }
    }

    #[test]
    fn an_audit_that_leaves_runs_undecided_is_made_again_as_long_as_that_marks_some() {
        let mut audit = RequestedAudit::default();
        let parts = [
            (Outcome::CaughtUp, 0, false, Next::Poll),
            (Outcome::Auditing, 1_000, true, Next::Poll),
            (Outcome::Audited, 7, false, Next::Again),
            (Outcome::CaughtUp, 0, false, Next::Poll),
            (Outcome::Audited, 500, true, Next::Again),
            (Outcome::Audited, 0, true, Next::Over),
        ];
        for (outcome, removed, undecided, next) in parts {
            assert_eq!(audit.take(&part(outcome, removed, undecided), 5), next);
        }
        let report = audit.report().unwrap();
        assert_eq!((report.repaired.removed, report.compared), (1_507, 5));
        assert!(report.unfinished);
    }

    #[test]
    fn a_task_is_only_said_not_to_be_mirrored_when_every_task_is_known() {
        assert_eq!(refusal(true).0, AuditEnd::Lost);
        assert_eq!(refusal(false).0, AuditEnd::Failed);
    }

    #[test]
    fn an_audit_that_decides_everything_is_over_at_once() {
        let mut audit = RequestedAudit::default();
        assert_eq!(audit.take(&part(Outcome::Audited, 3, false), 5), Next::Over);
        assert!(!audit.report().unwrap().unfinished);
    }
}
