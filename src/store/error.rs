//! What can go wrong with the database, and what to do about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

/// A failure of the database or of the disk beneath it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file or its folder cannot be used.
    #[error("database {path}: {source}; check that the folder exists and may be written to")]
    Io {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody else could change the mirror under the daemon.
    #[error(
        "database {path} can be written by everyone (mode {mode:o}); take that away with `chmod o-w {path}`"
    )]
    WritableByOthers {
        /// The database file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another instance holds the database.
    #[error(
        "database {path} is in use by another apify-mirror; stop that one first, or give this one another `--db`"
    )]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// There is no database to read.
    #[error(
        "there is no database at {path}; make one with `apify-mirror sync`, or name another with `--db`"
    )]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// The database was written by a later version.
    #[error(
        "database {path} has schema version {found}, but this apify-mirror knows versions up to {known}; use a newer apify-mirror"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// The database was written by an earlier version, and this is not the moment to change it.
    #[error(
        "database {path} has schema version {found}, and this apify-mirror reads version {known}; `apify-mirror sync` or `run` brings it up to date"
    )]
    Older {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The version wanted.
        known: i64,
    },
    /// The file is a database, but not one of ours.
    #[error("database {path} holds tables of another program; name another file with `--db`")]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// SQLite did not take a setting that the mirror's promises rest on.
    #[error(
        "database {path}: `PRAGMA {pragma}` is {found}, not {wanted}; the file system may not support it"
    )]
    Pragma {
        /// The database file.
        path: PathBuf,
        /// The setting.
        pragma: &'static str,
        /// What SQLite says.
        found: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// A stored value that this program cannot have written.
    #[error("the database holds {value:?} as {what}; it was changed by another program")]
    Corrupt {
        /// Which value.
        what: &'static str,
        /// Its text.
        value: String,
    },
    /// The file is no longer the one that was opened; what is written now would be lost.
    #[error(
        "database {path} was deleted or replaced while it was in use; start again to go on with what is there now"
    )]
    Replaced {
        /// The database file.
        path: PathBuf,
    },
    /// SQLite cannot open the database.
    #[error("database {path}: {source}{remedy}", remedy = remedy(.source))]
    Opening {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// SQLite reports an error.
    #[error("database: {0}{remedy}", remedy = remedy(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// The thread that owns the database is gone.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// The same, naming the database that was being opened.
    pub(super) fn opening(self, path: &Path) -> Self {
        match self {
            Self::Sqlite(source) => Self::Opening {
                path: path.to_owned(),
                source,
            },
            other => other,
        }
    }

    /// Whether the same call may well succeed later, when somebody has made room, say: nothing is lost by waiting.
    pub fn is_temporary(&self) -> bool {
        let (Self::Sqlite(error) | Self::Opening { source: error, .. }) = self else {
            return false;
        };
        matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::ReadOnly
                    | ErrorCode::CannotOpen
            )
        )
    }
}

fn remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "; make room on the disk",
        Some(ErrorCode::SystemIoFailure) => "; check the disk and the room on it",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "; another program is writing to it, end that first"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            "; make the file and its folder writable"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "; the file is damaged: move it out of the way, then restore a copy or mirror anew"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        let sqlite = |code| {
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(code),
                None,
            ))
        };
        // SQLITE_BUSY, _READONLY, _IOERR, _FULL, and SQLITE_IOERR_FSYNC.
        for code in [5, 8, 10, 13, 1034] {
            let error = sqlite(code);
            assert!(error.is_temporary(), "{error}");
            assert!(error.to_string().contains("; "), "{error} has no remedy");
        }
        // SQLITE_CORRUPT, _CONSTRAINT, _NOTADB.
        for code in [11, 19, 26] {
            assert!(!sqlite(code).is_temporary(), "{code}");
        }
        assert!(!StoreError::Closed.is_temporary());
    }

    #[test]
    fn a_damaged_file_is_told_with_a_remedy() {
        for code in [11, 26] {
            let error = StoreError::Sqlite(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(code),
                None,
            ));
            assert!(error.to_string().contains("the file is damaged"), "{error}");
        }
    }
}
