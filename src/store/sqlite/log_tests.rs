//! The log beside the database, files with several names, and reading a file as it lies.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::connection::Db;
use super::lock::InstanceLock;
use super::snapshot::Snapshot;
use super::writer::SqliteStore;
use crate::model::{Details, Task, Timestamp};
use crate::store::error::StoreError;
use crate::store::traits::Store;
use crate::sync::{Baseline, Commit, FeedState, Judgement};

fn file() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    (dir, path)
}

fn size(path: &Path, suffix: &str) -> Option<u64> {
    let path = format!("{}{suffix}", path.display());
    std::fs::metadata(path).ok().map(|found| found.len())
}

fn task(id: &str) -> Task {
    Task {
        id: id.to_owned(),
        ..Task::default()
    }
}

fn tasks(db: &Db) -> Result<i64, StoreError> {
    let sql = "SELECT count(*) FROM tasks";
    Ok(db.connection.query_row(sql, [], |row| row.get(0))?)
}

#[tokio::test]
async fn closing_leaves_an_empty_log_and_its_index() {
    let (_dir, path) = file();
    let (store, writer) = SqliteStore::open(&path).unwrap();
    store.save_task(&task("a"), Timestamp::now()).await.unwrap();
    drop(store);
    writer.join();
    assert_eq!(size(&path, "-wal"), Some(0));
    assert!(size(&path, "-shm").is_some());

    let (store, writer) = SqliteStore::open_beside(&path).unwrap();
    store.save_task(&task("b"), Timestamp::now()).await.unwrap();
    drop(store);
    writer.join();
    assert_eq!(size(&path, "-wal"), Some(0), "after a small change, too");
    assert!(size(&path, "-shm").is_some());
}

#[tokio::test]
async fn what_was_written_gets_into_the_file_once_nothing_else_is_to_do() {
    let (dir, path) = file();
    let (store, _writer) = SqliteStore::open(&path).unwrap();
    store.save_task(&task("a"), Timestamp::now()).await.unwrap();
    let began = Instant::now();
    // A copy of the file alone.
    let copy = dir.path().join("copy.db");
    let copied = || {
        std::fs::copy(&path, &copy).unwrap();
        let copy = Connection::open(&copy).unwrap();
        let count = copy.query_row("SELECT count(*) FROM tasks", [], |row| row.get::<_, i64>(0));
        count.unwrap_or_default()
    };
    while copied() == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "never");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn the_commits_of_a_first_sync_let_the_log_grow() {
    let (_dir, path) = file();
    let mut db = Db::open(&path).unwrap();
    db.save_task(&task("t"), Timestamp::default()).unwrap();
    for (complete, pages) in [(false, 16_000), (true, 1_000), (false, 16_000)] {
        let commit = Commit {
            observed: Vec::new(),
            gone: Vec::new(),
            unreadable: Vec::new(),
            readable: Default::default(),
            covered: None,
            feed: FeedState {
                complete,
                ..FeedState::default()
            },
            judgement: Judgement {
                history: Baseline::Nothing,
                settle: Duration::ZERO,
                details: Details::None,
                now: Timestamp::default(),
                asked_at: Timestamp::default(),
            },
            finished: true,
        };
        db.commit("t", &commit).unwrap();
        let sql = "PRAGMA wal_autocheckpoint";
        let found: i64 = db.connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(found, pages);
    }
}

#[test]
fn a_reader_keeps_the_log_and_delays_nobody() {
    let (_dir, path) = file();
    let mut db = Db::open(&path).unwrap();
    let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = reader.prepare("SELECT * FROM sqlite_schema").unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap().unwrap();
    db.save_task(&task("a"), Timestamp::default()).unwrap();
    let began = Instant::now();
    db.write_log_back();
    assert!(began.elapsed() < Duration::from_secs(3), "it waited");
    assert!(db.has_log(), "it is tried again");
    drop(rows);
    db.write_log_back();
    assert!(!db.has_log());
    assert_eq!(size(&path, "-wal"), Some(0));
}

#[test]
fn a_file_with_several_names_is_refused() {
    let (dir, path) = file();
    let db = Db::open(&path).unwrap();
    let other = dir.path().join("other.db");
    std::fs::hard_link(&path, &other).unwrap();
    let linked = |result: Result<(), StoreError>| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, StoreError::Linked { names: 2, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("2 names"), "{error}");
    };
    linked(db.check_file());
    drop(db);
    for path in [&path, &other] {
        linked(Db::open(path).map(drop));
        linked(Db::open_beside(path).map(drop));
        linked(Db::open_for_reading(path).map(drop));
        linked(SqliteStore::open(path).map(drop));
    }
    std::fs::remove_file(&other).unwrap();
    Db::open(&path).unwrap();
}

#[test]
fn a_file_without_log_or_writer_is_read_as_it_lies_until_it_changes() {
    let (dir, path) = file();
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let mut writer = Db::open(&path).unwrap();
    assert_eq!(tasks(&writer).unwrap(), 0);
    writer.save_task(&task("a"), Timestamp::default()).unwrap();
    assert_eq!(Snapshot::of(&path), None, "it has a log");
    writer.write_log_back();
    let snapshot = Snapshot::of(&path);
    assert!(snapshot.is_some());
    let lock = InstanceLock::acquire(&path).unwrap();
    assert_eq!(Snapshot::of(&path), None, "a process holds it");
    drop(lock);

    let mut reader = Db::open_as_it_is(&path, snapshot, read_only).unwrap();
    assert_eq!(reader.read_current(tasks).unwrap(), 1);
    writer.save_task(&task("b"), Timestamp::default()).unwrap();
    assert_eq!(reader.read_current(tasks).unwrap(), 2, "it now has a log");

    writer.write_log_back();
    let mut reader = Db::open_as_it_is(&path, Snapshot::of(&path), read_only).unwrap();
    writer.save_task(&task("c"), Timestamp::default()).unwrap();
    writer.write_log_back();
    assert_eq!(reader.read_current(tasks).unwrap(), 3, "it was changed");

    // Every character of a path is taken literally.
    drop(writer);
    let odd = dir.path().join("a?mode=rw&b#c%41 d.db");
    std::fs::copy(&path, &odd).unwrap();
    let mut reader = Db::open_as_it_is(&odd, Snapshot::of(&odd), read_only).unwrap();
    assert_eq!(reader.read_current(tasks).unwrap(), 3);
}
