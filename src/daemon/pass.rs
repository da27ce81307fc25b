//! One pass: every feed caught up, open runs refreshed, due events delivered.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::{Context, Plan};
use super::feed::Feed;
use super::tasks::{self, Failure};
use crate::api::ApiError;
use crate::model::Task;
use crate::store::{SinkStatus, StoreError, Written};
use crate::sync::Outcome;

/// The longest a pass delivers events. Remaining events stay due.
const DELIVER_WITHIN: Duration = Duration::from_secs(60);

/// The result of a pass.
#[derive(Debug, Default)]
pub struct Report {
    /// One report for each task, by name.
    pub feeds: Vec<FeedReport>,
    /// References that could not be resolved.
    pub unresolved: Vec<Failure>,
    /// The state of configured sinks at the end.
    pub owed: Vec<SinkStatus>,
}

/// The result of a pass in one feed.
#[derive(Debug)]
pub struct FeedReport {
    /// The task.
    pub task: Task,
    /// How it ended.
    pub outcome: Outcome,
    /// What it changed.
    pub written: Written,
    /// The result of the audit, if there was one.
    pub audit: Option<AuditReport>,
    /// The number of runs that the server reports.
    pub total: Option<u64>,
    /// Why it failed, if it did.
    pub error: Option<ApiError>,
}

/// The result of an audit in one feed.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditReport {
    /// The entry at which an interrupted audit resumed; 0 for an audit from the beginning.
    pub resumed_at: u64,
    /// Number of entries of the list compared with the mirror.
    pub compared: u64,
    /// The differences, repaired.
    pub repaired: Written,
}

/// What a pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Catches up every task, then delivers.
    CatchUp,
    /// Also compares every task's whole list with the mirror; does not deliver.
    Audit,
}

impl Report {
    /// All API errors of the pass.
    pub fn errors(&self) -> impl Iterator<Item = &ApiError> {
        let unresolved = self.unresolved.iter().map(|failure| &failure.error);
        unresolved.chain(self.feeds.iter().filter_map(|feed| feed.error.as_ref()))
    }
}

/// Brings every wanted task up to date, concurrently, then delivers to every sink.
///
/// # Errors
/// When the database fails.
pub async fn pass(context: Arc<Context>, scope: Scope) -> Result<Report, StoreError> {
    let plan = context.plan();
    let wanted = tasks::wanted(&context, &plan).await?;
    let mut work = JoinSet::new();
    for task in wanted.tasks {
        work.spawn(catch_up(Arc::clone(&context), task, scope));
    }
    let mut report = Report {
        unresolved: wanted.failures,
        ..Report::default()
    };
    while let Some(ended) = work.join_next().await {
        match ended {
            Ok(feed) => report.feeds.push(feed?),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    report.feeds.sort_by_key(|feed| feed.task.label());
    context.progress.clear();
    // An audit prints its report to standard output; the next sync, or the daemon, delivers the events it raised.
    if scope == Scope::CatchUp {
        deliver(&context, &plan).await?;
        report.owed = owed(&context, &plan).await?;
    }
    context.close().await?;
    Ok(report)
}

/// Delivers due events to every sink, concurrently, within [`DELIVER_WITHIN`].
async fn deliver(context: &Context, plan: &Plan) -> Result<(), StoreError> {
    let mut work = JoinSet::new();
    for sink in &plan.sinks {
        work.spawn(context.worker(sink).drain(DELIVER_WITHIN));
    }
    while let Some(ended) = work.join_next().await {
        match ended {
            Ok(drained) => drained?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    Ok(())
}

/// The state of configured sinks.
async fn owed(context: &Context, plan: &Plan) -> Result<Vec<SinkStatus>, StoreError> {
    let sinks = context.reader.sinks().await?;
    let is_ours = |owed: &SinkStatus| {
        plan.sinks
            .iter()
            .any(|sink| sink.settings().name == owed.name)
    };
    Ok(sinks.into_iter().filter(is_ours).collect())
}

/// Polls until there is nothing left to read, then audits if `scope` asks for it. Each poll that stays behind has read many
/// pages, so this ends unless the list grows faster than it can be read.
async fn catch_up(
    context: Arc<Context>,
    task: Task,
    scope: Scope,
) -> Result<FeedReport, StoreError> {
    let mut feed = Feed::load(context, task).await?;
    let mut written = Written::default();
    let mut audit = None;
    if scope == Scope::Audit {
        feed.request_audit();
    }
    loop {
        let resumed = feed.audited();
        let poll = feed.poll().await?;
        match poll.outcome {
            Outcome::Auditing | Outcome::Audited => {
                let audit = audit.get_or_insert(AuditReport {
                    resumed_at: resumed,
                    ..AuditReport::default()
                });
                // The report includes the changes of the poll before the audit.
                audit.repaired.add(std::mem::take(&mut written));
                audit.repaired.add(poll.written);
                audit.compared = feed.audited().saturating_sub(audit.resumed_at);
            }
            _ => written.add(poll.written),
        }
        let more = match poll.outcome {
            Outcome::Behind | Outcome::Auditing => true,
            Outcome::CaughtUp => scope == Scope::Audit,
            Outcome::Audited | Outcome::Failed | Outcome::Stalled => false,
        };
        if !more {
            let (task, total) = (feed.task().clone(), feed.total());
            return Ok(FeedReport {
                task,
                outcome: poll.outcome,
                written,
                audit,
                total,
                error: poll.error,
            });
        }
    }
}
