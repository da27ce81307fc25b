//! Standard output, which may be a pipe whose reader has ended.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

/// Writes `text` to standard output. A reader that has ended, such as `head`, is no error.
///
/// # Errors
/// When it cannot be written for any other reason.
pub fn print(text: &str) -> io::Result<()> {
    print_if_read(text).map(drop)
}

/// Writes `value` to standard output as indented JSON.
///
/// # Errors
/// As for [`print()`].
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes `text` to standard output; returns whether standard output still has a reader.
///
/// # Errors
/// When it cannot be written for any other reason.
pub fn print_if_read(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
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
