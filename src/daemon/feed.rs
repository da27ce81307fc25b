//! One feed: its machine's commands, carried out.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::context::Context;
use crate::api::ApiError;
use crate::model::{Task, Timestamp};
use crate::store::{StoreError, Written};
use crate::sync::{Command, Input, Machine, Outcome, Page, Seen, Window};

/// The runs of one task, being mirrored.
#[derive(Debug)]
pub struct Feed {
    context: Arc<Context>,
    task: Task,
    machine: Machine,
}

/// How a poll went.
#[derive(Debug)]
pub struct Poll {
    /// When the next one is due.
    pub until: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// What it changed, failed or not.
    pub written: Written,
    /// Why it failed, if it did.
    pub error: Option<ApiError>,
}

impl Feed {
    /// The feed of `task`, going on where the mirror left off.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(context: Arc<Context>, task: Task) -> Result<Self, StoreError> {
        let saved = task.clone();
        let state = context
            .store
            .call(move |db| {
                db.save_task(&saved, Timestamp::now())?;
                db.feed(&saved.id)
            })
            .await?;
        let machine = Machine::new(context.settings_for(&task.id), state);
        Ok(Self { context, task, machine })
    }

    /// The task whose runs these are.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Whether the end of the list was reached at least once.
    pub fn is_complete(&self) -> bool {
        self.machine.feed().complete
    }

    /// How many runs the server listed last, if it said.
    pub fn total(&self) -> Option<u64> {
        self.machine.feed().total
    }

    /// Polls once. May be cancelled at any point: what was committed stands, the rest is read again.
    ///
    /// # Errors
    /// When the database fails. What the API does wrong is told in the [`Poll`].
    pub async fn poll(&mut self) -> Result<Poll, StoreError> {
        let mut written = Written::default();
        let mut error = None;
        let mut command = self.machine.step(Input::Wake, Timestamp::now());
        loop {
            let input = match command {
                Command::Sleep { until, outcome } => {
                    self.finish(outcome, error.as_ref()).await?;
                    return Ok(Poll { until, outcome, written, error });
                }
                Command::LoadOpen { within } => {
                    let (id, cursor) = (self.task.id.clone(), self.machine.feed().cursor.clone());
                    Input::Open(self.context.store.call(move |db| db.open_runs(&id, &cursor, within)).await?)
                }
                Command::Locate(ids) => {
                    let (id, cursor) = (self.task.id.clone(), self.machine.feed().cursor.clone());
                    Input::Located(self.context.store.call(move |db| db.distances(&id, &cursor, &ids)).await?)
                }
                Command::Read(windows) => match self.read(windows).await {
                    Ok(pages) => Input::Pages(pages),
                    Err(failed) => failure(&mut error, failed),
                },
                Command::ReadRuns(ids) => match self.read_runs(ids).await {
                    Ok(runs) => Input::Runs(runs),
                    Err(failed) => failure(&mut error, failed),
                },
                Command::Commit(commit) => {
                    let (id, context) = (self.task.id.clone(), Arc::clone(&self.context));
                    let call = move |db: &mut crate::store::Db| db.commit(&id, &commit, &context.subscriptions);
                    let done = self.context.store.call(call).await?;
                    written.add(done);
                    if done.events > 0 {
                        self.context.events.send_modify(|raised| *raised += done.events);
                    }
                    Input::Committed
                }
            };
            command = self.machine.step(input, Timestamp::now());
            self.context.progress.show(&self.task, self.machine.feed());
        }
    }

    /// Tells what a poll came to, on the terminal and in the mirror.
    async fn finish(&self, outcome: Outcome, error: Option<&ApiError>) -> Result<(), StoreError> {
        let problem = match (outcome, error) {
            (Outcome::Failed, Some(error)) => error.to_string(),
            (Outcome::Stalled, _) => format!(
                "the API says that there are {} runs, but shows none beyond offset {}",
                self.total().unwrap_or_default(),
                self.machine.feed().cursor.offset
            ),
            _ => return Ok(()),
        };
        tracing::warn!(task = self.task.label(), "{problem}");
        let id = self.task.id.clone();
        self.context.store.call(move |db| db.record_failure(&id, &problem, Timestamp::now())).await
    }

    /// Reads `windows` at once: the pages in order, up to the first that failed.
    async fn read(&self, windows: Vec<Window>) -> Result<Vec<Page>, ApiError> {
        let reads = windows.into_iter().map(|window| {
            let (client, id) = (self.context.client.clone(), self.task.id.clone());
            async move { client.runs(&id, &window).await }
        });
        let (pages, failed) = in_order(reads).await;
        match failed {
            Some(failed) if pages.is_empty() => Err(failed),
            Some(failed) => {
                tracing::debug!(task = self.task.label(), error = %failed, "dropped a page that was read ahead");
                Ok(pages)
            }
            None => Ok(pages),
        }
    }

    /// Reads the runs `ids` at once, all or none.
    async fn read_runs(&self, ids: Vec<String>) -> Result<Vec<(String, Option<Seen>)>, ApiError> {
        let reads = ids.into_iter().map(|id| {
            let client = self.context.client.clone();
            async move { client.run(&id).await.map(|run| (id, run)) }
        });
        match in_order(reads).await {
            (runs, None) => Ok(runs),
            (_, Some(failed)) => Err(failed),
        }
    }
}

fn failure(slot: &mut Option<ApiError>, error: ApiError) -> Input {
    *slot = Some(error);
    Input::Failed
}

/// Runs `reads` side by side and gives their results in order, up to the first failure; reads behind a failure are
/// given up. Dropping the future gives up all of them.
async fn in_order<T: Send + 'static>(
    reads: impl Iterator<Item = impl Future<Output = Result<T, ApiError>> + Send + 'static>,
) -> (Vec<T>, Option<ApiError>) {
    let mut tasks = JoinSet::new();
    for (n, read) in reads.enumerate() {
        tasks.spawn(async move { (n, read.await) });
    }
    let mut results: Vec<Option<T>> = std::iter::repeat_with(|| None).take(tasks.len()).collect();
    let mut failed: Option<(usize, ApiError)> = None;
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((n, Ok(value))) => results[n] = Some(value),
            Ok((n, Err(error))) => {
                if failed.as_ref().is_none_or(|(first, _)| n < *first) {
                    failed = Some((n, error));
                }
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
        let wanted = failed.as_ref().map_or(results.len(), |(first, _)| *first);
        if results[..wanted].iter().all(Option::is_some) {
            results.truncate(wanted);
            break;
        }
    }
    (results.into_iter().flatten().collect(), failed.map(|(_, error)| error))
}
