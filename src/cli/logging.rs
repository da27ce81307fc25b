//! The log, on standard error: as text for people or as JSON for programs.

use std::io::{self, Write};

use tracing::Subscriber;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::globals::Globals;
use super::log_lines::{JournalLines, JsonLines, write_field};
use super::output::{is_colored, print_log, to_journal};
use crate::config::{LogFormat, LogLevel, Settings};
use crate::model::Timestamp;

/// Starts the log, with the level of `settings` shifted by `-v` and `-q`; for the journal where standard error leads there.
/// Every command calls this once.
pub fn start(globals: &Globals, settings: &Settings) {
    let level = shifted(settings.log_level, globals.verbosity());
    // Other libraries log warnings and errors only.
    let others = level.min(LevelFilter::WARN);
    let filter = EnvFilter::new(format!("{others},apify_mirror={level}"));
    let registry = tracing_subscriber::registry().with(filter);
    let in_journal = to_journal().stderr;
    match settings.log_format {
        LogFormat::Text if in_journal => registry.with(journal(|| Line)).init(),
        LogFormat::Text => registry
            .with(text(|| Line, is_colored(&io::stderr())))
            .init(),
        LogFormat::Json => registry.with(json(|| Line, in_journal)).init(),
    }
    tracing::debug!(database = %settings.database.display(), log_level = %level, "log started");
}

/// Lines for people.
pub(super) fn text<S: Subscriber + for<'a> LookupSpan<'a>>(
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
    colored: bool,
) -> impl Layer<S> {
    fmt::layer()
        .with_writer(writer)
        .with_ansi(colored)
        .with_timer(Clock)
        .with_target(false)
        .fmt_fields(debug_fn(write_field).delimited(" "))
}

/// Lines for the journal, which keeps the time itself.
pub(super) fn journal<S: Subscriber + for<'a> LookupSpan<'a>>(
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> impl Layer<S> {
    fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .fmt_fields(debug_fn(write_field).delimited(" "))
        .event_format(JournalLines)
}

/// Lines for programs, with a priority before each where the journal reads them.
pub(super) fn json<S: Subscriber + for<'a> LookupSpan<'a>>(
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
    in_journal: bool,
) -> impl Layer<S> {
    fmt::layer()
        .with_writer(writer)
        .event_format(JsonLines { in_journal })
}

fn shifted(level: LogLevel, by: i16) -> LevelFilter {
    const LEVELS: [LevelFilter; 6] = [
        LevelFilter::OFF,
        LevelFilter::ERROR,
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ];
    // `-q` never hides errors; only `log.level = "off"` does.
    let least = i16::from(level != LogLevel::Off);
    LEVELS[(level as i16 + by).clamp(least, 5) as usize]
}

/// Writes times in the form that the API and the database use.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", Timestamp::now())
    }
}

/// Writes one log line to standard error.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A log that cannot be written is no reason to fail.
        print_log(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_shift_the_level_within_bounds() {
        for (level, by, expected) in [
            (LogLevel::Info, 0, LevelFilter::INFO),
            (LogLevel::Info, 1, LevelFilter::DEBUG),
            (LogLevel::Info, 9, LevelFilter::TRACE),
            (LogLevel::Info, -1, LevelFilter::WARN),
            (LogLevel::Info, -9, LevelFilter::ERROR),
            (LogLevel::Off, 0, LevelFilter::OFF),
            (LogLevel::Off, -1, LevelFilter::OFF),
        ] {
            assert_eq!(shifted(level, by), expected, "{level:?} {by}");
        }
    }
}
