//! `events`: the event log, to look at and to follow.

use std::path::Path;
use std::time::Duration;

use super::error::CliError;
use super::event_line::EventLine;
use super::exit::ExitCode;
use super::output::{print_if_read, wait_while_read};
use crate::store::{LoggedEvent, Reader, SqliteReader, StoreError};

/// How often the log is looked at when it is followed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Events read at once.
const BATCH: u64 = 500;

/// What to show of the log.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whether to go on with events as they are raised.
    pub follow: bool,
    /// Begin after the event with this number.
    pub since: Option<i64>,
    /// The last so many events; with `since`, the first.
    pub limit: Option<u64>,
    /// Events of these tasks; empty for all.
    pub tasks: Vec<String>,
    /// Whether as JSON.
    pub json: bool,
}

/// Prints events until there are no more, or, when following, until nobody reads them any more.
///
/// # Errors
/// When the database cannot be read, or has none of the tasks.
pub async fn events(database: &Path, wanted: &Wanted) -> Result<ExitCode, CliError> {
    let mut log = None;
    let mut place = None;
    loop {
        match step(database, wanted, &mut log, &mut place).await {
            Ok(Step::MayHaveMore) => continue,
            Ok(Step::NoMore) if !wanted.follow => return Ok(ExitCode::Ok),
            Ok(Step::NobodyReads) => return Ok(ExitCode::Ok),
            Ok(Step::NoMore) => {}
            // Another one may come in its place, which is read from its beginning.
            Err(CliError::Store(StoreError::Missing { .. } | StoreError::Replaced { .. }))
                if wanted.follow =>
            {
                (log, place) = (None, None);
            }
            Err(CliError::Store(error)) if wanted.follow && error.is_temporary() => log = None,
            Err(error) => return Err(error),
        }
        if !wait_while_read(LOOK_EVERY)? {
            return Ok(ExitCode::Ok);
        }
    }
}

enum Step {
    MayHaveMore,
    NoMore,
    NobodyReads,
}

/// The log.
struct Log {
    reader: SqliteReader,
    feeds: Option<Vec<String>>,
}

/// How far the log has been read.
struct Place {
    after: i64,
    /// How many more events to show of those that are there.
    left: Option<u64>,
}

async fn step(
    database: &Path,
    wanted: &Wanted,
    log: &mut Option<Log>,
    place: &mut Option<Place>,
) -> Result<Step, CliError> {
    let log = match log {
        Some(log) => log,
        None => match Log::open(database, wanted).await? {
            Some(opened) => log.insert(opened),
            None => return Ok(Step::NoMore),
        },
    };
    let place = match place {
        Some(place) => place,
        None => place.insert(log.beginning(wanted).await?),
    };
    let batch = place.left.map_or(BATCH, |left| left.min(BATCH));
    let (events, through) = log
        .reader
        .events_after(place.after, log.feeds.as_deref(), batch)
        .await?;
    for event in &events {
        if !print_if_read(&line(event, wanted.json)?)? {
            return Ok(Step::NobodyReads);
        }
        place.after = event.seq;
    }
    let read = events.len() as u64;
    place.left = place.left.map(|left| left - read);
    if read == batch && batch > 0 {
        return Ok(Step::MayHaveMore);
    }
    place.after = through;
    // What is raised from here on is followed without a limit.
    place.left = if wanted.follow { None } else { place.left };
    Ok(Step::NoMore)
}

impl Log {
    /// `None` when following tasks that the mirror does not know yet.
    async fn open(database: &Path, wanted: &Wanted) -> Result<Option<Self>, CliError> {
        let reader = SqliteReader::open(database)?;
        let mut feeds = Vec::new();
        for reference in &wanted.tasks {
            match reader.known_task(reference).await? {
                Some(id) => feeds.push(id),
                None if wanted.follow => return Ok(None),
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

    async fn beginning(&self, wanted: &Wanted) -> Result<Place, CliError> {
        let after = match (wanted.since, wanted.limit) {
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
            left: wanted.limit,
        })
    }
}

fn line(event: &LoggedEvent, json: bool) -> Result<String, CliError> {
    if json {
        return Ok(format!("{}\n", event.payload));
    }
    let EventLine {
        sequence,
        time,
        kind,
        run,
        change,
    } = EventLine::of(&event.payload).map_err(std::io::Error::from)?;
    Ok(format!(
        "{sequence:>8}  {time}  {kind:<22} {run:<17}  {change}\n"
    ))
}
