//! `status`: where every task and sink stands.

use std::path::Path;

use super::error::CliError;
use super::exit::ExitCode;
use super::output::print;
use super::table::{grouped, table};
use crate::model::Timestamp;
use crate::store::{Overview, Reader, SinkState, SinkStatus, SqliteReader, TaskStatus};

/// Prints the state of the mirror at `database`, for people or as JSON.
///
/// # Errors
/// When the database cannot be read.
pub async fn status(database: &Path, json: bool) -> Result<ExitCode, CliError> {
    let now = Timestamp::now();
    let overview = SqliteReader::open(database)?.overview(now).await?;
    if json {
        let json = serde_json::to_string_pretty(&overview).map_err(std::io::Error::from)?;
        print(&format!("{json}\n"))?;
    } else {
        print(&text(&overview, now))?;
    }
    // A task that is lost is for somebody to look at; what fails for now may mend itself, and is told above.
    let lost = overview.tasks.iter().any(TaskStatus::is_lost) || !overview.unresolved.is_empty();
    Ok(if lost {
        ExitCode::SomeTasksFailed
    } else {
        ExitCode::Ok
    })
}

fn text(overview: &Overview, now: Timestamp) -> String {
    let mut text = String::new();
    if overview.tasks.is_empty() && overview.unresolved.is_empty() {
        text.push_str("no task has been mirrored yet\n");
    }
    let rows: Vec<[String; 9]> = overview.tasks.iter().map(|task| row(task, now)).collect();
    if !rows.is_empty() {
        let heads = [
            "task",
            "cursor",
            "listed",
            "rows",
            "open",
            "removed",
            "last success",
            "last audit",
            "state",
        ];
        text.push_str(&table(heads, &rows));
    }
    for task in overview
        .tasks
        .iter()
        .filter(|task| task.last_error.is_some())
    {
        text.push_str(&format!(
            "{}: {}\n",
            label(task),
            task.last_error.as_deref().unwrap_or_default()
        ));
    }
    for unresolved in &overview.unresolved {
        text.push_str(&format!("{}: {}\n", unresolved.reference, unresolved.error));
    }
    let rows: Vec<[String; 7]> = overview
        .sinks
        .iter()
        .map(|sink| sink_row(sink, now))
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(
            [
                "sink",
                "type",
                "pending",
                "dead",
                "oldest",
                "last delivery",
                "state",
            ],
            &rows,
        ));
    }
    for sink in overview
        .sinks
        .iter()
        .filter(|sink| sink.state == SinkState::Failing || sink.dead > 0)
    {
        text.push_str(&format!(
            "{}: {}\n",
            sink.name,
            sink.last_error
                .as_deref()
                .unwrap_or("some events were set aside")
        ));
    }
    text
}

fn row(task: &TaskStatus, now: Timestamp) -> [String; 9] {
    [
        label(task),
        grouped(task.cursor),
        task.server_total.map_or_else(|| "-".to_owned(), grouped),
        grouped(task.rows),
        grouped(task.open_runs),
        grouped(task.removed),
        age(task.last_success_at.as_deref(), now),
        age(task.last_audit_at.as_deref(), now),
        task.state.to_string(),
    ]
}

fn sink_row(sink: &SinkStatus, now: Timestamp) -> [String; 7] {
    [
        sink.name.clone(),
        sink.r#type.clone(),
        grouped(sink.pending),
        grouped(sink.dead),
        sink.oldest
            .as_deref()
            .map_or_else(|| "-".to_owned(), |at| age(Some(at), now)),
        age(sink.last_delivered_at.as_deref(), now),
        sink.state.to_string(),
    ]
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

    #[test]
    fn ages_in_two_units() {
        let now = Timestamp::parse("2026-01-10T12:00:00Z").unwrap();
        for (at, text) in [
            ("2026-01-10T11:59:55Z", "5s ago"),
            ("2026-01-10T11:57:55Z", "2m 5s ago"),
            ("2026-01-10T09:57:55Z", "2h 2m ago"),
            ("2026-01-01T09:57:55Z", "9d 2h ago"),
            ("2027-01-01T00:00:00Z", "0s ago"),
        ] {
            assert_eq!(age(Some(at), now), text);
        }
        assert_eq!(age(None, now), "never");
    }
}
