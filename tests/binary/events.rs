//! `events`: reading the event log.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::cases::Case;
use crate::support::{Setup, sequences, stderr, stdout, wait_until};

/// Two tasks; the events of the second follow those of the first.
fn with_events() -> Setup {
    let mut setup = Setup::with_runs(3);
    let other = setup.server.world().add_task("janedoe", "other");
    setup.configure("tasks = [\"~my-task\", \"~other\"]\nsinks = []\n");
    sync(&setup);
    setup.add_runs(2);
    sync(&setup);
    setup
        .server
        .world()
        .create(&other, apify_mirror::model::Timestamp::now());
    sync(&setup);
    setup
}

/// Syncs the tasks of the configuration.
fn sync(setup: &Setup) {
    Case::of(&["sync"]).bare().check(setup);
}

/// The sequence numbers that `events` prints.
fn listed(setup: &Setup, arguments: &[&str]) -> Vec<i64> {
    let arguments = [&["events", "--json"], arguments].concat();
    sequences(&stdout(&Case::of(&arguments).bare().check(setup)))
}

#[test]
fn the_log_is_filtered_by_number_limit_and_task() {
    let setup = with_events();
    for (arguments, expected) in [
        (&[][..], &[1, 2, 3, 4, 5][..]),
        (&["--since", "3"], &[4, 5]),
        // The last two.
        (&["--limit", "2"], &[4, 5]),
        // The first two after that.
        (&["--since", "1", "--limit", "2"], &[2, 3]),
        (&["--since", "5"], &[]),
        (&["--task", "~other"], &[5]),
        (&["--task", "janedoe~my-task", "--limit", "1"], &[4]),
        (
            &["--task", &setup.task, "--task", "janedoe~other"],
            &[1, 2, 3, 4, 5],
        ),
    ] {
        assert_eq!(listed(&setup, arguments), expected, "{arguments:?}");
    }
    Case::of(&["events", "--task", "~nothing"])
        .bare()
        .code(65)
        .stderr("the mirror has no task ~nothing")
        .check(&setup);

    let text = stdout(&setup.bare(&["events"]).output().unwrap());
    assert_eq!(text.lines().count(), 5);
    assert!(
        text.lines().last().unwrap().starts_with("       5  20")
            && text.contains("ACTOR.RUN.CREATED      "),
        "{text}"
    );
    let payloads = setup.column("SELECT payload FROM events ORDER BY seq");
    let printed = stdout(&setup.bare(&["events", "--json"]).output().unwrap());
    assert_eq!(
        printed.lines().collect::<Vec<_>>(),
        payloads,
        "as delivered"
    );
}

#[test]
fn the_log_is_filtered_by_time_type_and_status() {
    let setup = with_events();
    let since = |which: &str| {
        let sql = format!("SELECT {which}(observed_at) FROM events");
        setup.column(&sql).remove(0)
    };
    // The first ones were observed before the last one was.
    let (first, last) = (since("min"), since("max"));
    for (arguments, expected) in [
        (&["--type", "CREATED"][..], &[1, 3, 5][..]),
        (&["--type", "ACTOR.RUN.SUCCEEDED"], &[2, 4]),
        (&["--type", "created", "--type", "failed"], &[1, 3, 5]),
        (&["--status", "READY"], &[5]),
        (&["--status", "succeeded", "--type", "SUCCEEDED"], &[2, 4]),
        (&["--type", "CREATED", "--limit", "2"], &[3, 5]),
        (&["--type", "ABORTED"], &[]),
        (&["--since", &first], &[1, 2, 3, 4, 5]),
        (&["--since", &last], &[5]),
        (&["--since", "2100-01-01"], &[]),
        (&["--since", "2001-01-01"], &[1, 2, 3, 4, 5]),
        (&["--since", "1h", "--limit", "2"], &[1, 2]),
        (&["--since", "1h", "--task", "~other"], &[5]),
    ] {
        assert_eq!(listed(&setup, arguments), expected, "{arguments:?}");
    }
    for (arguments, named) in [
        (["--type", "DONE"], "ACTOR.RUN.CREATED, "),
        (["--status", "CREATED"], "READY, "),
        (["--since", "yesterday"], "2026-01-31"),
    ] {
        Case::of(&[&["events"], &arguments[..]].concat())
            .bare()
            .code(2)
            .stderr(named)
            .check(&setup);
    }
}

#[test]
fn following_waits_for_a_database_and_ends_with_its_reader() {
    let mut setup = Setup::with_runs(3);
    setup.configure("tasks = [\"~my-task\"]\nsinks = []\n");
    let mut command = setup.bare(&["events", "--follow", "--json", "--task", "~my-task"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for round in 0..2 {
        sync(&setup);
        setup.add_runs(1);
        sync(&setup);
        for event in 1..=2 {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap())
                .map(|line: Value| {
                    assert_eq!(line["sequence"], 2 * round + event);
                    line
                })
                .unwrap();
            assert!(event["id"].is_string());
        }
    }
    // Close the pipe while there is nothing to write.
    drop(lines);
    wait_until("its end", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        stderr(&output)
    );
}

#[test]
fn following_starts_where_the_flags_say() {
    let setup = with_events();
    let mut child = setup
        .bare(&["events", "--follow", "--json", "--limit", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(line["sequence"], 5);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn without_follow_a_database_is_required() {
    Case::of(&["events"])
        .bare()
        .code(74)
        .check(&Setup::with_runs(0));
}
