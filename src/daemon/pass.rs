//! One pass: every feed caught up, open runs refreshed, due events delivered.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::context::Context;
use super::feed::Feed;
use super::tasks::{self, Failure};
use crate::api::ApiError;
use crate::delivery::Courier;
use crate::model::Task;
use crate::store::{StoreError, Written};
use crate::sync::Outcome;

/// What a pass came to.
#[derive(Debug, Default)]
pub struct Report {
    /// One for each task, by name.
    pub feeds: Vec<FeedReport>,
    /// References that could not be resolved.
    pub unresolved: Vec<Failure>,
    /// Sinks that would not take what they are owed.
    pub refused: Vec<String>,
}

/// What a pass came to in one feed.
#[derive(Debug)]
pub struct FeedReport {
    /// The task.
    pub task: Task,
    /// How it ended.
    pub outcome: Outcome,
    /// What it changed.
    pub written: Written,
    /// How many runs the server lists.
    pub total: Option<u64>,
    /// Why it failed, if it did.
    pub error: Option<ApiError>,
}

impl Report {
    /// Every error of the pass.
    pub fn errors(&self) -> impl Iterator<Item = &ApiError> {
        let unresolved = self.unresolved.iter().map(|failure| &failure.error);
        unresolved.chain(self.feeds.iter().filter_map(|feed| feed.error.as_ref()))
    }
}

/// Brings every wanted task up to date, side by side, then every sink what it is owed.
///
/// # Errors
/// When the database fails.
pub async fn pass(context: Arc<Context>, couriers: Vec<Courier>) -> Result<Report, StoreError> {
    let (wanted, unresolved) = tasks::wanted(&context).await?;
    let mut work = JoinSet::new();
    for task in wanted {
        work.spawn(catch_up(Arc::clone(&context), task));
    }
    let mut report = Report { unresolved, ..Report::default() };
    while let Some(ended) = work.join_next().await {
        match ended {
            Ok(feed) => report.feeds.push(feed?),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    report.feeds.sort_by_key(|feed| feed.task.label());
    context.progress.clear();
    for mut courier in couriers {
        if !courier.drain(&context.store).await? {
            report.refused.push(courier.name().to_owned());
        }
    }
    Ok(report)
}

/// Polls until there is nothing left to read. Every poll that stays behind has read a bounded, large number of pages,
/// so only a list that grows faster than it can be read would keep this going.
async fn catch_up(context: Arc<Context>, task: Task) -> Result<FeedReport, StoreError> {
    let mut feed = Feed::load(context, task).await?;
    let mut written = Written::default();
    loop {
        let poll = feed.poll().await?;
        written.add(poll.written);
        if poll.outcome != Outcome::Behind {
            let (task, total) = (feed.task().clone(), feed.total());
            return Ok(FeedReport { task, outcome: poll.outcome, written, total, error: poll.error });
        }
    }
}
