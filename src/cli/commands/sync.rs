//! `sync`: one pass, a summary, and an exit code that cron can act on.

use std::time::{Duration, Instant};

use indicatif::HumanCount;
use serde::Serialize;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{Globals, TaskArgs, time};
use crate::cli::help;
use crate::cli::output::{print_error, print_styled, to_json};
use crate::cli::pass::{self, Pass, result};
use crate::cli::setup::{self, Events, Setup};
use crate::cli::table::{Table, count_or_dash};
use crate::config::Settings;
use crate::daemon::{FeedReport, Progress, Scope, on_signals};
use crate::options::Environment;
use crate::store::{SqliteStore, StoreError};

/// How often to look whether another process still holds the database.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "mirror a task into a new database",
                "APIFY_TOKEN=... apify-mirror sync --task janedoe~my-task --db runs.db",
            ),
            (
                "from cron, every five minutes; mails only when something is wrong",
                "*/5 * * * * /usr/bin/apify-mirror sync -q --config /etc/apify-mirror/config.toml",
            ),
            (
                "every task of the account, with a summary for programs",
                "apify-mirror sync --all-tasks --json",
            ),
            (
                "wait for another instance instead of leaving the work to it",
                "apify-mirror sync --wait 10m",
            ),
        ],
        &[
            (ExitCode::SomeTasksFailed, None),
            (
                ExitCode::Locked,
                Some(
                    "another instance holds the database, and does the work; with -q nothing is printed",
                ),
            ),
            (ExitCode::Storage, None),
            (
                ExitCode::Temporary,
                Some(
                    "temporary: the API is unreachable or throttles, or a sink is still owed events; try again",
                ),
            ),
            (ExitCode::Token, None),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `sync`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    tasks: TaskArgs,
    /// Print the summary as JSON, and no event unless a sink is configured for them
    #[arg(long)]
    json: bool,
    /// Wait so long, such as 30s or 10m, while another instance holds the database
    #[arg(long, value_name = "TIME", value_parser = time)]
    wait: Option<Duration>,
}

/// Brings every task up to date once and prints a summary.
///
/// With `-q` nothing is printed when all is well, an overlap with another instance included, so that cron sends no mail.
///
/// # Errors
/// When the pass cannot begin, or the database fails. Tasks that failed are part of the summary and of the exit code.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let (settings, progress) = setup::begin(globals, environment, &args.tasks)?;
    let quiet = globals.quiet > 0;
    let events = match quiet || args.json {
        true => Events::NotPrintedUnasked,
        false => Events::Delivered,
    };
    let shutdown = on_signals()?;
    let opened = tokio::select! {
        opened = open(&settings, environment, progress, events, args.wait) => opened,
        () = shutdown.cancelled() => return Ok(ExitCode::Temporary),
    };
    let setup = match opened {
        // The other instance does the work. Only one that takes longer than was allowed for is worth a line.
        Err(CliError::Store(StoreError::Locked { .. })) if quiet && args.wait.is_none() => {
            return Ok(ExitCode::Locked);
        }
        setup => setup?,
    };
    let Some(pass) = pass::make(setup, Scope::CatchUp, &shutdown).await? else {
        return Ok(ExitCode::Temporary);
    };
    let code = pass.exit_code();
    if quiet && code == ExitCode::Ok {
        return Ok(code);
    }
    let summary = match args.json {
        true => to_json(&Summary::of(&pass, code))?,
        false => summary(&pass),
    };
    if pass.events_on_stdout {
        print_error(&summary);
    } else {
        print_styled(&summary)?;
    }
    Ok(code)
}

/// As [`Setup::open`], once no other instance holds the database; waits for that for at most `wait`.
async fn open(
    settings: &Settings,
    environment: &Environment,
    progress: Progress,
    events: Events,
    wait: Option<Duration>,
) -> Result<Setup, CliError> {
    let began = Instant::now();
    let left = || wait.unwrap_or_default().saturating_sub(began.elapsed());
    let mut told = false;
    loop {
        // Waits first: where root opens another user's database, it goes on as that user and cannot read the token again.
        while !left().is_zero() && SqliteStore::is_held(&settings.database) {
            if !told {
                tracing::info!("another instance holds the database; waiting for its end");
                told = true;
            }
            tokio::time::sleep(LOOK_EVERY.min(left())).await;
        }
        match Setup::open(settings, environment, progress.clone(), events).await {
            // Another was faster, or whether one holds it cannot be found out.
            Err(CliError::Store(StoreError::Locked { .. })) if !left().is_zero() => {
                tokio::time::sleep(LOOK_EVERY.min(left())).await;
            }
            opened => return opened,
        }
    }
}

/// What `sync --json` prints.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    exit_code: u8,
    tasks: Vec<TaskSummary>,
    /// Names that mean no task.
    unresolved: Vec<UnresolvedSummary<'a>>,
    /// What configured sinks are still owed.
    sinks: Vec<SinkSummary<'a>>,
    requests: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct TaskSummary {
    task_id: String,
    task: String,
    result: &'static str,
    listed: Option<u64>,
    new: u64,
    changed: u64,
    removed: u64,
    events: u64,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct UnresolvedSummary<'a> {
    #[serde(rename = "ref")]
    reference: &'a str,
    error: String,
}

#[derive(Debug, Serialize)]
struct SinkSummary<'a> {
    name: &'a str,
    pending: u64,
    dead: u64,
    last_error: Option<&'a str>,
}

impl<'a> Summary<'a> {
    fn of(pass: &'a Pass, code: ExitCode) -> Self {
        let report = &pass.report;
        let unresolved = report.unresolved.iter().map(|failure| UnresolvedSummary {
            reference: &failure.reference,
            error: failure.error.to_string(),
        });
        let sinks = report.owed.iter().map(|sink| SinkSummary {
            name: &sink.name,
            pending: sink.pending,
            dead: sink.dead,
            last_error: sink.last_error.as_deref(),
        });
        Self {
            exit_code: code as u8,
            tasks: report.feeds.iter().map(TaskSummary::of).collect(),
            unresolved: unresolved.collect(),
            sinks: sinks.collect(),
            requests: pass.requests,
            // To the millisecond.
            seconds: pass.took.as_millis() as f64 / 1_000.0,
        }
    }
}

impl TaskSummary {
    fn of(feed: &FeedReport) -> Self {
        Self {
            task_id: feed.task.id.clone(),
            task: feed.task.label(),
            result: result(feed.outcome),
            listed: feed.total,
            new: feed.written.added,
            changed: feed.written.changed(),
            removed: feed.written.removed,
            events: feed.written.events,
            error: feed.error.as_ref().map(ToString::to_string),
        }
    }
}

fn summary(pass: &Pass) -> String {
    let table = Table::of(&pass.report.feeds)
        .column("task", |feed| feed.task.label())
        .styled(
            "result",
            |feed| result(feed.outcome),
            |feed| pass::style(feed.outcome),
        )
        .column("listed", |feed| count_or_dash(feed.total))
        .column("new", |feed| HumanCount(feed.written.added))
        .column("changed", |feed| HumanCount(feed.written.changed()))
        .column("removed", |feed| HumanCount(feed.written.removed))
        .column("events", |feed| HumanCount(feed.written.events));
    format!("{table}{}", pass.remarks())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::plain;
    use crate::cli::pass::tests::{feed, pass};
    use crate::daemon::FeedReport;
    use crate::store::Written;
    use crate::sync::Outcome;
    use insta::assert_snapshot;

    #[test]
    fn a_summary_is_a_table_with_remarks() {
        let busy = FeedReport {
            written: Written {
                added: 1_234,
                returned: 1,
                status: 20,
                usage: 300,
                fields: 4_000,
                removed: 5,
                events: 60_000,
            },
            total: Some(1_234_567),
            ..feed("my-task", Outcome::CaughtUp)
        };
        let pass = pass(vec![busy, feed("other", Outcome::Failed)], Vec::new());
        assert_snapshot!(plain(&summary(&pass)), @r"
        task             result         listed    new  changed  removed  events
        janedoe~my-task  up to date  1,234,567  1,234    4,321        5  60,000
        janedoe~other    failed              -      0        0        0       0
        1,234 requests in 5.7 s
        ");
    }

    #[test]
    fn a_summary_without_tasks_is_its_remarks() {
        assert_snapshot!(summary(&pass(Vec::new(), Vec::new())), @"1,234 requests in 5.7 s");
    }

    #[test]
    fn programs_get_every_number_by_name() {
        let busy = FeedReport {
            written: Written {
                added: 7,
                ..Written::default()
            },
            total: Some(9),
            ..feed("my-task", Outcome::CaughtUp)
        };
        let pass = pass(vec![busy], Vec::new());
        let json = to_json(&Summary::of(&pass, ExitCode::Ok)).unwrap();
        assert_snapshot!(json, @r#"
        {
          "exit_code": 0,
          "tasks": [
            {
              "task_id": "id-of-my-task",
              "task": "janedoe~my-task",
              "result": "up to date",
              "listed": 9,
              "new": 7,
              "changed": 0,
              "removed": 0,
              "events": 0,
              "error": null
            }
          ],
          "unresolved": [],
          "sinks": [],
          "requests": 1234,
          "seconds": 5.678
        }
        "#);
    }
}
