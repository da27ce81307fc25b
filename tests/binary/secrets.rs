//! Secrets stay where they belong: out of the environment of programs, of files that name them, and of everything printed.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use apify_mirror::simulator::TOKEN;

use crate::cases::Case;
use crate::support::{Daemon, QUICK, Setup, stderr, stdout, wait_until};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A user and group without any rights.
const NOBODY: u32 = 65_534;

/// The binary, set up for the account and the folder, run by an ordinary user: root may read every process.
fn by_ordinary_user(setup: &Setup, arguments: &[&str]) -> Command {
    let mut command = setup.command(arguments);
    if !rustix::process::geteuid().is_root() {
        return command;
    }
    let program = setup.dir.path().join("apify-mirror");
    std::fs::copy(env!("CARGO_BIN_EXE_apify-mirror"), &program).unwrap();
    chown(setup.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut other = Command::new(program);
    other
        .args(arguments)
        .current_dir(setup.dir.path())
        .env_clear();
    other.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    other.uid(NOBODY).gid(NOBODY);
    command = other;
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
