//! Messages, exit codes, and secrets that must never be printed.

use apify_mirror::simulator::{Fault, Faults, TOKEN};

use crate::cases::{Case, check_all};
use crate::support::{Setup, stderr, stdout};

#[test]
fn a_missing_or_refused_token_exits_with_77() {
    let sync = || Case::of(&["sync"]).code(77);
    check_all(
        &Setup::with_runs(1),
        [
            sync().without("APIFY_TOKEN").stderr("APIFY_TOKEN"),
            sync()
                .env("APIFY_TOKEN", "wrong")
                .stderr("401 user-or-token-not-found"),
        ],
    );
}

#[test]
fn the_token_is_found_in_a_file_and_in_the_systemd_credential() {
    let setup = Setup::with_runs(1);
    let folder = setup.dir.path();
    setup.write_secret("apify-token", format!("{TOKEN}\n"));
    check_all(
        &setup,
        [
            Case::of(&["sync"])
                .without("APIFY_TOKEN")
                .env("CREDENTIALS_DIRECTORY", folder.to_str().unwrap()),
            Case::of(&["sync"])
                .env("APIFY_TOKEN", "wrong")
                .env("APIFY_MIRROR_API__TOKEN_FILE", "apify-token"),
        ],
    );
}

#[test]
fn an_unreachable_api_exits_with_75() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    Case::of(&["sync"])
        .env("APIFY_MIRROR_API__BASE_URL", format!("http://{closed}"))
        .code(75)
        .stderr("cannot connect")
        // Told while it is tried again.
        .stderr("retrying: ")
        .check(&Setup::with_runs(1));
}

#[test]
fn all_configuration_problems_are_reported_at_once_with_78() {
    let setup = Setup::with_runs(1);
    setup.configure("[sync]\npol_interval = \"1s\"\npage_size = 0\n");
    for command in ["check", "sync", "run", "audit", "status", "events"] {
        Case::of(&[command])
            .env("APIFY_MIRROR_LOG__LEVEL", "loud")
            .code(78)
            .stderr("the configuration is not valid:")
            .stderr("sync.pol_interval: ")
            .stderr("did you mean `sync.poll_interval`?")
            .stderr("sync.page_size: is 0")
            .stderr("log.level: is \"loud\"")
            .check(&setup);
    }
}

#[test]
fn check_prints_the_settings_and_tries_them_online() {
    let setup = Setup::with_runs(1);
    check_all(
        &setup,
        [
            Case::of(&["check", "--online"])
                .stdout("configuration ok")
                .stdout(&setup.task),
            Case::of(&["check", "--online", "--task", "~nothing"]).code(65),
        ],
    );
    assert!(!setup.database().exists(), "nothing is written");
}

#[test]
fn a_configuration_without_tasks_exits_with_78() {
    Case::of(&["sync"])
        .bare()
        .code(78)
        .stderr("--task janedoe~my-task")
        .check(&Setup::with_runs(1));
}

#[test]
fn wrong_usage_exits_with_2() {
    let setup = Setup::with_runs(1);
    let refused = |arguments: &[&str]| Case::of(arguments).code(2);
    check_all(
        &setup,
        [
            refused(&[]),
            refused(&["sink"]),
            refused(&["sync", "--token", "x"]),
            refused(&["--task", "a", "sync"]).stderr("--task"),
            refused(&["status", "--task", "a"]).stderr("--task"),
            refused(&["deliveries", "list", "--task", "a"]).stderr("--task"),
            refused(&["demo", "--task", "a"]).stderr("--task"),
            refused(&["demo", "--config", "x.toml"]).stderr("its settings are built in"),
            refused(&["--config", "x.toml", "demo"]).stderr("its settings are built in"),
            refused(&["sync", "-v", "-q"]).stderr("--quiet"),
        ],
    );
    let left: Vec<_> = std::fs::read_dir(setup.dir.path()).unwrap().collect();
    assert!(left.is_empty(), "nothing is written: {left:?}");
}

#[test]
fn completions_and_the_manual_page_are_generated() {
    let setup = Setup::with_runs(1);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        Case::of(&["completions", shell])
            .stdout("apify-mirror")
            .stdout("max-age")
            .check(&setup);
    }
    let man = Case::of(&["man"]).check(&setup);
    let page = stdout(&man);
    assert!(page.contains(".TH apify-mirror 1"), "{page}");
    for text in [
        ".SH COMMANDS",
        ".SS \"apify\\-mirror sync\"",
        ".SS \"apify\\-mirror deliveries retry\"",
        "\\-\\-max\\-age",
        "GLOBAL OPTIONS",
        "Exit codes:",
        "# from cron, every five minutes",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    // Only the preamble, and only once.
    assert_eq!(page.matches(".ds Aq").count(), 2, "{page}");
    for command in [&["completions", "bash"][..], &["man"]] {
        for flag in [
            &["--config", "x.toml"][..],
            &["--db", "x.db"],
            &["-v"],
            &["-q"],
            &["--log-format", "json"],
            &["--color", "never"],
        ] {
            for line in [[command, flag].concat(), [flag, command].concat()] {
                Case::of(&line)
                    .code(2)
                    .stderr("leave the flag out")
                    .check(&setup);
            }
        }
    }
    Case::of(&["completions", "cmd"]).code(2).check(&setup);
    let left: Vec<_> = std::fs::read_dir(setup.dir.path()).unwrap().collect();
    assert!(left.is_empty(), "nothing is written: {left:?}");
}

#[test]
fn every_command_logs_as_the_flags_say() {
    let setup = Setup::with_runs(1);
    setup.sync();
    let commands: [&[&str]; 8] = [
        &["sync"],
        &["audit"],
        &["status"],
        &["events"],
        &["deliveries", "list"],
        &["deliveries", "drop", "--all"],
        &["check"],
        &["demo", "--seconds", "1"],
    ];
    for command in commands {
        // The demo logs less than the others.
        let with = |flags: &[&str]| {
            let output = Case::of(&[command, flags].concat()).check(&setup);
            stderr(&output)
        };
        let lines = with(&["-vv", "--log-format", "json"]);
        assert!(lines.contains(r#""level":"DEBUG""#), "{command:?}: {lines}");
        let lines = with(&["-vv", "--color", "always"]);
        assert!(lines.contains("\u{1b}["), "{command:?}: {lines}");
        let lines = with(&["-vv"]);
        assert!(
            lines.contains("DEBUG") && !lines.contains('\u{1b}'),
            "{command:?}: {lines}"
        );
        let lines = with(&["-q"]);
        assert!(!lines.contains("INFO"), "{command:?}: {lines}");
    }
}

#[test]
fn an_unusable_database_exits_with_74() {
    let setup = Setup::with_runs(1);
    for database in ["/nonexistent/runs.db", "/proc/runs.db"] {
        Case::of(&["sync", "--db", database])
            .code(74)
            .stderr(database)
            .check(&setup);
    }
    // There is no database yet.
    check_all(
        &setup,
        [&["status"][..], &["events"], &["deliveries", "list"]].map(|command| {
            Case::of(command)
                .bare()
                .code(74)
                .stderr("there is no database")
        }),
    );
    setup.sync();
    rusqlite::Connection::open(setup.database())
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    Case::of(&["sync"])
        .code(74)
        .stderr("schema version 99")
        .check(&setup);
}

#[test]
fn status_prints_a_table_or_json() {
    let setup = Setup::with_runs(1_234);
    setup.sync();
    Case::of(&["status"])
        .bare()
        .stdout("janedoe~my-task   1,234   1,234  1,234")
        .check(&setup);
    let json = setup.status();
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
fn without_a_stdout_sink_the_summary_goes_to_standard_output() {
    let setup = Setup::with_runs(3);
    setup.configure("sinks = []");
    Case::of(&["sync"]).stdout("up to date").check(&setup);
}

#[test]
fn events_that_cannot_be_written_stay_due() {
    let mut setup = Setup::with_runs(3);
    setup.sync();
    setup.add_runs(1);
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = setup.command(&["sync"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
    assert!(
        stderr(&output)
            .contains("sink stdout.once: 2 events to be delivered: standard output: No space")
    );
    assert_eq!(setup.sink("stdout.once")["pending"], 2);
    assert_eq!(
        stdout(&setup.sync()).lines().count(),
        2,
        "the next sync delivers them"
    );
}

#[test]
fn the_token_appears_only_in_the_header() {
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
fn the_demo_mirrors_shows_events_and_leaves_a_database() {
    let setup = Setup::with_runs(0);
    Case::of(&["demo", "--seconds", "12", "--db", "demo.db"])
        .bare()
        .without("APIFY_TOKEN")
        .stdout("Mirrored 6,000 runs")
        .stdout("ACTOR.RUN.CREATED")
        .stdout("RUNNING → ")
        .stdout("sqlite3 demo.db")
        .check(&setup);
    assert!(setup.dir.path().join("demo.db").exists());
    // It never writes into a database that exists.
    Case::of(&["demo", "--db", "demo.db"])
        .bare()
        .code(1)
        .stderr("demo.db exists")
        .check(&setup);
}
