//! The daemon: polls until it is told to stop.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

use super::context::Context;
use super::feed::Feed;
use super::reload::Reload;
use super::signals::Shutdown;
use super::sinks::supervise_sinks;
use super::tasks::{self, Failure};
use crate::api::{ApiError, ErrorClass};
use crate::model::Task;
use crate::store::{StoreError, Written};
use crate::sync::Outcome;

/// How often references that could not be resolved are tried again, and new tasks looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long to leave a database alone that cannot be written to.
const STORE_RETRY: Duration = Duration::from_secs(5);

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
/// ever more slowly. A plan that `reload` puts into force is followed at once.
///
/// # Errors
/// When the token is refused at the start (later it may be a mistake that somebody is mending), or the database fails.
pub async fn run(
    context: Arc<Context>,
    shutdown: Shutdown,
    reload: Option<Reload>,
) -> Result<(), RunError> {
    let reloads = async {
        match reload {
            Some(reload) => reload.serve(Arc::clone(&context)).await,
            None => std::future::pending().await,
        }
    };
    let mut told = shutdown.clone();
    let mut sinks = pin!(supervise_sinks(Arc::clone(&context), shutdown));
    // Leaving drops every feed at whatever it waits for.
    tokio::select! {
        () = told.asked() => {}
        error = endure(|| supervise_feeds(Arc::clone(&context))) => return Err(error),
        result = &mut sinks => return result,
        () = reloads => {}
    }
    // Deliveries under way get the time to end, so that they need not be made again.
    sinks.await
}

/// Does `work` again and again, as long as it fails for reasons that may pass, such as a full disk.
async fn endure<F: Future<Output = Result<Infallible, RunError>>>(
    work: impl Fn() -> F,
) -> RunError {
    loop {
        match work().await {
            Ok(never) => match never {},
            Err(RunError::Store(error)) if error.is_temporary() => {
                tracing::error!("{error}; trying again in {} s", STORE_RETRY.as_secs());
                tokio::time::sleep(STORE_RETRY).await;
            }
            Err(error) => return error,
        }
    }
}

/// Tasks of the runtime by name, each with what it was started for.
struct Crew<T> {
    work: JoinSet<Result<Infallible, RunError>>,
    members: HashMap<String, (T, AbortHandle)>,
}

impl<T: PartialEq> Crew<T> {
    fn new() -> Self {
        Self {
            work: JoinSet::new(),
            members: HashMap::new(),
        }
    }

    /// Starts `work` for `purpose` under `name`, in the place of one that was started for something else.
    fn employ<F>(&mut self, name: &str, purpose: T, work: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = Result<Infallible, RunError>> + Send + 'static,
    {
        if self
            .members
            .get(name)
            .is_some_and(|(known, _)| *known == purpose)
        {
            return false;
        }
        self.dismiss(name);
        let handle = self.work.spawn(work());
        self.members.insert(name.to_owned(), (purpose, handle));
        true
    }

    fn dismiss(&mut self, name: &str) {
        if let Some((_, handle)) = self.members.remove(name) {
            handle.abort();
        }
    }

    /// Stops all whose name is not `wanted`; gives their names.
    fn keep(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let gone: Vec<String> = self
            .members
            .keys()
            .filter(|name| !wanted(name))
            .cloned()
            .collect();
        gone.iter().for_each(|name| self.dismiss(name));
        gone
    }

    /// Waits until one ends by itself, which is always in trouble.
    async fn trouble(&mut self) -> RunError {
        loop {
            match self.work.join_next().await {
                None => std::future::pending().await,
                Some(Ok(Err(error))) => return error,
                Some(Ok(Ok(never))) => match never {},
                Some(Err(ended)) if ended.is_cancelled() => {}
                Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
    }
}

/// Keeps a feed going for every wanted task.
async fn supervise_feeds(context: Arc<Context>) -> Result<Infallible, RunError> {
    let mut plans = context.plan.subscribe();
    let mut feeds = Crew::new();
    let mut first = true;
    loop {
        let plan = Arc::clone(&plans.borrow_and_update());
        let wanted = tasks::wanted(&context, &plan).await?;
        for Failure { reference, error } in wanted.failures {
            if first && error.class() == ErrorClass::TokenRefused {
                return Err(RunError::Token(error));
            }
            tracing::warn!(task = reference, "{error}");
        }
        for task in &wanted.tasks {
            let work = || {
                let (context, task) = (Arc::clone(&context), task.clone());
                async move { Err(endure(|| poll(Arc::clone(&context), task.clone(), first)).await) }
            };
            if feeds.employ(&task.id, plan.sync.clone(), work) {
                tracing::info!(task = task.label(), id = task.id, "mirroring");
            }
        }
        // A task that is no longer wanted ends with the plan; one that is merely not discovered any more has its feed
        // say what became of it.
        if !plan.discover_tasks && wanted.complete {
            for id in feeds.keep(|id| wanted.tasks.iter().any(|task| task.id == id)) {
                tracing::info!(id, "no longer mirroring");
            }
        }
        first = false;
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            _ = plans.changed() => {}
            error = feeds.trouble() => return Err(error),
        }
    }
}

/// Polls one feed for as long as the database holds.
async fn poll(context: Arc<Context>, task: Task, mut first: bool) -> Result<Infallible, RunError> {
    let mut feed = Feed::load(context, task).await?;
    let mut was_complete = feed.is_complete();
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
        if written != Written::default() {
            tracing::info!(
                task = feed.task().label(),
                new = written.added,
                changed = written.changed(),
                removed = written.removed,
                events = written.events,
                "polled"
            );
        }
        if !was_complete && feed.is_complete() && poll.outcome == Outcome::CaughtUp {
            was_complete = true;
            tracing::info!(task = feed.task().label(), "first sync complete");
        }
        tokio::time::sleep(poll.wait).await;
    }
}
