//! `deliveries`: events that could not be delivered, to look at, try again, or give up.

use std::path::Path;

use super::args::{Chosen, DeliveriesAction};
use super::error::CliError;
use super::exit::ExitCode;
use super::output::print;
use super::table::{counted, table};
use crate::model::Timestamp;
use crate::store::{Delivery, Reader, Selection, SqliteReader, SqliteStore, Store, Which};

/// Does what `action` says with the deliveries in the mirror at `database`, beside a daemon or without one.
///
/// # Errors
/// When the database cannot be used.
pub async fn deliveries(database: &Path, action: &DeliveriesAction) -> Result<ExitCode, CliError> {
    let now = Timestamp::now();
    match action {
        DeliveriesAction::List {
            sink,
            all,
            limit,
            json,
        } => {
            let which = if *all { Which::All } else { Which::Failed };
            let selection = Selection {
                sink: sink.clone(),
                seqs: Vec::new(),
                which,
            };
            let found = SqliteReader::open(database)?
                .deliveries(&selection, *limit)
                .await?;
            print(&if *json {
                as_json(&found)?
            } else {
                as_table(&found)
            })?;
        }
        DeliveriesAction::Retry { which } => {
            let selection = which.selection(Which::Failed);
            let (store, writer) = SqliteStore::open_beside(database)?;
            let retried = store.retry_deliveries(&selection, now).await?;
            drop(store);
            writer.join();
            print(&format!(
                "{} to be tried again\n",
                counted(retried, "delivery")
            ))?;
        }
        DeliveriesAction::Drop { which, pending } => {
            // Who names an event means it, whatever became of it.
            let states = if *pending || !which.all {
                Which::All
            } else {
                Which::Dead
            };
            let (store, writer) = SqliteStore::open_beside(database)?;
            let dropped = store.drop_deliveries(&which.selection(states), now).await?;
            drop(store);
            writer.join();
            print(&format!("{} dropped\n", counted(dropped, "delivery")))?;
        }
    }
    Ok(ExitCode::Ok)
}

impl Chosen {
    fn selection(&self, which: Which) -> Selection {
        Selection {
            sink: self.sink.clone(),
            seqs: self.seqs.clone(),
            which,
        }
    }
}

fn as_json(found: &[Delivery]) -> Result<String, CliError> {
    Ok(serde_json::to_string_pretty(found).map_err(std::io::Error::from)? + "\n")
}

fn as_table(found: &[Delivery]) -> String {
    if found.is_empty() {
        return "nothing is in the way of any delivery\n".to_owned();
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let rows: Vec<[String; 9]> = found
        .iter()
        .map(|delivery| {
            [
                delivery.seq.to_string(),
                delivery.sink.clone(),
                delivery.r#type.clone(),
                delivery.run_id.clone(),
                delivery.state.to_string(),
                delivery.attempts.to_string(),
                text(&delivery.last_attempt_at),
                text(&delivery.due_at),
                text(&delivery.last_error),
            ]
        })
        .collect();
    table(
        [
            "seq",
            "sink",
            "type",
            "run",
            "state",
            "attempts",
            "last attempt",
            "next attempt",
            "error",
        ],
        &rows,
    )
}
