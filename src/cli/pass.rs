//! What `sync` and `audit` have in common: one pass over every task, and the exit code of what it came to.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::error::{CliError, code_of};
use super::exit::ExitCode;
use super::setup::{Setup, close};
use super::table::counted;
use crate::config::Target;
use crate::daemon::{self, Report, Scope, on_signals};
use crate::sync::Outcome;

/// A pass that was made.
pub struct Pass {
    /// What it came to.
    pub report: Report,
    /// The requests it took.
    pub requests: u64,
    /// The time it took.
    pub took: Duration,
    /// Whether events went to standard output: programs read it then, and people look elsewhere.
    pub events_on_stdout: bool,
}

/// Makes a pass; `None` when SIGTERM or SIGINT interrupted it.
///
/// # Errors
/// When it could not be made at all. Tasks that failed are part of the report.
pub async fn make(setup: Setup, scope: Scope) -> Result<Option<Pass>, CliError> {
    let began = Instant::now();
    let shutdown = on_signals()?;
    let Setup { context, writer } = setup;
    let events_on_stdout = context
        .plan()
        .sinks
        .iter()
        .any(|sink| sink.settings.target == Target::Stdout);
    let client = context.client.clone();
    let report = tokio::select! {
        report = daemon::pass(context, scope) => Some(report?),
        () = shutdown.cancelled() => None,
    };
    close(writer).await;
    if report.is_none() {
        tracing::warn!("interrupted; what was done is kept, the next one goes on from there");
    }
    let requests = client.requests();
    Ok(report.map(|report| Pass {
        report,
        requests,
        took: began.elapsed(),
        events_on_stdout,
    }))
}

impl Pass {
    /// What a task's result is called.
    pub fn result(outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::CaughtUp => "up to date",
            Outcome::Behind => "behind",
            Outcome::Stalled => "stalled",
            Outcome::Failed => "failed",
            Outcome::Auditing => "unfinished",
            Outcome::Audited => "audited",
        }
    }

    /// Everything that went wrong, a line each, and what the pass took.
    pub fn remarks(&self) -> String {
        let mut text = String::new();
        for failure in &self.report.unresolved {
            let _ = writeln!(text, "{}: {}", failure.reference, failure.error);
        }
        for feed in &self.report.feeds {
            if let Some(error) = &feed.error {
                let _ = writeln!(text, "{}: {error}", feed.task.label());
            }
        }
        for sink in &self.report.owed {
            let why = sink
                .last_error
                .as_deref()
                .map_or_else(String::new, |error| format!(": {error}"));
            if sink.pending > 0 {
                let _ = writeln!(
                    text,
                    "sink {}: {} to be delivered{why}",
                    sink.name,
                    counted(sink.pending, "event")
                );
            }
            if sink.dead > 0 {
                let _ = writeln!(
                    text,
                    "sink {}: {} set aside, see `apify-mirror deliveries list`",
                    sink.name,
                    counted(sink.dead, "event")
                );
            }
        }
        let _ = writeln!(
            text,
            "{} in {:.1} s",
            counted(self.requests, "request"),
            self.took.as_secs_f64()
        );
        text
    }

    /// The code of the worst that happened: what somebody must mend comes before what may mend itself.
    pub fn exit_code(&self) -> ExitCode {
        let stalled = self
            .report
            .feeds
            .iter()
            .any(|feed| feed.outcome == Outcome::Stalled);
        let owing = self.report.owed.iter().any(|sink| sink.pending > 0);
        let codes = self
            .report
            .errors()
            .map(code_of)
            .chain((stalled || owing).then_some(ExitCode::Temporary));
        codes
            .min_by_key(|code| severity(*code))
            .unwrap_or(ExitCode::Ok)
    }
}

fn severity(code: ExitCode) -> u8 {
    match code {
        ExitCode::Token => 0,
        ExitCode::Unexpected => 1,
        ExitCode::Temporary => 2,
        _ => 3,
    }
}
