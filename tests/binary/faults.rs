//! Faults of the API server.

use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::simulator::{Fault, Faults};

use crate::cases::Case;
use crate::support::{PAST, Setup, stderr};

#[test]
fn the_mirror_is_exact_although_every_third_answer_is_faulty() {
    let mut setup = Setup::with_runs(6_000);
    setup.server.set_faults(Faults::passing(36, 36.0));
    setup.sync();
    setup.add_runs(10);
    setup.sync();
    setup.server.set_faults(Faults::none());
    setup.assert_exact();
    assert_eq!(setup.runs_with("CREATED").len(), 10);
}

#[test]
fn a_redirect_is_refused_and_its_target_never_sees_the_token() {
    let setup = Setup::with_runs(1);
    let elsewhere = Setup::with_runs(1);
    setup
        .server
        .set_faults(Faults::always(Fault::Redirect(elsewhere.server.url())));
    Case::of(&["sync"])
        .code(1)
        .stderr("the redirect was not followed")
        .check(&setup);
    assert_eq!(elsewhere.server.take_requests(), [""; 0]);
}

#[test]
fn an_enormous_answer_is_an_error_and_does_not_fill_memory() {
    let setup = Setup::with_runs(1);
    setup.server.set_faults(Faults::always(Fault::Huge(200)));
    // Half of the memory that the answer would need.
    let mut command = setup.command_after("ulimit -v 1500000", &["sync"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("larger than 16 MiB"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_failing_task_does_not_stop_the_others() {
    let setup = Setup::with_runs(5);
    let forbidden = setup.server.world().add_task("janedoe", "secret");
    setup
        .server
        .world()
        .change_task(&forbidden, |task| task.forbidden = true);
    let tasks = [
        "sync", "--task", "~nothing", "--task", "~secret", "--task", "~my-task",
    ];
    Case::of(&tasks)
        .code(65)
        .stderr("~nothing: ")
        .stderr("404 record-not-found")
        .stderr("~secret: ")
        .stderr("403 insufficient-permissions")
        .check(&setup);
    setup.assert_exact();
    // `status` shows it too.
    Case::of(&["status"])
        .bare()
        .code(65)
        .stdout("~nothing: ")
        .check(&setup);
}

#[test]
fn a_deleted_task_fails_and_keeps_its_rows() {
    let setup = Setup::with_runs(5);
    setup.sync();
    setup.server.world().delete_task(&setup.task);
    Case::of(&["sync"]).code(65).check(&setup);
    assert_eq!(
        setup
            .column("SELECT id FROM runs WHERE removed_at IS NULL")
            .len(),
        5
    );
    let errors = setup.column("SELECT last_error FROM cursors");
    assert!(errors[0].contains("404 record-not-found"), "{errors:?}");
}

#[test]
fn throttled_requests_are_retried() {
    let setup = Setup::with_runs(5);
    setup.sync();
    // `Retry-After: 0` keeps this short; otherwise retries would go on until their time limit.
    setup
        .server
        .set_faults(Faults::always(Fault::Throttle(Some("0".to_owned()))));
    let mut child = setup
        .command(&["sync"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::support::wait_until("the second attempt", || {
        setup.server.take_requests().len() > 1 || child.try_wait().unwrap().is_some()
    });
    setup.server.set_faults(Faults::none());
    assert!(
        child.wait().unwrap().success(),
        "it retried until it succeeded"
    );
}

#[test]
fn a_run_that_cannot_be_read_delays_no_other() {
    let mut setup = Setup::with_runs(3);
    let open = |setup: &Setup, second: i64| {
        let started = Timestamp::from_millis(PAST + second * 1_000);
        setup.server.world().create(&setup.task, started)
    };
    let first = open(&setup, 4);
    setup.sync();
    setup.add_runs(2_000);
    setup.sync();
    let now = Timestamp::from_millis(PAST + 3_000_000);
    setup.server.world().finish(&first, RunStatus::Failed, now);
    let faults = |fault| Faults::matching("/v2/actor-runs/", fault);
    setup.server.set_faults(faults(Fault::Status(503)));
    let new = setup.add_runs(1);
    let output = setup.sync();
    let log = stderr(&output);
    let told = log
        .lines()
        .filter(|line| line.contains("could not be read singly"));
    assert_eq!(told.count(), 1, "{log}");
    assert!(log.contains("runs=1") && log.contains(&first), "{log}");
    assert!(setup.runs_with("CREATED").contains(&new[0]));
    assert!(!setup.runs_with("FAILED").contains(&first));

    setup.server.set_faults(faults(Fault::Status(401)));
    Case::of(&["sync"]).code(77).check(&setup);
    setup.server.set_faults(faults(Fault::BadJson));
    setup.sync();
    setup.server.set_faults(Faults::none());
    setup.sync();
    assert!(setup.runs_with("FAILED").contains(&first));
    setup.assert_exact();
}
