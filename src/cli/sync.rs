//! `sync`: one pass, a summary, an exit code that cron can act on.

use super::error::CliError;
use super::exit::ExitCode;
use super::output::print;
use super::pass::{self, Pass};
use super::setup::Setup;
use super::table::{grouped, table};
use crate::daemon::{FeedReport, Scope};

/// Brings every task up to date once and prints what that came to.
///
/// # Errors
/// When the pass could not be made at all. Tasks that failed are part of the summary and of the exit code.
pub async fn sync(setup: Setup) -> Result<ExitCode, CliError> {
    let Some(pass) = pass::make(setup, Scope::CatchUp).await? else {
        return Ok(ExitCode::Temporary);
    };
    let summary = summary(&pass);
    if pass.events_on_stdout {
        eprint!("{summary}");
    } else {
        print(&summary)?;
    }
    Ok(pass.exit_code())
}

fn summary(pass: &Pass) -> String {
    let rows: Vec<[String; 7]> = pass.report.feeds.iter().map(row).collect();
    let table = match rows.as_slice() {
        [] => String::new(),
        rows => table(
            [
                "task", "result", "listed", "new", "changed", "removed", "events",
            ],
            rows,
        ),
    };
    table + &pass.remarks()
}

fn row(feed: &FeedReport) -> [String; 7] {
    let written = feed.written;
    [
        feed.task.label(),
        Pass::result(feed.outcome).to_owned(),
        feed.total.map_or_else(|| "-".to_owned(), grouped),
        grouped(written.added),
        grouped(written.changed()),
        grouped(written.removed),
        grouped(written.events),
    ]
}
