//! What commands print. Standard output may be a pipe whose reader has ended; standard error need not be writable.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;
use std::{fmt, io};

use anstream::adapter::strip_str;
use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use thiserror::Error;
use tracing::Level;

use super::log_lines::priority;
use super::styles::{BAD, ODD, styled};
use crate::options::{Environment, without_tokens};
use crate::stdio;
use crate::systemd::is_journal;
use crate::text::{MAX_SHOWN, escape, escape_json};

/// Results cannot be written to standard output.
#[derive(Debug, Error)]
#[error("standard output: {0}; what should have been printed there is incomplete")]
pub struct Unwritable(#[from] io::Error);

/// Which of the streams lead to the journal, where every line has a priority: without one before it, text of others could
/// begin with one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ToJournal {
    /// Whether standard output does.
    pub stdout: bool,
    /// Whether standard error does.
    pub stderr: bool,
}

static JOURNAL: OnceLock<ToJournal> = OnceLock::new();

/// Finds out which streams lead to the journal, for all that is written later.
pub fn find_journal(environment: &Environment) {
    JOURNAL.get_or_init(|| ToJournal {
        stdout: is_journal(io::stdout(), environment),
        stderr: is_journal(io::stderr(), environment),
    });
}

/// Which of the streams lead to the journal, as far as that was found out.
pub fn to_journal() -> ToJournal {
    JOURNAL.get().copied().unwrap_or_default()
}

/// `text`, with a priority before each line where it goes to the journal.
fn with_priority(text: &str, level: Level, is_journal: bool) -> Cow<'_, str> {
    if !is_journal {
        return Cow::Borrowed(text);
    }
    let priority = priority(level);
    let parts = text.split_inclusive('\n').flat_map(parts);
    Cow::Owned(parts.map(|part| format!("{priority}{part}")).collect())
}

/// The most bytes of a line in the journal, which divides one of more than 48 KiB by itself, and reads a priority from each
/// part.
const MAX_LINE: usize = 32 << 10;

/// A line as lines that the journal does not divide.
fn parts(mut line: &str) -> Vec<String> {
    let mut parts = Vec::new();
    while line.len() > MAX_LINE {
        let boundary = (0..=MAX_LINE).rev().find(|at| line.is_char_boundary(*at));
        let (part, rest) = line.split_at(boundary.unwrap_or_default());
        parts.push(format!("{part}\n"));
        line = rest;
    }
    parts.push(line.to_owned());
    parts
}

/// Writes `text` to standard output. A reader that has ended, such as `head`, is no error.
///
/// # Errors
/// When it cannot be written for any other reason.
pub fn print(text: &str) -> Result<(), Unwritable> {
    print_if_read(text).map(drop)
}

/// Writes `text`, which has colours, to standard output, as [`print()`] does. They stay where a person sees them, unless
/// `--color` or NO_COLOR say otherwise.
///
/// # Errors
/// As for [`print()`].
pub fn print_styled(text: &str) -> Result<(), Unwritable> {
    print(&for_stream(text, &io::stdout()))
}

fn print_at(level: Level, text: &str) {
    let text = for_stream(text, &io::stderr());
    let text = with_priority(&text, level, to_journal().stderr);
    stdio::print_error(without_tokens(&text).as_bytes(), MESSAGE_WAITS);
}

/// Writes an error to standard error. Its text must be inert.
pub fn show_error(error: &str) {
    print_at(
        Level::ERROR,
        &format!("{} {error}\n", styled(BAD, "error:")),
    );
}

/// Writes a warning to standard error. Its text must be inert.
pub fn show_warning(warning: &str) {
    print_at(
        Level::WARN,
        &format!("{} {warning}\n", styled(ODD, "warning:")),
    );
}

/// Whether what is written to `stream` has colours.
pub fn is_colored(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// `text`, without its colours where `stream` is to have none.
pub fn for_stream<'a>(text: &'a str, stream: &impl RawStream) -> Cow<'a, str> {
    match is_colored(stream) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(plain(text)),
    }
}

/// `text` without its colours.
pub fn plain(text: &str) -> String {
    strip_str(text).to_string()
}

/// Text for people, on one line. What others wrote in it is escaped.
pub fn shown(text: impl fmt::Display) -> String {
    escape(text, MAX_SHOWN)
}

/// A line for people, with its end. What others wrote in it is escaped.
pub fn line(text: impl fmt::Display) -> String {
    shown(text) + "\n"
}

/// `value` as indented JSON, without active characters, with a line end.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn to_json(value: &impl Serialize) -> Result<String, Unwritable> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Unwritable(error.into()))?;
    Ok(escape_json(&text) + "\n")
}

/// Writes `value` to standard output, as [`to_json`] gives it.
///
/// # Errors
/// As for [`print()`].
pub fn print_json(value: &impl Serialize) -> Result<(), Unwritable> {
    print(&to_json(value)?)
}

/// Writes `text` to standard output; returns whether standard output still has a reader.
///
/// # Errors
/// When it cannot be written for any other reason.
pub fn print_if_read(text: &str) -> Result<bool, Unwritable> {
    match stdio::print(&with_priority(text, Level::INFO, to_journal().stdout)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Unwritable(error)),
    }
}

/// How long a message waits for somebody to read standard error.
const MESSAGE_WAITS: Duration = Duration::from_secs(10);

/// How long a line of the log does.
const LOG_WAITS: Duration = Duration::from_secs(1);

/// Writes `text` to standard error, without any API token in it. What cannot be written is dropped: the result of a
/// command does not depend on it.
pub fn print_error(text: &str) {
    print_at(Level::INFO, text);
}

/// Writes a line of the log, as [`print_error`] does, but waits less: a daemon does not stand still for its log.
pub fn print_log(line: &str) {
    stdio::print_error(without_tokens(line).as_bytes(), LOG_WAITS);
}

/// Waits for `wait`, or until the reader of standard output ends; returns whether it still has one.
///
/// # Errors
/// When the system cannot watch standard output.
pub fn wait_while_read(wait: Duration) -> io::Result<bool> {
    let stdout = io::stdout();
    // `poll` reports errors and hang-ups without their being asked for.
    let mut streams = [PollFd::new(&stdout, PollFlags::empty())];
    let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
    match poll(&mut streams, Some(&wait)) {
        Ok(_) => Ok(!streams[0]
            .revents()
            .intersects(PollFlags::ERR | PollFlags::HUP)),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_for_the_journal_is_longer_than_it_takes() {
        assert_eq!(parts("short\n"), ["short\n"]);
        let long = "ä".repeat(MAX_LINE) + "<0>\n";
        let parts = parts(&long);
        assert_eq!(parts.len(), 3);
        assert!(
            parts
                .iter()
                .all(|part| part.len() <= MAX_LINE + 1 && part.ends_with('\n'))
        );
        let whole: String = parts.iter().map(|part| part.trim_end()).collect();
        assert_eq!(whole + "\n", long);
    }
}
