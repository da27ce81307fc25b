//! What commands print. Standard output may be a pipe whose reader has ended; standard error need not be writable.

use std::time::Duration;
use std::{fmt, io};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use thiserror::Error;

use crate::options::without_tokens;
use crate::stdio;
use crate::text::{MAX_SHOWN, escape, escape_json};

/// Results cannot be written to standard output.
#[derive(Debug, Error)]
#[error("standard output: {0}; what should have been printed there is incomplete")]
pub struct Unwritable(#[from] io::Error);

/// Writes `text` to standard output. A reader that has ended, such as `head`, is no error.
///
/// # Errors
/// When it cannot be written for any other reason.
pub fn print(text: &str) -> Result<(), Unwritable> {
    print_if_read(text).map(drop)
}

/// A line for people, with its end. What others wrote in it is escaped.
pub fn line(text: impl fmt::Display) -> String {
    escape(text, MAX_SHOWN) + "\n"
}

/// Writes `value` to standard output as indented JSON, without active characters.
///
/// # Errors
/// As for [`print()`].
pub fn print_json(value: &impl Serialize) -> Result<(), Unwritable> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Unwritable(error.into()))?;
    print(&(escape_json(&text) + "\n"))
}

/// Writes `text` to standard output; returns whether standard output still has a reader.
///
/// # Errors
/// When it cannot be written for any other reason.
pub fn print_if_read(text: &str) -> Result<bool, Unwritable> {
    match stdio::print(text) {
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
    stdio::print_error(without_tokens(text).as_bytes(), MESSAGE_WAITS);
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
