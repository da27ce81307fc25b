//! `sync` as cron calls it: silent when well, beside other instances; and which tasks it mirrors.

use std::time::{Duration, Instant};

use apify_mirror::simulator::{Fault, Faults};
use serde_json::Value;

use crate::cases::{Case, check_all};
use crate::support::{Daemon, Setup, sequences, stderr, stdout};

/// Runs `sync` with `arguments`, which must end with `code`; returns what it printed and its errors.
fn sync(setup: &Setup, arguments: &[&str], code: i32) -> (String, String) {
    let arguments = [&["sync"], arguments].concat();
    let output = Case::of(&arguments).code(code).check(setup);
    (stdout(&output), stderr(&output))
}

fn nothing() -> (String, String) {
    (String::new(), String::new())
}

#[test]
fn a_quiet_sync_prints_nothing_when_all_is_well() {
    let mut setup = Setup::with_runs(3);
    assert_eq!(sync(&setup, &["-q"], 0), nothing());
    for configuration in ["", "sinks = []\n"] {
        setup.add_runs(2);
        assert_eq!(sync(&setup, &["-q"], 0), nothing(), "{configuration}");
        setup.configure(configuration);
    }
    setup.add_runs(1);
    assert_eq!(sync(&setup, &["-q"], 0), nothing());
    let logged = setup.bare(&["events", "--json"]).output().unwrap();
    assert_eq!(sequences(&stdout(&logged)).len(), 10);
}

#[test]
fn what_a_quiet_sync_did_not_print_is_not_printed_later() {
    let mut setup = Setup::with_runs(3);
    for configured in [false, true] {
        if configured {
            setup.configure("");
        }
        setup.sync();
        setup.add_runs(2);
        assert_eq!(sync(&setup, &["-q"], 0), nothing());
        setup.add_runs(1);
        let (printed, _) = sync(&setup, &[], 0);
        assert_eq!(sequences(&printed).len(), 2, "{printed}");
    }
}

#[test]
fn a_sink_that_is_configured_prints_also_with_q() {
    let mut setup = Setup::with_runs(3);
    setup.configure("[[sinks]]\nname = \"out\"\ntype = \"stdout\"\n");
    setup.sync();
    setup.add_runs(1);
    let (printed, errors) = sync(&setup, &["-q"], 0);
    assert_eq!((sequences(&printed).len(), errors.as_str()), (2, ""));
}

#[test]
fn a_quiet_sync_says_what_is_wrong() {
    let setup = Setup::with_runs(3);
    setup.server.set_faults(Faults::always(Fault::Status(400)));
    let (printed, _) = sync(&setup, &["-q"], 1);
    assert!(printed.contains("400"), "{printed}");
    setup.server.set_faults(Faults::none());
    let (printed, _) = sync(&setup, &["-q", "--task", "~nothing"], 65);
    assert!(printed.contains("~nothing: "), "{printed}");
    let (printed, _) = sync(&setup, &["-q", "--json", "--task", "~nothing"], 65);
    let summary: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(summary["unresolved"][0]["ref"], "~nothing");
    assert_eq!(summary["exit_code"], 65);
}

#[test]
fn a_summary_for_programs_is_all_that_is_on_standard_output() {
    let mut setup = Setup::with_runs(3);
    sync(&setup, &[], 0);
    setup.add_runs(2);
    let (printed, _) = sync(&setup, &["--json"], 0);
    let summary: Value = serde_json::from_str(&printed).unwrap();
    let task = &summary["tasks"][0];
    assert_eq!(
        (
            &task["task"],
            &task["result"],
            &task["new"],
            &task["events"]
        ),
        (
            &"janedoe~my-task".into(),
            &"up to date".into(),
            &2.into(),
            &4.into()
        )
    );
    assert!(summary["requests"].is_u64() && summary["seconds"].is_f64());
    // Events that are asked for come first, and the summary beside them.
    setup.configure("[[sinks]]\nname = \"out\"\ntype = \"stdout\"\n");
    sync(&setup, &["--json"], 0);
    setup.add_runs(1);
    let (printed, errors) = sync(&setup, &["--json", "-q"], 0);
    assert_eq!((sequences(&printed).len(), errors.as_str()), (2, ""));
}

#[test]
fn a_call_that_overlaps_is_harmless_and_quiet() {
    let setup = Setup::with_runs(3);
    let daemon = Daemon::start_synced(&setup, setup.quick_run());
    let (printed, errors) = sync(&setup, &[], 69);
    assert_eq!(
        (printed.as_str(), errors.lines().count()),
        ("", 1),
        "{errors}"
    );
    assert_eq!(sync(&setup, &["-q"], 69), nothing());
    let began = Instant::now();
    let (printed, errors) = sync(&setup, &["-q", "--wait", "1s"], 69);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(
        (printed.as_str(), errors.lines().count()),
        ("", 1),
        "{errors}"
    );

    let mut interrupted = Daemon::start(setup.command(&["sync", "--wait", "1h"]));
    interrupted.log_line("waiting for its end");
    interrupted.signal("TERM");
    assert_eq!(interrupted.wait(), Some(75));

    // The end of the other instance ends the wait.
    let mut waiting = Daemon::start(setup.command(&["sync", "--wait", "1h"]));
    waiting.log_line("waiting for its end");
    daemon.signal("TERM");
    assert_eq!(waiting.wait(), Some(0));
    drop(daemon);
    for wait in ["0s", "soon", "1"] {
        Case::of(&["sync", "--wait", wait])
            .code(2)
            .stderr("--wait")
            .check(&setup);
    }
}

#[test]
fn all_tasks_are_mirrored_where_that_is_asked_for() {
    let setup = Setup::with_runs(3);
    setup.server.world().add_task("janedoe", "other");
    let tasks =
        || setup.column("SELECT t.name FROM feeds f JOIN tasks t ON t.id = f.task_id ORDER BY 1");
    check_all(
        &setup,
        [
            Case::of(&["check", "--all-tasks"])
                .bare()
                .stdout("every task of the account"),
            Case::of(&["sync", "--all-tasks", "--task", "~other"])
                .code(2)
                .stderr("'--task"),
            Case::of(&["status", "--all-tasks"]).code(2),
            Case::of(&["events", "--all-tasks"]).code(2),
        ],
    );
    assert!(!setup.database().exists());
    // A task that is named is the only one, also where all are configured.
    setup.configure("discover_tasks = true\nsinks = []\n");
    Case::of(&["sync", "--task", "~other"]).bare().check(&setup);
    assert_eq!(tasks(), ["other"]);
    setup.configure("tasks = [\"~other\"]\nsinks = []\n");
    Case::of(&["sync", "--all-tasks"]).bare().check(&setup);
    assert_eq!(tasks(), ["my-task", "other"]);
    Case::of(&["audit", "--all-tasks"])
        .bare()
        .stdout("janedoe~my-task")
        .stdout("janedoe~other")
        .check(&setup);
}
