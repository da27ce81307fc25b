//! Asks the daemon that holds the database for an audit, through the database, and waits for its answer.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::CliError;
use super::setup::close;
use crate::config::Settings;
use crate::daemon::{AuditAnswer, Progress, on_signals};
use crate::model::{Task, Timestamp};
use crate::store::{AuditRequest, Reader, SqliteReader, SqliteStore, Store, StoreError};

/// How often to look for the answer.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long to wait for an audit to begin. A process that polls may have to end a read first; `sync` and `audit` answer
/// nobody.
const BEGIN_WITHIN: Duration = Duration::from_secs(120);

/// What became of the request.
pub enum Asked {
    /// The daemon's answers, in the order of the tasks.
    Answered(Vec<(Task, AuditAnswer)>),
    /// The process that held the database has ended, and began no audit: there is no daemon to ask.
    NobodyThere,
    /// SIGTERM or SIGINT came.
    Interrupted,
}

/// An audit that was asked for.
struct Request {
    task: Task,
    id: i64,
    begun: bool,
    answer: Option<AuditAnswer>,
}

/// Asks for an audit of the tasks that `settings` name, and waits until all are over.
///
/// # Errors
/// When the database cannot be used, the mirror does not know a task, or the daemon ends before it has answered.
pub async fn audit(settings: &Settings, progress: &Progress) -> Result<Asked, CliError> {
    let path = &settings.database;
    let shutdown = on_signals()?;
    let (store, writer) = SqliteStore::open_beside(path)?;
    let reader = store.reader(path)?;
    let asked = tokio::select! {
        asked = ask_and_wait(&store, &reader, settings, progress) => asked,
        never = progress.keep_telling(false, || None) => match never {},
        () = shutdown.cancelled() => {
            tracing::warn!("interrupted; the daemon makes the audit nevertheless, `status` shows when the last one ended");
            Ok(Asked::Interrupted)
        }
    };
    progress.clear();
    drop((store, reader));
    close(writer).await;
    asked
}

async fn ask_and_wait(
    store: &SqliteStore,
    reader: &SqliteReader,
    settings: &Settings,
    progress: &Progress,
) -> Result<Asked, CliError> {
    let mut requests = Vec::new();
    for task in tasks(reader, settings).await? {
        let id = store.request_audit(&task.id, Timestamp::now()).await?;
        requests.push(Request {
            task,
            id,
            begun: false,
            answer: None,
        });
    }
    progress.expect(requests.len());
    tracing::info!("another process holds the database: asking it for the audit");
    let asked = Instant::now();
    loop {
        // Before the answers: one that is given just before the process ends counts.
        let is_held = SqliteStore::is_held(&settings.database);
        for request in requests.iter_mut().filter(|it| it.answer.is_none()) {
            request.look(reader, progress).await?;
        }
        if requests.iter().all(|request| request.answer.is_some()) {
            return Ok(Asked::Answered(answers(requests)));
        }
        let begun = requests.iter().any(|request| request.begun);
        match (is_held, begun) {
            (false, true) => return Err(CliError::DaemonEnded),
            (false, false) => return Ok(Asked::NobodyThere),
            (true, false) if asked.elapsed() > BEGIN_WITHIN => {
                return Err(locked(&settings.database));
            }
            (true, _) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// The tasks to audit, as far as the mirror knows them.
async fn tasks(reader: &SqliteReader, settings: &Settings) -> Result<Vec<Task>, CliError> {
    let overview = reader.overview(Timestamp::now()).await?;
    let mut known: Vec<Task> = overview
        .tasks
        .into_iter()
        .map(|status| Task {
            id: status.id,
            name: status.name,
            username: status.username,
            ..Task::default()
        })
        .collect();
    if settings.discover_tasks {
        return Ok(known);
    }
    let mut wanted = Vec::new();
    for reference in &settings.tasks {
        let unknown = || CliError::UnknownTask {
            reference: reference.clone(),
        };
        wanted.push(reader.known_task(reference).await?.ok_or_else(unknown)?);
    }
    known.retain(|task| wanted.contains(&task.id));
    Ok(known)
}

impl Request {
    /// Looks for the answer, and shows how far the audit is.
    async fn look(&mut self, reader: &SqliteReader, progress: &Progress) -> Result<(), CliError> {
        let request = reader.audit_request(self.id).await?;
        // Requests are removed after a day.
        let AuditRequest { begun, result } = request.ok_or(CliError::DaemonEnded)?;
        self.begun |= begun;
        if let Some(json) = result {
            let corrupt = |_| StoreError::Corrupt {
                what: "audit_requests.result",
                value: json.clone(),
            };
            self.answer = Some(serde_json::from_str(&json).map_err(corrupt)?);
            progress.done(&self.task.id);
        } else if begun
            && let Some(feed) = reader.feed(&self.task.id).await?
            && let Some(audit) = feed.audit
        {
            progress.show(&self.task, 0, audit.cursor.offset, feed.total);
        }
        Ok(())
    }
}

fn answers(requests: Vec<Request>) -> Vec<(Task, AuditAnswer)> {
    let answers = requests
        .into_iter()
        .map(|request| Some((request.task, request.answer?)));
    answers.flatten().collect()
}

fn locked(path: &Path) -> CliError {
    CliError::Store(StoreError::Locked {
        path: path.to_owned(),
    })
}
