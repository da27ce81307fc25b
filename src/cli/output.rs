//! Standard output, which may be a pipe that nobody reads any more.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Writes `text` to standard output. A reader that has seen enough, such as `head`, is no error.
///
/// # Errors
/// When it cannot be written for any other reason.
pub fn print(text: &str) -> io::Result<()> {
    print_if_read(text).map(drop)
}

/// Writes `text` to standard output; gives whether anybody still reads it.
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

/// Waits, but no longer than anybody reads standard output; gives whether anybody still does.
///
/// # Errors
/// When the system cannot tell.
pub fn wait_while_read(wait: Duration) -> io::Result<bool> {
    let stdout = io::stdout();
    // What has gone wrong with a stream is told without being asked for.
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
