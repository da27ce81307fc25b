//! Details of runs: read beside everything else, and in the events of failures.

use apify_mirror::model::{RunStatus, Timestamp};
use apify_mirror::simulator::{Fault, Faults};
use serde_json::Value;

use crate::cases::Case;
use crate::support::{Daemon, QUICK, Setup, events, wait_until};

const LOG: &str = "[[sinks]]\nname = \"log\"\ntype = \"file\"\npath = \"events.jsonl\"\n";

/// The events in the sink's file, about a run.
fn delivered(setup: &Setup, run: &str) -> Vec<Value> {
    let path = setup.dir.path().join("events.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut all = events(&text);
    all.retain(|event| event["eventData"]["actorRunId"] == run);
    all
}

fn details(setup: &Setup) -> Vec<String> {
    setup.column(
        "SELECT run_id || ' ' || status_message || ' ' || exit_code || ' ' || memory_mbytes || ' ' || timeout_secs
             || ' ' || json_extract(options, '$.build')
         FROM run_details ORDER BY run_id",
    )
}

#[test]
fn the_event_of_a_failure_carries_the_details_of_its_run() {
    let setup = Setup::with_runs(0);
    setup.configure(&format!(
        "{LOG}{QUICK}settle = \"2s\"\ndetails = \"failed\"\n"
    ));
    let _daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    let now = Timestamp::now();
    let create = || setup.server.world().create(&setup.task, now);
    let (failed, succeeded) = (create(), create());
    wait_until("both are known", || {
        setup.column("SELECT id FROM runs").len() == 2
    });
    for (id, status) in [
        (&failed, RunStatus::Failed),
        (&succeeded, RunStatus::Succeeded),
    ] {
        setup.server.world().finish(id, status, now);
    }
    wait_until("its end is delivered", || {
        delivered(&setup, &failed).len() == 2 && delivered(&setup, &succeeded).len() == 2
    });
    let run = &delivered(&setup, &failed)[1]["resource"];
    assert_eq!(run["statusMessage"], "The run is FAILED");
    assert_eq!(
        (&run["exitCode"], &run["options"]["memoryMbytes"]),
        (&0.into(), &1_024.into())
    );
    assert_eq!(run["buildNumberInt"], 2, "as it was listed");
    assert_eq!(
        delivered(&setup, &succeeded)[1]["resource"]["statusMessage"],
        Value::Null
    );
    let row = format!("{failed} The run is FAILED 0 1024 300 latest");
    assert_eq!(details(&setup), std::slice::from_ref(&row));

    // Its figures are corrected afterwards, and read again when they are final.
    setup.server.world().settle_usage(&failed);
    let units = "SELECT CAST(json_extract(stats, '$.computeUnits') AS TEXT) FROM run_details";
    let before = setup.column(units);
    wait_until("they are read again", || setup.column(units) != before);
    assert_eq!(details(&setup), [row]);
    assert_eq!(delivered(&setup, &failed).len(), 2, "no second event");
    let logged = Case::of(&["events", "--json", "--type", "FAILED"]).check(&setup);
    let logged = events(&crate::support::stdout(&logged));
    assert_eq!(logged, delivered(&setup, &failed)[1..]);
}

#[test]
fn an_event_goes_without_details_that_cannot_be_had() {
    let mut setup = Setup::with_runs(3);
    setup.configure(&format!("{LOG}[sync]\ndetails = \"failed\"\n"));
    setup.sync();
    let fault = Fault::Status(500);
    setup
        .server
        .set_faults(Faults::matching("/actor-runs/", fault));
    let later = setup.add_runs(3);
    let id = later.iter().find(|id| {
        let world = setup.server.world();
        world
            .run(id)
            .is_some_and(|run| run.status == RunStatus::Failed)
    });
    let id = id.unwrap();
    Case::of(&["sync"])
        .stderr("")
        .stdout("details of 0 runs read, of 1 run not")
        .check(&setup);
    let end = &delivered(&setup, id)[1];
    assert_eq!(end["resource"]["statusMessage"], Value::Null);
    assert_eq!(details(&setup).len(), 1, "of the first sync");

    setup.server.set_faults(Faults::none());
    setup.configure(&format!("{LOG}[sync]\ndetails = \"all\"\n"));
    // Those that failed are asked for again after half a minute; the others are found among the older runs.
    Case::of(&["sync"])
        .stdout("details of 4 runs read")
        .check(&setup);
    assert_eq!(details(&setup).len(), 5);
    assert_eq!(delivered(&setup, id).len(), 2);
}

#[test]
fn an_event_does_not_wait_for_an_answer_that_never_comes() {
    let setup = Setup::with_runs(0);
    let api = "[api]\ntimeout = \"1h\"\n";
    setup.configure(&format!("{LOG}{api}{QUICK}details = \"all\"\n"));
    let _daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    let hang = Faults::matching("/actor-runs/", Fault::Hang);
    setup.server.set_faults(hang);
    let now = Timestamp::now();
    let id = setup.server.world().create(&setup.task, now);
    setup.server.world().finish(&id, RunStatus::TimedOut, now);
    wait_until("its end is delivered", || delivered(&setup, &id).len() == 2);
    let end = &delivered(&setup, &id)[1];
    assert_eq!(end["eventType"], "ACTOR.RUN.TIMED_OUT");
    assert_eq!(end["resource"]["exitCode"], Value::Null);
}

/// Runs that cannot be read take the details only from their own events, be they old or among those that failed last.
#[test]
fn runs_that_cannot_be_read_take_no_details_from_events_of_others() {
    for status in [500, 401] {
        let setup = Setup::with_runs(1);
        let old = setup.listed().remove(0);
        let api = "[api]\nconcurrency = 2\n";
        setup.configure(&format!("{LOG}{api}{QUICK}details = \"all\"\n"));
        let cannot = |id: &str| {
            let fault = Faults::matching(&format!("/actor-runs/{id}"), Fault::Status(status));
            setup.server.set_faults(fault);
        };
        let put_off = |id: &str| {
            let tried = "SELECT run_id FROM details_due WHERE attempts = 1";
            wait_until("it is put off", || {
                setup.column(tried).contains(&id.to_owned())
            });
        };
        let fail = |id: &str| {
            let now = Timestamp::now();
            setup.server.world().finish(id, RunStatus::Failed, now);
            wait_until("its end is delivered", || delivered(&setup, id).len() == 2);
            let end = &delivered(&setup, id)[1]["resource"];
            end["statusMessage"].clone()
        };
        let create = || setup.server.world().create(&setup.task, Timestamp::now());
        cannot(&old);
        let _daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
        put_off(&old);
        assert_eq!(fail(&create()), "The run is FAILED", "{status}");
        let bad = create();
        cannot(&bad);
        assert_eq!(fail(&bad), Value::Null, "{status}");
        put_off(&bad);
        assert_eq!(fail(&create()), "The run is FAILED", "{status}");
    }
}

#[test]
fn details_of_older_runs_are_read_at_a_low_rate() {
    let setup = Setup::with_runs(60);
    setup.configure(&format!(
        "sinks = []\n[api]\nrequests_per_second = 40\n{QUICK}details = \"all\"\n"
    ));
    let mut daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    wait_until("all are read", || details(&setup).len() == 60);
    let singles = |requests: Vec<String>| {
        let singles = requests
            .iter()
            .filter(|request| request.contains("/actor-runs/"));
        singles.count()
    };
    assert_eq!(
        singles(setup.server.take_requests()),
        60,
        "each is read once"
    );
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    let status = Case::of(&["query", "SELECT count(*) AS n FROM details_due"])
        .bare()
        .check(&setup);
    assert!(crate::support::stdout(&status).contains('0'));
}
