//! What people see on a terminal: events as lines, colours, progress.

use std::time::Duration;

use apify_mirror::simulator::{Faults, Server};

use crate::cases::{Case, check_all};
use crate::support::{OnTerminal, Setup, signal, stdout, wait_until};

/// The beginning of a colour or another style.
const STYLE: &str = "\u{1b}[";

#[test]
fn the_daemon_shows_events_as_lines() {
    let mut setup = Setup::with_runs(3);
    setup.sync();
    let mut command = setup.quick_run();
    command.args(["-q", "--color", "never"]);
    let daemon = OnTerminal::start(command);
    setup.add_runs(1);
    wait_until("the events", || {
        daemon.shown().contains("ACTOR.RUN.SUCCEEDED")
    });
    signal(&daemon.child, "TERM");
    let (shown, code) = daemon.wait();
    assert_eq!(code, Some(0), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    // The time of day, then the type.
    assert_eq!(&lines[0][8..27], "  ACTOR.RUN.CREATED", "{shown}");
    assert!(!shown.contains('{') && !shown.contains(STYLE), "{shown:?}");
}

#[test]
fn colours_are_for_terminals_and_can_be_refused() {
    let setup = Setup::with_runs(3);
    setup.configure("[[sinks]]\nname = \"log\"\ntype = \"file\"\npath = \"events.jsonl\"\n");
    setup.sync();
    let shown = |arguments: &[&str], no_color: Option<&str>| {
        let mut command = setup.bare(arguments);
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        let (shown, _) = OnTerminal::start(command).wait();
        assert!(!shown.is_empty());
        shown.contains(STYLE)
    };
    for command in [
        &["status"][..],
        &["bogus"],
        &["status", "--help"],
        &["sinks", "list"],
        &["events", "--db", "/nonexistent"],
    ] {
        let with = |more: &[&'static str]| [command, more].concat();
        assert!(shown(command, None), "{command:?}");
        assert!(!shown(command, Some("1")), "{command:?}");
        assert!(!shown(&with(&["--color", "never"]), None), "{command:?}");
        // Elsewhere there are none by default.
        for (color, colored) in [("auto", false), ("always", true)] {
            let output = setup.bare(&with(&["--color", color])).output().unwrap();
            let printed = stdout(&output) + &crate::support::stderr(&output);
            assert_eq!(printed.contains(STYLE), colored, "{command:?} {color}");
        }
    }
    // What programs read never has any.
    check_all(
        &setup,
        [
            &["status", "--json"][..],
            &["query", "--format", "csv", "SELECT 1"],
        ]
        .map(|command| Case::of(&[command, &["--color", "always"]].concat())),
    );
    let json = Case::of(&["status", "--json", "--color", "always"]).check(&setup);
    assert!(!stdout(&json).contains(STYLE));
}

#[test]
fn a_long_catch_up_shows_one_line_for_all_tasks() {
    let setup = Setup::with_runs(4_000);
    slow(&setup.server);
    let mut command = setup.command(&["sync"]);
    command.env("APIFY_MIRROR_SYNC__PAGE_SIZE", "200");
    let (shown, code) = OnTerminal::start(command).wait();
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains(" / 4,000 runs  ") && shown.contains(" left"),
        "{shown:?}"
    );
    assert!(shown.contains("up to date"), "{shown:?}");
    // With -q there is none.
    let mut command = setup.command(&["sync", "-q", "--db", "other.db"]);
    command.env("APIFY_MIRROR_SYNC__PAGE_SIZE", "200");
    let (shown, _) = OnTerminal::start(command).wait();
    assert_eq!(shown, "");
}

fn slow(server: &Server) {
    server.set_faults(Faults::none().with_latency(Duration::from_millis(50)));
}
