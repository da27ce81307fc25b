//! Mistakes in settings, each with a message that names the thing, the value and the remedy.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::cases::{Case, check_all};
use crate::support::{Setup, stderr, stdout, wait_until};

/// Has the form of a token, and is none.
const FAKE: &str = "apify_api_kJ3hS8dLq0PzVbNm4XyT1rWcEu7GfA2oIs95";

fn file_sink(name: &str, path: &str) -> String {
    format!("[[sinks]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{path}\"\n")
}

#[test]
fn a_sink_cannot_write_into_the_database_by_whatever_name() {
    let setup = Setup::with_runs(3);
    let folder = setup.dir.path();
    std::fs::create_dir(folder.join("sub")).unwrap();
    symlink(folder.join("runs.db"), folder.join("link.jsonl")).unwrap();
    symlink(folder, folder.join("folder")).unwrap();
    let cases = [
        "runs.db",
        "./runs.db",
        "sub/../runs.db",
        "link.jsonl",
        "folder/runs.db",
        "runs.db-wal",
        "./runs.db-shm",
        "folder/runs.db.lock",
        "runs.db-journal",
    ];
    // Before there is a database, and with one.
    for existing in [false, true] {
        for path in cases {
            setup.configure(&file_sink("log", path));
            for command in ["check", "sync"] {
                Case::of(&[command])
                    .code(78)
                    .stderr("sinks[0].path: is the database")
                    .check(&setup);
            }
        }
        assert_eq!(setup.database().exists(), existing, "nothing is written");
        setup.configure("sinks = []");
        setup.sync();
    }
    std::fs::hard_link(folder.join("runs.db"), folder.join("hard.jsonl")).unwrap();
    setup.configure(&file_sink("log", "hard.jsonl"));
    Case::of(&["check"])
        .code(78)
        .stderr("sinks[0].path: is the database")
        .check(&setup);
    setup.configure(&file_sink("log", "events.jsonl"));
    Case::of(&["check"]).check(&setup);
}

#[test]
fn two_sinks_cannot_write_into_one_file_by_whatever_names() {
    let setup = Setup::with_runs(3);
    let folder = setup.dir.path();
    symlink("a.jsonl", folder.join("link.jsonl")).unwrap();
    let with = |path: &str| setup.configure(&(file_sink("a", "a.jsonl") + &file_sink("b", path)));
    for path in [
        "./a.jsonl",
        "link.jsonl",
        &format!("{}/a.jsonl", folder.display()),
    ] {
        with(path);
        Case::of(&["check"])
            .code(78)
            .stderr("sinks[1].path: is another sink's")
            .check(&setup);
    }
    std::fs::write(folder.join("a.jsonl"), "").unwrap();
    std::fs::hard_link(folder.join("a.jsonl"), folder.join("hard.jsonl")).unwrap();
    with("hard.jsonl");
    Case::of(&["sync"])
        .code(78)
        .stderr("sinks[1].path: is another sink's")
        .check(&setup);
    with("b.jsonl");
    Case::of(&["check"]).check(&setup);
    // Standard output is the same file, or the same pipe.
    let stdout = "[[sinks]]\nname = \"out\"\ntype = \"stdout\"\n";
    for path in ["a.jsonl", "/dev/stdout", "/dev/fd/1"] {
        setup.configure(&(stdout.to_owned() + &file_sink("a", path)));
        let mut command = setup.command(&["sync"]);
        if path == "a.jsonl" {
            let file = std::fs::File::options()
                .append(true)
                .open(folder.join("a.jsonl"));
            command.stdout(file.unwrap());
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{path}");
        assert!(
            stderr(&output).contains("sinks[1].path: is another sink's"),
            "{}",
            stderr(&output)
        );
    }
    setup.configure(&file_sink("a", "a.jsonl"));
    Case::of(&["check"])
        .env("APIFY_MIRROR_API__TOKEN_FILE", "./hard.jsonl")
        .code(78)
        .stderr("sinks[0].path: is the file of a token")
        .check(&setup);
}

#[test]
fn an_empty_value_is_named() {
    let setup = Setup::with_runs(3);
    check_all(
        &setup,
        [
            Case::of(&["sync"])
                .env("APIFY_MIRROR_DATABASE__PATH", "")
                .code(78)
                .stderr("database.path: is empty"),
            Case::of(&["status"])
                .env("APIFY_MIRROR_DATABASE__PATH", "")
                .code(78)
                .stderr("database.path: is empty"),
            Case::of(&["sync"])
                .env("APIFY_TOKEN", "")
                .code(77)
                .stderr("APIFY_TOKEN is empty"),
            Case::of(&["sync"])
                .env("APIFY_TOKEN", " \n")
                .code(77)
                .stderr("APIFY_TOKEN is empty"),
            Case::of(&["sync"])
                .env("APIFY_MIRROR_SYNC__POLL_INTERVAL", "")
                .code(78)
                .stderr("sync.poll_interval: is empty"),
            Case::of(&["sync"])
                .env("APIFY_MIRROR_API__BASE_URL", "")
                .code(78)
                .stderr("api.base_url: is empty"),
            Case::of(&["sync"])
                .env("APIFY_MIRROR_LOG__LEVEL", "")
                .code(78)
                .stderr("log.level: is empty"),
            Case::of(&["sync", "--db", ""]).code(2).stderr("--db"),
            Case::of(&["sync", "--config", ""])
                .code(2)
                .stderr("--config"),
            Case::of(&["sync", "--task", ""]).code(2).stderr("--task"),
        ],
    );
}

#[test]
fn a_database_that_is_no_file_is_named() {
    let setup = Setup::with_runs(3);
    let folder = setup.dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    for command in [
        &["sync"][..],
        &["audit"],
        &["status"],
        &["events"],
        &["deliveries", "drop", "--all"],
    ] {
        for database in [folder, "/tmp", "/dev/null"] {
            let arguments = [command, &["--db", database]].concat();
            let mut case = Case::of(&arguments).code(74).stderr(database);
            case = if database == "/dev/null" {
                case.stderr("is not a regular file")
            } else {
                case.stderr("is a folder; name a file in it")
            };
            if command[0] != "sync" && command[0] != "audit" {
                case = case.bare();
            }
            let output = case.check(&setup);
            assert!(!stderr(&output).contains("chmod"), "{}", stderr(&output));
        }
    }
    assert!(
        !setup.dir.path().join("folder.lock").exists(),
        "nothing is written"
    );
    for address in [
        "file:runs.db",
        "file:///tmp/runs.db?mode=ro",
        ":memory:",
        "sqlite:runs.db",
        "postgres://user@host/db",
    ] {
        Case::of(&["sync", "--db", address])
            .code(2)
            .stderr("--db")
            .stderr("plain path")
            .check(&setup);
        Case::of(&["sync"])
            .env("APIFY_MIRROR_DATABASE__PATH", address)
            .code(78)
            .stderr("database.path")
            .stderr("plain path")
            .check(&setup);
    }
}

#[test]
fn an_unusable_proxy_is_named() {
    let setup = Setup::with_runs(3);
    for (variable, value) in [
        ("HTTPS_PROXY", "foo bar"),
        ("https_proxy", "ftp://proxy.example:21"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080"),
        ("HTTP_PROXY", "http://user:hunter2@"),
    ] {
        for command in [&["sync"][..], &["check"], &["run"]] {
            let output = Case::of(command)
                .env(variable, value)
                .code(78)
                .stderr(variable)
                .stderr("http://")
                .check(&setup);
            assert!(!stderr(&output).contains("hunter2"));
        }
    }
    // The API is on loopback, which no proxy is used for.
    Case::of(&["sync"])
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .check(&setup);
    let output = Case::of(&["check", "--online"])
        .env("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:1")
        .env("APIFY_MIRROR_API__BASE_URL", "https://api.example.invalid")
        .env("APIFY_MIRROR_API__TIMEOUT", "1s")
        .code(75)
        .stderr("HTTPS_PROXY")
        .check(&setup);
    assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
}

#[test]
fn the_variables_of_proxies_are_obeyed() {
    let setup = Setup::with_runs(3);
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap().to_string();
    let (send, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in proxy.incoming().map_while(Result::ok) {
            let mut line = String::new();
            let read = BufReader::new(&stream).read_line(&mut line);
            let _ = (&stream).write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
            if read.is_err() || send.send(line).is_err() {
                break;
            }
        }
    });
    let check = |name: &str, value: &str| {
        Case::of(&["check", "--online"])
            .env("APIFY_MIRROR_API__BASE_URL", "https://api.example.invalid")
            .env("APIFY_MIRROR_API__TIMEOUT", "1s")
            .env(name, value)
    };
    for (name, value) in [
        ("HTTPS_PROXY", format!("http://{address}")),
        ("https_proxy", address.clone()),
        ("ALL_PROXY", address.clone()),
    ] {
        check(name, &value).code(75).stderr(name).check(&setup);
        let line = asked.try_recv().expect("the proxy was asked");
        assert!(
            line.starts_with("CONNECT api.example.invalid:443 "),
            "{line}"
        );
        while asked.try_recv().is_ok() {}
    }
    check("HTTPS_PROXY", &address)
        .env("NO_PROXY", ".example.invalid")
        .code(75)
        .check(&setup);
    check("HTTP_PROXY", &address).code(75).check(&setup);
    assert!(
        asked.try_recv().is_err(),
        "the proxy is for other addresses"
    );
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let setup = Setup::with_runs(3);
    for (name, value) in [
        ("SSL_CERT_FILE", "/nonexistent"),
        ("SSL_CERT_FILE", ""),
        ("SSL_CERT_FILE", "/tmp"),
        ("SSL_CERT_DIR", "/nonexistent:/no"),
        ("SSL_CERT_DIR", ""),
    ] {
        Case::of(&["sync"])
            .env(name, value)
            .code(78)
            .stderr(name)
            .stderr("unset the variable")
            .check(&setup);
    }
    Case::of(&["sync"])
        .env("SSL_CERT_DIR", "/nonexistent:/tmp")
        .check(&setup);
}

#[test]
fn a_script_whose_interpreter_is_missing_is_named() {
    let mut setup = Setup::with_runs(3);
    setup.sync();
    setup.add_runs(1);
    let script = |name: &str, text: &str| {
        let path = setup.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("windows", "#!/bin/sh\r\nexit 0\r\n");
    script("missing", "#!/nonexistent/interpreter -x\nexit 0\n");
    for (name, text) in [("windows", "CRLF"), ("missing", "/nonexistent/interpreter")] {
        setup.configure(&format!("[[sinks]]\nname = \"{name}\"\ntype = \"exec\"\ncommand = [\"./{name}\"]\nstart = \"beginning\"\n"));
        Case::of(&["check", "--online"])
            .code(78)
            .stderr(text)
            .check(&setup);
        Case::of(&["sync"]).code(75).stdout(text).check(&setup);
    }
}

#[test]
fn check_without_a_token_exits_with_77() {
    let setup = Setup::with_runs(3);
    Case::of(&["check"])
        .without("APIFY_TOKEN")
        .code(77)
        .stdout("none")
        .stderr("APIFY_TOKEN")
        .stderr("api.token_file")
        .stderr("apify-token")
        .check(&setup);
    Case::of(&["check"])
        .env("APIFY_TOKEN", "\"quoted\"")
        .code(77)
        .stderr("in quotes")
        .check(&setup);
    Case::of(&["check"])
        .stdout("configuration ok")
        .check(&setup);
}

#[test]
fn a_token_in_the_wrong_place_is_named_and_never_printed() {
    let setup = Setup::with_runs(3);
    setup.sync();
    let toml = |text: &str| {
        let path = setup.dir.path().join("wrong.toml");
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut printed = String::new();
    let mut check = |arguments: &[&str], variables: &[(&str, &str)], key: &str| {
        let mut command = setup.bare(arguments);
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = stdout(&output) + &stderr(&output);
        assert!(
            matches!(output.status.code(), Some(2 | 65 | 74 | 77 | 78)),
            "{arguments:?}: {text}"
        );
        assert!(
            text.contains(key),
            "{arguments:?} does not name {key}: {text}"
        );
        assert!(
            !text.contains(&FAKE[14..]),
            "{arguments:?} {variables:?} prints the token: {text}"
        );
        if !key.is_empty() {
            assert!(
                text.contains("looks like an API token"),
                "{arguments:?}: {text}"
            );
        }
        printed += &text;
    };
    check(&["sync", "--task", FAKE], &[], "task");
    check(
        &["sync", "-vv", "--task", &format!("janedoe~{FAKE}")],
        &[],
        "task",
    );
    check(&["events", "--task", FAKE], &[], "--task");
    check(&["sinks", "remove", FAKE], &[], "NAME");
    check(&["check", "--task", FAKE], &[], "task");
    check(
        &["sync", "--db", FAKE],
        &[("APIFY_MIRROR_TASKS", "~a")],
        "--db",
    );
    check(&["status", "--db", &format!("/tmp/{FAKE}")], &[], "--db");
    check(&["demo", "--db", FAKE], &[], "--db");
    check(&["sync", "--config", FAKE], &[], "--config");
    check(
        &["sync"],
        &[("APIFY_MIRROR_CONFIG", FAKE)],
        "APIFY_MIRROR_CONFIG",
    );
    check(&["sync"], &[("APIFY_MIRROR_TASKS", FAKE)], "tasks");
    check(
        &["sync"],
        &[("APIFY_MIRROR_API__TOKEN_FILE", FAKE)],
        "api.token_file",
    );
    check(
        &["sync"],
        &[("APIFY_MIRROR_API__BASE_URL", FAKE)],
        "api.base_url",
    );
    check(
        &["sync"],
        &[("APIFY_MIRROR_API__BASE_URL", &format!("https://x/{FAKE}"))],
        "api.base_url",
    );
    check(
        &["sync"],
        &[("APIFY_MIRROR_SYNC__POLL_INTERVAL", FAKE)],
        "sync.poll_interval",
    );
    check(
        &["sync"],
        &[("APIFY_MIRROR_API__CONCURRENCY", FAKE)],
        "api.concurrency",
    );
    check(
        &["sync"],
        &[("APIFY_MIRROR_DISCOVER_TASKS", FAKE)],
        "discover_tasks",
    );
    check(&[FAKE], &[], "");
    check(&["sync", FAKE], &[], "");
    check(&["sync", &format!("--{FAKE}")], &[], "");
    check(&["events", "--since", FAKE], &[], "");
    check(&["deliveries", "drop", FAKE], &[], "");
    let files = [
        (format!("tasks = [\"{FAKE}\"]"), "tasks"),
        (
            format!("tasks = [\"~a\"]\n{}", file_sink("log", FAKE)),
            "sinks[0].path",
        ),
        (
            format!("tasks = [\"~a\"]\n{}", file_sink(FAKE, "log")),
            "sinks[0].name",
        ),
        (
            format!("tasks = [\"~a\"]\n[[sinks]]\nname = \"a\"\ntype = \"{FAKE}\""),
            "sinks[0].type",
        ),
        (
            format!(
                "tasks = [\"~a\"]\n[[sinks]]\nname = \"a\"\ntype = \"exec\"\ncommand = [\"{FAKE}\"]"
            ),
            "sinks[0].command",
        ),
        (
            format!(
                "tasks = [\"~a\"]\n[[sinks]]\nname = \"a\"\ntype = \"stdout\"\nevents = [\"{FAKE}\"]"
            ),
            "sinks[0].events",
        ),
        (
            format!("tasks = [\"~a\"]\n[log]\nlevel = \"{FAKE}\""),
            "log.level",
        ),
    ];
    for (text, key) in &files {
        let path = toml(text);
        check(&["sync", "--config", path.to_str().unwrap()], &[], key);
    }
    for text in [
        format!("{FAKE} = 1"),
        format!("tasks = [\"~a\"]\n[{FAKE}]\na = 1"),
        format!("tasks = \"{FAKE}"),
    ] {
        let path = toml(&text);
        check(&["sync", "--config", path.to_str().unwrap()], &[], "");
    }
    let requests = setup.server.take_requests();
    assert!(
        requests.iter().all(|request| !request.contains(FAKE)),
        "{requests:?}"
    );
    assert!(printed.len() > 1_000);
}

#[test]
fn what_is_wrong_with_a_token_is_named() {
    let setup = Setup::with_runs(3);
    let utf16: Vec<u8> = [0xff, 0xfe]
        .into_iter()
        .chain(FAKE.bytes().flat_map(|byte| [byte, 0]))
        .collect();
    for (bytes, text) in [
        (format!("\u{feff}{FAKE}").into_bytes(), "byte order mark"),
        (utf16, "UTF-16"),
        (format!("\"{FAKE}\"").into_bytes(), "in quotes"),
        (format!("{FAKE} {FAKE}").into_bytes(), "a space"),
        (b" \n".to_vec(), "empty"),
    ] {
        setup.write_secret("token", bytes);
        let output = Case::of(&["sync"])
            .env("APIFY_MIRROR_API__TOKEN_FILE", "token")
            .code(77)
            .stderr(text)
            .stderr("token")
            .check(&setup);
        assert!(
            !stderr(&output).contains(&FAKE[14..]),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_task_that_is_made_again_is_found_by_the_same_sync() {
    let setup = Setup::with_runs(3);
    setup.sync();
    let again = make_again(&setup);
    let output = setup.sync();
    assert!(
        stderr(&output).contains("janedoe~my-task  up to date"),
        "{}",
        stderr(&output)
    );
    let run = setup
        .server
        .world()
        .runs(&again)
        .map(|run| run.id.clone())
        .next()
        .unwrap();
    let rows = setup.column(&format!("SELECT task_id FROM runs WHERE id = '{run}'"));
    assert_eq!(rows, [again], "{}", stderr(&output));
    assert_eq!(
        setup
            .column("SELECT id FROM runs WHERE removed_at IS NULL")
            .len(),
        4,
        "the old ones stay"
    );
}

#[test]
fn a_task_that_is_made_again_is_found_by_the_daemon() {
    let setup = Setup::with_runs(3);
    let _daemon = crate::support::Daemon::start_synced(&setup, setup.quick_run());
    crate::reload::forget_names(&setup);
    let again = make_again(&setup);
    let sql = format!("SELECT id FROM runs WHERE task_id = '{again}'");
    wait_until("the run of the new task", || {
        setup.try_column(&sql).is_some()
    });
    assert_eq!(
        setup
            .column("SELECT id FROM runs WHERE removed_at IS NULL")
            .len(),
        4,
        "the old ones stay"
    );
}

/// Deletes the task and makes it again under its name, with one run; returns its id.
fn make_again(setup: &Setup) -> String {
    let mut world = setup.server.world();
    world.delete_task(&setup.task);
    let again = world.add_task("janedoe", "my-task");
    world.create(&again, apify_mirror::model::Timestamp::now());
    again
}
