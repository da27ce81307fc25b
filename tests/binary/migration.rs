//! Databases of earlier versions, and migrations that are killed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use apify_mirror::simulator::{Fault, Faults};
use rusqlite::Connection;

use crate::support::{Setup, wait_until};

const VERSIONS: [&str; 2] = [
    include_str!("../../src/store/sqlite/schema/1.sql"),
    include_str!("../../src/store/sqlite/schema/2.sql"),
];

/// The version that migrations lead to.
const NEWEST: i64 = 8;

/// Enough for a migration that takes longer than a process takes to start.
const RUNS: i64 = 100_000;

/// Makes a database of version 2: one feed that is up to date, with an audit in progress, and an event to be delivered.
fn version_2(setup: &Setup) {
    let db = Connection::open(setup.database()).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    db.execute_batch(&VERSIONS.concat()).unwrap();
    let task = &setup.task;
    db.execute_batch(&format!(
        "PRAGMA application_id = {}; PRAGMA user_version = 2;
         BEGIN;
         INSERT INTO tasks (id, name, username, first_seen_at, updated_at)
         VALUES ('{task}', 'my-task', 'janedoe', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z');
         INSERT INTO cursors (task_id, \"offset\", watermark_started_at, watermark_id, baseline_known, first_sync_complete,
             last_success_at)
         VALUES ('{task}', {RUNS}, '2026-01-02T00:00:00.000Z', 'r1', 1, 1, '2026-01-03T00:00:00.000Z');
         INSERT INTO audits (task_id, began_at, \"offset\") VALUES ('{task}', '2026-01-03T00:00:00.000Z', 5);
         WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {RUNS})
         INSERT INTO runs (id, status, started_at, first_seen_at, updated_at, removed_at, feed_id, is_open)
         SELECT 'r' || n, 'SUCCEEDED', strftime('%Y-%m-%dT%H:%M:%fZ', 1750000000 + n, 'unixepoch'), '', '',
             iif(n % 2, '2026-01-03T00:00:00.000Z', NULL), '{task}', 0 FROM n;
         INSERT INTO events (id, run_id, task_id, type, status, occurred_at, observed_at, payload)
         VALUES ('e', 'r1', '{task}', 'x', 'x', '', '', '{{}}');
         INSERT INTO sinks (name, type, added_at, live, booked_seq) VALUES ('gone', 'stdout', '', 1, 0);
         INSERT INTO deliveries (sink, seq, run_id, due_at) VALUES ('gone', 1, 'r1', '');
         COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
        0x6170_6d72
    ))
    .unwrap();
}

/// Asserts that the database is whole, and all of one version; returns the version.
fn assert_whole(setup: &Setup) -> i64 {
    let db = setup.db();
    let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let check: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let version = one("PRAGMA user_version");
    let feeds = "SELECT count(*) FROM sqlite_schema WHERE name = 'feeds'";
    assert_eq!(
        one(feeds),
        i64::from(version == NEWEST),
        "version {version}"
    );
    assert_eq!(one("SELECT count(*) FROM runs"), RUNS);
    assert_eq!(one("SELECT count(*) FROM deliveries"), 1);
    assert_eq!(one("SELECT \"offset\" FROM cursors"), RUNS);
    version
}

#[test]
fn a_migration_that_is_killed_is_made_again_whole() {
    let setup = Setup::with_runs(0);
    version_2(&setup);
    // The account does not answer: only the migration changes the database.
    setup.server.set_faults(Faults::always(Fault::Hang));
    let original = setup.dir.path().join("original.db");
    std::fs::copy(setup.database(), &original).unwrap();
    let mut versions = Vec::new();
    for after in (0..100).step_by(7).map(Duration::from_millis) {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", setup.database().display()));
        }
        std::fs::copy(&original, setup.database()).unwrap();
        let mut child = setup
            .command(&["sync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It opens the database when its log is there; a different moment each time.
        let log = format!("{}-wal", setup.database().display());
        wait_until("the database to be opened", || {
            std::fs::exists(&log).unwrap()
        });
        let opened = Instant::now();
        wait_until("the moment to kill it", || opened.elapsed() >= after);
        child.kill().unwrap();
        child.wait().unwrap();
        versions.push(assert_whole(&setup));
    }
    assert!(versions.contains(&2), "no migration was interrupted");

    let mut child = setup
        .command(&["sync"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the migration", || assert_whole(&setup) == NEWEST);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(setup.column("SELECT feed_id FROM audits"), [""; 0]);
    assert_eq!(setup.column("SELECT id FROM feeds"), [setup.task.as_str()]);
}
