//! `status`: the worst problem, and the state of every task and sink.

use std::collections::HashSet;
use std::time::Duration;

use anstyle::Style;
use indicatif::HumanCount;
use serde::Serialize;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{Globals, time};
use crate::cli::health::{Measure, Problem, age, default_limit, exit_code};
use crate::cli::help;
use crate::cli::output::{line, print_json, print_styled, shown};
use crate::cli::settings;
use crate::cli::styles::{BAD, DIM, GOOD, HEAD, ODD, PLAIN, of_condition, of_sink, styled};
use crate::cli::table::{Table, count_or_dash, counted, task_label};
use crate::config::Settings;
use crate::model::Timestamp;
use crate::options::Environment;
use crate::store::{
    Condition, Overview, Reader, SinkState, SinkStatus, SqliteReader, SqliteStore, StoreError,
    TaskStatus, Unresolved,
};

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "what is wrong, and where everything stands",
                "apify-mirror status",
            ),
            (
                "for monitoring: fail when a task has had no successful poll for an hour",
                "apify-mirror status --check --max-age 1h",
            ),
            (
                "the problems alone, for programs",
                "apify-mirror status --json | jq .problems",
            ),
        ],
        &[
            (
                ExitCode::SomeTasksFailed,
                Some("a task is not found or forbidden"),
            ),
            (ExitCode::Storage, None),
            (
                ExitCode::Temporary,
                Some("with --check: something is stale or failing, or events were set aside"),
            ),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Exit with 75 when anything is stale or failing, or events were set aside
    #[arg(long)]
    check: bool,
    /// How old the last success of a task may be before it is stale, such as 10m or 6h; else three times the interval
    /// between its successes, at least 2m
    #[arg(long, value_name = "TIME", value_parser = time)]
    max_age: Option<Duration>,
}

/// What `status --json` prints: the mirror's state, and what is wrong with it.
#[derive(Debug, Serialize)]
struct Report<'a> {
    tasks: Vec<Judged<'a>>,
    unresolved: &'a [Unresolved],
    sinks: &'a [SinkStatus],
    other_objects: &'a [String],
    /// The worst first.
    problems: &'a [Problem],
    /// How old a success may be of a task of which no interval is known.
    stale_after_seconds: u64,
}

/// A feed, and whether it is as it should be.
#[derive(Debug, Serialize)]
struct Judged<'a> {
    #[serde(flatten)]
    status: &'a TaskStatus,
    stale: bool,
    /// How old its last success may be.
    stale_after_seconds: u64,
    /// Whether the configuration names its task; null where that is not known.
    configured: Option<bool>,
}

/// Prints the state of the mirror, for people or as JSON.
///
/// # Errors
/// When the settings are not valid or the database cannot be read.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let settings = settings::load(globals, environment)?;
    let reader = SqliteReader::open(&settings.database)?;
    let (configured, unknown) = configured(&settings, &reader).await?;
    let measure = Measure {
        now: Timestamp::now(),
        limit: (args.max_age).unwrap_or_else(|| default_limit(settings.sync.poll_interval)),
        strict: args.max_age.is_some(),
        configured,
        unknown,
        held: SqliteStore::is_held(&settings.database),
    };
    let overview = reader.overview(measure.now).await?;
    let problems = measure.problems(&overview);
    if args.json {
        print_json(&report(&overview, &problems, &measure))?;
    } else {
        print_styled(&text(&overview, &problems, &measure))?;
    }
    Ok(exit_code(&problems, args.check))
}

/// The tasks that the configuration names, as far as the mirror knows them, and the names that it does not know; `None`
/// where the configuration names none, or wants all.
async fn configured(
    settings: &Settings,
    reader: &SqliteReader,
) -> Result<(Option<HashSet<String>>, Vec<String>), StoreError> {
    let (mut configured, mut unknown) = (HashSet::new(), Vec::new());
    if settings.discover_tasks || settings.tasks.is_empty() {
        return Ok((None, unknown));
    }
    for reference in &settings.tasks {
        match reader.known_task(reference).await? {
            Some(id) => drop(configured.insert(id)),
            None => unknown.push(reference.clone()),
        }
    }
    Ok((Some(configured), unknown))
}

fn report<'a>(overview: &'a Overview, problems: &'a [Problem], measure: &Measure) -> Report<'a> {
    let judged = overview.tasks.iter().map(|status| Judged {
        status,
        stale: measure.is_stale(status),
        stale_after_seconds: measure.limit_of(status).as_secs(),
        configured: measure.is_configured(status),
    });
    Report {
        tasks: judged.collect(),
        unresolved: &overview.unresolved,
        sinks: &overview.sinks,
        other_objects: &overview.other_objects,
        problems,
        stale_after_seconds: measure.limit.as_secs(),
    }
}

fn text(overview: &Overview, problems: &[Problem], measure: &Measure) -> String {
    let mut text = headline(overview, problems);
    if !overview.tasks.is_empty() || !overview.unresolved.is_empty() {
        text.push('\n');
        text.push_str(&tasks(&overview.tasks, measure));
    }
    for unresolved in &overview.unresolved {
        text.push_str(&line(format_args!(
            "{}: {}",
            unresolved.reference, unresolved.error
        )));
    }
    if !overview.sinks.is_empty() {
        text.push('\n');
        text.push_str(&sinks(&overview.sinks, measure.now));
    }
    if !overview.other_objects.is_empty() {
        let objects = overview.other_objects.join(", ");
        text.push('\n');
        text.push_str(&line(format_args!("also in the database: {objects}")));
    }
    text
}

/// The worst problem with its remedy, or that there is none.
fn headline(overview: &Overview, problems: &[Problem]) -> String {
    let Some((worst, others)) = problems.split_first() else {
        if overview.tasks.is_empty() {
            let text = styled(ODD, "first sync");
            return format!("{text}: no task has been mirrored yet\n");
        }
        let (tasks, sinks) = (overview.tasks.len() as u64, overview.sinks.len() as u64);
        let (tasks, sinks) = (counted(tasks, "task"), counted(sinks, "sink"));
        return format!("{}: {tasks}, {sinks}\n", styled(GOOD, "all well"));
    };
    let message = match &worst.subject {
        Some(subject) => format!("{subject}: {}", worst.message),
        None => worst.message.clone(),
    };
    let more = match others.len() as u64 {
        0 => String::new(),
        more => styled(
            DIM,
            format_args!(" (and {} more)", counted(more, "problem")),
        ),
    };
    let (problem, remedy) = (styled(BAD, "problem"), styled(HEAD, "remedy"));
    let (message, what_to_do) = (shown(message), shown(&worst.remedy));
    format!("{problem}  {message}{more}\n{remedy}   {what_to_do}\n")
}

/// The table of tasks, and a line for each error and for what cannot be read.
fn tasks(tasks: &[TaskStatus], measure: &Measure) -> String {
    let now = measure.now;
    let mut text = Table::of(tasks)
        .column("task", task_label)
        .column("cursor", |task| HumanCount(task.cursor))
        .column("listed", |task| count_or_dash(task.server_total))
        .column("rows", |task| HumanCount(task.rows))
        .column("open", |task| HumanCount(task.open_runs))
        .column("removed", |task| HumanCount(task.removed))
        .column("last success", |task| {
            age(task.last_success_at.as_deref(), now)
        })
        .column("last audit", |task| age(task.last_audit_at.as_deref(), now))
        .styled(
            "state",
            |task| state(task, measure).0,
            |task| state(task, measure).1,
        )
        .to_string();
    for task in tasks {
        if let Some(error) = &task.last_error {
            text.push_str(&line(format_args!("{}: {error}", task_label(task))));
        }
        if task.unreadable_items > 0 {
            let items = counted(task.unreadable_items, "item");
            text.push_str(&line(format_args!(
                "{}: {items} of its list cannot be read, see the table unreadable_items",
                task_label(task)
            )));
        }
    }
    text
}

/// What people are told of a feed.
fn state(task: &TaskStatus, measure: &Measure) -> (String, Style) {
    if measure.is_configured(task) == Some(false) {
        return ("not configured".to_owned(), DIM);
    }
    match (measure.is_stale(task), task.state) {
        (true, Condition::Ok | Condition::FirstSync) => ("stale".to_owned(), BAD),
        (true, state) => (format!("{state}, stale"), BAD),
        (false, state) => (state.to_string(), of_condition(state)),
    }
}

/// The table of sinks, and a line for each that fails or has given up on events, or has missed some.
fn sinks(sinks: &[SinkStatus], now: Timestamp) -> String {
    let mut text = Table::of(sinks)
        .column("sink", |sink| &sink.name)
        .column("type", |sink| &sink.r#type)
        .column("pending", |sink| HumanCount(sink.pending))
        .styled(
            "dead",
            |sink| HumanCount(sink.dead),
            |sink| if sink.dead > 0 { BAD } else { PLAIN },
        )
        .column("oldest", |sink| match sink.oldest.as_deref() {
            Some(at) => age(Some(at), now),
            None => "-".to_owned(),
        })
        .column("last delivery", |sink| {
            age(sink.last_delivered_at.as_deref(), now)
        })
        .styled("state", |sink| sink.state, |sink| of_sink(sink.state))
        .to_string();
    for sink in sinks {
        if sink.state == SinkState::Failing || sink.dead > 0 {
            let error = sink.last_error.as_deref();
            let error = error.unwrap_or("some events were set aside");
            text.push_str(&line(format_args!("{}: {error}", sink.name)));
        }
        if sink.missed > 0 {
            let events = counted(sink.missed, "event");
            text.push_str(&line(format_args!(
                "{}: did not get {events}, which the event log no longer had",
                sink.name
            )));
        }
    }
    text
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
