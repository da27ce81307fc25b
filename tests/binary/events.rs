//! `events`: reading the log back.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Setup, stderr, stdout, wait_until};

/// Two tasks; the second's events come after the first's.
fn with_events() -> Setup {
    let mut setup = Setup::with_runs(3);
    let other = setup.server.world().add_task("janedoe", "other");
    setup.configure("tasks = [\"~my-task\", \"~other\"]\nsinks = []\n");
    assert!(setup.bare(&["sync"]).status().unwrap().success());
    setup.add_runs(2);
    assert!(setup.bare(&["sync"]).status().unwrap().success());
    setup
        .server
        .world()
        .create(&other, apify_mirror::model::Timestamp::now());
    assert!(setup.bare(&["sync"]).status().unwrap().success());
    setup
}

fn sequences(setup: &Setup, arguments: &[&str]) -> Vec<i64> {
    let output = setup
        .bare(&[&["events", "--json"], arguments].concat())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let sequence = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["sequence"]
            .as_i64()
            .unwrap()
    };
    stdout(&output).lines().map(sequence).collect()
}

#[test]
fn the_log_is_listed_whole_or_in_part() {
    let setup = with_events();
    assert_eq!(sequences(&setup, &[]), [1, 2, 3, 4, 5]);
    assert_eq!(sequences(&setup, &["--since", "3"]), [4, 5]);
    assert_eq!(sequences(&setup, &["--limit", "2"]), [4, 5], "the last two");
    assert_eq!(
        sequences(&setup, &["--since", "1", "--limit", "2"]),
        [2, 3],
        "the first two after that"
    );
    assert_eq!(sequences(&setup, &["--since", "5"]), [0; 0]);
    assert_eq!(sequences(&setup, &["--task", "~other"]), [5]);
    assert_eq!(
        sequences(&setup, &["--task", "janedoe~my-task", "--limit", "1"]),
        [4]
    );
    assert_eq!(
        sequences(&setup, &["--task", &setup.task, "--task", "janedoe~other"]),
        [1, 2, 3, 4, 5]
    );
    let unknown = setup
        .bare(&["events", "--task", "~nothing"])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(65), "{}", stderr(&unknown));
    assert!(
        stderr(&unknown).contains("the mirror has no task ~nothing"),
        "{}",
        stderr(&unknown)
    );

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
fn a_log_that_does_not_exist_yet_is_waited_for_and_followed_until_nobody_reads() {
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
        setup.bare(&["sync"]).output().unwrap();
        setup.add_runs(1);
        setup.bare(&["sync"]).output().unwrap();
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
    // Nobody reads any more, and nothing more happens that could be written.
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
fn following_begins_where_it_is_told() {
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
fn a_database_is_needed_unless_it_is_waited_for() {
    let setup = Setup::with_runs(0);
    let output = setup.bare(&["events"]).output().unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
}
