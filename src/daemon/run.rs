//! The daemon: polls until it is told to stop.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::Context;
use super::feed::Feed;
use super::signals::Shutdown;
use super::tasks::{self, Failure};
use crate::api::{ApiError, ErrorClass};
use crate::delivery::Courier;
use crate::model::{Task, Timestamp};
use crate::store::StoreError;
use crate::sync::Outcome;

/// How often references that could not be resolved are tried again, and new tasks looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How often couriers look for something to do when nothing rings: a sink that failed deserves
/// another try.
const COURIER_FALLBACK: Duration = Duration::from_secs(5);

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API refused the token when the daemon started.
    #[error(transparent)]
    Token(ApiError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Mirrors until `shutdown`. Feeds come to be as their tasks are resolved or discovered; a failing one goes on trying,
/// ever more slowly.
///
/// # Errors
/// When the token is refused at the start (later it may be a mistake that somebody is mending), or the database fails.
pub async fn run(context: Arc<Context>, couriers: Vec<Courier>, mut shutdown: Shutdown) -> Result<(), RunError> {
    let mut work = JoinSet::new();
    for courier in couriers {
        work.spawn(carry(Arc::clone(&context), courier));
    }
    work.spawn(supervise(Arc::clone(&context)));
    // Leaving drops the set, and with it every task at whatever it waits for.
    tokio::select! {
        () = shutdown.asked() => Ok(()),
        Some(ended) = work.join_next() => match ended {
            Ok(result) => result,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        },
    }
}

/// Keeps a feed going for every wanted task.
async fn supervise(context: Arc<Context>) -> Result<(), RunError> {
    let mut feeds = JoinSet::new();
    let mut known = HashSet::new();
    let mut first = true;
    loop {
        let (wanted, failures) = tasks::wanted(&context).await?;
        for Failure { reference, error } in failures {
            if first && error.class() == ErrorClass::TokenRefused {
                return Err(RunError::Token(error));
            }
            tracing::warn!(task = reference, "{error}");
        }
        first = false;
        for task in wanted {
            if known.insert(task.id.clone()) {
                tracing::info!(task = task.label(), id = task.id, "mirroring");
                feeds.spawn(poll(Arc::clone(&context), task));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            Some(ended) = feeds.join_next() => match ended {
                Ok(Err(error)) => return Err(error),
                Ok(Ok(never)) => match never {},
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            },
        }
    }
}

/// Polls one feed for as long as the database holds.
async fn poll(context: Arc<Context>, task: Task) -> Result<Infallible, RunError> {
    let mut feed = Feed::load(context, task).await?;
    let mut was_complete = feed.is_complete();
    let mut first = true;
    loop {
        let poll = feed.poll().await?;
        if let Some(error) = poll.error
            && error.class() == ErrorClass::TokenRefused
            && first
        {
            return Err(RunError::Token(error));
        }
        first = false;
        let written = poll.written;
        if written != Default::default() {
            tracing::info!(
                task = feed.task().label(),
                new = written.added,
                changed = written.updated,
                removed = written.removed,
                events = written.events,
                "polled"
            );
        }
        if !was_complete && feed.is_complete() && poll.outcome == Outcome::CaughtUp {
            was_complete = true;
            tracing::info!(task = feed.task().label(), "first sync complete");
        }
        tokio::time::sleep(poll.until.since(Timestamp::now())).await;
    }
}

/// Brings one sink what it is owed, whenever there is something.
async fn carry(context: Arc<Context>, mut courier: Courier) -> Result<(), RunError> {
    let mut bell = context.events.subscribe();
    loop {
        courier.drain(&context.store).await?;
        tokio::select! {
            _ = bell.changed() => {}
            () = tokio::time::sleep(COURIER_FALLBACK) => {}
        }
    }
}
