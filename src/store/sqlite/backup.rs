//! A copy of the whole database, while others write it.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::connection::{Db, examine};
use super::error::opening;
use super::file::{LOCK, beside, real};
use super::objects::{quoted, tables};
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
        let caller = |error| StoreError::Io {
            path: to.to_owned(),
            source: error,
        };
        let own: Vec<PathBuf> = self.path().into_iter().flat_map(kept_beside).collect();
        let begun = files::as_caller(|| begin(to, &own)).map_err(caller)??;
        let Begun {
            place,
            partial,
            copy,
        } = begun;
        let copied = self.read_current(|db| db.copy_to(to, &mut copy.borrow_mut(), go_on));
        let end = move || {
            // It is closed, and removed, with the same rights.
            drop(copy);
            match copied? {
                true => end(to, &place, &partial).map(Some),
                false => Ok(None),
            }
        };
        files::as_caller(end).map_err(caller)?
    }

    /// Copies the database into `copy`, which is to be `to`; returns false if `go_on` ended that.
    fn copy_to(
        &self,
        to: &Path,
        copy: &mut Connection,
        go_on: &dyn Fn(u64, u64) -> bool,
    ) -> Result<bool, StoreError> {
        let here = |error: rusqlite::Error| opening(error.into(), to);
        // As long as it is open, the copy is of this moment, whatever others write.
        let moment = self.connection.unchecked_transaction()?;
        let size = "SELECT (SELECT count(*) FROM sqlite_schema), page_size FROM pragma_page_size";
        let page: u64 = moment.query_row(size, [], |row| row.get(1))?;
        let backup = Backup::new(&moment, copy).map_err(here)?;
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

/// A copy that was begun.
struct Begun {
    /// Where it will be.
    place: PathBuf,
    partial: Partial,
    copy: RefCell<Connection>,
}

/// What belongs to the database at `path`, and is no place for a copy.
fn kept_beside(path: &Path) -> Vec<PathBuf> {
    let Ok(real) = real(path) else {
        return Vec::new();
    };
    let lock = files::beside(&real, LOCK);
    beside(&real).chain([lock]).collect()
}

/// Refuses a copy beside which something lies that SQLite would take for its own.
fn refuse_neighbours(place: &Path) -> Result<(), StoreError> {
    let mut beside = beside(place);
    match beside.find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(exists(&path)),
        None => Ok(()),
    }
}

/// Creates the file of a copy that is to become `to`, and opens it. None of `own` may be overwritten.
fn begin(to: &Path, own: &[PathBuf]) -> Result<Begun, StoreError> {
    let io = |source| StoreError::Io {
        path: to.to_owned(),
        source,
    };
    if to.symlink_metadata().is_ok() {
        return Err(exists(to));
    }
    if to.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(io(std::io::Error::other("is a folder; name a file in it")));
    }
    files::check(to, Purpose::Written)?;
    // Whatever somebody put beside the copy later on would be believed.
    files::check_neighbours(to)?;
    // Links among the folders are fine; SQLite follows none.
    let place = real(to).map_err(io)?;
    if own.contains(&place) {
        let problem = "is what belongs to the database itself; name another file";
        return Err(io(std::io::Error::other(problem)));
    }
    refuse_neighbours(&place)?;
    let partial = files::beside(&place, PARTIAL);
    match files::create_new(&partial, OpenOptions::new().write(true), MODE) {
        Ok(file) => drop(file),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(&partial)),
        Err(error) => return Err(io(error)),
    }
    let partial = Partial(partial);
    let here = |error: rusqlite::Error| opening(error.into(), to);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let copy = Connection::open_with_flags(&partial.0, flags).map_err(here)?;
    // What a crash leaves of it is thrown away; it is synced once it is complete.
    copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        .map_err(here)?;
    Ok(Begun {
        place,
        partial,
        copy: RefCell::new(copy),
    })
}

/// Checks a copy that is complete, and gives it its name; returns its size.
fn end(to: &Path, place: &Path, partial: &Partial) -> Result<u64, StoreError> {
    let io = |source| StoreError::Io {
        path: to.to_owned(),
        source,
    };
    check(&partial.0)?;
    let size = partial.0.metadata().map_err(io)?.len();
    refuse_neighbours(place)?;
    match files::publish(&partial.0, place) {
        Ok(()) => Ok(size),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(to)),
        Err(error) => Err(io(error)),
    }
}

fn exists(path: &Path) -> StoreError {
    StoreError::Exists {
        path: path.to_owned(),
    }
}

/// Checks that a copy is a whole database of this version, without the files that SQLite would keep beside it. Of the tables,
/// only our own are read: those of others may compute their columns, without end.
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
    for table in tables()? {
        let found: String = connection
            .query_row(
                &format!("PRAGMA quick_check({})", quoted(&table)),
                [],
                |row| row.get(0),
            )
            .map_err(here)?;
        if found != "ok" {
            return Err(StoreError::Database {
                path: Some(path.to_owned()),
                failure: Failure::Damaged,
                detail: found,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::PermissionsExt;

    /// A database of some 12 MiB, which is copied in several steps.
    fn large(path: &Path) -> Db {
        let db = Db::open(path).unwrap();
        db.connection
            .execute_batch(
                "BEGIN;
                 INSERT INTO tasks (id, first_seen_at, updated_at) VALUES ('t', '', '');
                 INSERT INTO runs (id, status, first_seen_at, updated_at, feed_id, is_open) VALUES ('r', 'x', '', '', 't', 0);
                 WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1500)
                 INSERT INTO events (id, run_id, task_id, type, status, occurred_at, observed_at, payload)
                 SELECT 'e' || n, 'r', 't', 'x', 'x', '', '', hex(zeroblob(4000)) FROM n;
                 COMMIT",
            )
            .unwrap();
        db
    }

    fn count(path: &Path) -> u64 {
        let db = Db::open_for_reading(path).unwrap();
        db.connection
            .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
            .unwrap()
    }

    /// The names in the folder of `path` that begin with its own.
    fn beside(path: &Path) -> Vec<String> {
        let own = path.file_name().unwrap().to_str().unwrap();
        let names = std::fs::read_dir(path.parent().unwrap()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(own)).collect()
    }

    #[test]
    fn a_copy_is_of_one_moment_whatever_others_write() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("runs.db"), dir.path().join("copy"));
        let writer = large(&path);
        let steps = Cell::new(0);
        let write = |copied: u64, total: u64| {
            assert!(copied <= total);
            steps.set(steps.get() + 1);
            writer
                .connection
                .execute_batch("DELETE FROM events WHERE seq IN (SELECT seq FROM events LIMIT 100)")
                .unwrap();
            true
        };
        let mut reader = Db::open_for_reading(&path).unwrap();
        let size = reader.backup(&copy, &write).unwrap().unwrap();
        assert!(steps.get() > 2, "{steps:?}");
        assert_eq!(beside(&copy), ["copy"]);
        let found = copy.metadata().unwrap();
        assert_eq!(
            (found.len(), found.permissions().mode() & 0o777),
            (size, 0o600)
        );
        assert_eq!(count(&copy), 1_500);
        assert!(count(&path) < 1_500);
        // It can be written like the original.
        drop(Db::open(&copy).unwrap());
    }

    #[test]
    fn a_copy_goes_where_links_among_the_folders_lead() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, link) = (dir.path().join("folder"), dir.path().join("link"));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let db = Db::open(&dir.path().join("runs.db")).unwrap();
        drop(db);
        let mut reader = Db::open_for_reading(&dir.path().join("runs.db")).unwrap();
        reader
            .backup(&link.join("copy"), &|_, _| true)
            .unwrap()
            .unwrap();
        assert_eq!(beside(&folder.join("copy")), ["copy"]);
    }

    #[test]
    fn what_is_there_is_not_overwritten_and_what_is_cut_off_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("runs.db"), dir.path().join("copy"));
        drop(large(&path));
        let mut reader = Db::open_for_reading(&path).unwrap();
        assert_eq!(
            reader.backup(&copy, &|copied, _| copied == 0).unwrap(),
            None
        );
        assert_eq!(beside(&copy), [""; 0]);
        for name in ["copy", "copy.partial"] {
            std::fs::write(dir.path().join(name), "mine").unwrap();
            let refused = reader.backup(&copy, &|_, _| true).unwrap_err();
            assert!(
                refused.to_string().contains(&format!("{name} exists")),
                "{refused}"
            );
            assert_eq!(beside(&copy), [name]);
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", &copy).unwrap();
        let refused = reader.backup(&copy, &|_, _| true);
        assert!(
            matches!(refused, Err(StoreError::Exists { .. })),
            "{refused:?}"
        );
        assert!(!dir.path().join("nowhere").exists());
        let missing = dir.path().join("no/folder");
        let refused = reader.backup(&missing, &|_, _| true);
        assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    }

    #[test]
    fn a_damaged_copy_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("runs.db"), dir.path().join("copy"));
        let mut db = large(&path);
        db.write_log_back();
        drop(db);
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(8 << 20)).unwrap();
        file.write_all(&[0x55; 8_192]).unwrap();
        drop(file);
        let mut reader = Db::open_for_reading(&path).unwrap();
        let failed = reader.backup(&copy, &|_, _| true).unwrap_err();
        let is_damage = matches!(
            failed,
            StoreError::Database {
                failure: Failure::Damaged,
                ..
            }
        );
        assert!(is_damage, "{failed}");
        assert_eq!(beside(&copy), [""; 0]);
    }
}
