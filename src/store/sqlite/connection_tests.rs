//! Opening, upgrading and refusing databases.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::connection::Db;
use super::schema::{APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION, expect_pragma};
use crate::model::Task;
use crate::store::conformance::builders::{at, commit_of, exchange, task};
use crate::store::error::StoreError;
use crate::store::states::SinkState;
use crate::sync::{Baseline, Cursor, FeedState, Watermark};

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

/// Creates a database of an earlier version, with three runs, their events, and what is owed to two sinks.
fn of_version(path: &Path, version: usize) {
    let old = Connection::open(path).unwrap();
    MIGRATIONS[..version]
        .iter()
        .for_each(|step| old.execute_batch(step).unwrap());
    let (column, position) = if version < 4 {
        ("booked_seq", 0)
    } else {
        ("position", 7)
    };
    old.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};
         INSERT INTO tasks (id, first_seen_at, updated_at) VALUES ('t', '', '');
         INSERT INTO runs (id, status, first_seen_at, updated_at, feed_id, is_open)
         VALUES ('a', 'READY', '', '', 't', 0), ('b', 'READY', '', '', 't', 0);
         INSERT INTO events (id, run_id, task_id, type, status, occurred_at, observed_at, payload)
         VALUES ('a_1', 'a', 't', 'x', 'x', '', '', ''), ('b_1', 'b', 't', 'x', 'x', '', '', ''),
             ('a_2', 'a', 't', 'x', 'x', '', '', ''), ('a_3', 'a', 't', 'x', 'x', '', '', '');
         INSERT INTO sinks (name, type, added_at, removed_at, live, {column})
         VALUES ('hook', 'webhook', '', NULL, 1, {position}), ('old', 'file', '', '', 0, 2), ('new', 'file', '', NULL, 0, 1);
         INSERT INTO deliveries (sink, seq, run_id, due_at, attempts) VALUES ('hook', 3, 'a', '', 2), ('hook', 4, 'a', NULL, 0);
         DELETE FROM events WHERE seq = 1; UPDATE sqlite_sequence SET seq = 7 WHERE name = 'events';"
    ))
    .unwrap();
}

#[test]
fn databases_of_later_versions_keep_their_sinks_what_these_are_owed_and_the_numbers() {
    for version in 2..MIGRATIONS.len() {
        let (_dir, path) = file();
        of_version(&path, version);
        let mut db = Db::open(&path).unwrap();
        let positions: Vec<(String, i64, u64)> = db
            .subscriptions()
            .unwrap()
            .into_iter()
            .map(|sink| (sink.name, sink.position, sink.pending))
            .collect();
        let expected = [("hook", 7, 2), ("new", 1, 3), ("old", 2, 2)];
        let expected =
            expected.map(|(name, position, pending)| (name.to_owned(), position, pending));
        assert_eq!(positions, expected, "version {version}");
        db.commit("t", &commit_of(10, &[("c", "READY")])).unwrap();
        let last: i64 = db
            .connection
            .query_row("SELECT max(seq) FROM events", [], |row| row.get(0))
            .unwrap();
        assert_eq!(last, 8, "version {version}: a number is not used twice");
        let due = db.exchange(&exchange("hook"), at(20)).unwrap().fetched;
        let due: Vec<(i64, u32)> = due
            .events
            .iter()
            .map(|due| (due.seq, due.attempts))
            .collect();
        assert_eq!(due, [(3, 2), (8, 0)], "version {version}");
    }
}

/// A database of version 4 whose first task was seen at `first_seen_at`, with a feed if `feeds`, in which an audit is in
/// progress.
fn of_version_4(path: &Path, first_seen_at: &str, feeds: bool) {
    let old = Connection::open(path).unwrap();
    MIGRATIONS[..4]
        .iter()
        .for_each(|step| old.execute_batch(step).unwrap());
    old.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 4;
         INSERT INTO tasks (id, first_seen_at, updated_at) VALUES ('t', '{first_seen_at}', ''), ('u', 'x', '');"
    ))
    .unwrap();
    if feeds {
        old.execute_batch(
            "INSERT INTO feeds (id, kind, task_id, \"offset\", watermark_started_at, watermark_id, baseline_known, baseline,
                 first_sync_complete)
             VALUES ('t', 'task', 't', 7, '1970-01-01T00:00:05.000Z', 'r', 1, '1970-01-01T00:00:04.000Z', 1);
             INSERT INTO audits (feed_id, began_at, \"offset\") VALUES ('t', '1970-01-01T00:00:06.000Z', 3);",
        )
        .unwrap();
    }
}

#[test]
fn feeds_of_version_4_go_on_and_their_account_is_as_old_as_their_first_task() {
    let (_dir, path) = file();
    of_version_4(&path, &at(3).to_string(), true);
    let mut db = Db::open(&path).unwrap();
    let watermark = Watermark {
        started: at(5),
        id: "r".into(),
    };
    let expected = FeedState {
        cursor: Cursor {
            offset: 7,
            tail: 0,
            watermark: Some(watermark),
        },
        baseline: Some(Baseline::UpTo(at(4))),
        complete: true,
        ..FeedState::default()
    };
    assert_eq!(db.feed("t").unwrap(), Some(expected));
    for (created, baseline) in [(3, None), (4, Some(Baseline::Nothing))] {
        let made = Task {
            created_at: Some(at(created).to_string()),
            ..task(&format!("made at {created}"))
        };
        assert_eq!(db.open_feed(&made, at(9)).unwrap().baseline, baseline);
    }
}

#[test]
fn an_account_without_feeds_is_looked_at_from_now_on() {
    let (_dir, path) = file();
    of_version_4(&path, &at(3).to_string(), false);
    let mut db = Db::open(&path).unwrap();
    let made = Task {
        created_at: Some(at(4).to_string()),
        ..task("new")
    };
    assert_eq!(db.open_feed(&made, at(9)).unwrap().baseline, None);
}

#[test]
fn the_view_of_cursors_keeps_its_columns() {
    let db = Db::in_memory().unwrap();
    let mut statement = db.connection.prepare("SELECT * FROM cursors").unwrap();
    statement.exists([]).unwrap();
    let columns = "task_id offset watermark_started_at watermark_id baseline_known baseline first_sync_complete \
        server_total last_success_at last_watch_at last_audit_at next_audit_at condition last_error last_error_at";
    let found: Vec<&str> = statement.column_names().collect();
    assert_eq!(found.join(" "), columns);
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
fn a_newer_schema_is_refused_by_name() {
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
fn a_file_that_was_deleted_or_replaced_is_no_longer_written() {
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
fn a_setting_that_was_not_taken_is_reported() {
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
fn a_path_through_a_file_is_the_systems_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(matches!(
        Db::open(&dir.path().join("file/runs.db")),
        Err(StoreError::Io { .. })
    ));
}

#[test]
fn a_row_that_would_take_all_memory_is_not_read() {
    let (_dir, path) = file();
    drop(Db::open(&path).unwrap());
    let other = Connection::open(&path).unwrap();
    let large = "CREATE TABLE notes AS SELECT zeroblob(70000000) AS note";
    other.execute_batch(large).unwrap();
    for db in [Db::open_for_reading(&path), Db::open(&path)] {
        let note = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
        let read = db
            .unwrap()
            .connection
            .query_row("SELECT note FROM notes", [], note);
        let code = read.unwrap_err().sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::TooBig));
    }
}

/// Missing views and indices are allowed, also in a database that is to be migrated.
#[test]
fn a_database_without_views_and_indices_can_be_migrated_from_every_version() {
    for version in 1..SCHEMA_VERSION {
        let (_dir, path) = file();
        let old = Connection::open(&path).unwrap();
        for step in &MIGRATIONS[..version as usize] {
            old.execute_batch(step).unwrap();
        }
        let made = "SELECT type || ' ' || name FROM sqlite_schema WHERE type IN ('view', 'index') AND sql IS NOT NULL";
        let mut statement = old.prepare(made).unwrap();
        let names = statement.query_map([], |row| row.get::<_, String>(0));
        let names: Vec<String> = names.unwrap().map(Result::unwrap).collect();
        drop(statement);
        for name in names {
            old.execute_batch(&format!("DROP {name}")).unwrap();
        }
        let pragmas =
            format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}");
        old.execute_batch(&pragmas).unwrap();
        drop(old);
        Db::open(&path).unwrap_or_else(|error| panic!("version {version}: {error}"));
        Db::open_for_reading(&path).unwrap();
    }
}

#[test]
fn a_view_of_ones_own_with_the_name_of_a_new_one_is_named_and_nothing_is_migrated() {
    let (_dir, path) = file();
    of_version(&path, 5);
    let mine = Connection::open(&path).unwrap();
    mine.execute_batch("CREATE VIEW slow_runs AS SELECT 1 AS one")
        .unwrap();
    let error = Db::open(&path).unwrap_err().to_string();
    for part in [
        "\"slow_runs\"",
        "under another name",
        "`DROP VIEW \"slow_runs\"`",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let version: i64 = mine
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 5);
}
