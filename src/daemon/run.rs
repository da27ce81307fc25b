//! The daemon: polls until it is stopped.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::JoinMap;

use super::audits::{FeedRequests, Requests};
use super::context::Context;
use super::details::keep_reading;
use super::error::RunError;
use super::feed::Feed;
use super::reload::Reload;
use super::retention::keep_pruning;
use super::sinks::supervise_sinks;
use super::tasks::{self, Failure};
use crate::api::{ApiError, ErrorClass};
use crate::delivery::STORE_RETRY;
use crate::model::Task;
use crate::store::Written;
use crate::sync::{Outcome, Settings};

/// How often to resolve unresolved references again and to discover tasks.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How often to look for audits that commands ask for.
const REQUESTS_EVERY: Duration = Duration::from_secs(2);

/// Mirrors until `shutdown`. Feeds start as their tasks are resolved or discovered; a failing feed is retried at growing
/// intervals. A plan that `reload` puts into force takes effect at once.
///
/// # Errors
/// When the token is refused and none has been accepted before (else the daemon waits until one is accepted again), or the
/// database fails permanently.
pub async fn run(
    context: Arc<Context>,
    shutdown: CancellationToken,
    reload: Option<Reload>,
) -> Result<(), RunError> {
    let reloads = async {
        match reload {
            Some(reload) => reload.serve(Arc::clone(&context)).await,
            None => pending().await,
        }
    };
    let mut sinks = pin!(supervise_sinks(Arc::clone(&context), shutdown.clone()));
    let client = context.client.clone();
    let telling = context.progress.keep_telling(false, || client.trouble());
    // Leaving the `select!` drops every feed, whatever it waits for.
    tokio::select! {
        () = shutdown.cancelled() => {}
        error = retry_while_temporary(|| supervise_feeds(Arc::clone(&context))) => return Err(error),
        result = &mut sinks => return result,
        () = reloads => {}
        never = keep_reading(Arc::clone(&context)) => match never {},
        never = keep_pruning(Arc::clone(&context)) => match never {},
        never = telling => match never {},
    }
    context.progress.clear();
    // Attempts in flight get time to end, so that they need not be repeated.
    sinks.await?;
    Ok(context.close().await?)
}

/// Repeats `work` as long as its errors are temporary, such as a full disk; returns the first permanent one.
async fn retry_while_temporary<F: Future<Output = Result<Infallible, RunError>>>(
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

/// The feeds being polled, by the ids of their tasks.
#[derive(Default)]
struct Feeds {
    tasks: JoinMap<String, Result<Infallible, RunError>>,
    /// The settings each was started with.
    settings: HashMap<String, Settings>,
}

impl Feeds {
    /// Starts `work` for the feed `id`, replacing work with other settings; returns false if it already runs with these.
    fn ensure<F>(&mut self, id: &str, settings: &Settings, work: F) -> bool
    where
        F: Future<Output = Result<Infallible, RunError>> + Send + 'static,
    {
        if self.settings.get(id) == Some(settings) {
            return false;
        }
        self.tasks.spawn(id.to_owned(), work);
        self.settings.insert(id.to_owned(), settings.clone());
        true
    }

    /// Stops all whose id is not `wanted`; returns their ids.
    fn keep(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let unwanted = self.settings.extract_if(|id, _| !wanted(id));
        let ids: Vec<String> = unwanted.map(|(id, _)| id).collect();
        for id in &ids {
            self.tasks.abort(id);
        }
        ids
    }

    /// Waits until one fails, which is the only way one ends by itself.
    async fn failed(&mut self) -> RunError {
        loop {
            match self.tasks.join_next().await {
                None => pending().await,
                Some((_, Ok(Err(error)))) => return error,
                Some((_, Ok(Ok(never)))) => match never {},
                Some((_, Err(ended))) if ended.is_cancelled() => {}
                Some((_, Err(panicked))) => resume_unwind(panicked.into_panic()),
            }
        }
    }
}

/// Polls the feed of every wanted task.
async fn supervise_feeds(context: Arc<Context>) -> Result<Infallible, RunError> {
    let mut plans = context.plan.subscribe();
    let mut feeds = Feeds::default();
    let mut requests = Requests::default();
    let pulse = context.liveness.enter("the loop that looks for tasks");
    loop {
        let plan = Arc::clone(&plans.borrow_and_update());
        // References are resolved one after another.
        let references = u32::try_from(plan.tasks.len() + 1).unwrap_or(u32::MAX);
        pulse.back_after(context.longest(1).saturating_mul(references));
        let wanted = tasks::wanted(&context, &plan).await?;
        context
            .freshness
            .expect(wanted.ids(), wanted.has_unresolved());
        let all_are_known = wanted.failures.is_empty();
        for Failure { reference, error } in wanted.failures {
            if refused_at_the_start(&context, &error) {
                return Err(RunError::Token(error));
            }
            tracing::warn!(task = reference, "{error}");
        }
        context.progress.expect(wanted.tasks.len());
        for task in &wanted.tasks {
            let work = keep_polling(&context, task, requests.of(&task.id));
            if feeds.ensure(&task.id, &plan.sync, work) {
                tracing::info!(task = task.label(), id = task.id, "mirroring");
            }
        }
        // Stop tasks that the plan no longer names. A task that is no longer discovered keeps its feed, which reports
        // that it is lost.
        if !plan.discover_tasks && wanted.complete {
            for id in feeds.keep(|id| wanted.tasks.iter().any(|task| task.id == id)) {
                tracing::info!(id, "no longer mirroring");
                requests.forget(&id);
                context.progress.forget(&id);
            }
        }
        pulse.back_after(LOOK_AGAIN);
        let mut look_again = pin!(tokio::time::sleep(LOOK_AGAIN));
        loop {
            tokio::select! {
                () = &mut look_again => break,
                () = context.lost.notified() => break,
                _ = plans.changed() => break,
                error = feeds.failed() => return Err(error),
                () = tokio::time::sleep(REQUESTS_EVERY) => {
                    requests.pass_on(&context, all_are_known).await;
                }
            }
        }
    }
}

/// Whether `error` refuses the only token that this process has ever used. One that was accepted before may be accepted
/// again, and can be replaced while the daemon runs.
fn refused_at_the_start(context: &Context, error: &ApiError) -> bool {
    error.class() == ErrorClass::TokenRefused && !context.client.was_accepted()
}

/// Polls the feed of `task` until the database fails permanently, or the token is refused at the start; `wake` as for
/// [`poll`].
fn keep_polling(
    context: &Arc<Context>,
    task: &Task,
    wake: Arc<Notify>,
) -> impl Future<Output = Result<Infallible, RunError>> + Send + 'static {
    let (context, task) = (Arc::clone(context), task.clone());
    async move {
        let poll = || poll(Arc::clone(&context), task.clone(), Arc::clone(&wake));
        Err(retry_while_temporary(poll).await)
    }
}

/// Polls one feed until the database fails, or the token is refused at the start. Audits when `wake` says that an audit
/// was asked for.
async fn poll(
    context: Arc<Context>,
    task: Task,
    wake: Arc<Notify>,
) -> Result<Infallible, RunError> {
    let mut feed = Feed::load(Arc::clone(&context), task).await?;
    let mut requests = FeedRequests::load(&context, &feed.task().id, wake).await?;
    let mut was_complete = feed.is_complete();
    let mut was_lost = false;
    loop {
        let replaced = context.client.token_replaced();
        let poll = feed.poll().await?;
        let class = poll.error.as_ref().map(ApiError::class);
        if let Some(error) = &poll.error
            && refused_at_the_start(&context, error)
        {
            return Err(RunError::Token(error.clone()));
        }
        let is_lost = class == Some(ErrorClass::NotFound);
        if is_lost && !was_lost {
            context.lost.notify_one();
        }
        was_lost = is_lost;
        if poll.outcome == Outcome::CaughtUp {
            context.freshness.succeeded(&feed.task().id);
        }
        requests.polled(&context, &mut feed, &poll).await?;
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
        let waits = async {
            tokio::select! {
                () = tokio::time::sleep(poll.wait) => {}
                () = replaced, if class == Some(ErrorClass::TokenRefused) => {}
            }
        };
        requests.sleep(&context, &mut feed, waits).await?;
    }
}
