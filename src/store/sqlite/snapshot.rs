//! Reading a database that nobody writes, without the right to write.
//!
//! SQLite reads a database only where it finds, or may create, the log and its index beside it. A copy of the file
//! alone has neither. It can still be read as it lies ("immutable"), as long as it has no log and nobody changes it;
//! SQLite does not notice changes then, so this file does.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::file::real;
use super::lock::InstanceLock;
use crate::files;

/// Characters of a path that are not escaped in a URI.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-');

/// The state of a file that nobody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    size: u64,
    modified: (i64, i64),
}

impl Snapshot {
    /// The state of the database at `path`; `None` while it has a log that is not empty, or a process that writes it.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let log = files::beside(&real(path).ok()?, "-wal");
        let has_log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
        if has_log || InstanceLock::is_held(path) {
            return None;
        }
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }
}

/// The URI under which SQLite reads the file at `path` as it lies.
pub(super) fn immutable_uri(path: &Path) -> std::io::Result<String> {
    let path = path.canonicalize()?;
    let path = percent_encode(path.as_os_str().as_bytes(), ESCAPED);
    Ok(format!("file:{path}?immutable=1"))
}
