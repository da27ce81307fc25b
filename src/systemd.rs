//! What systemd tells a service through its environment, and what a service tells systemd (`sd_notify(3)`). Without systemd
//! all of this does nothing.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::fstat;
use sd_notify::NotifyState;

use crate::options::Environment;

/// Whether `stream` leads to the journal, which has a time and a priority for every line: as `JOURNAL_STREAM` says
/// (`systemd.exec(5)`). A service may have sent its output elsewhere.
pub fn is_journal(stream: impl AsFd, environment: &Environment) -> bool {
    let Some(journal) = environment.get("JOURNAL_STREAM") else {
        return false;
    };
    fstat(stream).is_ok_and(|found| *journal == format!("{}:{}", found.st_dev, found.st_ino))
}

/// How often systemd wants to hear that the service is alive, if it watches it.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Says that the service has started.
///
/// # Errors
/// When systemd cannot be told.
pub fn ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// Says that the service has begun to stop.
///
/// # Errors
/// As for [`ready`].
pub fn stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}

/// Says what the service does, in a line for people.
///
/// # Errors
/// As for [`ready`].
pub fn status(line: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Status(line)])
}

/// Says that the service is alive.
///
/// # Errors
/// As for [`ready`].
pub fn alive() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn only_the_stream_that_is_named_is_the_journal() {
        let file = tempfile::tempfile().unwrap();
        let (found, other) = (file.metadata().unwrap(), tempfile::tempfile().unwrap());
        let named = format!("{}:{}", found.dev(), found.ino());
        let environment = Environment::from([("JOURNAL_STREAM".to_owned(), named)]);
        assert!(is_journal(&file, &environment));
        assert!(!is_journal(&other, &environment));
        assert!(!is_journal(&file, &Environment::new()));
    }
}
