//! File and exec sinks, and sinks that are added and removed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::support::{Daemon, QUICK, Setup, sequences, stderr, stdout, wait_until};

/// The whole lines of a file; the last one may be being written.
fn whole_lines(path: &Path) -> String {
    let mut text = std::fs::read_to_string(path).unwrap_or_default();
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    text
}

#[test]
fn a_file_gets_a_line_for_each_event_also_after_rotation() {
    let mut setup = Setup::with_runs(5);
    let path = setup.dir.path().join("events.jsonl");
    let read = || whole_lines(&path);
    setup.configure(&format!(
        "{QUICK}[[sinks]]\nname = \"log\"\ntype = \"file\"\npath = \"events.jsonl\"\n"
    ));
    let _daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    setup.add_runs(30);
    wait_until("sixty lines", || read().lines().count() == 60);
    assert_eq!(sequences(&read()), (1..=60).collect::<Vec<_>>());
    let rotated = setup.dir.path().join("events.jsonl.1");
    std::fs::rename(&path, &rotated).unwrap();
    setup.add_runs(5);
    wait_until("the rest in a new file", || read().lines().count() == 10);
    assert_eq!(sequences(&read()), (61..=70).collect::<Vec<_>>());
    assert_eq!(
        std::fs::read_to_string(&rotated).unwrap().lines().count(),
        60
    );
}

#[test]
fn a_program_gets_each_event_and_decides_its_outcome() {
    let mut setup = Setup::with_runs(5);
    let script = setup.dir.path().join("notify");
    // Asks for one retry, and rejects events of failed runs.
    let text = "#!/bin/sh\nd=$(dirname \"$0\")\ncase $APIFY_EVENT_TYPE in\n\
        ACTOR.RUN.FAILED) exit 3;;\nesac\n[ -e \"$d/once\" ] || { touch \"$d/once\"; exit 75; }\n\
        printf '%s\\n' \"$(cat)\" >> \"$d/out\"\necho notified of $APIFY_RUN_ID\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    setup.configure(&format!(
        "{QUICK}[[sinks]]\nname = \"notify\"\ntype = \"exec\"\ncommand = [\"./notify\", \"with spaces; and $signs\"]\nconcurrency = 2\n"
    ));
    setup.sync();
    // The first of five failed, the others succeeded.
    let ids = setup.add_runs(5);
    let mut run = setup.command(&["run"]);
    run.arg("-v");
    let daemon = Daemon::start(run);
    let out = || std::fs::read_to_string(setup.dir.path().join("out")).unwrap_or_default();
    wait_until("nine events", || out().lines().count() == 9);
    let events: Vec<Value> = out()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        events
            .iter()
            .all(|event| event["eventType"] != "ACTOR.RUN.FAILED")
    );
    daemon.log_line(&format!("notified of {}", ids[4]));
    wait_until("all but one to be delivered", || {
        setup.sink("notify")["pending"] == 1
    });
    let list = stdout(&setup.bare(&["deliveries", "list"]).output().unwrap());
    assert!(
        list.contains("retrying") && list.contains("./notify: exit status: 3"),
        "{list}"
    );
}

#[test]
fn stopping_kills_a_running_program_and_the_next_start_repeats_it() {
    let mut setup = Setup::with_runs(5);
    let script = "echo $$ > id.new; mv id.new id; [ -e released ] || exec sleep 3000";
    setup.configure(&format!(
        "{QUICK}[[sinks]]\nname = \"slow\"\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\nevents = [\"ACTOR.RUN.CREATED\"]\n"
    ));
    setup.sync();
    setup.add_runs(1);
    let mut daemon = Daemon::start(setup.command(&["run"]));
    let id = || std::fs::read_to_string(setup.dir.path().join("id")).ok();
    wait_until("the program", || id().is_some());
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    let stat = format!("/proc/{}/stat", id().unwrap().trim());
    wait_until("its end", || {
        !std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "))
    });
    assert_eq!(
        setup.sink("slow")["pending"],
        1,
        "it was killed before it ended"
    );
    std::fs::write(setup.dir.path().join("released"), "").unwrap();
    setup.sync();
    assert_eq!(setup.sink("slow")["pending"], 0);
}

#[test]
fn sinks_are_added_and_removed_and_keep_what_they_are_owed() {
    let mut setup = Setup::with_runs(5);
    let file = |name: &str, start: &str| {
        format!(
            "[[sinks]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{name}.jsonl\"\nstart = \"{start}\"\n"
        )
    };
    let read = |setup: &Setup, name: &str| {
        sequences(&whole_lines(
            &setup.dir.path().join(format!("{name}.jsonl")),
        ))
    };
    let dead = "[[sinks]]\nname = \"dead\"\ntype = \"file\"\npath = \"no/such/folder/events\"\n";
    setup.configure(&format!("{QUICK}{}{dead}", file("first", "now")));
    let daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    setup.add_runs(4);
    wait_until("eight events", || read(&setup, "first").len() == 8);
    assert_eq!(setup.sink("dead")["pending"], 8);

    setup.configure(&format!(
        "{QUICK}{}{}",
        file("all", "beginning"),
        file("late", "now")
    ));
    daemon.signal("HUP");
    wait_until("all of them", || {
        read(&setup, "all") == (1..=8).collect::<Vec<_>>()
    });
    setup.add_runs(1);
    wait_until("the new ones", || {
        read(&setup, "all").len() == 10 && read(&setup, "late").len() == 2
    });
    assert_eq!(read(&setup, "late"), [9, 10]);
    assert_eq!(read(&setup, "first").len(), 8, "it is no longer configured");
    let sink = setup.sink("dead");
    assert_eq!(
        (&sink["state"], &sink["pending"]),
        (&"removed".into(), &8.into()),
        "its rows stay"
    );

    let output = setup
        .bare(&["deliveries", "drop", "--sink", "dead", "--all", "--pending"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(setup.sink("dead"), Value::Null, "until they are dropped");
}
