//! `status`: what is wrong first, and codes for monitoring.

use apify_mirror::simulator::{Fault, Faults, Reaction};
use serde_json::Value;

use crate::cases::{Case, check_all};
use crate::support::{Daemon, Setup, stderr, stdout, wait_until};

/// Moves every time of the feeds' last success an hour back.
fn age(setup: &Setup) {
    let db = rusqlite::Connection::open(setup.database()).unwrap();
    let sql = "UPDATE feeds SET last_success_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour')";
    assert!(db.execute(sql, []).unwrap() > 0);
}

fn status(arguments: &[&str]) -> Case {
    Case::of(&[&["status"], arguments].concat())
}

/// The kinds of the problems in `status --json`.
fn kinds(setup: &Setup) -> Vec<Value> {
    let status = setup.status();
    let problems = status["problems"].as_array().unwrap();
    problems.iter().map(|it| it["kind"].clone()).collect()
}

#[test]
fn a_mirror_that_is_well_says_so_in_its_first_line() {
    let setup = Setup::with_runs(3);
    setup.sync();
    let output = status(&["--check"]).check(&setup);
    assert!(stdout(&output).starts_with("all well: 1 task, 0 sinks\n\n"));
    assert_eq!(kinds(&setup), Vec::<Value>::new());
    assert_eq!(setup.status()["tasks"][0]["stale"], false);
}

#[test]
fn a_mirror_that_nobody_keeps_current_is_stale() {
    let setup = Setup::with_runs(3);
    setup.sync();
    age(&setup);
    check_all(
        &setup,
        [
            status(&[])
                .stdout("problem  janedoe~my-task: was last polled successfully 1h 0m ago\n")
                .stdout("remedy   start `apify-mirror run`")
                .stdout("  stale\n"),
            status(&["--check"]).code(75).stdout("problem  "),
            status(&["--check", "--json"])
                .code(75)
                .stdout(r#""kind": "stale""#),
            status(&["--check", "--max-age", "2h"]).stdout("all well"),
            status(&["--check", "--max-age", "30m"]).code(75),
            // Three times the configured interval.
            status(&["--check"]).env("APIFY_MIRROR_SYNC__POLL_INTERVAL", "25m"),
            status(&["--check"])
                .env("APIFY_MIRROR_SYNC__POLL_INTERVAL", "15m")
                .code(75),
            status(&["--max-age", "0s"]).code(2).stderr("--max-age"),
            status(&["--max-age", "soon"])
                .code(2)
                .stderr("90s, 10m or 6h"),
            status(&["--max-age", "10"]).code(2),
        ],
    );
    let json = setup.status();
    assert_eq!(json["tasks"][0]["stale"], true);
    assert_eq!(json["stale_after_seconds"], 120);
    setup.sync();
    status(&["--check"]).check(&setup);
}

#[test]
fn nothing_is_expected_of_a_task_that_is_no_longer_configured() {
    let setup = Setup::with_runs(3);
    setup.server.world().add_task("janedoe", "other");
    setup.sync();
    age(&setup);
    Case::of(&["sync"])
        .env("APIFY_MIRROR_TASKS", "~other")
        .check(&setup);
    status(&["--check"])
        .env("APIFY_MIRROR_TASKS", "~other")
        .stdout("all well")
        .stdout("not configured\n")
        .check(&setup);
    // Where nothing says which tasks are wanted, all are.
    status(&["--check"]).bare().code(75).check(&setup);
}

#[test]
fn what_fails_or_was_set_aside_fails_a_check_and_a_lost_task_does_always() {
    let mut setup = Setup::with_runs(3);
    let receiver = setup.receiver();
    let url = receiver.url();
    setup.configure(&format!(
        "[[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{url}\"\n"
    ));
    setup.sync();
    receiver.set_reaction(|_| Reaction::Status(400));
    setup.add_runs(1);
    setup.sync();
    assert_eq!(kinds(&setup), ["sink_failing", "dead"]);
    check_all(
        &setup,
        [
            status(&[]).stdout("problem  sink hook: "),
            status(&["--check"]).code(75),
        ],
    );
    receiver.set_reaction(|_| Reaction::Status(200));
    setup.add_runs(1);
    setup.sync();
    assert_eq!(kinds(&setup), ["dead"]);
    check_all(
        &setup,
        [
            status(&[])
                .stdout("problem  sink hook: 2 events set aside")
                .stdout("remedy   look at them with `apify-mirror deliveries list`"),
            status(&["--check"]).code(75),
        ],
    );
    Case::of(&["deliveries", "drop", "--all"]).check(&setup);
    status(&["--check"]).check(&setup);

    setup.server.set_faults(Faults::always(Fault::Status(400)));
    Case::of(&["sync"]).code(1).check(&setup);
    assert_eq!(kinds(&setup), ["failing"]);
    check_all(&setup, [status(&[]), status(&["--check"]).code(75)]);

    setup.server.set_faults(Faults::none());
    setup.server.world().delete_task(&setup.task);
    Case::of(&["sync"]).code(65).check(&setup);
    assert_eq!(kinds(&setup), ["lost"]);
    check_all(
        &setup,
        [status(&[]).code(65), status(&["--check"]).code(65)],
    );
}

#[test]
fn a_first_sync_under_way_is_not_stale() {
    let setup = Setup::with_runs(3);
    setup
        .server
        .set_faults(Faults::matching("/runs", Fault::Hang));
    let _daemon = Daemon::start(setup.quick_run());
    wait_until("a request that hangs", || {
        let requests = setup.server.take_requests();
        requests.iter().any(|request| request.contains("/runs"))
    });
    let output = setup.bare(&["status", "--check"]).output().unwrap();
    let printed = stdout(&output) + &stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    status(&["--check", "--max-age", "1h"])
        .code(75)
        .check(&setup);
}
