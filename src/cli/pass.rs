//! One pass over every task, which is what `sync` and `audit` have in common: its remarks and its exit code.

use std::time::{Duration, Instant};

use anstyle::Style;
use tokio_util::sync::CancellationToken;

use super::error::{CliError, code_of};
use super::exit::ExitCode;
use super::output::line;
use super::setup::{Setup, close};
use super::styles::{BAD, GOOD, ODD};
use super::table::counted;
use crate::daemon::{self, Report, Scope, SinkPlan, UNFINISHED};
use crate::store::{DetailsSaved, Pruned, SinkStatus};
use crate::sync::Outcome;

/// A pass that was made.
pub struct Pass {
    /// Its results.
    pub report: Report,
    /// The requests it took.
    pub requests: u64,
    /// The time it took.
    pub took: Duration,
    /// Whether events went to standard output; the summary then goes to standard error.
    pub events_on_stdout: bool,
}

/// Makes a pass; `None` when `shutdown` interrupted it.
///
/// # Errors
/// When the database fails. Tasks that failed are part of the report.
pub async fn make(
    setup: Setup,
    scope: Scope,
    shutdown: &CancellationToken,
) -> Result<Option<Pass>, CliError> {
    let began = Instant::now();
    let Setup { context, writer } = setup;
    let events_on_stdout = context.plan().sinks.iter().any(SinkPlan::prints);
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

/// The name of a task's result.
pub fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::CaughtUp => "up to date",
        Outcome::Behind => "behind",
        Outcome::Stalled(_) => "stalled",
        Outcome::Failed => "failed",
        Outcome::Auditing => "unfinished",
        Outcome::Audited => "audited",
    }
}

/// The style of a task's result.
pub fn style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::CaughtUp | Outcome::Audited => GOOD,
        Outcome::Behind | Outcome::Auditing => ODD,
        Outcome::Stalled(_) | Outcome::Failed => BAD,
    }
}

impl Pass {
    /// Everything that went wrong, a line each, and the requests and the time that the pass took.
    pub fn remarks(&self) -> String {
        let unresolved = self.report.unresolved.iter();
        let unresolved =
            unresolved.map(|failure| format!("{}: {}", failure.reference, failure.error));
        let failed = self.report.feeds.iter().filter_map(|feed| {
            let error = feed.error.as_ref()?;
            Some(format!("{}: {error}", feed.task.label()))
        });
        let unfinished = self.report.feeds.iter().filter(|feed| feed.is_unfinished());
        let unfinished = unfinished.map(|feed| format!("{}: {UNFINISHED}", feed.task.label()));
        let owed = self.report.owed.iter().flat_map(owed);
        let details = details(&self.report.details);
        let pruned = pruned(&self.report.pruned);
        let took = format!(
            "{} in {:.1} s",
            counted(self.requests, "request"),
            self.took.as_secs_f64()
        );
        let lines = unresolved.chain(failed).chain(unfinished);
        let lines = lines.chain(owed).chain(details).chain(pruned);
        let lines = lines.chain([took]);
        lines.map(line).collect()
    }

    /// The code of the worst that happened: what a user must repair comes before what a later pass may get done.
    pub fn exit_code(&self) -> ExitCode {
        let incomplete = self
            .report
            .feeds
            .iter()
            .any(|feed| matches!(feed.outcome, Outcome::Stalled(_)) || feed.is_unfinished());
        let owing = self.report.owed.iter().any(|sink| sink.pending > 0);
        let codes = self
            .report
            .errors()
            .map(code_of)
            .chain((incomplete || owing).then_some(ExitCode::Temporary));
        codes
            .min_by_key(|code| severity(*code))
            .unwrap_or(ExitCode::Ok)
    }
}

/// What a sink is owed after the pass: a line for events that are pending, and one for those set aside.
fn owed(sink: &SinkStatus) -> impl Iterator<Item = String> {
    let pending = (sink.pending > 0).then(|| {
        let error = sink.last_error.as_deref();
        let why = error.map_or_else(String::new, |error| format!(": {error}"));
        let events = counted(sink.pending, "event");
        format!("sink {}: {events} to be delivered{why}", sink.name)
    });
    let dead = (sink.dead > 0).then(|| {
        let events = counted(sink.dead, "event");
        format!(
            "sink {}: {events} set aside, see `apify-mirror deliveries list`",
            sink.name
        )
    });
    pending.into_iter().chain(dead)
}

/// What became of details that were read, if any were.
fn details(saved: &DetailsSaved) -> Option<String> {
    let later = saved.put_off + saved.given_up;
    (saved.read + later > 0).then(|| {
        let mut line = format!("details of {} read", counted(saved.read, "run"));
        if later > 0 {
            line += &format!(", of {} not", counted(later, "run"));
        }
        line
    })
}

/// What was removed, if anything was.
fn pruned(pruned: &Pruned) -> Option<String> {
    let Pruned {
        runs,
        events,
        dead_deliveries,
    } = *pruned;
    (*pruned != Pruned::default()).then(|| {
        format!(
            "pruned as configured: {}, {}, {}",
            counted(runs, "removed run"),
            counted(events, "event"),
            counted(dead_deliveries, "dead delivery")
        )
    })
}

/// The order of codes, the worst first.
pub fn severity(code: ExitCode) -> u8 {
    match code {
        ExitCode::Token => 0,
        ExitCode::Unexpected => 1,
        ExitCode::Temporary => 2,
        _ => 3,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::daemon::FeedReport;
    use crate::model::Task;
    use crate::store::SinkState;
    use crate::store::Written;
    use crate::sync::Stall;

    /// A feed of the task `name` that ended with `outcome`.
    pub fn feed(name: &str, outcome: Outcome) -> FeedReport {
        FeedReport {
            task: Task {
                id: format!("id-of-{name}"),
                name: Some(name.to_owned()),
                username: Some("janedoe".to_owned()),
                ..Task::default()
            },
            outcome,
            written: Written::default(),
            audit: None,
            total: None,
            error: None,
        }
    }

    /// A pass over `feeds`, after which `owed` is owed to sinks.
    pub fn pass(feeds: Vec<FeedReport>, owed: Vec<SinkStatus>) -> Pass {
        let report = Report {
            feeds,
            owed,
            ..Report::default()
        };
        Pass {
            report,
            requests: 1_234,
            took: Duration::from_millis(5_678),
            events_on_stdout: false,
        }
    }

    fn sink(name: &str, pending: u64, dead: u64, last_error: Option<&str>) -> SinkStatus {
        SinkStatus {
            name: name.to_owned(),
            r#type: "webhook".to_owned(),
            state: SinkState::Ok,
            pending,
            dead,
            missed: 0,
            oldest: None,
            last_delivered_at: None,
            failing_since: None,
            last_error: last_error.map(str::to_owned),
        }
    }

    #[test]
    fn what_sinks_are_owed_is_remarked() {
        let owed = vec![
            sink("hook", 1, 0, Some("503 Service Unavailable")),
            sink("new", 12_345, 0, None),
            sink("broken", 0, 2, Some("410 Gone")),
            sink("fine", 0, 0, None),
        ];
        insta::assert_snapshot!(pass(Vec::new(), owed).remarks(), @r"
        sink hook: 1 event to be delivered: 503 Service Unavailable
        sink new: 12,345 events to be delivered
        sink broken: 2 events set aside, see `apify-mirror deliveries list`
        1,234 requests in 5.7 s
        ");
    }

    #[test]
    fn what_was_pruned_is_remarked() {
        let mut pass = pass(Vec::new(), Vec::new());
        pass.report.pruned = Pruned {
            runs: 1,
            events: 1_234,
            dead_deliveries: 0,
        };
        insta::assert_snapshot!(pass.remarks(), @r"
        pruned as configured: 1 removed run, 1,234 events, 0 dead deliveries
        1,234 requests in 5.7 s
        ");
    }

    #[test]
    fn what_is_left_to_do_is_temporary() {
        let ended = |outcome, pending| {
            pass(
                vec![feed("a", Outcome::CaughtUp), feed("b", outcome)],
                vec![sink("hook", pending, 1, None)],
            )
            .exit_code()
        };
        assert_eq!(ended(Outcome::CaughtUp, 0), ExitCode::Ok);
        assert_eq!(
            ended(Outcome::Stalled(Stall::OffsetIgnored), 0),
            ExitCode::Temporary
        );
        assert_eq!(ended(Outcome::CaughtUp, 1), ExitCode::Temporary);
    }

    #[test]
    fn what_a_user_must_repair_comes_first() {
        let mut codes = [
            ExitCode::SomeTasksFailed,
            ExitCode::Temporary,
            ExitCode::Unexpected,
            ExitCode::Token,
        ];
        codes.sort_by_key(|code| severity(*code));
        assert_eq!(
            codes,
            [
                ExitCode::Token,
                ExitCode::Unexpected,
                ExitCode::Temporary,
                ExitCode::SomeTasksFailed
            ]
        );
    }
}
