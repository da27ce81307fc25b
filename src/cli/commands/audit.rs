//! `audit`: compares the whole list of every task with the mirror, and prints what differed.

use std::time::{Duration, Instant};

use indicatif::HumanCount;
use serde::Serialize;

use crate::cli::ask::{self, Asked};
use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{Globals, TaskArgs};
use crate::cli::help;
use crate::cli::output::{line, print_error, print_json, print_styled};
use crate::cli::pass::{self, result, severity};
use crate::cli::setup::{self, Events, Setup};
use crate::cli::styles::{BAD, GOOD};
use crate::cli::table::Table;
use crate::daemon::{AuditAnswer, AuditEnd, FeedReport, Scope, on_signals};
use crate::model::Task;
use crate::options::Environment;
use crate::store::{SqliteStore, StoreError};

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "compare everything, beside a running daemon too",
                "apify-mirror audit",
            ),
            (
                "one task, for programs",
                "apify-mirror audit --task janedoe~my-task --json",
            ),
        ],
        &[
            (ExitCode::SomeTasksFailed, None),
            (ExitCode::Locked, None),
            (ExitCode::Storage, None),
            (ExitCode::Temporary, None),
            (ExitCode::Token, None),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    tasks: TaskArgs,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

/// Audits every task at once, or has the daemon do so that holds the database, and prints what was found, for people or
/// as JSON.
///
/// # Errors
/// When the pass cannot begin, or the database fails. Tasks that failed are part of what is printed and of the exit code.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let (settings, progress) = setup::begin(globals, environment, &args.tasks)?;
    let began = Instant::now();
    loop {
        if !SqliteStore::is_held(&settings.database) {
            match Setup::open(&settings, environment, progress.clone(), Events::Kept).await {
                // Another process was faster.
                Err(CliError::Store(StoreError::Locked { .. })) => {}
                setup => return by_itself(setup?, args.json).await,
            }
        }
        match ask::audit(&settings, &progress).await? {
            Asked::Answered(answers) => return answered(&answers, began.elapsed(), args.json),
            Asked::Interrupted => return Ok(ExitCode::Temporary),
            Asked::NobodyThere => {}
        }
    }
}

async fn by_itself(setup: Setup, json: bool) -> Result<ExitCode, CliError> {
    let Some(pass) = pass::make(setup, Scope::Audit, &on_signals()?).await? else {
        return Ok(ExitCode::Temporary);
    };
    let findings: Vec<Finding> = pass.report.feeds.iter().map(Finding::of).collect();
    report(&findings, &pass.remarks(), json)?;
    Ok(pass.exit_code())
}

fn answered(
    answers: &[(Task, AuditAnswer)],
    took: Duration,
    json: bool,
) -> Result<ExitCode, CliError> {
    let findings: Vec<Finding> = answers.iter().map(Finding::answered).collect();
    let errors = answers.iter().filter_map(|(task, answer)| {
        let error = answer.error.as_ref()?;
        Some(line(format_args!("{}: {error}", task.label())))
    });
    let took = format!("by the running daemon in {:.1} s\n", took.as_secs_f64());
    let remarks: String = errors.chain([took]).collect();
    report(&findings, &remarks, json)?;
    let codes = answers.iter().map(|(_, answer)| code_of(answer.end));
    Ok(codes
        .min_by_key(|code| severity(*code))
        .unwrap_or(ExitCode::Ok))
}

fn code_of(end: AuditEnd) -> ExitCode {
    match end {
        AuditEnd::Audited => ExitCode::Ok,
        AuditEnd::Stalled | AuditEnd::Unfinished | AuditEnd::Failed => ExitCode::Temporary,
        AuditEnd::TokenRefused => ExitCode::Token,
        AuditEnd::Lost => ExitCode::SomeTasksFailed,
        AuditEnd::Unexpected => ExitCode::Unexpected,
    }
}

fn report(findings: &[Finding], remarks: &str, json: bool) -> Result<(), CliError> {
    if json {
        print_json(&findings)?;
        print_error(remarks);
    } else {
        print_styled(&(table(findings) + remarks))?;
    }
    Ok(())
}

/// What the audit of one task found.
#[derive(Debug, Serialize)]
struct Finding {
    task_id: String,
    task: String,
    result: &'static str,
    /// Entries of the list that were compared with the mirror.
    compared: u64,
    /// Always 0: an audit on request begins at the first entry.
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
            result: match audit.unfinished {
                true => "unfinished",
                false => result(feed.outcome),
            },
            compared: audit.compared,
            resumed_at: 0,
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

    fn answered((task, answer): &(Task, AuditAnswer)) -> Self {
        Self {
            task_id: task.id.clone(),
            task: task.label(),
            result: match answer.end {
                AuditEnd::Audited => "audited",
                AuditEnd::Stalled => "stalled",
                AuditEnd::Unfinished => "unfinished",
                _ => "failed",
            },
            compared: answer.compared,
            resumed_at: 0,
            repaired: Repaired {
                found: answer.found,
                returned: answer.returned,
                status: answer.status,
                usage: answer.usage,
                fields: answer.fields,
                removed: answer.removed,
            },
            events: answer.events,
        }
    }
}

fn table(findings: &[Finding]) -> String {
    Table::of(findings)
        .column("task", |finding| &finding.task)
        .styled(
            "result",
            |finding| finding.result,
            |finding| match finding.result {
                "audited" => GOOD,
                _ => BAD,
            },
        )
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
    use crate::cli::output::plain;
    use crate::cli::pass::tests::feed;
    use crate::daemon::AuditReport;
    use crate::store::Written;
    use crate::sync::Outcome;
    use insta::assert_snapshot;

    fn findings() -> Vec<Finding> {
        let audited = FeedReport {
            audit: Some(AuditReport {
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
                unfinished: false,
            }),
            ..feed("my-task", Outcome::Audited)
        };
        let feeds = [audited, feed("other", Outcome::Failed)];
        feeds.iter().map(Finding::of).collect()
    }

    #[test]
    fn people_get_a_table() {
        assert_snapshot!(plain(&table(&findings())), @r"
        task             result   compared  found  returned  status  usage  fields  removed
        janedoe~my-task  audited     1,234      1         2       3      4   5,000        6
        janedoe~other    failed          0      0         0       0      0       0        0
        ");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn an_audit_that_could_not_compare_everything_is_unfinished() {
        let mut unfinished = feed("my-task", Outcome::Audited);
        unfinished.audit = Some(AuditReport {
            unfinished: true,
            ..AuditReport::default()
        });
        assert_eq!(Finding::of(&unfinished).result, "unfinished");
        let pass = pass::tests::pass(vec![unfinished], Vec::new());
        assert_eq!(pass.exit_code(), ExitCode::Temporary);
        assert!(
            pass.remarks()
                .starts_with("janedoe~my-task: the list leaves out")
        );
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
          "resumed_at": 0,
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
