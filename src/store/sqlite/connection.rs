//! Opening the database, and the checks that protect it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::checkpoint::Log;
use super::error::opening;
use super::file::{
    Identity, act_as_master, check_what_root_reads, create_for, one_name, refuse_several_names,
    refuse_what_is_no_file, require, require_trust,
};
use super::objects;
use super::schema::{
    BUSY_TIMEOUT, SCHEMA_VERSION, check_schema, migrate, prepare_space, set_pragmas,
};
use super::snapshot::{Snapshot, immutable_uri};
use crate::files::{For, Readers};
use crate::store::error::{Failure, StoreError};

/// Size of the prepared statement cache: larger than the number of statements, so that each is prepared once.
const STATEMENTS: usize = 100;

/// The longest that reading and checking the schema may take: it has some dozen objects, and another process that holds the
/// lock is waited for half as long.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How often a read is repeated because the file was changed meanwhile; only without the right to write, see
/// [`Snapshot`].
const READS: u32 = 5;

/// The largest row that is read or written, in bytes: far more than any answer of the API leads to.
const MAX_ROW: i32 = 64 << 20;

/// The database. One process has one that is opened for writing, on one thread.
#[derive(Debug)]
pub struct Db {
    pub(super) connection: Connection,
    /// The file that was opened, where there is one.
    file: Option<OpenFile>,
    /// Its log, where it is open for writing.
    log: Option<Log>,
}

/// A file, with its identity to detect that it was replaced.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
    /// Its state when it was opened, where SQLite reads it as it lies.
    snapshot: Option<Snapshot>,
}

impl OpenFile {
    fn at(path: &Path, snapshot: Option<Snapshot>) -> Result<Self, StoreError> {
        let found = Identity::of(path).map_err(|source| StoreError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            device_and_inode: found.device_and_inode,
            snapshot,
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

/// The version of the schema, which must be as this program made it. Whoever wrote the file may have meant harm: its schema
/// may run no function that could do any, tampered pages are found before they are used, and no row takes all memory.
///
/// SQLite reads statistics along with the schema, and a planted table of them may compute without end where nothing can
/// interrupt it; so this waits no longer than [`READ_WITHIN`].
pub(super) fn examine(
    connection: Connection,
    path: &Path,
) -> Result<(Connection, i64), StoreError> {
    let (done, examined) = mpsc::channel();
    let name = path.to_owned();
    let look = move || {
        let version = examine_now(&connection, &name);
        // Nobody waits any more after so long.
        let _ = done.send(version.map(|version| (connection, version)));
    };
    let io = |source| StoreError::Io {
        path: path.to_owned(),
        source,
    };
    Builder::new().spawn(look).map_err(io)?;
    match examined.recv_timeout(READ_WITHIN) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(StoreError::Changed {
            path: path.to_owned(),
            name: "sqlite_schema".to_owned(),
            what: "schema takes longer to read than any of apify-mirror's",
            remedy: objects::RESTORE.to_owned(),
        }),
        Err(RecvTimeoutError::Disconnected) => Err(StoreError::Closed),
    }
}

fn examine_now(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW)?;
    let version = check_schema(connection, path)?;
    objects::check(connection, version, path)?;
    Ok(version)
}

impl Db {
    /// Opens the database at `path`, creates it if there is none, and migrates its schema. Only its owner may read it.
    ///
    /// # Errors
    /// As [`Db::open_for`].
    #[cfg(test)]
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_for(path, Readers::Owner)
    }

    /// Opens the database at `path`, creates it if there is none, and migrates its schema; lets `readers` read it.
    ///
    /// # Errors
    /// When the file cannot be used, cannot be trusted, has several names, is another program's, is of a newer version, or
    /// has a schema that somebody changed. None of these changes the file.
    pub fn open_for(path: &Path, readers: Readers) -> Result<Self, StoreError> {
        act_as_master(path, For::Good)?;
        require_trust(path)?;
        refuse_several_names(path)?;
        let open = || {
            create_for(path, readers)?;
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            prepare_once(&connection)?;
            let (mut connection, version) = examine(connection, path)?;
            if version == 0 {
                prepare_space(&connection)?;
            }
            set_pragmas(&connection, path)?;
            objects::check_names(&connection, version, path)?;
            migrate(&mut connection, version)?;
            for name in objects::restore(&connection)? {
                tracing::warn!(
                    "database {}: {name} was missing, and was made again",
                    path.display()
                );
            }
            Ok(Self {
                log: Some(Log::keep(&connection)?),
                connection,
                file: Some(OpenFile::at(path, None)?),
            })
        };
        open().map_err(|error: StoreError| opening(error, path))
    }

    /// Checks that the file is still the one that was opened, as SQLite would keep writing to an unlinked file; and that
    /// it has one name, as a log belongs to a name, and a lock too.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] when it was deleted or replaced, [`StoreError::Linked`] when it has several names.
    pub fn check_file(&self) -> Result<(), StoreError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        match Identity::of(&file.path) {
            Ok(found) if found.device_and_inode == file.device_and_inode => {
                one_name(&file.path, found.names)
            }
            _ => Err(StoreError::Replaced {
                path: file.path.clone(),
            }),
        }
    }

    /// Where the file is, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Whether the log may hold what the file does not.
    pub fn has_log(&self) -> bool {
        let log = self.log.as_ref();
        log.is_some_and(|log| log.is_behind(&self.connection))
    }

    /// Writes the log back into the file, as far as readers allow that now. Waits for nobody.
    pub fn write_log_back(&mut self) {
        if let Some(log) = &mut self.log {
            log.write_back(&self.connection);
        }
    }

    /// Lets the log grow as fits the next commit: of a first sync, or any other.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn limit_log(&mut self, in_first_sync: bool) -> Result<(), StoreError> {
        match &mut self.log {
            Some(log) => log.limit(&self.connection, in_first_sync),
            None => Ok(()),
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
            log: None,
        })
    }

    /// Opens the database read-only, concurrently with the process that writes it; as it lies, where the right to write
    /// is missing and nobody writes it.
    ///
    /// # Errors
    /// When there is none, or it is not one this version can read.
    pub fn open_for_reading(path: &Path) -> Result<Self, StoreError> {
        require(path)?;
        refuse_what_is_no_file(path)?;
        act_as_master(path, For::Reading)?;
        check_what_root_reads(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let failed = match Self::open_as_it_is(path, None, flags) {
            Err(error) if is_denied(&error) => error,
            result => return result,
        };
        match Snapshot::of(path) {
            Some(snapshot) => Self::open_as_it_is(path, Some(snapshot), flags),
            None => Err(failed),
        }
    }

    /// Runs `read` on the database as it now is.
    ///
    /// # Errors
    /// Those of `read`, also when a file that is read as it lies is changed all the time.
    pub fn read_current<T>(
        &mut self,
        read: impl Fn(&Db) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..READS {
            let result = read(self);
            let Some(path) = self.changed() else {
                return result;
            };
            *self = Self::open_for_reading(&path)?;
        }
        read(self)
    }

    /// The path of a file that is read as it lies, if it was changed since it was opened.
    fn changed(&self) -> Option<PathBuf> {
        let file = self.file.as_ref()?;
        let changed = file.snapshot.is_some() && Snapshot::of(&file.path) != file.snapshot;
        changed.then(|| file.path.clone())
    }

    /// Opens the database for small changes, concurrently with the process that writes it: each is a transaction of its
    /// own, which waits for the write lock.
    ///
    /// # Errors
    /// When there is none, or it is not one this version can write.
    pub fn open_beside(path: &Path) -> Result<Self, StoreError> {
        require(path)?;
        act_as_master(path, For::Good)?;
        require_trust(path)?;
        let mut db = Self::open_as_it_is(path, None, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        set_pragmas(&db.connection, path).map_err(|error| opening(error, path))?;
        db.log = Some(Log::keep(&db.connection)?);
        Ok(db)
    }

    /// Opens a database whose schema must be up to date; immutable if there is a `snapshot` of it.
    pub(super) fn open_as_it_is(
        path: &Path,
        snapshot: Option<Snapshot>,
        flags: OpenFlags,
    ) -> Result<Self, StoreError> {
        refuse_what_is_no_file(path)?;
        refuse_several_names(path)?;
        let open = || {
            let connection = match snapshot {
                None => Connection::open_with_flags(path, flags)?,
                Some(_) => {
                    let uri = immutable_uri(path).map_err(|source| StoreError::Io {
                        path: path.to_owned(),
                        source,
                    })?;
                    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
                }
            };
            connection.busy_timeout(BUSY_TIMEOUT)?;
            match examine(connection, path)? {
                (connection, SCHEMA_VERSION) => Ok(Self {
                    connection,
                    file: Some(OpenFile::at(path, snapshot)?),
                    log: None,
                }),
                (_, 0) => Err(StoreError::Missing {
                    path: path.to_owned(),
                }),
                (_, found) => Err(StoreError::Older {
                    path: path.to_owned(),
                    found,
                    known: SCHEMA_VERSION,
                }),
            }
        };
        open().map_err(|error| opening(error, path))
    }
}

/// Whether SQLite may not read the file, or not without creating others beside it.
fn is_denied(error: &StoreError) -> bool {
    let denied = Failure::ReadOnly;
    matches!(error, StoreError::Database { failure, .. } if *failure == denied)
}
