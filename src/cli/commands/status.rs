//! `status`: the state of every task and sink.

use std::path::Path;

use indicatif::HumanCount;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::Globals;
use crate::cli::output::{line, print, print_json};
use crate::cli::settings;
use crate::cli::table::{Table, count_or_dash, counted};
use crate::model::Timestamp;
use crate::options::Environment;
use crate::store::{Overview, Reader, SinkState, SinkStatus, SqliteReader, StoreError, TaskStatus};

/// The flags of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    let now = Timestamp::now();
    let overview = read(&settings.database, now).await?;
    if args.json {
        print_json(&overview)?;
    } else {
        print(&text(&overview, now))?;
    }
    Ok(exit_code(&overview))
}

async fn read(database: &Path, now: Timestamp) -> Result<Overview, StoreError> {
    SqliteReader::open(database)?.overview(now).await
}

/// A lost task stays lost until the user acts. Other failures may pass, and are only printed.
fn exit_code(overview: &Overview) -> ExitCode {
    if overview.tasks.iter().any(TaskStatus::is_lost) || !overview.unresolved.is_empty() {
        ExitCode::SomeTasksFailed
    } else {
        ExitCode::Ok
    }
}

fn text(overview: &Overview, now: Timestamp) -> String {
    let mut text = String::new();
    if overview.tasks.is_empty() && overview.unresolved.is_empty() {
        text.push_str("no task has been mirrored yet\n");
    }
    text.push_str(&tasks(&overview.tasks, now));
    for unresolved in &overview.unresolved {
        text.push_str(&line(format_args!(
            "{}: {}",
            unresolved.reference, unresolved.error
        )));
    }
    if !overview.sinks.is_empty() {
        text.push('\n');
        text.push_str(&sinks(&overview.sinks, now));
    }
    if !overview.other_objects.is_empty() {
        let objects = overview.other_objects.join(", ");
        text.push('\n');
        text.push_str(&line(format_args!("also in the database: {objects}")));
    }
    text
}

/// The table of tasks, and a line for each error and for what cannot be read.
fn tasks(tasks: &[TaskStatus], now: Timestamp) -> String {
    let mut text = Table::of(tasks)
        .column("task", label)
        .column("cursor", |task| HumanCount(task.cursor))
        .column("listed", |task| count_or_dash(task.server_total))
        .column("rows", |task| HumanCount(task.rows))
        .column("open", |task| HumanCount(task.open_runs))
        .column("removed", |task| HumanCount(task.removed))
        .column("last success", |task| {
            age(task.last_success_at.as_deref(), now)
        })
        .column("last audit", |task| age(task.last_audit_at.as_deref(), now))
        .column("state", |task| task.state)
        .to_string();
    for task in tasks {
        if let Some(error) = &task.last_error {
            text.push_str(&line(format_args!("{}: {error}", label(task))));
        }
        if task.unreadable_items > 0 {
            let items = counted(task.unreadable_items, "item");
            text.push_str(&line(format_args!(
                "{}: {items} of its list cannot be read, see the table unreadable_items",
                label(task)
            )));
        }
    }
    text
}

/// The table of sinks, and a line for each that fails or has given up on events, or has missed some.
fn sinks(sinks: &[SinkStatus], now: Timestamp) -> String {
    let mut text = Table::of(sinks)
        .column("sink", |sink| &sink.name)
        .column("type", |sink| &sink.r#type)
        .column("pending", |sink| HumanCount(sink.pending))
        .column("dead", |sink| HumanCount(sink.dead))
        .column("oldest", |sink| match sink.oldest.as_deref() {
            Some(at) => age(Some(at), now),
            None => "-".to_owned(),
        })
        .column("last delivery", |sink| {
            age(sink.last_delivered_at.as_deref(), now)
        })
        .column("state", |sink| sink.state)
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

fn label(task: &TaskStatus) -> String {
    match (&task.username, &task.name) {
        (Some(username), Some(name)) => format!("{username}~{name}"),
        _ => task.id.clone(),
    }
}

/// How long ago `at` was, in its two largest units.
fn age(at: Option<&str>, now: Timestamp) -> String {
    let Some(at) = at.and_then(Timestamp::parse) else {
        return "never".to_owned();
    };
    let seconds = now.since(at).as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s ago"),
        (0, 0, _) => format!("{minutes}m {}s ago", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m ago"),
        _ => format!("{days}d {hours}h ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Condition;
    use crate::store::Unresolved;
    use insta::assert_snapshot;

    const NOW: &str = "2026-01-10T12:00:00.000Z";

    fn now() -> Timestamp {
        Timestamp::parse(NOW).unwrap()
    }

    fn task(name: &str) -> TaskStatus {
        TaskStatus {
            id: format!("id-of-{name}"),
            name: Some(name.to_owned()),
            username: Some("janedoe".to_owned()),
            cursor: 1_234_567,
            watermark: Some("2026-01-10T11:59:00.000Z".to_owned()),
            server_total: Some(1_234_567),
            rows: 1_234_570,
            open_runs: 2,
            removed: 3,
            unreadable_items: 0,
            first_sync_complete: true,
            last_success_at: Some("2026-01-10T11:59:55.000Z".to_owned()),
            last_success_age_seconds: Some(5),
            last_audit_at: Some("2026-01-10T09:57:00.000Z".to_owned()),
            audit_offset: None,
            state: Condition::Ok,
            last_error: None,
            last_error_at: None,
        }
    }

    fn sink(name: &str) -> SinkStatus {
        SinkStatus {
            name: name.to_owned(),
            r#type: "webhook".to_owned(),
            state: SinkState::Ok,
            pending: 0,
            dead: 0,
            missed: 0,
            oldest: None,
            last_delivered_at: Some("2026-01-10T11:58:00.000Z".to_owned()),
            failing_since: None,
            last_error: None,
        }
    }

    #[test]
    fn an_empty_mirror() {
        let overview = Overview {
            tasks: Vec::new(),
            unresolved: Vec::new(),
            sinks: Vec::new(),
            other_objects: Vec::new(),
        };
        assert_snapshot!(text(&overview, now()), @"no task has been mirrored yet");
        assert_eq!(exit_code(&overview), ExitCode::Ok);
    }

    #[test]
    fn tasks_in_several_states() {
        let unnamed = TaskStatus {
            name: None,
            cursor: 0,
            server_total: None,
            rows: 0,
            last_success_at: None,
            last_audit_at: None,
            state: Condition::FirstSync,
            ..task("new")
        };
        let failing = TaskStatus {
            state: Condition::Failing,
            last_error: Some("https://api.apify.com/v2: 503".to_owned()),
            unreadable_items: 1_234,
            ..task("日本")
        };
        let overview = Overview {
            tasks: vec![task("my-task"), unnamed, failing],
            unresolved: vec![Unresolved {
                reference: "~nothing".to_owned(),
                error: "404 record-not-found".to_owned(),
                at: NOW.to_owned(),
            }],
            sinks: Vec::new(),
            other_objects: Vec::new(),
        };
        assert_snapshot!(text(&overview, now()), @r"
        task                cursor     listed       rows  open  removed  last success  last audit  state
        janedoe~my-task  1,234,567  1,234,567  1,234,570     2        3  5s ago        2h 3m ago   ok
        id-of-new                0          -          0     2        3  never         never       first sync
        janedoe~日本     1,234,567  1,234,567  1,234,570     2        3  5s ago        2h 3m ago   failing
        janedoe~日本: https://api.apify.com/v2: 503
        janedoe~日本: 1,234 items of its list cannot be read, see the table unreadable_items
        ~nothing: 404 record-not-found
        ");
        assert_eq!(exit_code(&overview), ExitCode::SomeTasksFailed);
    }

    #[test]
    fn sinks_in_several_states() {
        let failing = SinkStatus {
            state: SinkState::Failing,
            pending: 12_345,
            oldest: Some("2026-01-01T09:57:55.000Z".to_owned()),
            failing_since: Some(NOW.to_owned()),
            last_error: Some("cannot connect".to_owned()),
            ..sink("hook")
        };
        let dead = SinkStatus {
            dead: 1,
            last_delivered_at: None,
            ..sink("other")
        };
        // The error of a sink that neither fails nor has given up on an event is not shown.
        let recovered = SinkStatus {
            last_error: Some("an old error".to_owned()),
            missed: 1_234,
            ..sink("recovered")
        };
        let overview = Overview {
            tasks: vec![task("my-task")],
            unresolved: Vec::new(),
            sinks: vec![failing, dead, recovered],
            other_objects: vec!["table notes".to_owned(), "view noted".to_owned()],
        };
        assert_snapshot!(text(&overview, now()), @r"
        task                cursor     listed       rows  open  removed  last success  last audit  state
        janedoe~my-task  1,234,567  1,234,567  1,234,570     2        3        5s ago   2h 3m ago  ok

        sink       type     pending  dead     oldest  last delivery  state
        hook       webhook   12,345     0  9d 2h ago  2m 0s ago      failing
        other      webhook        0     1          -  never          ok
        recovered  webhook        0     0          -  2m 0s ago      ok
        hook: cannot connect
        other: some events were set aside
        recovered: did not get 1,234 events, which the event log no longer had

        also in the database: table notes, view noted
        ");
        assert_eq!(exit_code(&overview), ExitCode::Ok);
    }

    #[test]
    fn a_lost_task_is_an_exit_code_and_a_failing_one_is_not() {
        for (state, code) in [
            (Condition::Ok, ExitCode::Ok),
            (Condition::FirstSync, ExitCode::Ok),
            (Condition::Failing, ExitCode::Ok),
            (Condition::NotFound, ExitCode::SomeTasksFailed),
            (Condition::Forbidden, ExitCode::SomeTasksFailed),
        ] {
            let mut task = task("a");
            task.state = state;
            let overview = Overview {
                tasks: vec![task],
                unresolved: Vec::new(),
                sinks: Vec::new(),
                other_objects: Vec::new(),
            };
            assert_eq!(exit_code(&overview), code, "{state}");
        }
    }

    #[test]
    fn ages_in_two_units() {
        for (at, text) in [
            ("2026-01-10T11:59:55Z", "5s ago"),
            ("2026-01-10T11:57:55Z", "2m 5s ago"),
            ("2026-01-10T09:57:55Z", "2h 2m ago"),
            ("2026-01-01T09:57:55Z", "9d 2h ago"),
            ("2027-01-01T00:00:00Z", "0s ago"),
        ] {
            assert_eq!(age(Some(at), now()), text);
        }
        assert_eq!(age(None, now()), "never");
    }
}
