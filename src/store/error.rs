//! What can go wrong with the database, and what to do about it.

use std::path::PathBuf;

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
    #[error("database {path} can be written by everyone (mode {mode:o}); take that away with `chmod o-w {path}`")]
    WritableByOthers {
        /// The database file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another instance holds the database.
    #[error("database {path} is in use by another apify-mirror; stop that one first, or give this one another `--db`")]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// There is no database to read.
    #[error("there is no database at {path}; make one with `apify-mirror sync`, or name another with `--db`")]
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
    /// The file is a database, but not one of ours.
    #[error("database {path} holds tables of another program; name another file with `--db`")]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// SQLite did not take a setting that the mirror's promises rest on.
    #[error("database {path}: `PRAGMA {pragma}` is {found}, not {wanted}; the file system may not support it")]
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
    /// SQLite reports an error.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The thread that owns the database is gone.
    #[error("the database is closed")]
    Closed,
}
