//! `audit`: the whole list of every task compared with the mirror, and an account of what differed.

use serde::Serialize;

use super::error::CliError;
use super::exit::ExitCode;
use super::output::print;
use super::pass::{self, Pass};
use super::setup::Setup;
use super::table::{grouped, table};
use crate::daemon::{FeedReport, Scope};

/// Audits every task at once and prints an account, for people or as JSON.
///
/// # Errors
/// When the pass could not be made at all. Tasks that failed are part of the account and of the exit code.
pub async fn audit(setup: Setup, json: bool) -> Result<ExitCode, CliError> {
    let Some(pass) = pass::make(setup, Scope::Audit).await? else {
        return Ok(ExitCode::Temporary);
    };
    let accounts: Vec<Account> = pass.report.feeds.iter().map(Account::of).collect();
    if json {
        let json = serde_json::to_string_pretty(&accounts).map_err(std::io::Error::from)?;
        print(&format!("{json}\n"))?;
        eprint!("{}", pass.remarks());
    } else {
        let rows: Vec<[String; 9]> = accounts.iter().map(Account::row).collect();
        let heads = [
            "task", "result", "compared", "found", "returned", "status", "usage", "fields",
            "removed",
        ];
        print(
            &(if rows.is_empty() {
                String::new()
            } else {
                table(heads, &rows)
            } + &pass.remarks()),
        )?;
    }
    Ok(pass.exit_code())
}

/// What the audit of one task came to.
#[derive(Debug, Serialize)]
struct Account {
    task_id: String,
    task: String,
    result: &'static str,
    /// Entries of the list that were compared with the mirror.
    compared: u64,
    /// The entry at which an audit that had been interrupted was taken up.
    resumed_at: u64,
    repaired: Repaired,
    events: u64,
}

/// Rows that differed, by what differed most.
#[derive(Debug, Serialize)]
struct Repaired {
    /// Listed, but not in the mirror.
    found: u64,
    /// Listed, but marked as removed.
    returned: u64,
    /// Another status.
    status: u64,
    /// Another cost.
    usage: u64,
    /// Anything else.
    fields: u64,
    /// No longer listed.
    removed: u64,
}

impl Account {
    fn of(feed: &FeedReport) -> Self {
        let audit = feed.audit.unwrap_or_default();
        let written = audit.repaired;
        Self {
            task_id: feed.task.id.clone(),
            task: feed.task.label(),
            result: Pass::result(feed.outcome),
            compared: audit.compared,
            resumed_at: audit.resumed_at,
            repaired: Repaired {
                found: written.added,
                returned: written.returned,
                status: written.status,
                usage: written.usage,
                fields: written.fields,
                removed: written.removed,
            },
            events: written.events,
        }
    }

    fn row(&self) -> [String; 9] {
        let Repaired {
            found,
            returned,
            status,
            usage,
            fields,
            removed,
        } = self.repaired;
        let [compared, found, returned, status, usage, fields, removed] = [
            self.compared,
            found,
            returned,
            status,
            usage,
            fields,
            removed,
        ]
        .map(grouped);
        [
            self.task.clone(),
            self.result.to_owned(),
            compared,
            found,
            returned,
            status,
            usage,
            fields,
            removed,
        ]
    }
}
