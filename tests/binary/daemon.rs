//! `run`: polling, signals, and failures of the API.

use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::simulator::{Fault, Faults};

use crate::support::{Daemon, Setup, wait_until};

fn quick(setup: &Setup) -> std::process::Command {
    let mut command = setup.quick_run();
    command.env("APIFY_MIRROR_SYNC__WATCH_INTERVAL", "300ms");
    command
}

#[test]
fn events_arrive_as_runs_start_and_end() {
    let setup = Setup::with_runs(50);
    let daemon = Daemon::start_synced(&setup, quick(&setup));
    let id = setup.server.world().create(&setup.task, Timestamp::now());
    let of_run = |kind: &'static str| {
        let id = id.clone();
        move |event: &serde_json::Value| {
            event["eventType"] == kind && event["eventData"]["actorRunId"] == id
        }
    };
    daemon.event(of_run("ACTOR.RUN.CREATED"));
    setup.server.world().set_status(&id, RunStatus::Running);
    daemon.event(of_run("ACTOR.RUN.RUNNING"));
    setup
        .server
        .world()
        .finish(&id, RunStatus::Aborted, Timestamp::now());
    let event = daemon.event(of_run("ACTOR.RUN.ABORTED"));
    assert_eq!(event["previousStatus"], "RUNNING");
}

#[test]
fn a_resurrection_far_behind_the_cursor_is_found() {
    let setup = Setup::with_runs(3_000);
    let daemon = Daemon::start_synced(&setup, quick(&setup));
    let id = setup.listed()[999].clone();
    setup.server.world().resurrect(&id);
    let event = daemon.event(|event| event["eventType"] == "ACTOR.RUN.RESURRECTED");
    assert_eq!(event["eventData"]["actorRunId"], id);
    setup
        .server
        .world()
        .finish(&id, RunStatus::Failed, Timestamp::now());
    daemon.event(|event| event["eventType"] == "ACTOR.RUN.FAILED");
}

#[test]
fn a_signal_stops_the_daemon_while_a_request_hangs() {
    for signal in ["TERM", "INT"] {
        let setup = Setup::with_runs(50);
        let mut daemon = Daemon::start_synced(&setup, quick(&setup));
        setup.server.set_faults(Faults::always(Fault::Hang));
        setup.server.take_requests();
        wait_until("a request that hangs", || {
            !setup.server.take_requests().is_empty()
        });
        let began = std::time::Instant::now();
        daemon.signal(signal);
        assert_eq!(daemon.wait(), Some(0), "SIG{signal}");
        // The request would hang for 30 s.
        assert!(
            began.elapsed().as_secs() < 20,
            "SIG{signal}: {:?}",
            began.elapsed()
        );
        let log = std::fs::metadata(setup.dir.path().join("runs.db-wal"));
        assert_eq!(log.unwrap().len(), 0, "the database was closed");
    }
}

#[test]
fn a_second_instance_is_refused() {
    let setup = Setup::with_runs(5);
    let _daemon = Daemon::start_synced(&setup, quick(&setup));
    let second = setup.command(&["sync"]).output().unwrap();
    assert_eq!(second.status.code(), Some(69), "{second:?}");
    assert!(
        setup.bare(&["status"]).status().unwrap().success(),
        "reading is allowed"
    );
}

#[test]
fn the_daemon_recovers_when_the_api_does() {
    let setup = Setup::with_runs(5);
    setup.server.set_faults(Faults::always(Fault::Status(400)));
    let daemon = Daemon::start(quick(&setup));
    wait_until("a refused request", || {
        !setup.server.take_requests().is_empty()
    });
    drop(daemon);
    let daemon = Daemon::start(quick(&setup));
    setup.server.set_faults(Faults::none());
    setup.wait_until_synced();
    setup.server.set_faults(Faults::always(Fault::Status(400)));
    wait_until("a recorded failure", || {
        setup.column("SELECT coalesce(last_error, '') FROM cursors")[0].contains("400")
    });
    setup.server.set_faults(Faults::none());
    let id = setup.server.world().create(&setup.task, Timestamp::now());
    assert_eq!(daemon.event(|_| true)["eventData"]["actorRunId"], id);
    wait_until("the failure to be cleared", || {
        setup.column("SELECT coalesce(last_error, '') FROM cursors")[0].is_empty()
    });
}

#[test]
fn a_refused_token_ends_the_daemon_at_the_start() {
    let setup = Setup::with_runs(5);
    let mut daemon = Daemon::start({
        let mut command = quick(&setup);
        command.env("APIFY_TOKEN", "wrong");
        command
    });
    assert_eq!(daemon.wait(), Some(77));
}

#[test]
fn a_daemon_whose_token_was_accepted_waits_while_it_is_refused() {
    let setup = Setup::with_runs(5);
    let daemon = Daemon::start_synced(&setup, setup.quick_run());
    setup.server.set_faults(Faults::always(Fault::Status(401)));
    wait_until("a recorded refusal", || {
        setup.column("SELECT coalesce(last_error, '') FROM cursors")[0].contains("401")
    });
    setup.server.set_faults(Faults::none());
    let id = setup.server.world().create(&setup.task, Timestamp::now());
    assert_eq!(daemon.event(|_| true)["eventData"]["actorRunId"], id);
}
