//! Secrets stay where they belong: out of the environment of programs, of files that name them, and of everything printed.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;

use apify_mirror::simulator::TOKEN;

use crate::cases::Case;
use crate::support::{Daemon, QUICK, Setup, stderr, stdout, wait_until};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A user and group without any rights.
const NOBODY: u32 = 65_534;

/// The binary, set up for the account and the folder, run by an ordinary user: root may read every process.
fn by_ordinary_user(setup: &Setup, arguments: &[&str]) -> Command {
    if !rustix::process::geteuid().is_root() {
        return setup.command(arguments);
    }
    chown(setup.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = setup.command_as(setup.binary_for_all(), arguments);
    command.uid(NOBODY).gid(NOBODY);
    command
}

/// The kernel keeps a process's first environment for as long as it runs, in a file for its user.
#[cfg(target_os = "linux")]
#[test]
fn a_program_gets_no_secret_from_the_environment() {
    let setup = Setup::with_runs(1);
    let receiver = setup.receiver();
    setup.configure(&format!(
        "[sync]\nhistory_events = true\n\
         [[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\nsecret_env = \"HOOK_SECRET\"\n\
         [[sinks]]\nname = \"spy\"\ntype = \"exec\"\nenvironment = [\"NAMED\", \"UNSET\"]\n\
         command = [\"sh\", \"-c\", \"{{ cat /proc/$PPID/environ; env; }} > seen 2>&1\"]\n",
        receiver.url()
    ));
    setup.publish_configuration();
    let output = by_ordinary_user(&setup, &["sync"])
        .envs([
            ("PATH", "/usr/bin:/bin"),
            ("LC_TIME", "C"),
            ("HOOK_SECRET", SECRET),
            ("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:1"),
            ("DATABASE_PASSWORD", "hunter2"),
            ("NAMED", "by its name"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let seen = std::fs::read_to_string(setup.dir.path().join("seen")).unwrap();
    for secret in [TOKEN, SECRET, "hunter2", "APIFY_MIRROR_"] {
        assert!(!seen.contains(secret), "{secret} is in\n{seen}");
    }
    assert!(seen.contains("/environ: Permission denied"), "{seen}");
    for expected in [
        "PATH=/usr/bin:/bin",
        "LC_TIME=C",
        "NAMED=by its name",
        "APIFY_EVENT_TYPE=",
    ] {
        assert!(
            seen.lines().any(|line| line.starts_with(expected)),
            "{expected} is not in\n{seen}"
        );
    }
}

#[test]
fn address_and_headers_come_from_files_and_are_read_again() {
    let mut setup = Setup::with_runs(1);
    let receiver = setup.receiver();
    let url = setup.write_secret("url", format!("{}/T0KEN\n", receiver.url()));
    let headers = setup.write_secret("headers", "Authorization: Bearer hunter2\n\nx-a: b\n");
    setup.configure(&format!(
        "{QUICK}[[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl_file = \"url\"\nheaders_file = \"headers\"\n\
         headers = {{ x-c = \"d\" }}\n",
    ));
    let daemon = Daemon::start_synced(&setup, {
        let mut run = setup.command(&["run"]);
        run.arg("-vv");
        run
    });
    setup.add_runs(1);
    wait_until("the events", || receiver.count() == 2);
    let arrival = receiver.arrivals().remove(0);
    assert!(arrival.path.ends_with("/T0KEN"), "{}", arrival.path);
    assert_eq!(arrival.headers["authorization"], "Bearer hunter2");
    assert_eq!(
        (&arrival.headers["x-a"], &arrival.headers["x-c"]),
        (&"b".to_owned(), &"d".to_owned())
    );

    std::fs::write(&url, format!("{}/changed", receiver.url())).unwrap();
    std::fs::write(&headers, "authorization: Bearer changed").unwrap();
    daemon.signal("HUP");
    daemon.log_line("read the configuration again");
    setup.add_runs(1);
    wait_until("more events", || receiver.count() == 4);
    let arrival = receiver.arrivals().remove(3);
    assert!(arrival.path.ends_with("/changed"), "{}", arrival.path);
    assert_eq!(arrival.headers["authorization"], "Bearer changed");

    std::fs::write(&headers, "authorization Bearer hunter2").unwrap();
    daemon.signal("HUP");
    daemon.log_line("sinks[0].headers_file: line 1");
    drop(daemon);
    for (file, text, expected) in [
        (
            "headers",
            "x: y\nBearer hunter2\n",
            "sinks[0].headers_file: line 2",
        ),
        (
            "headers",
            "webhook-id: hunter2\n",
            "sinks[0].headers_file: line 1",
        ),
        ("headers", "x-c: hunter2\n", "sinks[0].headers_file: line 1"),
        ("url", "hunter2", "sinks[0].url_file: "),
        ("url", "https://x/ hunter2", "sinks[0].url_file: "),
        ("url", "", "sinks[0].url_file: "),
    ] {
        setup.write_secret("headers", "x: y\n");
        setup.write_secret("url", receiver.url());
        setup.write_secret(file, text);
        let output = Case::of(&["check"]).code(78).stderr(expected).check(&setup);
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
    }
    // Only the owner of the address gets to see it: not even the log does.
    let database = std::fs::read(setup.database()).unwrap();
    for secret in ["T0KEN", "hunter2"] {
        assert!(
            !String::from_utf8_lossy(&database).contains(secret),
            "{secret}"
        );
    }
}

#[test]
fn a_plain_address_gets_neither_a_signature_nor_headers() {
    let setup = Setup::with_runs(1);
    setup.write_secret("url", "http://hook.example/x");
    setup.write_secret("headers", "x: y");
    let hook = |more: &str| {
        setup.configure(&format!(
            "[[sinks]]\nname = \"hook\"\ntype = \"webhook\"\n{more}"
        ));
    };
    let plain = "url = \"http://hook.example/x\"\n";
    for (more, expected) in [
        (
            format!("{plain}secret = \"{SECRET}\""),
            "sinks[0].url: is plain http",
        ),
        (
            format!("{plain}headers = {{ x = \"y\" }}"),
            "sinks[0].url: is plain http",
        ),
        (
            format!("{plain}headers_file = \"headers\""),
            "sinks[0].url: is plain http",
        ),
        (
            format!("url_file = \"url\"\nsecret = \"{SECRET}\""),
            "sinks[0].url_file: is plain http",
        ),
    ] {
        hook(&more);
        for command in ["check", "sync"] {
            Case::of(&[command])
                .code(78)
                .stderr(expected)
                .stderr("https")
                .check(&setup);
        }
    }
    for url in [plain, "url_file = \"url\"\n"] {
        hook(url);
        Case::of(&["check"])
            .stderr("sink hook: ")
            .stderr("plain http")
            .check(&setup);
        let output = setup.command(&["sync"]).output().unwrap();
        assert!(
            stderr(&output).contains("plain http"),
            "{}",
            stderr(&output)
        );
    }
    let receiver = setup.receiver();
    hook(&format!(
        "url = \"{}\"\nsecret = \"{SECRET}\"",
        receiver.url()
    ));
    let output = Case::of(&["check"]).check(&setup);
    assert!(
        !stderr(&output).contains("plain http"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_may_be_a_secret_in_the_wrong_place_is_never_printed() {
    let setup = Setup::with_runs(1);
    setup.sync();
    let hook = "[[sinks]]\nname = \"hook\"\ntype = \"webhook\"\n";
    let with_url = format!("{hook}url = \"https://hook.example/\"\n");
    let mut printed = String::new();
    let bare = "hunter2kJ3hS8dLq0PzVbNm4";
    let encoded = "hunter2/kJ3h+S8dLq0==";
    let address = "https://user:hunter2@x.example/hunter2?token=hunter2";
    let query = "https://x.example/?token=hunter2";
    let plain = "http://x.example/hunter2";
    let other = "hunter2:x";
    for secret in [
        bare,
        encoded,
        address,
        query,
        plain,
        other,
        "whsec_hunter2hunter2",
        "HUNTER2ABC",
    ] {
        let mut cases = vec![
            format!("[api]\ntoken_file = \"{secret}\""),
            format!("{with_url}secret = \"{secret}\""),
            format!("{with_url}secret_file = \"{secret}\""),
            format!("{with_url}secret_env = \"{secret}\""),
            format!("{with_url}headers_file = \"{secret}\""),
            format!("{hook}url_file = \"{secret}\""),
            format!("{hook}url = \"{secret}\"\nheaders = {{ x = \"y\" }}"),
        ];
        if secret != bare && secret != "HUNTER2ABC" {
            // Others look like the id of a task.
            cases.push(format!("tasks = [\"{secret}\"]"));
        }
        cases.push(format!("[api]\nbase_url = \"{secret}\""));
        for toml in cases {
            setup.configure(&toml);
            for command in [&["check"][..], &["sync", "-vv"], &["status"]] {
                let mut command = setup.bare(command);
                if toml.contains("base_url") {
                    command.env_remove("APIFY_MIRROR_API__BASE_URL");
                }
                if !toml.contains("tasks") {
                    command.env("APIFY_MIRROR_TASKS", "janedoe~my-task");
                }
                let output = command.output().unwrap();
                let text = stdout(&output) + &stderr(&output);
                let leaks = text.to_lowercase().contains("hunter2");
                if leaks {
                    printed += &format!("{toml}\n{text}\n");
                }
            }
        }
    }
    setup.configure("");
    for arguments in [
        ["sync", "--task", address],
        ["sync", "--task", query],
        ["sync", "--db", address],
        ["events", "--task", "whsec_hunter2hunter2"],
    ] {
        let output = setup.bare(&arguments).output().unwrap();
        let text = stdout(&output) + &stderr(&output);
        assert_ne!(output.status.code(), Some(0), "{text}");
        if text.contains("hunter2") {
            printed += &format!("{arguments:?}\n{text}\n");
        }
    }
    assert!(printed.is_empty(), "{printed}");
}
