//! `audit`: finds and repairs what polling cannot see.

use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::simulator::{Fault, Faults};
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
fn an_interrupted_audit_resumes() {
    let setup = Setup::with_runs(4_500);
    setup.sync();
    let gone = setup.listed().swap_remove(4_000);
    setup.server.world().delete(&gone);
    // The fourth page of the audit is refused, which ends it.
    setup
        .server
        .set_faults(Faults::matching("offset=2997", Fault::Status(400)));
    Case::of(&["audit"])
        .code(1)
        .stdout("failed")
        .stdout("2,998")
        .check(&setup);
    assert_eq!(setup.status()["tasks"][0]["audit_offset"], 2_998);

    setup.server.set_faults(Faults::none());
    setup.server.take_requests();
    let finding = audit(&setup);
    assert_eq!(
        (&finding["resumed_at"], &finding["compared"]),
        (&2_998.into(), &1_501.into())
    );
    assert_eq!(finding["repaired"]["removed"], 1);
    let read = setup.server.take_requests();
    assert!(
        !read.iter().any(|request| request.contains("offset=999&")),
        "{read:?}"
    );
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
