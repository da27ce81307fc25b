//! A copy of the whole database, while others write it.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::connection::{Db, examine};
use super::error::opening;
use super::snapshot::immutable_uri;
use crate::files::{self, Purpose};
use crate::store::error::{Failure, StoreError};

/// The pages copied at once, between two looks at whether to go on.
const PAGES: i32 = 1_000;

/// What follows on a copy's name until it is complete.
const PARTIAL: &str = ".partial";

/// The permission bits of a copy.
const MODE: u32 = 0o600;

/// A copy that is not complete, removed when dropped.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // It has its final name, or it is of no use.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Db {
    /// Copies the database, as it is at one moment, to the new file `to`; calls `go_on` with the bytes copied and to copy.
    /// Returns the size, or `None` if that ended the copy.
    ///
    /// # Errors
    /// When there is such a file, its folder cannot be trusted, or either of the two cannot be read or written.
    pub fn backup(
        &mut self,
        to: &Path,
        go_on: &dyn Fn(u64, u64) -> bool,
    ) -> Result<Option<u64>, StoreError> {
        let exists = |path: &Path| StoreError::Exists {
            path: path.to_owned(),
        };
        let io = |source| StoreError::Io {
            path: to.to_owned(),
            source,
        };
        if to.symlink_metadata().is_ok() {
            return Err(exists(to));
        }
        files::check(to, Purpose::Written)?;
        let partial = files::beside(to, PARTIAL);
        match files::create_new(&partial, OpenOptions::new().write(true), MODE) {
            Ok(file) => drop(file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(exists(&partial));
            }
            Err(error) => return Err(io(error)),
        }
        let partial = Partial(partial);
        let is_whole = self.read_current(|db| db.copy_to(&partial.0, go_on))?;
        if !is_whole {
            return Ok(None);
        }
        check(&partial.0)?;
        let size = partial.0.metadata().map_err(io)?.len();
        match files::publish(&partial.0, to) {
            Ok(()) => Ok(Some(size)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(to)),
            Err(error) => Err(io(error)),
        }
    }

    /// Copies the database over the file `to`; returns false if `go_on` ended that.
    fn copy_to(&self, to: &Path, go_on: &dyn Fn(u64, u64) -> bool) -> Result<bool, StoreError> {
        let here = |error: rusqlite::Error| opening(error.into(), to);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut copy = Connection::open_with_flags(to, flags).map_err(here)?;
        // What a crash leaves of it is thrown away; it is synced once it is complete.
        copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            .map_err(here)?;
        // As long as it is open, the copy is of this moment, whatever others write.
        let moment = self.connection.unchecked_transaction()?;
        let size = "SELECT (SELECT count(*) FROM sqlite_schema), page_size FROM pragma_page_size";
        let page: u64 = moment.query_row(size, [], |row| row.get(1))?;
        let backup = Backup::new(&moment, &mut copy).map_err(here)?;
        loop {
            let step = backup.step(PAGES).map_err(here)?;
            let progress = backup.progress();
            let bytes = |pages: i32| u64::from(pages.unsigned_abs()) * page;
            let copied = progress.pagecount - progress.remaining;
            if !go_on(bytes(copied), bytes(progress.pagecount)) {
                return Ok(false);
            }
            match step {
                StepResult::Done => return Ok(true),
                StepResult::More => {}
                // Nobody else has the copy open, and a reader waits for nobody.
                _ => {
                    return Err(StoreError::Database {
                        path: Some(to.to_owned()),
                        failure: Failure::Locked,
                        detail: "the copy cannot be written".to_owned(),
                    });
                }
            }
        }
    }
}

/// Checks that a copy is a whole database of this version, without the files that SQLite would keep beside it.
fn check(path: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io {
        path: path.to_owned(),
        source,
    };
    let uri = immutable_uri(path).map_err(io)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let here = |error: rusqlite::Error| opening(error.into(), path);
    let connection = Connection::open_with_flags(uri, flags).map_err(here)?;
    let (connection, _) = examine(connection, path)?;
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(here)?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Database {
            path: Some(path.to_owned()),
            failure: Failure::Damaged,
            detail: found,
        }),
    }
}
