//! Subscriptions: which commands change them, and what a sink is owed that comes and goes.

use std::process::Stdio;

use rusqlite::Connection;
use serde_json::Value;

use crate::cases::Case;
use crate::support::{Daemon, QUICK, Setup, sequences, stderr, stdout, wait_until};

/// Writes a configuration that is only found where it is named, with these sinks that write files; returns its name.
fn config(setup: &Setup, sinks: &[&str]) -> &'static str {
    let sections = sinks.iter().map(|name| {
        format!("[[sinks]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{name}.jsonl\"\n")
    });
    let sections: String = sections.collect();
    let none = if sinks.is_empty() { "sinks = []\n" } else { "" };
    let text = format!("tasks = [\"~my-task\"]\n{none}{QUICK}{sections}");
    std::fs::write(setup.dir.path().join("mirror.toml"), text).unwrap();
    "mirror.toml"
}

/// Makes a pass with these sinks.
fn sync(setup: &Setup, sinks: &[&str]) {
    let file = config(setup, sinks);
    Case::of(&["sync", "--config", file]).bare().check(setup);
}

/// The sequence numbers that a sink has written.
fn written(setup: &Setup, name: &str) -> Vec<i64> {
    let path = setup.dir.path().join(format!("{name}.jsonl"));
    sequences(&std::fs::read_to_string(path).unwrap_or_default())
}

/// The subscription `name`, as `sinks list` shows it; null if there is none.
fn subscription(setup: &Setup, name: &str) -> Value {
    let output = Case::of(&["sinks", "list", "--json"]).bare().check(setup);
    let list: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    let found = list.into_iter().find(|sink| sink["name"] == name);
    found.unwrap_or(Value::Null)
}

#[test]
fn commands_without_a_configuration_file_change_no_subscription() {
    let mut setup = Setup::with_runs(3);
    sync(&setup, &["first"]);
    setup.add_runs(1);
    Case::of(&["audit"]).check(&setup);
    Case::of(&["status"]).stdout("first").check(&setup);
    setup.add_runs(1);
    let output = setup.sync();
    let printed = sequences(&stdout(&output));
    assert_eq!(printed, [3, 4], "what this command raised");
    let first = subscription(&setup, "first");
    assert_eq!(
        (&first["configured"], &first["pending"]),
        (&true.into(), &4.into())
    );
    let temporary = subscription(&setup, "stdout.once");
    assert_eq!(temporary, Value::Null, "it was for that command alone");

    setup.add_runs(1);
    sync(&setup, &["first"]);
    assert_eq!(written(&setup, "first"), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn what_could_not_be_printed_is_printed_by_the_next_command() {
    let mut setup = Setup::with_runs(3);
    setup.sync();
    setup.add_runs(1);
    let mut command = setup.command(&["sync"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert_eq!(subscription(&setup, "stdout.once")["pending"], 2);

    // An audit prints no events: with nobody else to get them, they are kept too.
    setup.add_runs(1);
    Case::of(&["audit"]).check(&setup);
    assert_eq!(sequences(&stdout(&setup.sync())), [1, 2, 3, 4]);
    assert_eq!(stdout(&setup.sync()), "");

    // With a configuration, nothing piles up for it.
    sync(&setup, &[]);
    setup.add_runs(1);
    sync(&setup, &[]);
    assert_eq!(stdout(&setup.sync()), "", "raised by another command");
}

#[test]
fn a_sink_that_a_reload_takes_away_and_brings_back_loses_nothing() {
    let mut setup = Setup::with_runs(3);
    let file = config(&setup, &["first", "second"]);
    let mut command = setup.bare(&["run"]);
    command.arg("--config").arg(file);
    let daemon = Daemon::start_synced(&setup, command);
    setup.add_runs(1);
    wait_until("two events", || written(&setup, "first").len() == 2);

    config(&setup, &["second"]);
    daemon.signal("HUP");
    wait_until("the reload", || {
        subscription(&setup, "first")["configured"] == false
    });
    setup.add_runs(2);
    wait_until("the events of the other", || {
        written(&setup, "second").len() == 6
    });
    let first = subscription(&setup, "first");
    assert_eq!(
        (&first["position"], &first["pending"]),
        (&2.into(), &4.into())
    );

    config(&setup, &["first", "second"]);
    daemon.signal("HUP");
    wait_until("what it missed", || written(&setup, "first").len() == 6);
    setup.add_runs(1);
    wait_until("what is new", || written(&setup, "first").len() == 8);
    assert_eq!(written(&setup, "first"), (1..=8).collect::<Vec<_>>());
}

#[test]
fn a_sink_that_comes_back_is_told_of_a_gap() {
    let mut setup = Setup::with_runs(3);
    sync(&setup, &["first"]);
    sync(&setup, &[]);
    setup.add_runs(3);
    sync(&setup, &[]);
    let db = Connection::open(setup.database()).unwrap();
    db.execute("DELETE FROM events WHERE seq <= 4", []).unwrap();
    drop(db);
    let file = config(&setup, &["first"]);
    Case::of(&["sync", "--config", file])
        .bare()
        .stderr("sink=\"first\" events=4")
        .check(&setup);
    assert_eq!(written(&setup, "first"), [5, 6]);
    assert_eq!(subscription(&setup, "first")["missed"], 4);
    Case::of(&["status"])
        .bare()
        .stdout("first: did not get 4 events, which the event log no longer had")
        .check(&setup);
}

#[test]
fn a_subscription_is_removed_for_good() {
    let mut setup = Setup::with_runs(3);
    let file = config(&setup, &["first", "second"]);
    let mut command = setup.bare(&["run"]);
    command.arg("--config").arg(file);
    let daemon = Daemon::start_synced(&setup, command);
    Case::of(&["sinks", "remove", "first"])
        .bare()
        .code(69)
        .stderr("is in use by another apify-mirror")
        .check(&setup);
    config(&setup, &["second"]);
    daemon.signal("HUP");
    wait_until("the reload", || {
        subscription(&setup, "first")["configured"] == false
    });
    setup.add_runs(1);
    wait_until("two events", || written(&setup, "second").len() == 2);
    Case::of(&["sinks", "remove", "first"])
        .bare()
        .stdout("sink first removed")
        .check(&setup);
    Case::of(&["sinks", "remove", "first"])
        .bare()
        .code(2)
        .stderr("the mirror has no sink first")
        .check(&setup);
    config(&setup, &["first", "second"]);
    daemon.signal("HUP");
    wait_until("the reload", || {
        subscription(&setup, "first")["configured"] == true
    });
    setup.add_runs(1);
    wait_until("what is new", || !written(&setup, "first").is_empty());
    assert_eq!(written(&setup, "first")[0], 3, "as a new sink");
}

#[test]
fn rows_deleted_by_hand_end_nothing() {
    let mut setup = Setup::with_runs(3);
    sync(&setup, &["first"]);
    let delete = |setup: &Setup, sql: &str| {
        let db = Connection::open(setup.database()).unwrap();
        let sql = format!("PRAGMA foreign_keys = OFF; {sql}");
        db.execute_batch(&sql).unwrap();
    };
    for (sql, told) in [
        ("DELETE FROM runs", ""),
        ("DELETE FROM events", ""),
        (
            "DELETE FROM deliveries; DELETE FROM sinks",
            "the sink is new to this mirror: it gets events from now on",
        ),
        (
            "DELETE FROM feeds; DELETE FROM audits",
            "the row of the feed was deleted",
        ),
        (
            "DELETE FROM tasks; DELETE FROM feeds",
            "the row of the feed was deleted",
        ),
        ("DELETE FROM sqlite_sequence; DELETE FROM event_numbers", ""),
        ("DELETE FROM runs; DELETE FROM tasks", ""),
    ] {
        setup.add_runs(2);
        sync(&setup, &["first"]);
        delete(&setup, sql);
        let file = config(&setup, &["first"]);
        Case::of(&["sync", "--config", file])
            .bare()
            .stderr(told)
            .check(&setup);
        Case::of(&["audit", "--config", file]).bare().check(&setup);
        setup.assert_exact();
    }
    let written = written(&setup, "first");
    let mut once = written.clone();
    once.dedup();
    assert_eq!(written, once, "no number is used twice");
    assert!(written.is_sorted() && !written.is_empty(), "{written:?}");
}

#[test]
fn a_sink_is_told_of_what_was_deleted_and_gets_the_rest() {
    let mut setup = Setup::with_runs(3);
    setup.configure("tasks = [\"~my-task\"]\n[[sinks]]\nname = \"dead\"\ntype = \"file\"\npath = \"no/such/folder/events\"\n");
    Case::of(&["sync"]).bare().check(&setup);
    setup.add_runs(2);
    Case::of(&["sync"]).bare().code(75).check(&setup);
    let db = Connection::open(setup.database()).unwrap();
    db.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM events WHERE seq IN (1, 3)")
        .unwrap();
    drop(db);
    setup.configure("tasks = [\"~my-task\"]\n[[sinks]]\nname = \"dead\"\ntype = \"file\"\npath = \"dead.jsonl\"\n");
    let told = "removed deliveries whose events were deleted from the database";
    Case::of(&["sync"])
        .bare()
        .stderr(told)
        .stderr("sink=\"dead\" deliveries=2")
        .check(&setup);
    assert_eq!(written(&setup, "dead"), [2, 4]);
}
