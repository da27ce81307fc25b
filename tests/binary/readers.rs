//! Readers without the right to write, as members of the group of a service's database.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Daemon, Setup, stderr, stdout};

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// A mirror whose group may read it.
fn for_the_group() -> Setup {
    let setup = Setup::with_runs(30);
    setup.configure("[database]\nmode = \"0640\"\n");
    setup.publish_configuration();
    setup
}

/// Takes the right to write from `command`: root runs it as another user; anybody else loses the right itself, by the
/// modes of the files.
fn without_right_to_write(command: &mut Command, setup: &Setup) -> Output {
    let dir = setup.dir.path();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().contains(".db"))
        .collect();
    if rustix::process::geteuid().is_root() {
        mode(dir, 0o755);
        let group = rustix::process::getegid().as_raw();
        return command.uid(NOBODY).gid(group).output().unwrap();
    }
    files.iter().for_each(|file| mode(file, 0o444));
    mode(dir, 0o555);
    let output = command.output();
    mode(dir, 0o755);
    files.iter().for_each(|file| mode(file, 0o640));
    output.unwrap()
}

/// A command line of the binary that every user may run.
fn ours(setup: &Setup, arguments: &[&str]) -> Command {
    let mut command = Command::new(setup.binary_for_all());
    command
        .args(arguments)
        .current_dir(setup.dir.path())
        .env_clear()
        .env("APIFY_MIRROR_DATABASE__PATH", setup.database());
    command
}

fn assert_readable(setup: &Setup, runs: &str, when: &str) {
    let output = without_right_to_write(&mut ours(setup, &["status", "--json"]), setup);
    assert!(output.status.success(), "{when}: {}", stderr(&output));
    let status: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(status["tasks"][0]["rows"].to_string(), runs, "{when}");
}

/// The same with the `sqlite3` program, where it is installed.
fn assert_readable_by_others(setup: &Setup, runs: &str, when: &str) {
    let mut command = Command::new("sqlite3");
    command.arg("-readonly").arg(setup.database());
    command.arg("SELECT count(*) FROM runs");
    if Command::new("sqlite3").arg("-version").output().is_ok() {
        let output = without_right_to_write(&mut command, setup);
        assert_eq!(stdout(&output).trim(), runs, "{when}: {}", stderr(&output));
    }
}

#[test]
fn a_closed_running_or_killed_mirror_can_be_read() {
    let mut setup = for_the_group();
    setup.sync();
    assert_readable(&setup, "30", "closed");
    assert_readable_by_others(&setup, "30", "closed");

    let mut daemon = Daemon::start_synced(&setup, setup.quick_run());
    let id = setup.add_runs(1).remove(0);
    daemon.event(|event| event["eventData"]["actorRunId"] == *id);
    assert_readable(&setup, "31", "while the daemon runs");
    assert_readable_by_others(&setup, "31", "while the daemon runs");
    daemon.child.kill().unwrap();
    daemon.wait();
    assert_readable(&setup, "31", "after a crash");
    assert_readable_by_others(&setup, "31", "after a crash");

    let mut daemon = Daemon::start_synced(&setup, setup.quick_run());
    daemon.log_line("mirroring");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert_readable(&setup, "31", "after a stop");
    assert_readable_by_others(&setup, "31", "after a stop");
}

/// A folder of the user that [`without_right_to_write`] runs commands as.
fn own_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), None).unwrap();
    }
    dir
}

#[test]
fn who_may_read_the_mirror_may_make_a_copy_of_their_own() {
    let setup = for_the_group();
    setup.sync();
    let _daemon = Daemon::start_synced(&setup, setup.quick_run());
    let dir = own_folder();
    let copy = dir.path().join("copy.db");
    let mut backup = ours(&setup, &["backup", copy.to_str().unwrap()]);
    let output = without_right_to_write(&mut backup, &setup);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut status = ours(&setup, &["status", "--json", "--db"]);
    status.arg(&copy);
    let output = without_right_to_write(&mut status, &setup);
    assert!(
        stdout(&output).contains("\"rows\": 30"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_file_without_its_log_can_be_read_as_it_lies() {
    let setup = for_the_group();
    setup.sync();
    // As the owner's `sqlite3` does when it is the last to close the database.
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", setup.database().display())).unwrap();
    }
    assert_readable(&setup, "30", "without a log");
    let list = &mut ours(&setup, &["deliveries", "list"]);
    assert!(without_right_to_write(list, &setup).status.success());
    let retry = &mut ours(&setup, &["deliveries", "retry", "--all"]);
    let output = without_right_to_write(retry, &setup);
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(message.contains("as the user that may write"), "{message}");
}

#[test]
fn a_second_name_of_the_file_lets_no_second_daemon_in() {
    let setup = Setup::with_runs(30);
    let mut daemon = Daemon::start_synced(&setup, setup.quick_run());
    let other = setup.dir.path().join("other.db");
    std::fs::hard_link(setup.database(), &other).unwrap();
    let output = setup.command(&["sync"]).arg("--db").arg(&other).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    assert!(stderr(&output).contains("2 names"), "{}", stderr(&output));
    // The next commit of the first notices.
    assert_eq!(daemon.wait(), Some(74));
}
