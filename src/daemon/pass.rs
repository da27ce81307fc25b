//! One pass: every feed caught up, open runs refreshed, due events delivered, and what is no longer kept pruned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::audits::{AuditReport, RequestedAudit};
use super::context::{Context, Plan};
use super::details;
use super::feed::Feed;
use super::retention::{PRUNE_WITHIN, Pace, prune, release_space};
use super::tasks::{self, Failure};
use crate::api::{ApiError, ErrorClass};
use crate::model::Task;
use crate::store::{DetailsSaved, Pruned, SinkStatus, StoreError, Written};
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
    /// What was removed because it is no longer kept.
    pub pruned: Pruned,
    /// What became of the details that were read.
    pub details: DetailsSaved,
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

impl FeedReport {
    /// Whether its audit left runs that could not be compared.
    pub fn is_unfinished(&self) -> bool {
        self.audit.is_some_and(|audit| audit.unfinished)
    }
}

/// What a pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Catches up every task, delivers, then prunes.
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

/// Brings every wanted task up to date, concurrently, then delivers to every sink, and prunes for [`PRUNE_WITHIN`] at most; tells
/// how far it is.
///
/// # Errors
/// When the database fails.
pub async fn pass(context: Arc<Context>, scope: Scope) -> Result<Report, StoreError> {
    let (progress, client) = (context.progress.clone(), context.client.clone());
    tokio::select! {
        report = pass_silently(context, scope) => report,
        never = progress.keep_telling(true, || client.trouble()) => match never {},
    }
}

async fn pass_silently(context: Arc<Context>, scope: Scope) -> Result<Report, StoreError> {
    let plan = context.plan();
    let wanted = tasks::wanted(&context, &plan).await?;
    context.progress.expect(wanted.tasks.len());
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
    replace_lost(&context, &plan, scope, &mut report).await?;
    report.feeds.sort_by_key(|feed| feed.task.label());
    context.progress.clear();
    // An audit prints its report to standard output; the next sync, or the daemon, delivers the events it raised.
    if scope == Scope::CatchUp {
        match details::read(&context).await {
            Ok(saved) => report.details = saved,
            // Nothing else depends on them.
            Err(error) => tracing::error!("cannot store details of runs: {error}"),
        }
        deliver(&context, &plan).await?;
        report.owed = owed(&context, &plan).await?;
        let pace = Pace {
            pause: Duration::ZERO,
            until: Some(Instant::now() + PRUNE_WITHIN),
        };
        prune(&*context.store, &plan.retention, pace, &mut report.pruned).await?;
        release_space(&*context.store, pace).await?;
    }
    context.close().await?;
    Ok(report)
}

/// Looks for tasks that are not found any more: they may have been deleted and made again under the same name. The new ones
/// take the places of the lost ones in `report`.
async fn replace_lost(
    context: &Arc<Context>,
    plan: &Plan,
    scope: Scope,
    report: &mut Report,
) -> Result<(), StoreError> {
    let is_lost = |feed: &FeedReport| {
        let class = feed.error.as_ref().map(ApiError::class);
        class == Some(ErrorClass::NotFound)
    };
    let lost = report.feeds.iter().filter(|feed| is_lost(feed));
    let lost: Vec<String> = lost.map(|feed| feed.task.id.clone()).collect();
    for (id, again) in tasks::made_again(context, plan, &lost).await? {
        report.feeds.retain(|feed| feed.task.id != id);
        if report.feeds.iter().all(|feed| feed.task.id != again.id) {
            let feed = catch_up(Arc::clone(context), again, scope).await?;
            report.feeds.push(feed);
        }
    }
    Ok(())
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
    let mut audit = RequestedAudit::default();
    if scope == Scope::Audit {
        feed.request_audit();
    }
    loop {
        let poll = feed.poll().await?;
        let is_over = audit.add(&mut feed, &poll);
        let caught_up = scope == Scope::CatchUp && poll.outcome == Outcome::CaughtUp;
        if is_over || caught_up {
            return Ok(FeedReport {
                task: feed.task().clone(),
                outcome: poll.outcome,
                written: audit.written(),
                audit: audit.report(),
                total: feed.total(),
                error: poll.error,
            });
        }
    }
}
