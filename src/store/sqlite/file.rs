//! What is asked of the database's file before SQLite opens it, and again while it is open.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::files::{self, Purpose, Readers};
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

pub(super) fn require(path: &Path) -> Result<(), StoreError> {
    if path.exists() {
        return Ok(());
    }
    Err(StoreError::Missing {
        path: path.to_owned(),
    })
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
    let beside = BESIDE.iter().chain([&JOURNAL, &LOCK]);
    let mut beside = beside.map(|suffix| files::beside(&real, suffix));
    // A new database gets the owner of its folder.
    let found = std::fs::metadata(&real).or_else(|_| files::folder(&real).metadata());
    let trusted = [found.map_or(0, |found| found.uid()), 0, me()];
    let is_other = |path: &PathBuf| {
        let found = path.metadata();
        found.is_ok_and(|found| !found.is_file() || !trusted.contains(&found.uid()))
    };
    match beside.find(is_other) {
        Some(path) => Err(StoreError::Io {
            path,
            source: std::io::Error::other(
                "what is kept beside a database must be a regular file of its owner; remove this",
            ),
        }),
        None => Ok(()),
    }
}

/// Where root opens a database, SQLite gives files beside it to the database's owner, whoever made them. In a folder in which
/// others may create files, root makes them first, so that nobody else can.
///
/// # Errors
/// When somebody was faster.
pub(super) fn claim_what_is_beside(path: &Path) -> Result<(), StoreError> {
    let Some(found) = path.metadata().ok().filter(|_| me() == 0) else {
        return Ok(());
    };
    let real = real(path).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        source,
    })?;
    let folder = files::folder(&real).metadata();
    if folder.is_ok_and(|folder| folder.mode() & 0o022 == 0) {
        return Ok(());
    }
    for suffix in BESIDE {
        let beside = files::beside(&real, suffix);
        let io = |source| StoreError::Io {
            path: beside.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        match options.open(&beside) {
            Ok(file) => {
                let mode = Permissions::from_mode(found.mode() & 0o666);
                file.set_permissions(mode).map_err(io)?;
                std::os::unix::fs::fchown(&file, Some(found.uid()), Some(found.gid()))
                    .map_err(io)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // Looked at once: whoever made it may take it away again before SQLite opens it.
                let there = beside.symlink_metadata();
                let is_trusted = |there: std::fs::Metadata| [0, found.uid()].contains(&there.uid());
                if !there.is_ok_and(is_trusted) {
                    let other = "another user makes this file in a folder for all; move the database \
                                 into a folder of its own";
                    return Err(io(std::io::Error::other(other)));
                }
            }
            Err(error) => return Err(io(error)),
        }
    }
    Ok(())
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

/// The same of the instance lock, which is no business of SQLite's.
pub(super) const LOCK: &str = ".lock";

/// What SQLite would replace the database by, if it found it: left by a crash while the file was made.
const JOURNAL: &str = "-journal";

/// Refuses a database, or a file beside it, that is not the user's or root's, or that others may write or replace.
pub(super) fn require_trust(path: &Path) -> Result<(), StoreError> {
    refuse_what_is_no_file(path)?;
    let real = real(path).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        source,
    })?;
    let beside = BESIDE.iter().chain([&JOURNAL]);
    let beside: Vec<PathBuf> = beside.map(|suffix| files::beside(&real, suffix)).collect();
    for path in beside.iter().map(PathBuf::as_path).chain([path]) {
        files::check(path, Purpose::Written)?;
    }
    Ok(())
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
