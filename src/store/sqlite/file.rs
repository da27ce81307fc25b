//! What is asked of the database's file before SQLite opens it, and again while it is open.

use std::path::Path;

use crate::store::error::StoreError;

/// Which file a path names, and how many names it has.
pub(super) struct Identity {
    pub(super) device_and_inode: (u64, u64),
    pub(super) names: u64,
}

impl Identity {
    /// By the file's metadata alone: to open the file again, and close it, would drop SQLite's locks on it.
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
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

/// SQLite's message about anything else than a file would not say what is wrong.
pub(super) fn refuse_what_is_no_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(StoreError::NotAFile {
            path: path.to_owned(),
            is_folder: found.is_dir(),
        }),
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

pub(super) fn refuse_if_writable_by_others(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    refuse_what_is_no_file(path)?;
    let mode = match std::fs::metadata(path) {
        Ok(found) => found.permissions().mode() & 0o7777,
        // SQLite creates the file.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(StoreError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    if mode & 0o002 != 0 {
        return Err(StoreError::WritableByOthers {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}
