//! Messages, exit codes, and what must never be printed.

use std::process::Output;

use apify_mirror::simulator::{Fault, Faults, TOKEN};
use serde_json::Value;

use crate::support::{Setup, stderr, stdout};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn a_missing_or_refused_token_is_77() {
    let setup = Setup::with_runs(1);
    let missing = setup
        .command(&["sync"])
        .env_remove("APIFY_TOKEN")
        .output()
        .unwrap();
    assert_eq!(code(&missing), 77, "{}", stderr(&missing));
    assert!(
        stderr(&missing).contains("APIFY_TOKEN"),
        "{}",
        stderr(&missing)
    );
    let refused = setup
        .command(&["sync"])
        .env("APIFY_TOKEN", "wrong")
        .output()
        .unwrap();
    assert_eq!(code(&refused), 77, "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("401 user-or-token-not-found"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn the_token_is_found_in_a_file_and_in_the_systemd_credential() {
    let setup = Setup::with_runs(1);
    std::fs::write(setup.dir.path().join("apify-token"), format!("{TOKEN}\n")).unwrap();
    let credential = setup
        .command(&["sync"])
        .env_remove("APIFY_TOKEN")
        .env("CREDENTIALS_DIRECTORY", setup.dir.path())
        .output();
    assert_eq!(code(&credential.unwrap()), 0);
    let file = setup
        .command(&["sync"])
        .env("APIFY_TOKEN", "wrong")
        .env("APIFY_MIRROR_API__TOKEN_FILE", "apify-token")
        .output();
    assert_eq!(code(&file.unwrap()), 0);
}

#[test]
fn an_api_that_cannot_be_reached_is_75() {
    let setup = Setup::with_runs(1);
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = setup
        .command(&["sync"])
        .env("APIFY_MIRROR_API__BASE_URL", format!("http://{closed}"))
        .output()
        .unwrap();
    assert_eq!(code(&output), 75, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("cannot connect"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once_and_is_78() {
    let setup = Setup::with_runs(1);
    std::fs::write(
        setup.dir.path().join("apify-mirror.toml"),
        "[sync]\npol_interval = \"1s\"\npage_size = 0\n",
    )
    .unwrap();
    for command in ["check", "sync", "run"] {
        let output = setup
            .command(&[command])
            .env("APIFY_MIRROR_LOG__LEVEL", "loud")
            .output()
            .unwrap();
        assert_eq!(code(&output), 78);
        let text = stderr(&output);
        for told in [
            "sync.pol_interval: ",
            "did you mean `sync.poll_interval`?",
            "sync.page_size: is 0",
            "log.level: is \"loud\"",
        ] {
            assert!(text.contains(told), "{told} is not in:\n{text}");
        }
    }
}

#[test]
fn check_tells_what_is_in_effect_and_tries_it() {
    let setup = Setup::with_runs(1);
    let output = setup.command(&["check", "--online"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("configuration ok") && text.contains(&setup.task),
        "{text}"
    );
    let missing = setup
        .command(&["check", "--online", "--task", "~nothing"])
        .output()
        .unwrap();
    assert_eq!(code(&missing), 65, "{}", stderr(&missing));
    assert!(!setup.database().exists(), "nothing is written");
}

#[test]
fn nothing_to_mirror_is_a_problem_of_the_configuration() {
    let setup = Setup::with_runs(1);
    let output = setup.bare(&["sync"]).output().unwrap();
    assert_eq!(code(&output), 78);
    assert!(
        stderr(&output).contains("--task janedoe~my-task"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_usage_is_2() {
    let setup = Setup::with_runs(1);
    for arguments in [&["sink"][..], &["sync", "--token", "x"], &[]] {
        assert_eq!(
            code(&setup.command(arguments).output().unwrap()),
            2,
            "{arguments:?}"
        );
    }
}

#[test]
fn a_database_that_cannot_be_used_is_74() {
    let setup = Setup::with_runs(1);
    for database in ["/nonexistent/runs.db", "/proc/runs.db"] {
        let output = setup.command(&["sync", "--db", database]).output().unwrap();
        assert_eq!(code(&output), 74, "{}", stderr(&output));
        assert!(stderr(&output).contains(database), "{}", stderr(&output));
    }
    assert_eq!(
        code(&setup.bare(&["status"]).output().unwrap()),
        74,
        "there is none yet"
    );
    setup.sync();
    rusqlite::Connection::open(setup.database())
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    let newer = setup.command(&["sync"]).output().unwrap();
    assert_eq!(code(&newer), 74);
    assert!(
        stderr(&newer).contains("schema version 99"),
        "{}",
        stderr(&newer)
    );
}

#[test]
fn status_for_people_and_for_programs() {
    let setup = Setup::with_runs(1_234);
    setup.sync();
    let text = stdout(&setup.bare(&["status"]).output().unwrap());
    assert!(
        text.contains("janedoe~my-task   1,234   1,234  1,234"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&stdout(
        &setup.bare(&["status", "--json"]).output().unwrap(),
    ))
    .unwrap();
    let task = &json["tasks"][0];
    assert_eq!(
        (&task["id"], &task["cursor"], &task["rows"]),
        (&setup.task.clone().into(), &1_234.into(), &1_234.into())
    );
    assert!(
        task["last_success_age_seconds"].is_u64() && task["last_error"].is_null(),
        "{json:#}"
    );
}

#[test]
fn a_summary_goes_to_standard_output_where_no_events_do() {
    let setup = Setup::with_runs(3);
    std::fs::write(setup.dir.path().join("apify-mirror.toml"), "sinks = []").unwrap();
    let output = setup.sync();
    assert!(
        stdout(&output).contains("up to date"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn events_that_nobody_reads_stay_due() {
    let mut setup = Setup::with_runs(3);
    setup.sync();
    setup.add_runs(1);
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = setup.command(&["sync"]).stdout(full).output().unwrap();
    assert_eq!(code(&output), 75, "{}", stderr(&output));
    assert!(
        stderr(&output)
            .contains("sink stdout: 2 events to be delivered: standard output: No space")
    );
    let json: Value = serde_json::from_str(&stdout(
        &setup.bare(&["status", "--json"]).output().unwrap(),
    ))
    .unwrap();
    assert_eq!(
        (&json["sinks"][0]["name"], &json["sinks"][0]["pending"]),
        (&"stdout".into(), &2.into())
    );
    assert_eq!(
        stdout(&setup.sync()).lines().count(),
        2,
        "and come with the next sync"
    );
}

#[test]
fn the_token_is_nowhere_but_in_the_header() {
    let mut setup = Setup::with_runs(20);
    setup.server.set_faults(Faults::some(
        3,
        30.0,
        vec![Fault::Status(500), Fault::CutBody, Fault::BadJson],
    ));
    let mut printed = String::new();
    for format in ["text", "json"] {
        let output = setup
            .command(&["sync", "-vv", "--log-format", format])
            .output()
            .unwrap();
        printed += &(stdout(&output) + &stderr(&output));
        setup.add_runs(5);
    }
    setup.server.set_faults(Faults::always(Fault::Status(403)));
    printed += &stderr(&setup.command(&["sync", "-vv"]).output().unwrap());
    printed += &stdout(&setup.bare(&["status", "--json"]).output().unwrap());
    printed += &stdout(&setup.command(&["check"]).output().unwrap());
    assert!(printed.contains("403"), "the log was captured");
    assert!(!printed.contains(TOKEN));
    let requests = setup.server.take_requests();
    assert!(
        requests.iter().all(|request| !request.contains("token")),
        "{requests:?}"
    );
    let database = std::fs::read(setup.database()).unwrap();
    assert!(
        !database
            .windows(TOKEN.len())
            .any(|bytes| bytes == TOKEN.as_bytes())
    );
}

#[test]
fn the_demo_shows_everything_and_leaves_a_database() {
    let setup = Setup::with_runs(0);
    let output = setup
        .bare(&["demo", "--seconds", "12", "--db", "demo.db"])
        .env_remove("APIFY_TOKEN")
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    for shown in [
        "Mirrored 6,000 runs",
        "ACTOR.RUN.CREATED",
        "RUNNING → ",
        "sqlite3 demo.db",
    ] {
        assert!(text.contains(shown), "{shown} is not in:\n{text}");
    }
    assert!(setup.dir.path().join("demo.db").exists());
    assert_ne!(
        code(&setup.bare(&["demo", "--db", "demo.db"]).output().unwrap()),
        0,
        "and never writes into an old one"
    );
}
