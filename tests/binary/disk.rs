//! Problems with the database file: a full disk, a file that is deleted, replaced or damaged, and long readers.

use std::io::{Seek, SeekFrom, Write};
use std::process::Command;

use apify_mirror::model::Timestamp;

use crate::support::{Daemon, Setup, stderr};

/// `command` with a limit on the size of files, in kilobytes, to simulate a full disk.
pub fn with_little_space(setup: &Setup, command: &str, kilobytes: u32) -> Command {
    let limit = format!("trap '' XFSZ; ulimit -S -f {}", kilobytes * 2);
    setup.command_after(&limit, &[command])
}

#[test]
fn a_full_disk_is_reported_and_loses_nothing() {
    let setup = Setup::with_runs(4_000);
    let output = with_little_space(&setup, "sync", 400).output().unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    assert!(stderr(&output).contains("space"), "{}", stderr(&output));
    setup.sync();
    setup.assert_exact();
    assert_eq!(setup.column("SELECT id FROM events"), [""; 0]);
}

#[test]
fn the_daemon_waits_for_space_on_a_full_disk() {
    let setup = Setup::with_runs(4_000);
    let daemon = Daemon::start(with_little_space(&setup, "run", 400));
    daemon.log_line("trying again");
    let lifted = Command::new("prlimit")
        .arg("--pid")
        .arg(daemon.child.id().to_string())
        .arg("--fsize=unlimited")
        .status();
    if lifted.is_err() {
        eprintln!("skipped: prlimit is not installed");
        return;
    }
    setup.wait_until_synced();
    setup.assert_exact();
}

#[test]
fn a_deleted_or_replaced_database_ends_the_daemon() {
    for replace in [false, true] {
        let setup = Setup::with_runs(5);
        let mut daemon = Daemon::start_synced(&setup, setup.quick_run());
        std::fs::rename(setup.database(), setup.dir.path().join("away.db")).unwrap();
        if replace {
            std::fs::write(setup.database(), "").unwrap();
        }
        setup.server.world().create(&setup.task, Timestamp::now());
        assert_eq!(daemon.wait(), Some(74));
        daemon.log_line("was deleted or replaced");
    }
}

/// Otherwise it would deliver again and again what it cannot record.
#[test]
fn a_deleted_database_ends_deliveries_too() {
    let setup = Setup::with_runs(5);
    let receiver = setup.receiver();
    setup.configure(&format!(
        "[sync]\npoll_interval = \"1h\"\n[[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\n",
        receiver.url()
    ));
    let mut daemon = Daemon::start_synced(&setup, setup.command(&["run"]));
    std::fs::rename(setup.database(), setup.dir.path().join("away.db")).unwrap();
    assert_eq!(
        daemon.wait(),
        Some(74),
        "it does not wait for the next poll"
    );
}

#[test]
fn a_damaged_database_is_reported_with_a_remedy() {
    let setup = Setup::with_runs(3_000);
    setup.sync();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(setup.database())
        .unwrap();
    for page in 2..200 {
        file.seek(SeekFrom::Start(page * 4_096)).unwrap();
        file.write_all(&[0xa5; 4_096]).unwrap();
    }
    drop(file);
    let output = setup.command(&["sync"]).output().unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("the file is damaged"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_long_read_transaction_blocks_no_writer() {
    let mut setup = Setup::with_runs(500);
    setup.sync();
    let reader = setup.db();
    let count = || -> u64 {
        reader
            .query_row("SELECT count(*) FROM runs", [], |row| row.get(0))
            .unwrap()
    };
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), 500);
    setup.add_runs(3_000);
    setup.sync();
    assert_eq!(count(), 500, "the reader's snapshot does not change");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(count(), 3_500);
    setup.assert_exact();
}
