//! What is asked of the database's file before SQLite opens it, and again while it is open.

use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files::{self, For, Purpose, Readers};
use crate::store::error::StoreError;

/// Which file a path names, and how many names it has.
pub(super) struct Identity {
    pub(super) device_and_inode: (u64, u64),
    pub(super) names: u64,
}

impl Identity {
    /// By the file's metadata alone: to open the file again, and close it, would drop SQLite's locks on it.
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self {
            device_and_inode: (found.dev(), found.ino()),
            names: found.nlink(),
        })
    }
}

/// Refuses a path where there is nothing, or where this user may not look.
pub(super) fn require(path: &Path) -> Result<(), StoreError> {
    let path = || path.to_owned();
    match path().try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::Missing { path: path() }),
        Err(source) => Err(StoreError::Io {
            path: path(),
            source,
        }),
    }
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The file that `path` leads to, or would if it existed. SQLite keeps other files beside that one, not beside a link.
///
/// # Errors
/// When the folder does not exist, or links lead in a circle.
pub(super) fn real(path: &Path) -> std::io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = files::folder(path).canonicalize()?;
            Ok(folder.join(path.file_name().unwrap_or_default()))
        }
        result => result,
    }
}

/// SQLite's message about anything else than a file would not say what is wrong; and it would wait for a pipe beside one.
pub(super) fn refuse_what_is_no_file(path: &Path) -> Result<(), StoreError> {
    if let Ok(found) = std::fs::metadata(path)
        && !found.is_file()
    {
        return Err(StoreError::NotAFile {
            path: path.to_owned(),
            is_folder: found.is_dir(),
        });
    }
    // Where that is not to be found out, SQLite says why.
    let Ok(real) = real(path) else { return Ok(()) };
    let mut beside = beside(&real).chain([files::beside(&real, LOCK)]);
    // A new database gets the owner of its folder.
    let found = std::fs::metadata(&real).or_else(|_| files::folder(&real).metadata());
    let trusted = [found.map_or(0, |found| found.uid()), 0, me()];
    let is_other = |path: &PathBuf| {
        let found = path.metadata();
        found.is_ok_and(|found| {
            !found.is_file() || found.nlink() > 1 || !trusted.contains(&found.uid())
        })
    };
    match beside.find(is_other) {
        Some(path) => Err(StoreError::Io {
            path,
            source: std::io::Error::other(
                "what is kept beside a database must be a regular file of its owner, under one name; move this away, with the database if it belongs to it",
            ),
        }),
        None => Ok(()),
    }
}

/// Where root runs this and another user decides what lies at `path`, goes on as that user: SQLite opens, creates and gives away
/// files by their names.
pub(super) fn act_as_master(path: &Path, duration: For) -> Result<(), StoreError> {
    Ok(files::act_as_master(path, duration)?)
}

/// Refuses a database of root's where others can replace it or create files beside it, where root only reads it: SQLite would
/// write to what they put there.
pub(super) fn check_what_root_reads(path: &Path) -> Result<(), StoreError> {
    match me() {
        0 => Ok(files::check_folders(path)?),
        _ => Ok(()),
    }
}

/// Refuses a file with several names (hard links): each has a log and a lock of its own, so two processes would write
/// it at once.
pub(super) fn refuse_several_names(path: &Path) -> Result<(), StoreError> {
    match Identity::of(path) {
        Ok(found) => one_name(path, found.names),
        // SQLite reports what is wrong, or creates the file.
        Err(_) => Ok(()),
    }
}

pub(super) fn one_name(path: &Path, names: u64) -> Result<(), StoreError> {
    if names <= 1 {
        return Ok(());
    }
    Err(StoreError::Linked {
        path: path.to_owned(),
        names,
    })
}

/// What follows on the database's name in the names of the files that SQLite keeps beside it.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// The files that SQLite keeps beside the database at `path`, or would believe if it found them there.
pub(super) fn beside(path: &Path) -> impl Iterator<Item = PathBuf> {
    let suffixes = BESIDE.iter().chain([&JOURNAL]);
    suffixes.map(|suffix| files::beside(path, suffix))
}

/// The same of the instance lock, which is no business of SQLite's.
pub(super) const LOCK: &str = ".lock";

/// What SQLite would replace the database by, if it found it: left by a crash while the file was made.
const JOURNAL: &str = "-journal";

/// Refuses a database, or a file beside it, that is not the user's or root's, or that others may write or replace; and a
/// folder in which others may create files: SQLite believes whatever it finds beside a database at the moment it opens it.
pub(super) fn require_trust(path: &Path) -> Result<(), StoreError> {
    refuse_what_is_no_file(path)?;
    let real = real(path).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        source,
    })?;
    for path in beside(&real).chain([path.to_owned()]) {
        files::check(&path, Purpose::Written)?;
    }
    Ok(files::check_neighbours(path)?)
}

/// Creates the file of a database, empty, if there is none; and lets `readers` read it and the files beside it.
pub(super) fn create_for(path: &Path, readers: Readers) -> Result<(), StoreError> {
    let io = |source| StoreError::Io {
        path: path.to_owned(),
        source,
    };
    let mode = readers.mode();
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    // An existing file is not opened: to close it would drop this process's locks on it.
    if !path.exists() {
        files::open_or_create(path, &options, mode).map_err(io)?;
    }
    if let Some(before) = files::set_mode(path, mode).map_err(io)? {
        tracing::info!(
            "database {} had mode {before:o}, and has {mode:o} now (`[database] mode`)",
            path.display()
        );
    }
    let real = real(path).map_err(io)?;
    for suffix in BESIDE {
        files::set_mode(&files::beside(&real, suffix), mode).map_err(io)?;
    }
    Ok(())
}
