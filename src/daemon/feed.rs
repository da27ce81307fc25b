//! One feed: executes its machine's commands.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::Context;
use super::liveness::Pulse;
use super::read_ahead::ReadAhead;
use crate::api::{ApiError, ErrorClass, Held};
use crate::model::{Task, Timestamp};
use crate::store::{Condition, MAX_UNSEEN, StoreError, Written};
use crate::sync::{Command, Input, Machine, Outcome, ReadFailure, Single, Stall};

/// Mirrors the runs of one task.
#[derive(Debug)]
pub struct Feed {
    context: Arc<Context>,
    task: Task,
    machine: Machine,
    pages: ReadAhead,
    /// The changes of the audit in progress, made by this process.
    repaired: Written,
    pulse: Pulse,
}

/// The result of a poll, or of a part of an audit.
#[derive(Debug)]
pub struct Poll {
    /// How long to wait before the next one.
    pub wait: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// What it changed, even if it failed.
    pub written: Written,
    /// Why it failed, if it did.
    pub error: Option<ApiError>,
    /// Whether it compared a page that leaves out more runs than are asked for singly, so that some stay undecided.
    pub undecided: bool,
}

/// What has come of a poll so far.
#[derive(Debug, Default)]
struct Tally {
    written: Written,
    error: Option<ApiError>,
    undecided: bool,
    /// How many single reads of runs failed, and one of the errors.
    unread: Option<(u64, ApiError)>,
    /// For the pages that were read since the last commit, until the next.
    held: Vec<Held>,
}

impl Feed {
    /// Loads the feed of `task`, to continue from the mirror's cursor.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(context: Arc<Context>, task: Task) -> Result<Self, StoreError> {
        // Compared with when the task was created, so by the same clock if that is known.
        let now = context.client.server_time();
        let now = now.unwrap_or_else(Timestamp::now);
        let pulse = context
            .liveness
            .enter(format!("the feed of {}", task.label()));
        let state = context.store.open_feed(&task, now).await?;
        let machine = Machine::new(context.plan().settings_for(&task.id), state);
        let pages = ReadAhead::new(context.client.clone(), task.id.clone());
        Ok(Self {
            context,
            task,
            machine,
            pages,
            repaired: Written::default(),
            pulse,
        })
    }

    /// The task whose runs these are.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Whether the end of the list was reached at least once.
    pub fn is_complete(&self) -> bool {
        self.machine.feed().complete
    }

    /// The number of runs that the server last reported.
    pub fn total(&self) -> Option<u64> {
        self.machine.feed().total
    }

    /// Begins an audit anew after the next poll, without waiting between its parts. One in progress is dropped.
    pub fn request_audit(&mut self) {
        self.repaired = Written::default();
        self.machine.request_audit();
    }

    /// How many entries of the list the audit in progress, or else the last one, has compared.
    pub fn audited(&self) -> u64 {
        self.machine.audited()
    }

    /// Polls once, or continues an audit by one page if no poll is due. Safe to cancel at any point: commits stay, the
    /// rest is read again.
    ///
    /// # Errors
    /// When the database fails. [`Poll`] reports errors of the API.
    pub async fn poll(&mut self) -> Result<Poll, StoreError> {
        let mut tally = Tally::default();
        self.pages.clear();
        let from = self.position();
        self.context.progress.begin();
        let mut command = self.machine.step(Input::Wake, Timestamp::now());
        loop {
            if let Command::Sleep { wait, outcome } = command {
                // Nobody waits for what is still on its way, and it holds what others need.
                self.pages.clear();
                self.finish(outcome, &tally).await?;
                self.pulse.back_after(wait);
                if !self.has_more(outcome) {
                    self.context.progress.done(&self.task.id);
                }
                return Ok(Poll {
                    wait,
                    outcome,
                    written: tally.written,
                    error: tally.error,
                    undecided: tally.undecided,
                });
            }
            self.pulse.back_after(self.longest(&command));
            let input = self.execute(command, &mut tally).await?;
            command = self.machine.step(input, Timestamp::now());
            let (progress, total) = (&self.context.progress, self.total());
            progress.show(&self.task, from, self.position(), total);
        }
    }

    /// How long a command may wait for the server, and for the requests and commits of other feeds before it.
    fn longest(&self, command: &Command) -> Duration {
        let requests = match command {
            Command::Read { windows, .. } => windows.len(),
            Command::ReadRuns(ids) => ids.len(),
            _ => 0,
        };
        self.context.longest(requests)
    }

    /// Whether there is more to read at once, after a poll that ended with `outcome`.
    fn has_more(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Behind | Outcome::Auditing => true,
            Outcome::CaughtUp => self.machine.feed().audit.is_some(),
            Outcome::Audited | Outcome::Stalled(_) | Outcome::Failed => false,
        }
    }

    /// Up to which entry the list is read, or audited.
    fn position(&self) -> u64 {
        let feed = self.machine.feed();
        let audit = feed.audit.as_ref().map(|audit| audit.cursor.offset);
        audit.unwrap_or(feed.cursor.offset)
    }

    /// Executes one command and returns the input that answers it. Adds to `tally` what came of it.
    async fn execute(&mut self, command: Command, tally: &mut Tally) -> Result<Input, StoreError> {
        if !matches!(command, Command::Read { .. } | Command::Commit(_)) {
            self.pages.clear();
        }
        let (store, id) = (&self.context.store, self.task.id.as_str());
        let cursor = &self.machine.feed().cursor;
        Ok(match command {
            Command::Sleep { .. } => Input::Wake,
            Command::LoadOpen { within, after } => Input::Open(
                store
                    .open_runs(id, cursor, within, after.as_deref())
                    .await?,
            ),
            Command::Locate(ids) => Input::Located(store.distances(id, cursor, &ids).await?),
            Command::LoadUnseen { gaps, except } => {
                let unseen = store.unseen(id, &gaps, &except).await?;
                tally.undecided |= unseen.len() >= MAX_UNSEEN;
                Input::Unseen(unseen)
            }
            Command::Read { windows, begun } => {
                tally.held.clear();
                match self.pages.next(&windows, begun).await {
                    Ok((page, held)) => {
                        tally.held.push(held);
                        Input::Pages(vec![page])
                    }
                    Err(failed) => failed_read(&mut tally.error, failed),
                }
            }
            // An audit reads runs before it stores its page. Where too many do, it goes on after the next poll.
            Command::ReadRuns(_) if !self.may_read_runs(&mut tally.held).await => {
                Input::Failed(ReadFailure::Temporary)
            }
            Command::ReadRuns(ids) => match self.read_runs(ids, &mut tally.unread).await {
                Ok(runs) => Input::Runs(runs),
                Err(failed) => failed_read(&mut tally.error, failed),
            },
            Command::Commit(commit) => {
                let committed = self.context.commit(id, *commit).await?;
                if !self.machine.keeps_page() {
                    tally.held.clear();
                }
                tally.written.add(committed.written);
                let unconfirmed = committed.unconfirmed;
                Input::Committed { unconfirmed }
            }
        })
    }

    /// Records the outcome of a poll, or of a part of an audit: in the log and, for failures, in the mirror.
    async fn finish(&mut self, outcome: Outcome, tally: &Tally) -> Result<(), StoreError> {
        let task = self.task.label();
        if let Some((runs, example)) = &tally.unread {
            tracing::warn!(
                task,
                runs,
                "runs could not be read singly, such as {example}"
            );
        }
        let corrections = self.machine.take_corrections();
        self.context.counters.corrections.add(corrections);
        let missed = self.machine.take_missed();
        if missed > 0 {
            tracing::warn!(
                task,
                missed,
                "more runs than a page holds have the same start, or none, and come in another order each time; an audit finds those that were not seen"
            );
        }
        let (condition, problem) = match (outcome, &tally.error) {
            (Outcome::Failed, Some(error)) => {
                let condition = match error.class() {
                    ErrorClass::NotFound => Condition::NotFound,
                    ErrorClass::Forbidden => Condition::Forbidden,
                    _ => Condition::Failing,
                };
                (condition, error.to_string())
            }
            (Outcome::Stalled(stall), _) => (Condition::Failing, self.problem(stall)),
            (Outcome::Auditing, _) => {
                self.repaired.add(tally.written);
                return Ok(());
            }
            (Outcome::Audited, _) => {
                self.repaired.add(tally.written);
                self.log_audit();
                return Ok(());
            }
            _ => return Ok(()),
        };
        tracing::warn!(task, "{problem}");
        self.context
            .store
            .record_failure(&self.task.id, condition, &problem, Timestamp::now())
            .await
    }

    /// What is wrong with the answers of the API.
    fn problem(&self, stall: Stall) -> String {
        let feed = self.machine.feed();
        let (total, offset) = (self.total().unwrap_or_default(), feed.cursor.offset);
        match stall {
            Stall::OffsetIgnored => format!(
                "the API ignores the offset that is asked for: it reports {total} runs, and shows the first ones again"
            ),
            Stall::OtherPage => {
                "the API shows another part of the list than its beginning, which was asked for"
                    .to_owned()
            }
            Stall::NothingBeyond => {
                format!("the API reports {total} runs, but lists none beyond offset {offset}")
            }
            Stall::Undecided => "a great many runs of the list have equal starts or are out of order; the audit was given up, and \
                 does not find which of them are gone"
                .to_owned(),
            Stall::NoProgress => {
                format!("many pages of runs up to offset {offset} have shown nothing new")
            }
        }
    }

    fn log_audit(&mut self) {
        let Written {
            added,
            returned,
            status,
            usage,
            fields,
            removed,
            events,
        } = std::mem::take(&mut self.repaired);
        tracing::info!(
            task = self.task.label(),
            entries = self.audited(),
            found = added,
            returned,
            status,
            usage,
            fields,
            removed,
            events,
            "audited"
        );
    }

    /// Whether runs may be read singly while the pages for which there are rights stay in memory.
    async fn may_read_runs(&self, held: &mut Vec<Held>) -> bool {
        if held.is_empty() {
            return true;
        }
        let kept = self
            .context
            .client
            .memory()
            .keep(std::mem::take(held))
            .await;
        if kept.is_none() {
            let task = self.task.label();
            tracing::warn!(
                task,
                "many audits read runs singly at once; this one goes on after the next poll"
            );
        }
        held.extend(kept);
        !held.is_empty()
    }

    /// Reads the runs `ids` concurrently. A read that fails delays no other run, and counts in `unread`; only a refused
    /// token makes all fail.
    async fn read_runs(
        &self,
        ids: Vec<String>,
        unread: &mut Option<(u64, ApiError)>,
    ) -> Result<Vec<(String, Single)>, ApiError> {
        let reads = ids.into_iter().map(|id| {
            let client = self.context.client.clone();
            async move {
                match client.run(&id).await {
                    Err(error) if error.class() == ErrorClass::TokenRefused => Err(error),
                    read => Ok((id, read)),
                }
            }
        });
        let (reads, refused) = in_order(reads).await;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let runs = reads.into_iter().map(|(id, read)| {
            let single = match read {
                Ok(Some(seen)) => Single::Found(Box::new(seen)),
                Ok(None) => Single::Gone,
                Err(error) => {
                    unread.get_or_insert((0, error)).0 += 1;
                    Single::Failed
                }
            };
            (id, single)
        });
        Ok(runs.collect())
    }
}

fn failed_read(slot: &mut Option<ApiError>, error: ApiError) -> Input {
    let kind = match error.class() {
        ErrorClass::NotFound | ErrorClass::Forbidden => ReadFailure::Unavailable,
        _ => ReadFailure::Temporary,
    };
    *slot = Some(error);
    Input::Failed(kind)
}

/// Runs `reads` concurrently and returns their results in order, up to the first failure; reads after a failure are
/// cancelled. Dropping the future cancels all of them.
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
    (
        results.into_iter().flatten().collect(),
        failed.map(|(_, error)| error),
    )
}
