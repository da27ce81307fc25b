//! `audit`: compares the whole list of every task with the mirror, and prints what differed.

use indicatif::HumanCount;
use serde::Serialize;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{Globals, TaskArgs};
use crate::cli::output::{print, print_json};
use crate::cli::pass::{self, result};
use crate::cli::setup::Setup;
use crate::cli::table::Table;
use crate::daemon::{FeedReport, Scope};
use crate::options::Environment;

/// The flags of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    tasks: TaskArgs,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Audits every task at once and prints what was found, for people or as JSON.
///
/// # Errors
/// When the pass cannot begin, or the database fails. Tasks that failed are part of what is printed and of the exit code.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let (setup, _) = Setup::from_flags(globals, environment, &args.tasks, false).await?;
    let Some(pass) = pass::make(setup, Scope::Audit).await? else {
        return Ok(ExitCode::Temporary);
    };
    let findings: Vec<Finding> = pass.report.feeds.iter().map(Finding::of).collect();
    if args.json {
        print_json(&findings)?;
        eprint!("{}", pass.remarks());
    } else {
        print(&(table(&findings) + &pass.remarks()))?;
    }
    Ok(pass.exit_code())
}

/// What the audit of one task found.
#[derive(Debug, Serialize)]
struct Finding {
    task_id: String,
    task: String,
    result: &'static str,
    /// Entries of the list that were compared with the mirror.
    compared: u64,
    /// The entry at which an interrupted audit went on.
    resumed_at: u64,
    repaired: Repaired,
    events: u64,
}

/// Rows that differed, by their most important difference.
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

impl Finding {
    fn of(feed: &FeedReport) -> Self {
        let audit = feed.audit.unwrap_or_default();
        let written = audit.repaired;
        Self {
            task_id: feed.task.id.clone(),
            task: feed.task.label(),
            result: result(feed.outcome),
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
}

fn table(findings: &[Finding]) -> String {
    Table::of(findings)
        .column("task", |finding| &finding.task)
        .column("result", |finding| finding.result)
        .column("compared", |finding| HumanCount(finding.compared))
        .column("found", |finding| HumanCount(finding.repaired.found))
        .column("returned", |finding| HumanCount(finding.repaired.returned))
        .column("status", |finding| HumanCount(finding.repaired.status))
        .column("usage", |finding| HumanCount(finding.repaired.usage))
        .column("fields", |finding| HumanCount(finding.repaired.fields))
        .column("removed", |finding| HumanCount(finding.repaired.removed))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pass::tests::feed;
    use crate::daemon::AuditReport;
    use crate::store::Written;
    use crate::sync::Outcome;
    use insta::assert_snapshot;

    fn findings() -> Vec<Finding> {
        let audited = FeedReport {
            audit: Some(AuditReport {
                resumed_at: 1_000,
                compared: 1_234,
                repaired: Written {
                    added: 1,
                    returned: 2,
                    status: 3,
                    usage: 4,
                    fields: 5_000,
                    removed: 6,
                    events: 7,
                },
            }),
            ..feed("my-task", Outcome::Audited)
        };
        let feeds = [audited, feed("other", Outcome::Failed)];
        feeds.iter().map(Finding::of).collect()
    }

    #[test]
    fn people_get_a_table() {
        assert_snapshot!(table(&findings()), @r"
        task             result   compared  found  returned  status  usage  fields  removed
        janedoe~my-task  audited     1,234      1         2       3      4   5,000        6
        janedoe~other    failed          0      0         0       0      0       0        0
        ");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn programs_get_every_number_by_name() {
        let json = serde_json::to_string_pretty(&findings()[0]).unwrap();
        assert_snapshot!(json, @r#"
        {
          "task_id": "id-of-my-task",
          "task": "janedoe~my-task",
          "result": "audited",
          "compared": 1234,
          "resumed_at": 1000,
          "repaired": {
            "found": 1,
            "returned": 2,
            "status": 3,
            "usage": 4,
            "fields": 5000,
            "removed": 6
          },
          "events": 7
        }
        "#);
    }
}
