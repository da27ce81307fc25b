//! Space that is free within the file, and how the file system gets it back.
//!
//! SQLite keeps the pages of deleted rows for later ones. In a file made by this version, whose pages know what refers to
//! them (`auto_vacuum`), they can be cut off some at a time; a file of an earlier version has to be written anew once.

use super::connection::Db;
use super::schema::{INCREMENTAL, prepare_space};
use crate::store::error::StoreError;

/// The pages that one step gives back, of 4 KiB: other writers must not wait long.
const STEP: u64 = 1_000;

/// The free pages that are kept for what comes next.
const KEPT: u64 = 1_000;

impl Db {
    /// Gives some free pages back to the file system, unless there are few; returns whether there are more. A file of an
    /// earlier version keeps them.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn release_space(&mut self) -> Result<bool, StoreError> {
        self.release_beyond(KEPT)
    }

    /// The same, but keeps no free pages.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn release_all_space(&mut self) -> Result<bool, StoreError> {
        self.release_beyond(0)
    }

    fn release_beyond(&mut self, kept: u64) -> Result<bool, StoreError> {
        if !self.releases_space()? {
            return Ok(false);
        }
        let free = self.free_pages()?.saturating_sub(kept);
        if free == 0 {
            return Ok(false);
        }
        let step = free.min(STEP);
        // Each row of the answer is a page that was cut off.
        let mut statement = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({step})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(free > step)
    }

    /// Whether free pages can be cut off, as in a file made by this version.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn releases_space(&self) -> Result<bool, StoreError> {
        let kind: i64 = self
            .connection
            .query_row("PRAGMA auto_vacuum", [], |row| row.get(0))?;
        Ok(kind == INCREMENTAL)
    }

    /// Writes the file anew, without free pages; from then on they can be cut off. Needs as much space again on the disk,
    /// and nobody else can write meanwhile.
    ///
    /// # Errors
    /// When SQLite fails; then nothing has changed.
    pub fn rewrite(&mut self) -> Result<(), StoreError> {
        prepare_space(&self.connection)?;
        Ok(self.connection.execute_batch("VACUUM")?)
    }

    fn free_pages(&self) -> Result<u64, StoreError> {
        let count = "PRAGMA freelist_count";
        Ok(self.connection.query_row(count, [], |row| row.get(0))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::{APPLICATION_ID, MIGRATIONS};
    use super::*;
    use rusqlite::Connection;
    use std::path::Path;

    fn pages(db: &Db) -> u64 {
        let count = "PRAGMA page_count";
        db.connection
            .query_row(count, [], |row| row.get(0))
            .unwrap()
    }

    /// Writes events of about two pages each, and deletes them.
    fn write_and_delete(db: &Db, count: u64) {
        db.connection
            .execute_batch(&format!(
                "BEGIN;
                 INSERT OR IGNORE INTO tasks (id, first_seen_at, updated_at) VALUES ('t', '', '');
                 INSERT OR IGNORE INTO runs (id, status, first_seen_at, updated_at, feed_id, is_open) VALUES ('r', 'x', '', '', 't', 0);
                 WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
                 INSERT INTO events (id, run_id, task_id, type, status, occurred_at, observed_at, payload)
                 SELECT 'e' || n, 'r', 't', 'x', 'x', '', '', hex(zeroblob(4000)) FROM n;
                 DELETE FROM events; COMMIT"
            ))
            .unwrap();
    }

    #[test]
    fn a_new_file_gives_free_pages_back_in_steps_and_keeps_some() {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Db::open(&dir.path().join("runs.db")).unwrap();
        assert!(db.releases_space().unwrap());
        assert!(!db.release_space().unwrap());
        write_and_delete(&db, 2_000);
        let before = pages(&db);
        assert!(before > 4_000, "{before}");
        let mut steps = 1;
        while db.release_space().unwrap() {
            steps += 1;
            assert!(steps < 100);
        }
        assert!(steps > 2);
        let kept = pages(&db);
        assert!((KEPT..KEPT + 200).contains(&kept), "{kept}");
        while db.release_all_space().unwrap() {}
        assert!(pages(&db) < 200);
    }

    /// A database as version 6 made it.
    fn version_6(path: &Path) {
        let db = Connection::open(path).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL").unwrap();
        MIGRATIONS[..6]
            .iter()
            .for_each(|step| db.execute_batch(step).unwrap());
        db.pragma_update(None, "application_id", APPLICATION_ID)
            .unwrap();
        db.pragma_update(None, "user_version", 6).unwrap();
    }

    #[test]
    fn a_file_of_an_earlier_version_keeps_its_pages_until_it_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.db");
        version_6(&path);
        let mut db = Db::open(&path).unwrap();
        write_and_delete(&db, 500);
        let before = pages(&db);
        assert!(!db.releases_space().unwrap());
        assert!(!db.release_all_space().unwrap());
        assert_eq!(pages(&db), before);
        db.rewrite().unwrap();
        assert!(db.releases_space().unwrap());
        assert!(pages(&db) < before / 4);
        drop(db);
        let mut db = Db::open(&path).unwrap();
        write_and_delete(&db, 2_000);
        while db.release_space().unwrap() {}
        assert!(pages(&db) < KEPT + 200);
    }
}
