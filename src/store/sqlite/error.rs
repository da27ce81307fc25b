//! Translates SQLite's errors.

use std::path::Path;

use rusqlite::ErrorCode;
use rustix::io::Errno;

use crate::store::error::{Failure, StoreError};

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let failure = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Failure::Full,
            Some(ErrorCode::SystemIoFailure) => Failure::Disk,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failure::Locked,
            Some(ErrorCode::CannotOpen) if too_many_files_are_open() => Failure::OpenFiles,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => Failure::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Damaged,
            _ => Failure::Other,
        };
        Self::Database {
            path: None,
            failure,
            detail: error.to_string(),
        }
    }
}

/// Whether the system opens no more files for this process. SQLite does not say so.
fn too_many_files_are_open() -> bool {
    let opened = std::fs::File::open("/dev/null");
    let error = opened.err().and_then(|error| Errno::from_io_error(&error));
    matches!(error, Some(Errno::MFILE | Errno::NFILE))
}

/// Adds the path of the database that was being opened.
pub(super) fn opening(error: StoreError, file: &Path) -> StoreError {
    match error {
        StoreError::Database {
            path: None,
            failure,
            detail,
        } => StoreError::Database {
            path: Some(file.to_owned()),
            failure,
            detail,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> StoreError {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None).into()
    }

    #[test]
    fn temporary_failures_differ_from_lasting_ones() {
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
    fn a_damaged_file_comes_with_a_remedy() {
        for code in [11, 26] {
            let error = opening(sqlite(code), Path::new("runs.db")).to_string();
            assert!(error.starts_with("database runs.db: "), "{error}");
            assert!(error.contains("the file is damaged"), "{error}");
        }
    }
}
