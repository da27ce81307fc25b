//! Standard output, which may be a pipe that nobody reads any more.

use std::io::{self, Write};

/// Writes `text` to standard output. A reader that has seen enough, such as `head`, is no error.
///
/// # Errors
/// When it cannot be written for any other reason.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
