//! The schema's versions, and the settings of a connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::store::error::StoreError;

/// The schema's version, kept in `PRAGMA user_version`.
pub const SCHEMA_VERSION: i64 = 8;

/// Each step takes the schema from its index to the next version.
pub(super) const MIGRATIONS: [&str; SCHEMA_VERSION as usize] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
];

/// How long to wait for another process's lock. Only another writer can hold one; readers never block a writer.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Marks the file as ours (`PRAGMA application_id`): "apmr".
pub(super) const APPLICATION_ID: i64 = 0x6170_6d72;

/// Settings the mirror's guarantees depend on: name, value to set, and value that SQLite must then report.
///
/// `synchronous = FULL`: an acknowledged commit is on disk, so the cursor is never ahead of its rows.
const PRAGMAS: [(&str, &str, &str); 6] = [
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", "2"),
    ("foreign_keys", "ON", "1"),
    ("wal_autocheckpoint", "1000", "1000"),
    ("journal_size_limit", "67108864", "67108864"),
    ("cache_size", "-32768", "-32768"),
];

/// `PRAGMA auto_vacuum` of a file whose free pages can be cut off.
pub(super) const INCREMENTAL: i64 = 2;

/// Lets a file without tables be one whose free pages can be cut off later.
pub(super) fn prepare_space(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?)
}

/// The schema's version; 0 for a new file.
pub(super) fn check_schema(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
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

/// Migrates the schema to the newest version in one transaction, so that readers see no intermediate version.
pub(super) fn migrate(connection: &mut Connection, from: i64) -> Result<(), StoreError> {
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

/// Applies the settings, and checks that each took effect.
pub(super) fn set_pragmas(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    for (pragma, value, wanted) in PRAGMAS {
        connection.execute_batch(&format!("PRAGMA {pragma} = {value}"))?;
        expect_pragma(connection, path, pragma, wanted)?;
    }
    Ok(())
}

pub(super) fn expect_pragma(
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
