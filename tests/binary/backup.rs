//! Copies of the mirror, and what comes of putting one in its place.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::cases::{Case, check_all};
use crate::support::{Daemon, QUICK, Setup, events, wait_until};

/// The first value of a query of the copy at `path`, as it lies.
fn ask(path: &Path, sql: &str) -> i64 {
    let uri = format!("file:{}?immutable=1", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(uri, flags).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_copy_is_whole_while_the_daemon_writes() {
    let mut setup = Setup::with_runs(2_000);
    setup.configure(&format!("sinks = []\n{QUICK}"));
    let _daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    let mut last = 0;
    for n in 0..5 {
        let before: i64 = setup.column("SELECT count(*) || '' FROM runs")[0]
            .parse()
            .unwrap();
        setup.add_runs(200);
        let name = format!("copy-{n}.db");
        Case::of(&["backup", &name])
            .bare()
            .stdout(format!("to {name}: "))
            .stdout(", checked")
            .check(&setup);
        let copy = setup.dir.path().join(&name);
        assert_eq!(
            copy.metadata().unwrap().permissions().mode() & 0o7777,
            0o600
        );
        for suffix in ["-wal", "-shm", "-journal", ".partial"] {
            assert!(!setup.dir.path().join(format!("{name}{suffix}")).exists());
        }
        let runs = ask(&copy, "SELECT count(*) FROM runs");
        assert!(
            runs >= before.max(last),
            "{runs} runs, and there were {before}"
        );
        last = runs;
        // Two events for each run from after the first sync: all of a commit, or nothing.
        let events = ask(&copy, "SELECT count(*) FROM events");
        assert_eq!(events, 2 * (runs - 2_000));
        let numbered = "SELECT coalesce(last_seq, 0) FROM (SELECT 1) LEFT JOIN event_numbers";
        assert_eq!(ask(&copy, numbered), events);
    }
    Case::of(&["status", "--db", "copy-4.db"])
        .bare()
        .stdout("my-task")
        .check(&setup);
}

#[test]
fn what_exists_or_is_no_place_for_a_copy_is_refused() {
    let setup = Setup::with_runs(3);
    let missing = Case::of(&["backup", "copy.db"]).bare().code(74);
    missing.stderr("there is no database").check(&setup);
    setup.sync();
    std::fs::write(setup.dir.path().join("mine"), "mine").unwrap();
    std::fs::write(setup.dir.path().join("planted.db-wal"), "").unwrap();
    let open = setup.dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    check_all(
        &setup,
        [
            Case::of(&["backup", "mine"])
                .code(2)
                .stderr("mine exists already"),
            Case::of(&["backup", "runs.db"])
                .code(2)
                .stderr("runs.db exists already"),
            Case::of(&["backup", "no/copy.db"])
                .code(74)
                .stderr("no/copy.db"),
            Case::of(&["backup", "open/copy.db"])
                .code(74)
                .stderr("can be written by others"),
            Case::of(&["backup", "runs.db-journal"])
                .code(74)
                .stderr("belongs to the database itself"),
            Case::of(&["backup", "runs.db.lock"]).code(2),
            Case::of(&["backup", "copies/"])
                .code(74)
                .stderr("name a file in it"),
            // SQLite would take it for a part of the copy.
            Case::of(&["backup", "planted.db"])
                .code(2)
                .stderr("planted.db-wal exists already"),
            Case::of(&["backup", ""]).code(2),
            Case::of(&["backup"]).code(2),
        ],
    );
    assert_eq!(
        std::fs::read_to_string(setup.dir.path().join("mine")).unwrap(),
        "mine"
    );
    assert_eq!(std::fs::read_dir(&open).unwrap().count(), 0);
    for name in ["runs.db-journal", "copies", "planted.db"] {
        assert!(!setup.dir.path().join(name).exists(), "{name}");
    }
}

/// How often each event arrived in a file, by its id.
fn arrived(setup: &Setup) -> BTreeMap<String, (usize, Value)> {
    let text = std::fs::read_to_string(setup.dir.path().join("events.jsonl")).unwrap();
    let mut arrived = BTreeMap::new();
    for event in events(&text) {
        let id = event["id"].as_str().unwrap().to_owned();
        let what = event["eventData"].clone();
        let (count, first) = arrived.entry(id).or_insert((0, what.clone()));
        *count += 1;
        assert_eq!(*first, what, "one id, two events");
    }
    arrived
}

#[test]
fn a_restored_copy_goes_on_with_its_cursor_ids_and_subscriptions() {
    let mut setup = Setup::with_runs(3);
    setup.configure("[[sinks]]\nname = \"log\"\ntype = \"file\"\npath = \"events.jsonl\"\n");
    setup.sync();
    setup.add_runs(3);
    setup.sync();
    Case::of(&["backup", "copy.db"]).check(&setup);
    let before = arrived(&setup);
    assert_eq!(before.len(), 6);

    let later = setup.add_runs(3);
    setup.sync();
    setup.server.world().resurrect(&later[1]);
    setup.sync();
    let lived = arrived(&setup);
    assert_eq!(lived.len(), 13);
    let ids = setup.column("SELECT id FROM events ORDER BY id");

    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", setup.database().display())).unwrap();
    }
    std::fs::rename(setup.dir.path().join("copy.db"), setup.database()).unwrap();
    assert_eq!(setup.column("SELECT \"offset\" || '' FROM cursors"), ["6"]);
    setup.sync();
    setup.assert_exact();
    assert_eq!(setup.status()["sinks"][0]["pending"], 0);
    // The run that was resurrected is now first seen as it is; everything else has the ids it had.
    let known = |id: &String| ids.contains(id);
    let again = setup.column("SELECT id FROM events ORDER BY id");
    assert!(again.iter().all(known), "{again:?}, and before {ids:?}");
    for (id, (count, _)) in arrived(&setup) {
        let expected = match (before.contains_key(&id), again.contains(&id)) {
            (false, true) => 2,
            _ => 1,
        };
        assert_eq!(count, expected, "{id}");
    }
}

#[test]
fn a_copy_is_interrupted_by_a_signal_and_leaves_nothing() {
    let setup = Setup::with_runs(3);
    setup.sync();
    // Enough to be copied for a while.
    Connection::open(setup.database())
        .unwrap()
        .execute_batch("CREATE TABLE mine (x); INSERT INTO mine VALUES (zeroblob(200000000))")
        .unwrap();
    let copy = setup.dir.path().join("copy.db");
    let partial = setup.dir.path().join("copy.db.partial");
    // It may be done before the signal comes.
    let interrupted = (0..20).any(|_| {
        let mut child = setup.command(&["backup", "copy.db"]).spawn().unwrap();
        wait_until("the copy to begin", || partial.exists() || copy.exists());
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let code = child.wait().unwrap().code();
        assert!(!partial.exists());
        if code == Some(0) {
            std::fs::remove_file(&copy).unwrap();
            return false;
        }
        assert_eq!(code, Some(75));
        true
    });
    assert!(interrupted && !copy.exists());
}
