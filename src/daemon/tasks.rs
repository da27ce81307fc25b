//! Which tasks are meant: references resolved to tasks, and tasks discovered.

use std::collections::BTreeMap;
use std::time::Duration;

use super::context::Context;
use crate::api::ApiError;
use crate::model::{Task, Timestamp};
use crate::store::StoreError;

/// How long a resolved reference is believed. A name can come to mean another task, but rarely does; asking every time
/// would double the requests of a `sync` that finds nothing new.
const REFERENCE_MAX_AGE: Duration = Duration::from_secs(3_600);

/// What stands for the list of tasks where a reference is named.
const DISCOVERY: &str = "(every task of the account)";

/// A reference that could not be resolved.
#[derive(Debug)]
pub struct Failure {
    /// The reference as configured.
    pub reference: String,
    /// Why.
    pub error: ApiError,
}

/// Resolves every configured reference and discovers tasks if that is wanted. Two names of one task give one task.
///
/// # Errors
/// When the database fails. References that cannot be resolved are told beside the tasks.
pub async fn wanted(context: &Context) -> Result<(Vec<Task>, Vec<Failure>), StoreError> {
    let mut tasks = BTreeMap::new();
    let mut failures = Vec::new();
    for reference in &context.options.tasks {
        match resolve(context, reference).await? {
            Ok(task) => {
                tasks.entry(task.id.clone()).or_insert(task);
            }
            Err(error) => failures.push(Failure { reference: reference.clone(), error }),
        }
    }
    if context.options.discover_tasks {
        match context.client.tasks().await {
            Ok(discovered) => tasks.extend(discovered.into_iter().map(|task| (task.id.clone(), task))),
            Err(error) => failures.push(Failure { reference: DISCOVERY.to_owned(), error }),
        }
    }
    Ok((tasks.into_values().collect(), failures))
}

async fn resolve(context: &Context, reference: &str) -> Result<Result<Task, ApiError>, StoreError> {
    let name = reference.to_owned();
    let known = context.store.call(move |db| db.resolved(&name, REFERENCE_MAX_AGE, Timestamp::now())).await?;
    if let Some(task) = known {
        return Ok(Ok(task));
    }
    let answer = context.client.task(reference).await;
    let name = reference.to_owned();
    let noted = match &answer {
        Ok(task) => Ok(task.clone()),
        Err(error) => Err(error.to_string()),
    };
    context
        .store
        .call(move |db| {
            let now = Timestamp::now();
            match &noted {
                Ok(task) => {
                    db.save_task(task, now)?;
                    db.save_reference(&name, Ok(&task.id), now)
                }
                Err(error) => db.save_reference(&name, Err(error), now),
            }
        })
        .await?;
    Ok(answer)
}
