//! Tasks that come, go, are renamed, deleted or taken away; and a configuration that is read again.

use std::path::PathBuf;
use std::process::Command;

use apify_mirror::model::Timestamp;
use serde_json::Value;

use crate::support::{Daemon, PAST, Setup, stderr, stdout, wait_until};

fn write_config(setup: &Setup, text: &str) -> PathBuf {
    let path = setup.dir.path().join("mirror.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn run(setup: &Setup, config: &str) -> Command {
    let path = write_config(setup, config);
    let mut command = setup.bare(&["run"]);
    command.arg("--config").arg(path);
    command
}

/// How many requests for runs of `task` there have been since this was last asked.
fn polls_of(setup: &Setup, task: &str) -> usize {
    setup
        .server
        .take_requests()
        .iter()
        .filter(|request| request.contains(&format!("{task}/runs")))
        .count()
}

const QUICK: &str = "[sync]\npoll_interval = \"100ms\"\n";

fn mirrored(setup: &Setup, task: &str) -> bool {
    setup.database().exists()
        && setup
            .try_column(&format!(
                "SELECT last_success_at FROM cursors WHERE task_id = '{task}'"
            ))
            .is_some()
}

#[test]
fn tasks_and_sinks_come_and_go_on_sighup_and_a_bad_file_is_refused() {
    let setup = Setup::with_runs(5);
    let other = setup.server.world().add_task("janedoe", "other");
    setup
        .server
        .world()
        .create(&other, Timestamp::from_millis(PAST));
    let daemon = Daemon::start(run(
        &setup,
        &format!("tasks = [\"~my-task\"]\nsinks = []\n{QUICK}"),
    ));
    wait_until("the first task", || mirrored(&setup, &setup.task));

    write_config(
        &setup,
        "tasks = [\"~my-task\"]\n[sync]\npoll_interval = \"soon\"\n",
    );
    daemon.signal("HUP");
    daemon.log_line("sync.poll_interval: is soon");
    setup.server.take_requests();
    wait_until("polls to go on as before", || {
        polls_of(&setup, &setup.task) > 0
    });

    write_config(&setup, &format!("tasks = [\"~other\"]\n{QUICK}"));
    daemon.signal("HUP");
    wait_until("the second task", || mirrored(&setup, &other));
    let new = setup.server.world().create(&other, Timestamp::now());
    let event = daemon.event(|_| true);
    assert_eq!(
        event["eventData"]["actorRunId"], new,
        "the sink that was added is served"
    );

    daemon.log_line("no longer mirroring");
    setup.server.take_requests();
    let mut requests = Vec::new();
    wait_until("a few polls of the second", || {
        requests.extend(setup.server.take_requests());
        requests.len() > 3
    });
    assert!(
        requests.iter().all(|request| request.contains(&other)),
        "the first feed is not read again: {requests:?}"
    );
    assert_eq!(
        setup
            .column("SELECT DISTINCT feed_id FROM runs ORDER BY 1")
            .len(),
        2,
        "its rows stay"
    );
}

#[test]
fn a_deleted_task_is_reported_keeps_its_rows_and_is_rarely_asked_for() {
    let setup = Setup::with_runs(5);
    setup.sync();
    setup
        .server
        .world()
        .change_task(&setup.task, |task| task.forbidden = true);
    let output = setup.command(&["sync"]).output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    let status = setup.bare(&["status"]).output().unwrap();
    assert_eq!(status.status.code(), Some(65));
    assert!(stdout(&status).contains("forbidden"), "{}", stdout(&status));

    setup.server.world().delete_task(&setup.task);
    // Its name is no longer believed without asking, and nobody knows it any more.
    forget_names(&setup);
    let output = setup.command(&["sync"]).output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    let status = setup.bare(&["status", "--json"]).output().unwrap();
    let json: Value = serde_json::from_str(&stdout(&status)).unwrap();
    assert_eq!(json["tasks"][0]["state"], "not found", "{json}");
    assert_eq!(
        setup
            .column("SELECT id FROM runs WHERE removed_at IS NULL")
            .len(),
        5,
        "nothing was concluded of its runs"
    );
}

#[test]
fn a_task_that_is_taken_away_and_given_back_resumes_by_itself() {
    let setup = Setup::with_runs(5);
    let daemon = Daemon::start(run(&setup, &format!("tasks = [\"~my-task\"]\n{QUICK}")));
    wait_until("the first sync", || mirrored(&setup, &setup.task));
    setup
        .server
        .world()
        .change_task(&setup.task, |task| task.forbidden = true);
    let condition = || setup.column("SELECT condition FROM cursors").remove(0);
    wait_until("its absence to be noted", || condition() == "forbidden");
    setup
        .server
        .world()
        .change_task(&setup.task, |task| task.forbidden = false);
    let id = setup.server.world().create(&setup.task, Timestamp::now());
    assert_eq!(daemon.event(|_| true)["eventData"]["actorRunId"], id);
    wait_until("its return to be noted", || condition() == "ok");
}

#[test]
fn a_renamed_task_keeps_its_feed_under_the_old_name_too() {
    let mut setup = Setup::with_runs(5);
    setup.sync();
    setup
        .server
        .world()
        .change_task(&setup.task, |task| task.name = "renamed".to_owned());
    forget_names(&setup);
    setup.add_runs(1);
    let output = setup.sync();
    assert!(
        stderr(&output).contains("is called janedoe~renamed now"),
        "{}",
        stderr(&output)
    );
    setup.assert_exact();
    assert_eq!(
        setup.column("SELECT task_id FROM cursors"),
        [setup.task.as_str()]
    );
}

/// Makes what names were found to mean too old to be believed.
fn forget_names(setup: &Setup) {
    let db = rusqlite::Connection::open(setup.database()).unwrap();
    assert!(
        db.execute(
            "UPDATE task_refs SET resolved_at = '2020-01-01T00:00:00.000Z'",
            []
        )
        .unwrap()
            > 0
    );
}
