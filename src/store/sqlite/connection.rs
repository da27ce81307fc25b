//! Opening the database, and the checks that protect it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::opening;
use super::schema::{SCHEMA_VERSION, check_schema, migrate, set_pragmas};
use crate::store::error::StoreError;

/// How long to wait for another process's lock. Only another writer can hold one; readers never block a writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Size of the prepared statement cache: larger than the number of statements, so that each is prepared once.
const STATEMENTS: usize = 100;

/// The database, opened for writing. One process has one, on one thread.
#[derive(Debug)]
pub struct Db {
    pub(super) connection: Connection,
    /// The file that was opened, where there is one.
    file: Option<OpenFile>,
}

/// A file, with its identity to detect that it was replaced.
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

/// Lets statements be prepared once and keep their plan. Otherwise SQLite prepares a statement again whenever a value
/// is bound that its statistics might plan differently for, which costs more than most statements do.
fn prepare_once(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

impl Db {
    /// Opens the database at `path`, creates it if there is none, and migrates its schema.
    ///
    /// # Errors
    /// When the file cannot be used, can be written by everyone, is another program's, or is of a newer version. None
    /// of these changes the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        refuse_if_writable_by_others(path)?;
        let open = || {
            let mut connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            prepare_once(&connection)?;
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

    /// Checks that the file is still the one that was opened: SQLite would keep writing to an unlinked file.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] when it was deleted or replaced.
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
    /// When SQLite fails.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        connection.execute_batch("PRAGMA foreign_keys = ON")?;
        prepare_once(&connection)?;
        migrate(&mut connection, 0)?;
        Ok(Self {
            connection,
            file: None,
        })
    }

    /// Opens the database read-only, concurrently with the process that writes it.
    ///
    /// # Errors
    /// When there is none, or it is not one this version can read.
    pub fn open_for_reading(path: &Path) -> Result<Self, StoreError> {
        Self::open_as_it_is(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Opens the database for small changes, concurrently with the process that writes it: each is a transaction of its
    /// own, which waits for the write lock.
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

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn refuse_if_writable_by_others(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
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
