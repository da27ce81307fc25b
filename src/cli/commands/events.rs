//! `events`: prints the event log, and follows it.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{self, Globals, MAX_LIMIT};
use crate::cli::help;
use crate::cli::output::{for_stream, print_if_read, show_error, shown, wait_while_read};
use crate::cli::settings;
use crate::model::{EventType, RunStatus, Timestamp};
use crate::options::{Environment, parse_duration};
use crate::sinks::EventLine;
use crate::store::{EventFilter, LoggedEvent, Reader, SqliteReader, StoreError};
use crate::text::escape_json;

/// How often the log is read while it is followed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Events read at once.
const BATCH: u64 = 500;

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            ("the last twenty", "apify-mirror events --limit 20"),
            (
                "the failures of the last day",
                "apify-mirror events --since 24h --type FAILED --type TIMED_OUT",
            ),
            (
                "feed a program, beginning after the last event that it has seen",
                "apify-mirror events --follow --json --since 12345",
            ),
        ],
        &[
            (
                ExitCode::SomeTasksFailed,
                Some("the mirror has no such task"),
            ),
            (ExitCode::Storage, None),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only events of this task: its ID, `username~name` or `~name`; can be repeated
    #[arg(long = "task", value_name = "REF", value_parser = globals::task)]
    tasks: Vec<String>,
    /// Go on with events as they are raised; waits for a database that does not exist yet
    #[arg(long)]
    follow: bool,
    /// Begin after the event with this number, or with what was observed since a time: 2026-01-31, 2026-01-31T12:00:00Z
    /// (UTC without a zone), or 6h for the last six hours
    #[arg(long, value_name = "SEQ|TIME", value_parser = since)]
    since: Option<Since>,
    /// Only events of this type, such as ACTOR.RUN.FAILED or FAILED; can be repeated
    #[arg(long = "type", value_name = "T", value_parser = event_type)]
    types: Vec<String>,
    /// Only events by which a run came to this status, such as TIMED-OUT; can be repeated
    #[arg(long = "status", value_name = "S", value_parser = status)]
    statuses: Vec<String>,
    /// The last N events only; with --since, the first N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=MAX_LIMIT))]
    limit: Option<u64>,
    /// Print events as delivered: one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// After the event with this number.
    Seq(i64),
    /// With the first event that was observed at this time or later.
    Time(Timestamp),
}

fn since(text: &str) -> Result<Since, String> {
    let text = text.trim();
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        let seq = text.parse().map(Since::Seq);
        return seq.map_err(|_| "is larger than any event's number".to_owned());
    }
    let time = |text: &str| Timestamp::from_api(&Value::from(text));
    let ago = || Some(Timestamp::now().minus(parse_duration(text)?));
    let found = time(text)
        .or_else(|| time(&format!("{text}T00:00:00Z")))
        .or_else(ago);
    found.map(Since::Time).ok_or_else(|| {
        "is neither the number of an event nor a time, such as 2026-01-31, 2026-01-31T12:00:00Z or 6h"
            .to_owned()
    })
}

fn event_type(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_uppercase().replace('-', "_");
    let full = format!("ACTOR.RUN.{name}");
    let mut known = EventType::known().map(|event| event.name());
    known
        .find(|known| *known == name || *known == full)
        .ok_or_else(|| {
            let known: Vec<String> = EventType::known().map(|event| event.name()).collect();
            format!("is no type of event; known are {}", known.join(", "))
        })
}

fn status(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_uppercase().replace('_', "-");
    let known = || RunStatus::ACTIVE.into_iter().chain(RunStatus::TERMINAL);
    match known().find(|status| status.as_str() == name) {
        Some(status) => Ok(status.as_str().to_owned()),
        None => {
            let known: Vec<String> = known().map(|status| status.to_string()).collect();
            Err(format!(
                "is no status of a run; known are {}",
                known.join(", ")
            ))
        }
    }
}

/// Prints events until there are no more or, with `--follow`, until standard output has no reader.
///
/// # Errors
/// When the settings are not valid, or the database cannot be read or has none of the tasks.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let database = settings::load(globals, environment)?.database;
    let mut reading = Reading::default();
    loop {
        match reading.step(&database, args).await {
            Ok(Step::MayHaveMore) => continue,
            Ok(Step::NoMore) if !args.follow => return Ok(reading.code),
            Ok(Step::NoReader) => return Ok(reading.code),
            Ok(Step::NoMore) => {}
            // Another database may take its place; that one is read from its beginning.
            Err(CliError::Store(StoreError::Missing { .. } | StoreError::Replaced { .. }))
                if args.follow =>
            {
                reading = Reading::default();
            }
            Err(CliError::Store(error)) if args.follow && error.is_temporary() => {
                reading.log = None;
            }
            Err(error) => return Err(error),
        }
        // Blocks this thread; nothing else runs on it.
        if !wait_while_read(LOOK_EVERY)? {
            return Ok(reading.code);
        }
    }
}

/// The log and the place in it; `None` until the first step that could open it.
struct Reading {
    log: Option<Log>,
    place: Option<Place>,
    /// Not [`ExitCode::Ok`] once an event could not be read.
    code: ExitCode,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            log: None,
            place: None,
            code: ExitCode::Ok,
        }
    }
}

/// What a step found.
enum Step {
    MayHaveMore,
    NoMore,
    /// Standard output has no reader.
    NoReader,
}

/// How far the log has been read.
struct Place {
    after: i64,
    /// How many more events to print of those that exist; `None` for all.
    left: Option<u64>,
}

impl Reading {
    /// Prints the next batch of events.
    async fn step(&mut self, database: &Path, args: &Args) -> Result<Step, CliError> {
        if self.log.is_none() {
            self.log = Log::open(database, args).await?;
        }
        let Some(log) = &self.log else {
            return Ok(Step::NoMore);
        };
        let place = match &mut self.place {
            Some(place) => place,
            None => self.place.insert(log.beginning(args).await?),
        };
        let batch = place.left.map_or(BATCH, |left| left.min(BATCH));
        let (events, through) = log.next(place.after, batch).await?;
        for event in &events {
            place.after = event.seq;
            match line(event, args.json) {
                Ok(line) if print_if_read(&for_stream(&line, &io::stdout()))? => {}
                Ok(_) => return Ok(Step::NoReader),
                // It stops none of those after it.
                Err(error) => {
                    let seq = event.seq;
                    show_error(&shown(format_args!("event {seq}: {error}")));
                    self.code = CliError::from(error).code();
                }
            }
        }
        let read = events.len() as u64;
        place.left = place.left.map(|left| left - read);
        if read == batch && batch > 0 {
            return Ok(Step::MayHaveMore);
        }
        place.after = through;
        if args.follow {
            // The limit does not count events that are raised from here on.
            place.left = None;
        }
        Ok(Step::NoMore)
    }
}

/// The log, and what of it is wanted.
struct Log {
    reader: SqliteReader,
    filter: EventFilter,
}

impl Log {
    /// Opens the log of the tasks in `args`; `None` when it is followed and the mirror does not know one of them yet.
    async fn open(database: &Path, args: &Args) -> Result<Option<Self>, CliError> {
        let reader = SqliteReader::open(database)?;
        let mut feeds = Vec::new();
        for reference in &args.tasks {
            match reader.known_task(reference).await? {
                Some(id) => feeds.push(id),
                None if args.follow => return Ok(None),
                None => {
                    return Err(CliError::UnknownTask {
                        reference: reference.clone(),
                    });
                }
            }
        }
        let some = |texts: Vec<String>| (!texts.is_empty()).then_some(texts);
        let filter = EventFilter {
            feeds: some(feeds),
            types: some(args.types.clone()),
            statuses: some(args.statuses.clone()),
            waiting: false,
        };
        Ok(Some(Self { reader, filter }))
    }

    async fn beginning(&self, args: &Args) -> Result<Place, StoreError> {
        let after = match (args.since, args.limit) {
            (Some(Since::Seq(seq)), _) => seq,
            (Some(Since::Time(time)), _) => self.reader.seq_before(time).await?,
            (None, Some(limit)) => self.reader.seq_before_last(limit, &self.filter).await?,
            (None, None) => 0,
        };
        Ok(Place {
            after,
            left: args.limit,
        })
    }

    /// At most `limit` events after the number `after`, and the number up to which the log has now been read.
    async fn next(&self, after: i64, limit: u64) -> Result<(Vec<LoggedEvent>, i64), StoreError> {
        self.reader.events_after(after, &self.filter, limit).await
    }
}

fn line(event: &LoggedEvent, json: bool) -> Result<String, StoreError> {
    let payload = &event.payload;
    let corrupt = || StoreError::Corrupt {
        what: "events.payload",
        value: payload.clone(),
    };
    if json {
        // Whoever wrote the database may have meant to write to the terminal.
        let is_line = !payload.contains(|c| c < ' ');
        let is_json = is_line && serde_json::from_str::<IgnoredAny>(payload).is_ok();
        let escaped = is_json.then(|| escape_json(payload) + "\n");
        return escaped.ok_or_else(corrupt);
    }
    let line = EventLine::of(payload).map_err(|_| corrupt())?;
    Ok(line.logged())
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
