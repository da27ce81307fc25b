//! `sync`: one pass, a summary, an exit code that cron can act on.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::error::{CliError, code_of};
use super::exit::ExitCode;
use super::output::print;
use super::setup::{Setup, close};
use super::table::{counted, grouped, table};
use crate::daemon::{FeedReport, Report, on_signals, pass};
use crate::sync::Outcome;

/// Brings every task up to date once and prints what that came to.
///
/// # Errors
/// When the pass could not be made at all. Tasks that failed are part of the summary and of the exit code.
pub async fn sync(setup: Setup) -> Result<ExitCode, CliError> {
    let began = Instant::now();
    let mut shutdown = on_signals()?;
    let Setup { context, couriers, writer } = setup;
    // Where events go to standard output, programs read it: the summary goes beside them.
    let events_on_stdout = !couriers.is_empty();
    let client = context.client.clone();
    let report = tokio::select! {
        report = pass(context, couriers) => report?,
        () = shutdown.asked() => {
            close(writer).await;
            tracing::warn!("interrupted; what was read is kept, the next sync goes on from there");
            return Ok(ExitCode::Temporary);
        }
    };
    close(writer).await;
    let summary = summary(&report, client.requests(), began.elapsed());
    if events_on_stdout {
        eprint!("{summary}");
    } else {
        print(&summary)?;
    }
    Ok(exit_code(&report))
}

fn summary(report: &Report, requests: u64, took: Duration) -> String {
    let rows: Vec<[String; 7]> = report.feeds.iter().map(row).collect();
    let mut text = String::new();
    if !rows.is_empty() {
        text = table(["task", "result", "listed", "new", "changed", "removed", "events"], &rows);
    }
    for failure in &report.unresolved {
        let _ = writeln!(text, "{}: {}", failure.reference, failure.error);
    }
    for feed in &report.feeds {
        if let Some(error) = &feed.error {
            let _ = writeln!(text, "{}: {error}", feed.task.label());
        }
    }
    for sink in &report.refused {
        let _ = writeln!(text, "sink {sink}: would not take its events; they stay due");
    }
    let _ = writeln!(text, "{} in {:.1} s", counted(requests, "request"), took.as_secs_f64());
    text
}

fn row(feed: &FeedReport) -> [String; 7] {
    let result = match feed.outcome {
        Outcome::CaughtUp => "up to date",
        Outcome::Behind => "behind",
        Outcome::Stalled => "stalled",
        Outcome::Failed => "failed",
    };
    let written = feed.written;
    [
        feed.task.label(),
        result.to_owned(),
        feed.total.map_or_else(|| "-".to_owned(), grouped),
        grouped(written.added),
        grouped(written.updated),
        grouped(written.removed),
        grouped(written.events),
    ]
}

/// The code of the worst that happened: what somebody must mend comes before what may mend itself.
fn exit_code(report: &Report) -> ExitCode {
    let stalled = report.feeds.iter().any(|feed| feed.outcome == Outcome::Stalled);
    let codes = report.errors().map(code_of).chain(stalled.then_some(ExitCode::Temporary));
    codes.min_by_key(|code| severity(*code)).unwrap_or(ExitCode::Ok)
}

fn severity(code: ExitCode) -> u8 {
    match code {
        ExitCode::Token => 0,
        ExitCode::Unexpected => 1,
        ExitCode::Temporary => 2,
        _ => 3,
    }
}
