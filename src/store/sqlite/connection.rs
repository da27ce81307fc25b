//! Opening the database: settings, schema, and the refusals that protect both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::opening;
use crate::store::error::StoreError;

/// The schema's version, kept in `PRAGMA user_version`.
pub const SCHEMA_VERSION: i64 = 2;

/// Each step takes the schema from its index to the next version.
const MIGRATIONS: [&str; SCHEMA_VERSION as usize] =
    [include_str!("schema/1.sql"), include_str!("schema/2.sql")];

/// Marks the file as ours (`PRAGMA application_id`): "apmr".
const APPLICATION_ID: i64 = 0x6170_6d72;

/// How long to wait for another process's lock. Only a foreign writer can hold one; readers never block us.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings the promises rest on, and what SQLite must answer when asked for them again.
///
/// `synchronous = FULL`: a commit that was reported is on disk, so the cursor never runs ahead of its rows. The late
/// checkpoint halves the cost of a long first sync, whose random keys dirty most pages again and again.
const PRAGMAS: [(&str, &str, &str); 6] = [
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", "2"),
    ("foreign_keys", "ON", "1"),
    ("wal_autocheckpoint", "16000", "16000"),
    ("journal_size_limit", "67108864", "67108864"),
    ("cache_size", "-65536", "-65536"),
];

/// Statements kept prepared: more than there are, so that none is ever prepared twice.
const STATEMENTS: usize = 100;

/// The database, opened for writing. One process has one, on one thread.
#[derive(Debug)]
pub struct Db {
    pub(super) connection: Connection,
    /// The file that was opened, where there is one.
    file: Option<OpenFile>,
}

/// A file, and what tells it from others of its name.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl OpenFile {
    fn at(path: &Path) -> Result<Self, StoreError> {
        let device_and_inode = identity(path).map_err(|source| StoreError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            device_and_inode,
        })
    }
}

impl Db {
    /// Opens the database at `path`, makes it if there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be used, can be written by everyone, is another program's, or is of a newer version. None
    /// of these changes the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        refuse_if_writable_by_others(path)?;
        let open = || {
            let mut connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            let version = check_schema(&connection, path)?;
            set_pragmas(&connection, path)?;
            migrate(&mut connection, version)?;
            Ok(Self {
                connection,
                file: Some(OpenFile::at(path)?),
            })
        };
        open().map_err(|error: StoreError| opening(error, path))
    }

    /// That the file is still the one that was opened. SQLite would go on writing to one that nobody can find any more.
    ///
    /// # Errors
    /// When it was deleted or replaced.
    pub fn check_file(&self) -> Result<(), StoreError> {
        match &self.file {
            Some(file) if identity(&file.path).ok() != Some(file.device_and_inode) => {
                Err(StoreError::Replaced {
                    path: file.path.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// A database in memory, for simulations: the same schema and statements, no disk.
    ///
    /// # Errors
    /// When SQLite cannot make one.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        connection.execute_batch("PRAGMA foreign_keys = ON")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        migrate(&mut connection, 0)?;
        Ok(Self {
            connection,
            file: None,
        })
    }

    /// Opens the database for reading only, beside the process that writes it.
    ///
    /// # Errors
    /// When there is none, or it is not one this version can read.
    pub fn open_for_reading(path: &Path) -> Result<Self, StoreError> {
        Self::open_as_it_is(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Opens the database for small changes, beside the process that writes it: each is a transaction of its own, which
    /// waits for its turn.
    ///
    /// # Errors
    /// When there is none, or it is not one this version can write.
    pub fn open_beside(path: &Path) -> Result<Self, StoreError> {
        refuse_if_writable_by_others(path)?;
        let db = Self::open_as_it_is(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        set_pragmas(&db.connection, path).map_err(|error| opening(error, path))?;
        Ok(db)
    }

    /// Opens a database that must exist, and whose schema must be up to date.
    fn open_as_it_is(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing {
                path: path.to_owned(),
            });
        }
        let open = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            match check_schema(&connection, path)? {
                SCHEMA_VERSION => Ok(Self {
                    connection,
                    file: Some(OpenFile::at(path)?),
                }),
                0 => Err(StoreError::Missing {
                    path: path.to_owned(),
                }),
                found => Err(StoreError::Older {
                    path: path.to_owned(),
                    found,
                    known: SCHEMA_VERSION,
                }),
            }
        };
        open().map_err(|error| opening(error, path))
    }
}

/// The schema's version; 0 for a new file.
fn check_schema(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let path = || PathBuf::from(path);
    if tables > 0 && application != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path() });
    }
    if version > SCHEMA_VERSION {
        return Err(StoreError::Newer {
            path: path(),
            found: version,
            known: SCHEMA_VERSION,
        });
    }
    Ok(version)
}

/// Takes the schema to the newest version in one transaction: readers never see one in between.
fn migrate(connection: &mut Connection, from: i64) -> Result<(), StoreError> {
    if from == SCHEMA_VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (_, step) in (1..)
        .zip(MIGRATIONS)
        .skip_while(|(version, _)| *version <= from)
    {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn set_pragmas(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    for (pragma, value, wanted) in PRAGMAS {
        connection.execute_batch(&format!("PRAGMA {pragma} = {value}"))?;
        expect_pragma(connection, path, pragma, wanted)?;
    }
    Ok(())
}

fn expect_pragma(
    connection: &Connection,
    path: &Path,
    pragma: &'static str,
    wanted: &'static str,
) -> Result<(), StoreError> {
    let found: rusqlite::types::Value =
        connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
    let found = match found {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        other => format!("{other:?}"),
    };
    if found == wanted {
        return Ok(());
    }
    Err(StoreError::Pragma {
        path: path.to_owned(),
        pragma,
        found,
        wanted,
    })
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn refuse_if_writable_by_others(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = match std::fs::metadata(path) {
        Ok(found) => found.permissions().mode() & 0o7777,
        // SQLite makes the file.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::states::SinkState;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.db");
        (dir, path)
    }

    #[test]
    fn a_new_file_gets_the_schema_and_opening_again_changes_nothing() {
        let (_dir, path) = file();
        for _ in 0..2 {
            let db = Db::open(&path).unwrap();
            let version: i64 = db
                .connection
                .query_row("PRAGMA user_version", [], |row| row.get(0))
                .unwrap();
            assert_eq!(version, SCHEMA_VERSION);
        }
        Db::open_for_reading(&path).unwrap();
    }

    #[test]
    fn a_database_of_the_first_version_is_brought_up_to_date_with_what_is_owed() {
        let (_dir, path) = file();
        let old = Connection::open(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;
             INSERT INTO tasks (id, first_seen_at, updated_at) VALUES ('t', '', '');
             INSERT INTO runs (id, status, first_seen_at, updated_at, feed_id, is_open)
             VALUES ('a', 'READY', '', '', 't', 0), ('b', 'READY', '', '', 't', 0);
             INSERT INTO events (id, run_id, task_id, type, status, occurred_at, observed_at, payload)
             VALUES ('a_1', 'a', 't', 'x', 'x', '', '', ''), ('b_1', 'b', 't', 'x', 'x', '', '', ''),
                 ('a_2', 'a', 't', 'x', 'x', '', '', ''), ('a_3', 'a', 't', 'x', 'x', '', '', '');
             INSERT INTO deliveries (sink, seq) VALUES ('stdout', 2), ('stdout', 3), ('stdout', 4);"
        ))
        .unwrap();
        drop(old);
        let error = Db::open_for_reading(&path).unwrap_err().to_string();
        assert!(
            error.contains("schema version 1") && error.contains("apify-mirror sync"),
            "{error}"
        );

        let db = Db::open(&path).unwrap();
        let due: Vec<(i64, String, bool)> = db
            .connection
            .prepare("SELECT seq, run_id, due_at IS NOT NULL FROM deliveries ORDER BY seq")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            due,
            [
                (2, "b".into(), true),
                (3, "a".into(), true),
                (4, "a".into(), false)
            ]
        );
        assert_eq!(db.sinks().unwrap()[0].state, SinkState::Ok);
        Db::open_beside(&path).unwrap();
    }

    #[test]
    fn every_table_is_strict() {
        let db = Db::in_memory().unwrap();
        let loose: i64 = db
            .connection
            .query_row(
                "SELECT count(*) FROM pragma_table_list WHERE type = 'table' AND NOT strict AND name NOT LIKE 'sqlite_%'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(loose, 0);
    }

    #[test]
    fn a_newer_schema_is_refused_by_name_and_left_alone() {
        let (_dir, path) = file();
        Db::open(&path)
            .unwrap()
            .connection
            .execute_batch("PRAGMA user_version = 99")
            .unwrap();
        for error in [
            Db::open(&path).unwrap_err(),
            Db::open_for_reading(&path).unwrap_err(),
        ] {
            assert!(
                matches!(error, StoreError::Newer { found: 99, .. }),
                "{error}"
            );
            assert!(error.to_string().contains("schema version 99"), "{error}");
        }
    }

    #[test]
    fn another_programs_database_is_refused() {
        let (_dir, path) = file();
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE theirs (x)")
            .unwrap();
        assert!(matches!(Db::open(&path), Err(StoreError::Foreign { .. })));
    }

    #[test]
    fn a_file_that_everyone_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, path) = file();
        drop(Db::open(&path).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let error = Db::open(&path).unwrap_err();
        assert!(error.to_string().contains("mode 666"), "{error}");
    }

    #[test]
    fn reading_needs_a_database() {
        let (_dir, path) = file();
        assert!(matches!(
            Db::open_for_reading(&path),
            Err(StoreError::Missing { .. })
        ));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(
            Db::open_for_reading(&path),
            Err(StoreError::Missing { .. })
        ));
        std::fs::write(
            &path,
            "not a database, but long enough to be looked at as one".repeat(20),
        )
        .unwrap();
        for error in [
            Db::open_for_reading(&path).unwrap_err(),
            Db::open(&path).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(
                error.contains("runs.db: file is not a database; the file is damaged"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_was_deleted_or_replaced_is_written_no_more() {
        let (dir, path) = file();
        let db = Db::open(&path).unwrap();
        db.check_file().unwrap();
        std::fs::rename(&path, dir.path().join("away.db")).unwrap();
        assert!(
            matches!(db.check_file(), Err(StoreError::Replaced { .. })),
            "deleted"
        );
        std::fs::write(&path, "").unwrap();
        assert!(
            matches!(db.check_file(), Err(StoreError::Replaced { .. })),
            "replaced"
        );
    }

    #[test]
    fn a_setting_that_was_not_taken_is_told() {
        let connection = Connection::open_in_memory().unwrap();
        let error =
            expect_pragma(&connection, Path::new("runs.db"), "journal_mode", "wal").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`PRAGMA journal_mode` is memory, not wal"),
            "{error}"
        );
    }

    #[test]
    fn a_path_through_a_file_is_told_as_the_system_tells_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(
            Db::open(&dir.path().join("file/runs.db")),
            Err(StoreError::Io { .. })
        ));
    }
}
