//! `events`: prints the event log, and follows it.

use std::path::Path;
use std::time::Duration;

use serde::de::IgnoredAny;

use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{self, Globals, MAX_LIMIT};
use crate::cli::output::{print_if_read, show_error, shown, wait_while_read};
use crate::cli::settings;
use crate::options::Environment;
use crate::sinks::EventLine;
use crate::store::{LoggedEvent, Reader, SqliteReader, StoreError};
use crate::text::escape_json;

/// How often the log is read while it is followed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Events read at once.
const BATCH: u64 = 500;

/// The flags of `events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only events of this task: its ID, `username~name` or `~name`; can be repeated
    #[arg(long = "task", value_name = "REF", value_parser = globals::task)]
    tasks: Vec<String>,
    /// Go on with events as they are raised; waits for a database that does not exist yet
    #[arg(long)]
    follow: bool,
    /// Begin after the event with this number
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(0..))]
    since: Option<i64>,
    /// The last N events only; with --since, the first N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=MAX_LIMIT))]
    limit: Option<u64>,
    /// Print events as delivered: one JSON object a line
    #[arg(long)]
    json: bool,
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
                Ok(line) if print_if_read(&line)? => {}
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

/// The log of some feeds.
struct Log {
    reader: SqliteReader,
    /// `None` for all.
    feeds: Option<Vec<String>>,
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
        Ok(Some(Self {
            reader,
            feeds: (!feeds.is_empty()).then_some(feeds),
        }))
    }

    async fn beginning(&self, args: &Args) -> Result<Place, StoreError> {
        let after = match (args.since, args.limit) {
            (Some(since), _) => since,
            (None, Some(limit)) => {
                self.reader
                    .seq_before_last(limit, self.feeds.as_deref())
                    .await?
            }
            (None, None) => 0,
        };
        Ok(Place {
            after,
            left: args.limit,
        })
    }

    /// At most `limit` events after the number `after`, and the number up to which the log has now been read.
    async fn next(&self, after: i64, limit: u64) -> Result<(Vec<LoggedEvent>, i64), StoreError> {
        self.reader
            .events_after(after, self.feeds.as_deref(), limit)
            .await
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
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn a_limit_that_the_database_cannot_count_is_wrong_usage() {
        use clap::Parser;
        /// The command line of `events` alone.
        #[derive(Debug, Parser)]
        struct Line {
            #[command(flatten)]
            _args: Args,
        }
        for (limit, is_valid) in [
            ("0", true),
            ("9223372036854775807", true),
            ("9223372036854775808", false),
            ("18446744073709551615", false),
        ] {
            let line = ["events", "--limit", limit];
            assert_eq!(Line::try_parse_from(line).is_ok(), is_valid, "{limit}");
        }
    }

    #[test]
    fn an_event_is_an_aligned_line_or_its_own_json() {
        let event = |seq: i64, payload: &str| LoggedEvent {
            seq,
            payload: payload.replace('\n', ""),
        };
        let created = event(
            7,
            r#"{"sequence": 7, "createdAt": "2026-01-02T03:04:05.678Z", "eventType": "ACTOR.RUN.CREATED",
                "status": "READY", "previousStatus": null, "eventData": {"actorRunId": "HG7ML7M8z78YcAPEB"}}"#,
        );
        let timed_out = event(
            12_345,
            r#"{"sequence": 12345, "createdAt": "2026-01-02T03:04:06.000Z", "eventType": "ACTOR.RUN.TIMED_OUT",
                "status": "TIMED-OUT", "previousStatus": "RUNNING", "eventData": {"actorRunId": "abc"}}"#,
        );
        let lines = line(&created, false).unwrap() + &line(&timed_out, false).unwrap();
        assert_snapshot!(lines, @r"
            7  2026-01-02T03:04:05.678Z  ACTOR.RUN.CREATED      HG7ML7M8z78YcAPEB  READY
        12345  2026-01-02T03:04:06.000Z  ACTOR.RUN.TIMED_OUT    abc                RUNNING → TIMED-OUT
        ");
        assert_eq!(line(&created, true).unwrap(), created.payload + "\n");
        let hostile = event(8, "{\"status\":\"\u{9b}\u{202e}\"}");
        let escaped = "{\"status\":\"\\u009b\\u202e\"}\n";
        assert_eq!(line(&hostile, true).unwrap(), escaped);
        for json in [false, true] {
            let error = line(&event(9, "hello"), json).unwrap_err();
            let message = r#"the database holds "hello" as events.payload; it was changed by another program"#;
            assert_eq!(error.to_string(), message);
        }
        assert!(line(&event(10, "{\t}"), true).is_err());
    }
}
