//! `sync`: one pass, a summary, and an exit code that cron can act on.

use indicatif::HumanCount;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{Globals, TaskArgs};
use crate::cli::output::{print, print_error};
use crate::cli::pass::{self, Pass, result};
use crate::cli::setup::Setup;
use crate::cli::table::{Table, count_or_dash};
use crate::daemon::Scope;
use crate::options::Environment;

/// The flags of `sync`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    tasks: TaskArgs,
}

/// Brings every task up to date once and prints a summary.
///
/// # Errors
/// When the pass cannot begin, or the database fails. Tasks that failed are part of the summary and of the exit code.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let (setup, _) = Setup::from_flags(globals, environment, &args.tasks).await?;
    let Some(pass) = pass::make(setup, Scope::CatchUp).await? else {
        return Ok(ExitCode::Temporary);
    };
    let summary = summary(&pass);
    if pass.events_on_stdout {
        print_error(&summary);
    } else {
        print(&summary)?;
    }
    Ok(pass.exit_code())
}

fn summary(pass: &Pass) -> String {
    let table = Table::of(&pass.report.feeds)
        .column("task", |feed| feed.task.label())
        .column("result", |feed| result(feed.outcome))
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
        assert_snapshot!(summary(&pass), @r"
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
}
