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
    /// The database did not take a setting that the mirror's promises rest on.
    #[error(
        "database {path}: `PRAGMA {pragma}` is {found}, not {wanted}; the file system may not support it"
    )]
    Pragma {
        /// The database file.
        path: PathBuf,
        /// The setting.
        pragma: &'static str,
        /// What the database says.
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
    /// The database reports an error.
    #[error("database{}: {detail}{}", .path.as_ref().map_or_else(String::new, |path| format!(" {}", path.display())), .failure.remedy())]
    Database {
        /// The database, where it could not be opened.
        path: Option<PathBuf>,
        /// The kind of failure.
        failure: Failure,
        /// What the database says.
        detail: String,
    },
    /// The thread that owns the database is gone.
    #[error("the database is closed")]
    Closed,
}

/// What kind of failure a database reports, as far as it matters what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The disk is full.
    Full,
    /// The disk cannot be read or written.
    Disk,
    /// Another program holds a lock for longer than we wait.
    Locked,
    /// The file or its folder cannot be opened for writing.
    ReadOnly,
    /// The file is damaged.
    Damaged,
    /// Anything else: most likely a mistake of this program.
    Other,
}

impl Failure {
    fn remedy(self) -> &'static str {
        match self {
            Self::Full => "; make room on the disk",
            Self::Disk => "; check the disk and the room on it",
            Self::Locked => "; another program is writing to it, end that first",
            Self::ReadOnly => "; make the file and its folder writable",
            Self::Damaged => {
                "; the file is damaged: move it out of the way, then restore a copy or mirror anew"
            }
            Self::Other => "",
        }
    }
}

impl StoreError {
    /// Whether the same call may succeed later, for example when somebody has made room on the disk. Waiting loses
    /// nothing.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Database { failure, .. } => match failure {
                Failure::Full | Failure::Disk | Failure::Locked | Failure::ReadOnly => true,
                Failure::Damaged | Failure::Other => false,
            },
            _ => false,
        }
    }
}
