//! SIGHUP, and tasks that are renamed, deleted or forbidden.

use std::path::PathBuf;
use std::process::Command;

use apify_mirror::model::Timestamp;
use apify_mirror::simulator::Reaction;
use serde_json::Value;

use crate::support::{Daemon, PAST, QUICK, Setup, stderr, stdout, wait_until};

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

/// The number of requests for runs of `task` since requests were last taken.
fn polls_of(setup: &Setup, task: &str) -> usize {
    setup
        .server
        .take_requests()
        .iter()
        .filter(|request| request.contains(&format!("{task}/runs")))
        .count()
}

/// Whether a poll of `task` has succeeded.
fn is_mirrored(setup: &Setup, task: &str) -> bool {
    let sql = format!("SELECT last_success_at FROM cursors WHERE task_id = '{task}'");
    setup.try_column(&sql).is_some()
}

#[test]
fn sighup_applies_a_new_configuration_and_refuses_an_invalid_one() {
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
    wait_until("the first task", || is_mirrored(&setup, &setup.task));

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
    wait_until("the second task", || is_mirrored(&setup, &other));
    let new = setup.server.world().create(&other, Timestamp::now());
    let event = daemon.event(|_| true);
    assert_eq!(
        event["eventData"]["actorRunId"], new,
        "the added sink gets events"
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

/// While the worker of one sink is being stopped, configurations come and go that nobody looks at.
#[test]
fn a_sink_that_comes_back_at_once_goes_on_receiving_events() {
    let setup = Setup::with_runs(5);
    let (slow, receiver) = (setup.receiver(), setup.receiver());
    slow.set_reaction(|_| Reaction::Hang);
    let webhook = |name: &str, url: &str| {
        format!(
            "[[sinks]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\nstart = \"beginning\"\n"
        )
    };
    let common = format!("tasks = [\"~my-task\"]\n{QUICK}");
    let hook = webhook("hook", &receiver.url());
    let before = webhook("slow", &slow.url());
    let daemon = Daemon::start(run(&setup, &format!("{common}{before}{hook}")));
    wait_until("the first sync", || is_mirrored(&setup, &setup.task));
    setup.server.world().create(&setup.task, Timestamp::now());
    wait_until("attempts", || (slow.count(), receiver.count()) == (1, 1));

    let other = webhook("other", &receiver.url().replace("hook", "other"));
    let after = webhook("slow", &slow.url().replace("hook", "changed")) + &other;
    for (name, configured, sinks) in [
        ("other", true, format!("{after}{hook}")),
        ("hook", false, after.clone()),
        ("hook", true, format!("{after}{hook}")),
    ] {
        write_config(&setup, &format!("{common}{sinks}"));
        daemon.signal("HUP");
        let sql = format!("SELECT name FROM sinks WHERE name = '{name}' AND removed_at IS NULL");
        wait_until("the configuration", || {
            setup.try_column(&sql).is_some() == configured
        });
    }
    let id = setup.server.world().create(&setup.task, Timestamp::now());
    wait_until("the next event", || {
        let arrivals = receiver.arrivals();
        let mut to_hook = arrivals.iter().filter(|arrival| arrival.path == "/hook");
        to_hook.any(|arrival| String::from_utf8_lossy(&arrival.body).contains(&id))
    });
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
    // Its name is resolved again, and no longer exists.
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
        "no run is marked as removed"
    );
}

#[test]
fn a_task_that_is_forbidden_for_a_while_resumes_by_itself() {
    let setup = Setup::with_runs(5);
    let daemon = Daemon::start(run(&setup, &format!("tasks = [\"~my-task\"]\n{QUICK}")));
    wait_until("the first sync", || is_mirrored(&setup, &setup.task));
    setup
        .server
        .world()
        .change_task(&setup.task, |task| task.forbidden = true);
    let condition = || setup.column("SELECT condition FROM cursors").remove(0);
    wait_until("the condition `forbidden`", || condition() == "forbidden");
    setup
        .server
        .world()
        .change_task(&setup.task, |task| task.forbidden = false);
    let id = setup.server.world().create(&setup.task, Timestamp::now());
    assert_eq!(daemon.event(|_| true)["eventData"]["actorRunId"], id);
    wait_until("the condition `ok`", || condition() == "ok");
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

/// Makes resolved references too old to be trusted.
pub fn forget_names(setup: &Setup) {
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
