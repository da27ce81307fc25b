//! Finds the tasks to mirror: resolves references and discovers tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::context::{Context, Plan};
use crate::api::{ApiError, ErrorClass};
use crate::model::{Task, Timestamp};
use crate::store::StoreError;

/// How long a resolved reference is trusted while its task is not found: it may have been deleted and made again under the
/// same name.
const LOST_REFERENCE_MAX_AGE: Duration = Duration::from_secs(60);

/// How long a resolved reference is trusted. A name rarely comes to refer to another task, and resolving it every time
/// would double the requests of a `sync` that finds nothing new.
const REFERENCE_MAX_AGE: Duration = Duration::from_secs(3_600);

/// Shown in place of a reference when the list of tasks cannot be read.
const DISCOVERY: &str = "(every task of the account)";

/// A reference that could not be resolved.
#[derive(Debug)]
pub struct Failure {
    /// The reference as configured.
    pub reference: String,
    /// Why it could not be resolved.
    pub error: ApiError,
}

/// The tasks to mirror.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The tasks that were resolved or discovered.
    pub tasks: Vec<Task>,
    /// The references that could not be resolved.
    pub failures: Vec<Failure>,
    /// Whether discovery succeeded, or was not needed.
    pub complete: bool,
}

impl Wanted {
    /// The ids of all tasks; `None` where they could not be discovered.
    pub fn ids(&self) -> Option<BTreeSet<String>> {
        let ids = self.tasks.iter().map(|task| task.id.clone());
        self.complete.then(|| ids.collect())
    }

    /// Whether some reference leads to no task.
    pub fn has_unresolved(&self) -> bool {
        let discovery = usize::from(!self.complete);
        self.failures.len() > discovery
    }
}

/// Resolves every configured reference, and discovers tasks if the plan asks for it. Two names of one task give one task.
///
/// # Errors
/// When the database fails. References that cannot be resolved are listed beside the tasks.
pub async fn wanted(context: &Context, plan: &Plan) -> Result<Wanted, StoreError> {
    let mut tasks = BTreeMap::new();
    let mut failures = Vec::new();
    context.store.forget_failures_except(&plan.tasks).await?;
    for reference in &plan.tasks {
        match resolve(context, reference).await? {
            Ok(task) => {
                tasks.entry(task.id.clone()).or_insert(task);
            }
            Err(error) => failures.push(Failure {
                reference: reference.clone(),
                error,
            }),
        }
    }
    let mut complete = true;
    if plan.discover_tasks {
        match context.client.tasks().await {
            Ok(discovered) => {
                tasks.extend(discovered.into_iter().map(|task| (task.id.clone(), task)))
            }
            Err(error) => {
                complete = false;
                failures.push(Failure {
                    reference: DISCOVERY.to_owned(),
                    error,
                });
            }
        }
    }
    Ok(Wanted {
        tasks: tasks.into_values().collect(),
        failures,
        complete,
    })
}

/// Resolves again, whatever is known of them, those configured references that lead to the tasks `lost`; returns each lost
/// task that has another in its place by now, with that one.
///
/// # Errors
/// When the database fails.
pub async fn made_again(
    context: &Context,
    plan: &Plan,
    lost: &[String],
) -> Result<Vec<(String, Task)>, StoreError> {
    let mut found = Vec::new();
    if lost.is_empty() {
        return Ok(found);
    }
    for reference in &plan.tasks {
        let (now, always) = (Timestamp::now(), Duration::MAX);
        let known = context.store.resolved(reference, always, always, now);
        let Some((known, _)) = known.await? else {
            continue;
        };
        if !lost.contains(&known.id) {
            continue;
        }
        // A failure was reported by the feed.
        if let Ok(task) = context.client.task(reference).await
            && task.id != known.id
        {
            let saved = context.store.save_reference(reference, Ok(&task), now);
            saved.await?;
            found.push((known.id, task));
        }
    }
    Ok(found)
}

/// Resolves `reference`. If the API does not answer, or no longer knows the name, the last known task is used: it may have
/// been renamed, and keeps its feed. If it was deleted, its feed reports that.
async fn resolve(context: &Context, reference: &str) -> Result<Result<Task, ApiError>, StoreError> {
    let known = context
        .store
        .resolved(
            reference,
            REFERENCE_MAX_AGE,
            LOST_REFERENCE_MAX_AGE,
            Timestamp::now(),
        )
        .await?;
    let known = match known {
        Some((task, true)) => return Ok(Ok(task)),
        Some((task, false)) => Some(task),
        None => None,
    };
    let answer = match (context.client.task(reference).await, known) {
        (Ok(task), _) => Ok(task),
        // Says nothing about the task. Its feed goes on, and is refused too where the token is.
        (Err(error), Some(known)) if error.class() == ErrorClass::TokenRefused => {
            tracing::warn!(
                task = reference,
                id = known.id,
                "{error}; continuing with the task last known by this name"
            );
            return Ok(Ok(known));
        }
        (Err(error), Some(known)) => Ok(renamed(context, reference, known, &error).await),
        (Err(error), _) => Err(error),
    };
    let problem = answer.as_ref().err().map(ToString::to_string);
    let found = answer
        .as_ref()
        .map_err(|_| problem.as_deref().unwrap_or_default());
    context
        .store
        .save_reference(reference, found, Timestamp::now())
        .await?;
    Ok(answer)
}

/// Reads the task `known` by its id, for its current name; falls back to `known`.
async fn renamed(context: &Context, reference: &str, known: Task, error: &ApiError) -> Task {
    match context.client.task(&known.id).await {
        Ok(task) => {
            tracing::warn!(
                task = reference,
                id = task.id,
                "is called {} now; update the configuration",
                task.label()
            );
            task
        }
        Err(_) => {
            tracing::warn!(
                task = reference,
                id = known.id,
                "{error}; continuing with the task last known by this name"
            );
            known
        }
    }
}
