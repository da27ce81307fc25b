//! Errors of the database, each with its remedy.

use std::path::PathBuf;

use thiserror::Error;

use crate::files::Untrusted;

/// A failure of the database or of the disk beneath it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file or its folder cannot be used.
    #[error("database {path}: {source}; check that the folder exists and may be written to")]
    Io {
        /// The database file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// There is something else than a file.
    #[error("database {path} {}", if *.is_folder { "is a folder; name a file in it" } else { "is not a regular file; name one" })]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// Whether it is a folder.
        is_folder: bool,
    },
    /// Others could have put the file there, or may write or replace it.
    #[error("database {0}")]
    Untrusted(Untrusted),
    /// Its schema is not as this program made it.
    #[error("database {path}: the {what}: {name:?}; {remedy}")]
    Changed {
        /// The database file.
        path: PathBuf,
        /// The name of the table, view, index or trigger.
        name: String,
        /// What is wrong with it.
        what: &'static str,
        /// What to do.
        remedy: String,
    },
    /// The file has several names.
    #[error(
        "database {path} has {names} names (hard links), and what is written under one of them is not seen under another; remove the other names, or make copies of the file instead"
    )]
    Linked {
        /// The database file.
        path: PathBuf,
        /// How many names it has.
        names: u64,
    },
    /// Another instance holds the database.
    #[error(
        "database {path} is in use by another apify-mirror; stop that one first, wait for it (`sync --wait 10m`), or use \
         another `--db`"
    )]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// There is no database to read.
    #[error(
        "there is no database at {path}; create one with `apify-mirror sync`, or name another with `--db`"
    )]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// A copy would take the place of another file.
    #[error(
        "{path} exists already, and is not overwritten; name another file, or move this one away first"
    )]
    Exists {
        /// The file.
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
    /// The database was written by an earlier version, and this command does not migrate it.
    #[error(
        "database {path} has schema version {found}, and this apify-mirror reads version {known}; `apify-mirror sync` or `run` migrates it"
    )]
    Older {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The version required.
        known: i64,
    },
    /// The file is another program's database.
    #[error("database {path} holds tables of another program; name another file with `--db`")]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The database did not accept a setting that the mirror's guarantees depend on.
    #[error(
        "database {path}: `PRAGMA {pragma}` is {found}, not {wanted}; the file system may not support it"
    )]
    Pragma {
        /// The database file.
        path: PathBuf,
        /// The setting.
        pragma: &'static str,
        /// The value in effect.
        found: String,
        /// The value required.
        wanted: &'static str,
    },
    /// A stored value that this program does not write.
    #[error("the database holds {value:?} as {what}; it was changed by another program")]
    Corrupt {
        /// Which value it is.
        what: &'static str,
        /// Its text.
        value: String,
    },
    /// The file is no longer the one that was opened; further writes would be lost.
    #[error(
        "database {path} was deleted or replaced while it was in use; restart to continue with the current file"
    )]
    Replaced {
        /// The database file.
        path: PathBuf,
    },
    /// The database reports an error.
    #[error("database{}: {detail}{}", .path.as_ref().map_or_else(String::new, |path| format!(" {}", path.display())), .failure.remedy())]
    Database {
        /// The database, if opening it failed.
        path: Option<PathBuf>,
        /// The kind of failure.
        failure: Failure,
        /// The database's message.
        detail: String,
    },
    /// The thread that owns the database is gone.
    #[error("the database is closed")]
    Closed,
}

/// Kinds of database failures, by remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The disk is full.
    Full,
    /// The disk cannot be read or written.
    Disk,
    /// Another program held a lock for longer than the timeout.
    Locked,
    /// The file or its folder cannot be opened for writing.
    ReadOnly,
    /// The process has too many open files.
    OpenFiles,
    /// The file is damaged.
    Damaged,
    /// Anything else, most likely a bug in this program.
    Other,
}

impl Failure {
    fn remedy(self) -> &'static str {
        match self {
            Self::Full => "; free some space on the disk",
            Self::Disk => "; check the disk and its free space",
            Self::Locked => "; another program is writing to it, stop it first",
            Self::ReadOnly => "; run this as the user that may write to the file and its folder",
            Self::OpenFiles => {
                "; too many files are open: raise the limit (`ulimit -n`, or LimitNOFILE= of the service)"
            }
            Self::Damaged => {
                "; the file is damaged: move it out of the way, then restore a backup or mirror again"
            }
            Self::Other => "",
        }
    }
}

impl From<Untrusted> for StoreError {
    fn from(untrusted: Untrusted) -> Self {
        match untrusted {
            Untrusted::Io { path, source } => Self::Io { path, source },
            other => Self::Untrusted(other),
        }
    }
}

impl StoreError {
    /// Whether the same call may succeed later, for example after space was freed on the disk. Waiting loses nothing.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Database { failure, .. } => match failure {
                Failure::Full
                | Failure::Disk
                | Failure::Locked
                | Failure::ReadOnly
                | Failure::OpenFiles => true,
                Failure::Damaged | Failure::Other => false,
            },
            _ => false,
        }
    }
}
