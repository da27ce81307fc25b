//! When the log (`-wal`) is written back into the database file.
//!
//! Whoever copies the file alone gets what was written back, so the log is written back soon after the last change.
//! Closing leaves the log, then empty, and its index (`-shm`): without them, only who may create them can read the
//! database.

use std::time::Duration;

use rusqlite::{Connection, FileControl, MAIN_DB};

use super::schema::BUSY_TIMEOUT;
use crate::store::error::StoreError;

/// How long nothing must have changed before the log is written back.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// How many pages of 4 KiB the log may hold before a commit writes them back.
const PAGES: u32 = 1_000;

/// The same for the commits of a first sync, whose random keys dirty most pages again and again: writing them back late
/// halves what it costs.
const PAGES_IN_FIRST_SYNC: u32 = 16_000;

/// What is known of the log of a database that is open for writing.
#[derive(Debug)]
pub(super) struct Log {
    /// How many pages it may hold.
    pages: u32,
    /// How many rows this connection had changed when the log was last written back; `None` before that.
    written_back: Option<u64>,
}

impl Log {
    /// Keeps the log's files when `connection` is closed.
    pub(super) fn keep(connection: &Connection) -> Result<Self, StoreError> {
        let mut persist = 1;
        connection.file_control(Some(MAIN_DB), FileControl::PersistWal(&mut persist))?;
        Ok(Self {
            pages: PAGES,
            written_back: None,
        })
    }

    /// Whether it may hold what the file does not.
    pub(super) fn is_behind(&self, connection: &Connection) -> bool {
        self.written_back != Some(connection.total_changes())
    }

    /// Writes it back and empties it, as far as readers allow that now. Waits for nobody.
    pub(super) fn write_back(&mut self, connection: &Connection) {
        match checkpoint(connection) {
            Ok(true) => self.written_back = Some(connection.total_changes()),
            // A reader still needs the log.
            Ok(false) => {}
            // Nothing is lost: the log stays, and the next commit reports what is wrong with the disk.
            Err(error) => tracing::debug!("could not write the log back: {error}"),
        }
    }

    /// Lets it grow as fits the next commit: of a first sync, or any other.
    pub(super) fn limit(
        &mut self,
        connection: &Connection,
        in_first_sync: bool,
    ) -> Result<(), StoreError> {
        let pages = if in_first_sync {
            PAGES_IN_FIRST_SYNC
        } else {
            PAGES
        };
        if self.pages != pages {
            connection.pragma_update(None, "wal_autocheckpoint", pages)?;
            self.pages = pages;
        }
        Ok(())
    }
}

/// Returns whether the whole log was written back.
fn checkpoint(connection: &Connection) -> Result<bool, StoreError> {
    connection.busy_timeout(Duration::ZERO)?;
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    let busy: rusqlite::Result<bool> = connection.query_row(checkpoint, [], |row| row.get(0));
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(!busy?)
}
