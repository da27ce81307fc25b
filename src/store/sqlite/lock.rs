//! The instance lock: one writer for each database.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::file::{LOCK, act_as_master, real, require_trust};
use crate::files::{self, For, Purpose};
use crate::store::error::StoreError;

/// How often the lock is tried: [`InstanceLock::is_held`] holds it for a moment.
const ATTEMPTS: u32 = 4;

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// The permission bits of the lock's file, whoever may read the database: who may read a file may lock it.
const MODE: u32 = 0o600;

/// Holds a database for one process.
///
/// This is an operating system lock on a file beside the database. The system releases it when the process ends, even in
/// a crash. The file itself stays: if it were removed, two processes could lock two files of the same name.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Locks the database at `path`.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds it, [`StoreError::Io`] when the folder cannot be used.
    pub fn acquire(path: &Path) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        act_as_master(path, For::Good)?;
        // Nothing is created beside a folder, or a file of others that a link leads to.
        require_trust(path)?;
        let lock = lock_path(path).map_err(io)?;
        files::check(&lock, Purpose::Written)?;
        let file =
            files::open_or_create(&lock, OpenOptions::new().write(true), MODE).map_err(io)?;
        // By its descriptor: the name may mean another file by now.
        file.set_permissions(Permissions::from_mode(MODE))
            .map_err(io)?;
        for _ in 1..ATTEMPTS {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                result => return locked(result, file, path),
            }
        }
        let result = file.try_lock();
        locked(result, file, path)
    }

    /// Whether another process holds the database at `path`; false where that cannot be found out.
    pub fn is_held(path: &Path) -> bool {
        // A pipe in its place is not waited for, and is no lock.
        let open = |lock: PathBuf| {
            let flags = OFlags::NONBLOCK.bits().cast_signed();
            let opened = File::options().read(true).custom_flags(flags).open(lock);
            opened.ok()
        };
        let is_file = |file: &File| file.metadata().is_ok_and(|found| found.is_file());
        let lock = lock_path(path).ok().and_then(open).filter(is_file);
        lock.is_some_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

fn locked(
    result: Result<(), TryLockError>,
    file: File,
    path: &Path,
) -> Result<InstanceLock, StoreError> {
    match result {
        Ok(()) => Ok(InstanceLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(StoreError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// `runs.db` is locked by `runs.db.lock`, beside the file itself: two links to one database share one lock.
fn lock_path(path: &Path) -> std::io::Result<PathBuf> {
    Ok(files::beside(&real(path)?, LOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_holds_the_lock_under_any_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.db");
        let held = InstanceLock::acquire(&path).unwrap();
        assert!(matches!(
            InstanceLock::acquire(&path),
            Err(StoreError::Locked { .. })
        ));

        std::fs::write(&path, "").unwrap();
        let link = dir.path().join("other.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(
            InstanceLock::acquire(&link),
            Err(StoreError::Locked { .. })
        ));

        drop(held);
        InstanceLock::acquire(&link).unwrap();
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = InstanceLock::acquire(Path::new("/nonexistent/folder/runs.db")).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/folder/runs.db"),
            "{error}"
        );
    }

    #[test]
    fn circular_links_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.db"), dir.path().join("b.db"));
        std::os::unix::fs::symlink(&a, &b).unwrap();
        std::os::unix::fs::symlink(&b, &a).unwrap();
        assert!(matches!(
            InstanceLock::acquire(&a),
            Err(StoreError::Io { .. })
        ));
    }
}
