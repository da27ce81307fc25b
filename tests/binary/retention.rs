//! What `[retention]` does not keep: removed by `prune`, at the end of `sync`, and by the daemon.

use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::cases::{Case, check_all};
use crate::support::{Daemon, QUICK, Setup, stdout, wait_until};

/// Keeps little, and delivers to nobody.
const SHORT: &str = "sinks = []\n[retention]\nremoved_runs = \"30d\"\nevents = \"12h\"\n";

/// A mirror with four runs that raised two events each, of which the first is gone from the account.
fn mirror() -> (Setup, Vec<String>) {
    let mut setup = Setup::with_runs(3);
    setup.configure("sinks = []\n");
    setup.sync();
    let ids = setup.add_runs(4);
    setup.sync();
    setup.server.world().hide(&ids[0]);
    Case::of(&["audit"]).check(&setup);
    (setup, ids)
}

/// Changes the closed database by hand.
fn change(path: &Path, sql: &str) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(sql).unwrap();
}

/// Makes the removed run old, and the first six events.
fn age(setup: &Setup) {
    change(
        &setup.database(),
        "UPDATE runs SET removed_at = '2026-01-01T00:00:00.000Z' WHERE removed_at IS NOT NULL;
         UPDATE events SET observed_at = '2026-01-01T00:00:00.000Z' WHERE seq <= 6",
    );
}

fn pruned(setup: &Setup, arguments: &[&str]) -> Value {
    let output = Case::of(arguments).check(setup);
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn count(setup: &Setup, table: &str) -> String {
    let sql = format!("SELECT CAST(count(*) AS TEXT) FROM {table}");
    setup.column(&sql).remove(0)
}

#[test]
fn what_is_not_kept_is_announced_removed_and_never_comes_twice() {
    let (setup, ids) = mirror();
    Case::of(&["prune"])
        .stdout("everything is kept")
        .check(&setup);
    age(&setup);
    setup.configure(SHORT);
    let expected = |dry_run, runs, events| {
        json!({"dry_run": dry_run, "runs": runs, "events": events, "dead_deliveries": 0,
            "bytes_before": null, "bytes_after": null})
    };
    let dry = ["prune", "--dry-run", "--json"];
    assert_eq!(pruned(&setup, &dry), expected(true, 1, 6));
    assert_eq!(
        (count(&setup, "runs"), count(&setup, "events")),
        ("7".into(), "8".into())
    );
    assert_eq!(pruned(&setup, &["prune", "--json"]), expected(false, 1, 6));
    assert_eq!(
        (count(&setup, "runs"), count(&setup, "events")),
        ("6".into(), "2".into())
    );
    assert_eq!(pruned(&setup, &dry), expected(true, 0, 0));
    Case::of(&["prune"])
        .stdout("removed runs     30d")
        .check(&setup);

    // The run is listed again: its creation and its end are known.
    setup.server.world().show(&ids[0]);
    Case::of(&["audit"]).check(&setup);
    assert_eq!(count(&setup, "events"), "2");
}

#[test]
fn a_pass_prunes_at_its_end() {
    let (setup, _) = mirror();
    age(&setup);
    setup.configure(SHORT);
    Case::of(&["sync"])
        .stdout("pruned as configured: 1 removed run, 6 events, 0 dead deliveries")
        .check(&setup);
    assert_eq!(
        (count(&setup, "runs"), count(&setup, "events")),
        ("6".into(), "2".into())
    );
    let again = stdout(&setup.sync());
    assert!(!again.contains("pruned"), "{again}");
}

#[test]
fn the_daemon_prunes_by_itself_and_others_prune_beside_it() {
    let (mut setup, _) = mirror();
    age(&setup);
    setup.configure(&format!("{SHORT}{QUICK}"));
    let daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    daemon.log_line("pruned what is no longer kept runs=1 events=6");
    assert_eq!(count(&setup, "events"), "2");
    setup.add_runs(1);
    wait_until("another run", || count(&setup, "events") == "4");
    change(
        &setup.database(),
        "UPDATE events SET observed_at = '2026-01-01T00:00:00.000Z'",
    );
    assert_eq!(pruned(&setup, &["prune", "--json"])["events"], 4);
    // What this version made needs no rewriting.
    let compacted = pruned(&setup, &["prune", "--compact", "--json"]);
    assert!(compacted["bytes_after"].as_u64() <= compacted["bytes_before"].as_u64());
    setup.add_runs(1);
    wait_until("the daemon to go on", || count(&setup, "events") == "2");
}

#[test]
fn a_file_of_an_earlier_version_is_compacted_while_nobody_writes_it() {
    let (setup, _) = mirror();
    let kind = || {
        setup
            .db()
            .query_row("PRAGMA auto_vacuum", [], |row| row.get::<_, i64>(0))
    };
    assert_eq!(kind().unwrap(), 2, "a new one");
    change(&setup.database(), "PRAGMA auto_vacuum = NONE; VACUUM");
    change(
        &setup.database(),
        "CREATE TABLE waste (x); INSERT INTO waste VALUES (zeroblob(3000000)); DROP TABLE waste",
    );
    let mut daemon = Daemon::start(setup.quick_run());
    daemon.log_line("started");
    check_all(
        &setup,
        [
            Case::of(&["prune", "--compact"])
                .code(69)
                .stderr("made by an earlier version")
                .stderr("stop the other first"),
            Case::of(&["prune"]),
            Case::of(&["prune", "--compact", "--dry-run"]).code(2),
        ],
    );
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(kind().unwrap(), 0);
    let compacted = pruned(&setup, &["prune", "--compact", "--json"]);
    assert!(
        compacted["bytes_before"].as_u64() > Some(3_000_000),
        "{compacted}"
    );
    assert!(
        compacted["bytes_after"].as_u64() < Some(1_000_000),
        "{compacted}"
    );
    assert_eq!(kind().unwrap(), 2);
    setup.sync();
    setup.assert_exact();
}
