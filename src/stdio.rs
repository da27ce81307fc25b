//! Standard output and standard error, written through their descriptors: nothing is kept back in a buffer, so what a
//! failed write wrote is known. Either may be a full disk, a pipe that does not block, or one that nobody reads. On a
//! terminal, lines are written above progress bars.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

/// The most bytes written at once. A pipe that can be written takes as many without blocking, and does not mix them with
/// what other processes write (`PIPE_BUF`).
const CHUNK: usize = 4096;

/// How often a wait looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The bars on the terminal.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

static STDOUT: Mutex<Place> = Mutex::new(Place::BEGINNING);
static STDERR: Mutex<Place> = Mutex::new(Place::BEGINNING);

/// Where in a line a stream is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Whether this process has written to it.
    used: bool,
    /// Whether the last line was cut off.
    in_line: bool,
    /// Whether the last write waited in vain.
    stuck: bool,
}

impl Place {
    const BEGINNING: Self = Self {
        used: false,
        in_line: false,
        stuck: false,
    };
}

/// How much was written, and why not more.
#[derive(Debug)]
pub struct Written {
    /// How many of the given bytes.
    pub bytes: usize,
    /// Success if those are all.
    pub result: io::Result<()>,
}

/// How long a write waits for its reader.
#[derive(Clone, Copy, Debug)]
pub struct Patience<'a> {
    /// The longest time without any progress; `None` for any time.
    pub without_progress: Option<Duration>,
    /// Set when nobody waits for the result any more.
    pub cancelled: &'a AtomicBool,
}

/// Writes `lines`, each with its line end, to standard output. A line that an earlier write was cut off in is ended first.
/// Only one write is made at a time.
pub fn write_lines(lines: &[u8], patience: Patience<'_>) -> Written {
    let mut place = lock(&STDOUT);
    let stdout = io::stdout();
    let mut write = || write(stdout.as_fd(), &mut place, lines, patience);
    match BARS.get() {
        Some(bars) if stdout.is_terminal() => bars.suspend(write),
        _ => write(),
    }
}

/// Writes lines above `bars` from now on, which are on standard error. Only the first that are given count.
pub fn share_terminal(bars: &MultiProgress) {
    BARS.get_or_init(|| bars.clone());
}

/// Writes `text` to standard output, for as long as that takes.
///
/// # Errors
/// When it cannot be written as a whole.
pub fn print(text: &str) -> io::Result<()> {
    let patience = Patience {
        without_progress: None,
        cancelled: &AtomicBool::new(false),
    };
    write_lines(text.as_bytes(), patience).result
}

/// Writes `text` to standard error as far as that is possible: what cannot be written, or is not read within `wait`, is
/// dropped. After one that was not read, the next do not wait.
pub fn print_error(text: &[u8], wait: Duration) {
    let mut place = lock(&STDERR);
    let wait = if place.stuck { Duration::ZERO } else { wait };
    let patience = Patience {
        without_progress: Some(wait),
        cancelled: &AtomicBool::new(false),
    };
    let mut write = || write(io::stderr().as_fd(), &mut place, text, patience);
    let written = match BARS.get() {
        Some(bars) => bars.suspend(write),
        None => write(),
    };
    place.stuck = written.result.is_err();
}

fn lock(place: &Mutex<Place>) -> MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(
    stream: BorrowedFd<'_>,
    place: &mut Place,
    lines: &[u8],
    patience: Patience<'_>,
) -> Written {
    if !place.used {
        place.used = true;
        place.in_line = ends_in_a_line(stream);
    }
    let mut written = Written {
        bytes: 0,
        result: Ok(()),
    };
    if place.in_line {
        written.result = write_some(stream, b"\n", patience).map(drop);
        place.in_line = written.result.is_err();
    }
    while written.result.is_ok() && written.bytes < lines.len() {
        let rest = &lines[written.bytes..];
        match write_some(stream, chunk(rest), patience) {
            Ok(bytes) => {
                written.bytes += bytes;
                place.in_line = rest[bytes - 1] != b'\n';
            }
            Err(error) => written.result = Err(error),
        }
    }
    written
}

/// The beginning of `lines` to write at once: whole lines, if any fits.
fn chunk(lines: &[u8]) -> &[u8] {
    let most = &lines[..lines.len().min(CHUNK)];
    match most.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => &most[..=end],
        None => most,
    }
}

/// Writes at least a byte of `chunk`, once that is possible.
fn write_some(stream: BorrowedFd<'_>, chunk: &[u8], patience: Patience<'_>) -> io::Result<usize> {
    let began = Instant::now();
    loop {
        if patience.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("no longer wanted"));
        }
        let left = match patience.without_progress {
            None => LOOK_EVERY,
            Some(most) => most.saturating_sub(began.elapsed()),
        };
        // A stream that has failed is ready too: writing tells the error.
        if is_ready(stream, left.min(LOOK_EVERY))? {
            match rustix::io::write(stream, chunk) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => return Ok(bytes),
                // Another process was faster.
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if left.is_zero() {
            let seconds = patience.without_progress.unwrap_or_default().as_secs();
            let message = format!("nothing was read from it for {seconds} s");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
    }
}

fn is_ready(stream: BorrowedFd<'_>, wait: Duration) -> io::Result<bool> {
    let mut streams = [PollFd::new(&stream, PollFlags::OUT)];
    let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
    match poll(&mut streams, Some(&wait)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether `stream` is a file whose last line has no end, as an earlier process may have left it.
fn ends_in_a_line(stream: BorrowedFd<'_>) -> bool {
    let is_file =
        |stream| fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    is_file(stream) && last_byte(stream).is_ok_and(|byte| byte.is_some_and(|byte| byte != b'\n'))
}

/// The last byte before the place where `stream` is written; `None` at the beginning of the file.
fn last_byte(stream: BorrowedFd<'_>) -> io::Result<Option<u8>> {
    use std::os::fd::AsRawFd;
    // Opened anew, as the stream may not be readable.
    let mut file = File::open(format!("/dev/fd/{}", stream.as_raw_fd()))?;
    let appends = rustix::fs::fcntl_getfl(stream)?.contains(rustix::fs::OFlags::APPEND);
    let end = if appends {
        file.seek(SeekFrom::End(0))?
    } else {
        rustix::fs::seek(stream, rustix::fs::SeekFrom::Current(0))?
    };
    let Some(last) = end.checked_sub(1) else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(last))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(Some(byte[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_ends_with_a_line_if_one_fits() {
        assert_eq!(chunk(b"a\nb\nc"), b"a\nb\n");
        assert_eq!(chunk(b"abc"), b"abc");
        let long = [b"x".repeat(CHUNK), b"\n".to_vec()].concat();
        assert_eq!(chunk(&long).len(), CHUNK);
        assert_eq!(chunk(&long[CHUNK..]), b"\n");
    }

    #[test]
    fn a_line_that_was_cut_off_is_ended_before_the_next() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
        let mut place = Place::BEGINNING;
        let never = AtomicBool::new(false);
        let patience = Patience {
            without_progress: Some(Duration::ZERO),
            cancelled: &never,
        };
        let long = [b"{\"id\":1}\n".to_vec(), b"x".repeat(1 << 20)].concat();
        let written = write(writer.as_fd(), &mut place, &long, patience);
        assert_eq!(written.result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(place.in_line && (10..long.len()).contains(&written.bytes));
        let mut read = vec![0; written.bytes];
        reader.read_exact(&mut read).unwrap();
        let next = write(writer.as_fd(), &mut place, b"{}\n", patience);
        assert!(next.result.is_ok() && next.bytes == 3 && !place.in_line);
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "\n{}\n");
    }

    #[test]
    fn a_write_that_nobody_waits_for_ends() {
        let (_reader, writer) = io::pipe().unwrap();
        let cancelled = AtomicBool::new(true);
        let patience = Patience {
            without_progress: None,
            cancelled: &cancelled,
        };
        let mut place = Place::BEGINNING;
        let written = write(writer.as_fd(), &mut place, b"{}\n", patience);
        assert!(written.result.is_err() && written.bytes == 0 && !place.in_line);
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        for (before, cut_off) in [("", false), ("{}\n", false), ("{}\n{\"i", true)] {
            std::fs::write(&path, before).unwrap();
            let file = File::options().append(true).open(&path).unwrap();
            assert_eq!(ends_in_a_line(file.as_fd()), cut_off, "{before:?}");
            // As after `>`, which begins at the beginning.
            let file = File::options().write(true).open(&path).unwrap();
            assert!(!ends_in_a_line(file.as_fd()), "{before:?}");
        }
    }
}
