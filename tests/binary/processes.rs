//! Programs of sinks, and the system's limits on processes.

use crate::support::{Daemon, QUICK, Setup, stderr, wait_until};

/// Whether the process `id` runs.
fn is_running(id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", id.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

/// A daemon whose sink runs a program with a child; returns the child's id too.
fn daemon_with_a_running_program() -> (Setup, Daemon, String) {
    let mut setup = Setup::with_runs(5);
    let script = "sleep 3000 & echo $! > id.new; mv id.new id; wait";
    setup.configure(&format!(
        "{QUICK}[[sinks]]\nname = \"slow\"\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\nevents = [\"ACTOR.RUN.CREATED\"]\n"
    ));
    setup.sync();
    setup.add_runs(1);
    let daemon = Daemon::start(setup.command(&["run"]));
    let path = setup.dir.path().join("id");
    wait_until("the program", || path.exists());
    let id = std::fs::read_to_string(path).unwrap();
    (setup, daemon, id)
}

#[test]
fn a_second_signal_kills_running_programs_with_their_children() {
    for name in ["TERM", "INT"] {
        let (_setup, mut daemon, id) = daemon_with_a_running_program();
        daemon.signal(name);
        daemon.log_line("stopping");
        daemon.signal(name);
        let code = daemon.wait();
        // On a slow machine the orderly end may come first.
        assert!(matches!(code, Some(0 | 130 | 143)), "{code:?}");
        wait_until("its end", || !is_running(&id));
    }
}

/// A daemon that ends by itself must not leave programs behind either.
#[test]
fn a_daemon_that_fails_kills_running_programs() {
    let (mut setup, mut daemon, id) = daemon_with_a_running_program();
    std::fs::rename(setup.database(), setup.dir.path().join("away.db")).unwrap();
    setup.add_runs(1);
    assert_eq!(daemon.wait(), Some(74));
    wait_until("its end", || !is_running(&id));
}

#[test]
fn too_few_open_files_are_named() {
    let setup = Setup::with_runs(5);
    for files in 4..64 {
        let limit = format!("ulimit -n {files}");
        let output = setup.command_after(&limit, &["sync"]).output().unwrap();
        let printed = stderr(&output);
        let code = output.status.code();
        let fine = code == Some(0);
        let named =
            code == Some(1) && printed.contains("open files") && printed.contains("ulimit -n");
        assert!(fine || named, "{files} files: {code:?}: {printed}");
    }
}
