//! `audit`: finds and repairs what polling cannot see.

use std::process::Stdio;

use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::simulator::{Fault, Faults};
use apify_mirror::store::SqliteStore;
use serde_json::Value;

use crate::cases::Case;
use crate::support::{Daemon, PAST, Setup, stdout, wait_until};

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(PAST + second * 1_000)
}

/// Audits; returns the report of the one task.
fn audit(setup: &Setup) -> Value {
    let output = Case::of(&["audit", "--json"]).check(setup);
    serde_json::from_str::<Value>(&stdout(&output)).unwrap()[0].clone()
}

#[test]
fn an_audit_finds_everything_that_polling_cannot_see() {
    let setup = Setup::with_runs(2_500);
    setup.sync();
    let ids = setup.listed();
    {
        let mut world = setup.server.world();
        // Deleted: single runs, neighbours, and runs at the edges of pages.
        for n in [0, 7, 998, 999, 1_000, 2_499] {
            world.delete(&ids[n]);
        }
        // Resurrected and ended again between two polls, with another status.
        world.resurrect(&ids[1_200]);
        world.finish(&ids[1_200], RunStatus::TimedOut, at(9_999));
        world.settle_usage(&ids[1_300]);
        let late = world.create(&setup.task, at(50));
        world.finish(&late, RunStatus::Failed, at(60));
    }
    setup.sync();
    let finding = audit(&setup);
    assert_eq!(finding["compared"], 2_495);
    let repaired = &finding["repaired"];
    let counts = ["found", "returned", "status", "usage", "fields", "removed"]
        .map(|kind| repaired[kind].as_u64().unwrap());
    assert_eq!(counts, [1, 0, 1, 1, 0, 6], "{finding}");
    setup.assert_exact();
    let mut removed = setup.column("SELECT id FROM runs WHERE removed_at IS NOT NULL");
    removed.sort();
    let mut deleted: Vec<String> = [0, 7, 998, 999, 1_000, 2_499]
        .map(|n| ids[n].clone())
        .into();
    deleted.sort();
    assert_eq!(removed, deleted);
    assert_eq!(setup.runs_with("TIMED_OUT"), [ids[1_200].clone()]);

    let updated = setup.column("SELECT max(updated_at) FROM runs");
    let again = audit(&setup);
    assert_eq!(
        again["repaired"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_u64)
            .sum::<u64>(),
        0,
        "{again}"
    );
    assert_eq!(
        setup.column("SELECT max(updated_at) FROM runs"),
        updated,
        "unchanged rows are not rewritten"
    );
}

#[test]
fn a_run_that_is_listed_again_is_unmarked() {
    let setup = Setup::with_runs(50);
    setup.sync();
    let id = setup.listed()[20].clone();
    setup.server.world().hide(&id);
    assert_eq!(audit(&setup)["repaired"]["removed"], 1);
    setup.server.world().show(&id);
    assert_eq!(audit(&setup)["repaired"]["returned"], 1);
    assert_eq!(
        setup.column("SELECT id FROM runs WHERE removed_at IS NOT NULL"),
        [""; 0]
    );
    assert_eq!(
        setup.column("SELECT id FROM events"),
        [""; 0],
        "neither is a change of status"
    );
}

#[test]
fn an_audit_on_request_begins_anew() {
    let setup = Setup::with_runs(4_500);
    setup.sync();
    // The fourth page of the audit is refused, which ends it.
    setup
        .server
        .set_faults(Faults::matching("offset=2994", Fault::Status(400)));
    Case::of(&["audit"])
        .code(1)
        .stdout("failed")
        .stdout("2,996")
        .check(&setup);
    assert_eq!(setup.status()["tasks"][0]["audit_offset"], 2_996);

    // A run that the interrupted audit has compared, and one that it has not.
    setup.server.set_faults(Faults::none());
    let ids = setup.listed();
    for n in [10, 4_000] {
        setup.server.world().delete(&ids[n]);
    }
    let finding = audit(&setup);
    assert_eq!(
        (&finding["resumed_at"], &finding["compared"]),
        (&0.into(), &4_498.into())
    );
    assert_eq!(finding["repaired"]["removed"], 2);
    setup.assert_exact();
}

#[test]
fn a_list_that_was_emptied_is_compared_to_the_end() {
    let setup = Setup::with_runs(2_500);
    setup.sync();
    setup.server.world().retain_newest(&setup.task, 0);
    let finding = audit(&setup);
    assert_eq!(finding["result"], "audited");
    assert_eq!(finding["repaired"]["removed"], 2_500, "{finding}");
    setup.assert_exact();
}

/// Audits without a token; returns the report of the one task.
fn ask(setup: &Setup) -> Value {
    let output = Case::of(&["audit", "--json"])
        .without("APIFY_TOKEN")
        .stderr("by the running daemon")
        .check(setup);
    serde_json::from_str::<Value>(&stdout(&output)).unwrap()[0].clone()
}

#[test]
fn the_running_daemon_audits_when_it_is_asked() {
    let setup = Setup::with_runs(2_500);
    let mut command = setup.command(&["run"]);
    command.env("APIFY_MIRROR_SYNC__POLL_INTERVAL", "10m");
    let mut daemon = Daemon::start_synced(&setup, command);
    daemon.log_line("first sync complete");
    let ids = setup.listed();
    setup.server.world().delete(&ids[7]);
    setup.server.world().settle_usage(&ids[1_300]);
    let finding = ask(&setup);
    assert_eq!(
        (&finding["result"], &finding["compared"]),
        (&"audited".into(), &2_499.into()),
        "{finding}"
    );
    assert_eq!(
        (
            &finding["repaired"]["removed"],
            &finding["repaired"]["usage"]
        ),
        (&1.into(), &1.into()),
        "{finding}"
    );
    setup.assert_exact();
    assert!(setup.status()["tasks"][0]["last_audit_at"].is_string());

    // Two at once, and without JSON.
    let both = [(); 2].map(|()| {
        let mut command = setup.command(&["audit"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().unwrap()
    });
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let text = stdout(&output);
        assert!(text.contains("audited     2,499"), "{text}");
    }
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn a_failed_audit_of_the_daemon_is_reported_as_one() {
    let setup = Setup::with_runs(30);
    let _daemon = Daemon::start_synced(&setup, setup.quick_run());
    setup
        .server
        .set_faults(Faults::matching("/runs?", Fault::Status(403)));
    Case::of(&["audit"])
        .code(65)
        .stdout("failed")
        .stdout("403")
        .check(&setup);
    // Another task of the mirror, which this daemon was not told to mirror.
    setup.server.set_faults(Faults::none());
    setup.server.world().add_task("janedoe", "other");
    let mut other = setup.bare(&["events", "--task", "janedoe~other"]);
    assert_eq!(other.output().unwrap().status.code(), Some(65));
    Case::of(&["audit", "--task", "janedoe~other"])
        .code(65)
        .stderr("the mirror has no task janedoe~other")
        .check(&setup);
}

#[test]
fn a_task_that_the_daemon_does_not_mirror_is_reported() {
    let setup = Setup::with_runs(30);
    setup.server.world().add_task("janedoe", "other");
    setup.sync();
    let mut command = setup.bare(&["run", "--task", "janedoe~other"]);
    command.env("APIFY_MIRROR_SYNC__POLL_INTERVAL", "100ms");
    let daemon = Daemon::start(command);
    daemon.log_line("first sync complete");
    Case::of(&["audit"])
        .code(65)
        .stdout("the running daemon does not mirror this task")
        .check(&setup);
}

/// Starts `audit`, and waits until its log has a line with `text`.
fn start_audit(setup: &Setup, text: &str) -> Daemon {
    let audit = Daemon::start(setup.command(&["audit"]));
    audit.log_line(text);
    audit
}

#[test]
fn a_daemon_that_dies_in_the_middle_is_reported() {
    let setup = Setup::with_runs(4_500);
    let mut daemon = Daemon::start_synced(&setup, setup.quick_run());
    daemon.log_line("first sync complete");
    setup
        .server
        .set_faults(Faults::matching("offset=2994", Fault::Hang));
    let mut audit = start_audit(&setup, "asking it for the audit");
    wait_until("the audit to be under way", || {
        setup.status()["tasks"][0]["audit_offset"] == 2_996
    });
    daemon.child.kill().unwrap();
    daemon.wait();
    assert_eq!(audit.wait(), Some(75));
    audit.log_line("ended before it was done");

    // The next daemon makes the audit that was asked for.
    setup.server.set_faults(Faults::none());
    let daemon = Daemon::start(setup.quick_run());
    daemon.log_line("auditing on request");
    wait_until("the audit", || {
        setup
            .try_column("SELECT result FROM audit_requests")
            .is_some()
    });
}

#[test]
fn an_audit_goes_on_by_itself_when_there_was_no_daemon_to_ask() {
    let setup = Setup::with_runs(30);
    setup.sync();
    // Holds the database as a `sync` does, and answers nobody.
    let held = setup.block_on(async { SqliteStore::open(&setup.database()).unwrap() });
    let mut audit = start_audit(&setup, "asking it for the audit");
    let (store, writer) = held;
    drop(store);
    writer.join();
    assert_eq!(audit.wait(), Some(0));
    let audited = "SELECT last_audit_at FROM cursors";
    assert!(setup.try_column(audited).is_some());
}

#[test]
fn the_daemon_audits_by_itself() {
    let setup = Setup::with_runs(300);
    let mut command = setup.quick_run();
    command.env("APIFY_MIRROR_SYNC__AUDIT_INTERVAL", "1s");
    let _daemon = Daemon::start(command);
    let audited = || {
        setup
            .try_column("SELECT last_audit_at FROM cursors")
            .is_some()
    };
    wait_until("an audit", audited);
    let gone = setup.listed().swap_remove(100);
    setup.server.world().delete(&gone);
    wait_until("the next audit to find the deleted run", || {
        setup.column("SELECT count(*) || '' FROM runs WHERE removed_at IS NOT NULL") == ["1"]
    });
}

#[test]
fn without_json_an_audit_prints_a_table() {
    let setup = Setup::with_runs(30);
    let text = stdout(&Case::of(&["audit"]).check(&setup));
    let heads = [
        "task", "result", "compared", "found", "returned", "status", "usage", "fields", "removed",
    ];
    assert_eq!(
        text.lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        heads
    );
    assert!(
        text.lines()
            .nth(1)
            .unwrap()
            .starts_with("janedoe~my-task  audited        30"),
        "{text}"
    );
}
