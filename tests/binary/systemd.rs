//! What a service is to systemd: its notifications, its lines in the journal, and the files that install it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use apify_mirror::model::Timestamp;
use apify_mirror::simulator::{Fault, Faults};

use crate::support::{Daemon, QUICK, Setup, TIMEOUT, wait_until};

/// The configuration that the service is installed with.
const CONFIGURATION: &str = include_str!("../../systemd/config.toml");

/// The socket of a service manager, and what a daemon tells it.
struct Manager(UnixDatagram);

impl Manager {
    fn of(setup: &Setup, command: &mut Command) -> Self {
        let path = setup.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        command.env("NOTIFY_SOCKET", path);
        Self(socket)
    }

    fn next(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Reads messages until one says `wanted`.
    fn told(&self, wanted: &str) {
        while !self.next().lines().any(|line| line == wanted) {}
    }
}

#[test]
fn the_service_is_ready_and_alive_while_the_api_does_not_answer() {
    let setup = Setup::with_runs(3);
    setup.server.set_faults(Faults::always(Fault::Hang));
    let mut command = setup.quick_run();
    command.env("WATCHDOG_USEC", "60000");
    let manager = Manager::of(&setup, &mut command);
    let mut daemon = Daemon::start(command);
    assert_eq!(manager.next().trim_end(), "READY=1");
    manager.told("STATUS=mirroring 0 tasks");
    for _ in 0..5 {
        manager.told("WATCHDOG=1");
    }
    daemon.signal("TERM");
    manager.told("STOPPING=1");
    assert_eq!(daemon.wait(), Some(0));
}

/// Runs `command` with its output in a journal; returns its exit code and the journal.
fn in_journal(setup: &Setup, mut command: Command) -> (Option<i32>, String) {
    let path = setup.dir.path().join("journal");
    let journal = File::create(&path).unwrap();
    let found = journal.metadata().unwrap();
    command
        .env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()))
        .stdout(journal.try_clone().unwrap())
        .stderr(journal);
    let status = command.status().unwrap();
    (status.code(), std::fs::read_to_string(path).unwrap())
}

#[test]
fn the_journal_gets_priorities_and_neither_times_nor_events() {
    let setup = Setup::with_runs(3);
    let year = &Timestamp::now().to_string()[..4];
    let mut command = setup.command(&["sync", "-v"]);
    command.env("APIFY_MIRROR_SYNC__HISTORY_EVENTS", "true");
    let (code, journal) = in_journal(&setup, command);
    assert_eq!(code, Some(0), "{journal}");
    assert!(journal.starts_with("<7>"), "{journal}");
    assert!(!journal.contains("eventType"), "{journal}");
    let lines = journal.lines().filter(|line| line.starts_with('<'));
    for line in lines {
        assert!(!line[3..].starts_with(year), "{line}");
    }

    setup.configure("[sync]\nhistory_events = true\n");
    let (code, journal) = in_journal(&setup, setup.command(&["sync"]));
    assert_eq!(code, Some(0), "{journal}");
    assert_eq!(setup.column("SELECT name FROM sinks"), [""; 0]);

    setup.configure("[sync]\npage_size = 0\noverlap = -1\n");
    let (code, journal) = in_journal(&setup, setup.command(&["sync"]));
    assert_eq!(code, Some(78));
    assert!(journal.lines().count() > 2, "{journal}");
    assert!(
        journal.lines().all(|line| line.starts_with("<3>")),
        "{journal}"
    );
}

#[test]
fn a_configured_standard_output_gets_events_in_the_journal_too() {
    let setup = Setup::with_runs(3);
    let sink = "\n[[sinks]]\nname = \"stdout\"\ntype = \"stdout\"\nstart = \"beginning\"\n";
    setup.configure(&format!("{QUICK}history_events = true\n{sink}"));
    let (code, journal) = in_journal(&setup, setup.command(&["sync"]));
    assert_eq!(code, Some(0), "{journal}");
    assert!(
        journal.contains("\"eventType\":\"ACTOR.RUN.CREATED\""),
        "{journal}"
    );
}

#[test]
fn the_installed_configuration_is_valid_but_for_its_tasks() {
    let setup = Setup::with_runs(3);
    setup.configure(CONFIGURATION);
    let token = setup.write_secret("token", apify_mirror::simulator::TOKEN);
    let check = |arguments: &[&str]| {
        let mut command = setup.bare(arguments);
        command.env("APIFY_MIRROR_API__TOKEN_FILE", &token);
        command.output().unwrap().status.code()
    };
    assert_eq!(check(&["check"]), Some(78));
    assert_eq!(check(&["check", "--task", "janedoe~my-task"]), Some(0));
}

#[test]
fn a_reload_that_systemd_asks_for_takes_effect() {
    let setup = Setup::with_runs(3);
    setup.configure(&format!("{QUICK}\n[log]\nlevel = \"info\"\n"));
    let daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    let unit = include_str!("../../systemd/apify-mirror.service");
    let reload = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecReload=/bin/sh -c "));
    let script = reload.unwrap().trim_matches('\'');
    let status = Command::new("sh")
        .args(["-c", script])
        .env("MAINPID", daemon.child.id().to_string())
        .status();
    assert!(status.unwrap().success());
    daemon.log_line("read the configuration again");
    wait_until("another poll", || !setup.server.take_requests().is_empty());
}
