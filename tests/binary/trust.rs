//! A machine that others use too: whose files are read and written, and a database that somebody else has changed.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::cases::{Case, check_all};
use crate::support::{Setup, stderr, stdout};

/// `nobody`, whom every system has, with a group of the same number.
const SERVICE: u32 = 65_534;
/// A user who owns nothing.
const OTHER: u32 = 61_002;

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The permission bits of the set-up's files whose names begin with `runs.db`, by what follows on that.
fn modes(setup: &Setup) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir(setup.dir.path()).unwrap();
    let mut modes: Vec<(String, u32)> = entries
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let mode = entry.metadata().unwrap().mode() & 0o7777;
            Some((name.strip_prefix("runs.db")?.to_owned(), mode))
        })
        .collect();
    modes.sort();
    modes
}

/// Syncs with a umask that takes nothing away.
fn sync_without_umask(setup: &Setup) -> Output {
    let output = setup
        .command_after("umask 000", &["sync"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

#[test]
fn files_are_created_for_their_owner_alone_whatever_the_umask() {
    let setup = Setup::with_runs(3);
    let file = |path| {
        format!(
            "[[sinks]]\nname = \"log\"\ntype = \"file\"\npath = \"{path}\"\nstart = \"beginning\"\n[sync]\nhistory_events = true\n"
        )
    };
    setup.configure(&file("events.jsonl"));
    sync_without_umask(&setup);
    let all = |mode| ["", "-shm", "-wal"].map(|suffix| (suffix.to_owned(), mode));
    let lock = (".lock".to_owned(), 0o600);
    let expected = |mode| {
        let mut modes = all(mode).to_vec();
        modes.push(lock.clone());
        modes.sort();
        modes
    };
    assert_eq!(modes(&setup), expected(0o600));
    let events = setup.dir.path().join("events.jsonl");
    assert_eq!(events.metadata().unwrap().mode() & 0o7777, 0o600);
    // For a group of readers, and back. The lock is not theirs: who can read a file can lock it.
    setup.configure("[database]\nmode = \"0640\"\n");
    let output = sync_without_umask(&setup);
    assert!(
        stderr(&output).contains("had mode 600, and has 640"),
        "{}",
        stderr(&output)
    );
    assert_eq!(modes(&setup), expected(0o640));
    setup.configure("");
    mode(&setup.dir.path().join("runs.db.lock"), 0o666);
    check_all(
        &setup,
        [Case::of(&["sync"])
            .code(74)
            .stderr("runs.db.lock can be written by others")],
    );
    mode(&setup.dir.path().join("runs.db.lock"), 0o644);
    sync_without_umask(&setup);
    assert_eq!(modes(&setup), expected(0o600));
}

#[test]
fn what_others_can_write_or_read_is_refused_by_name() {
    let setup = Setup::with_runs(3);
    let dir = setup.dir.path().to_owned();
    let sink = "[[sinks]]\nname = \"log\"\ntype = \"file\"\npath = \"events.jsonl\"\n";
    setup.configure(sink);
    setup.sync();
    setup.write_secret("token", apify_mirror::simulator::TOKEN);
    std::fs::write(dir.join("events.jsonl"), "").unwrap();
    mode(&dir.join("events.jsonl"), 0o600);
    let sync = || Case::of(&["sync"]).env("APIFY_MIRROR_API__TOKEN_FILE", "token");
    for (name, bits, code, text) in [
        (
            "apify-mirror.toml",
            0o664,
            78,
            "apify-mirror.toml can be written by others",
        ),
        ("token", 0o640, 77, "token can be read by others"),
        ("token", 0o602, 77, "token can be written by others"),
        ("runs.db", 0o620, 74, "runs.db can be written by others"),
        (
            "runs.db-wal",
            0o606,
            74,
            "runs.db-wal can be written by others",
        ),
        (
            "runs.db-shm",
            0o606,
            74,
            "runs.db-shm can be written by others",
        ),
        (
            "events.jsonl",
            0o622,
            78,
            "events.jsonl can be written by others",
        ),
    ] {
        let path = dir.join(name);
        let before = path.metadata().unwrap().mode() & 0o7777;
        mode(&path, bits);
        let output = sync().code(code).stderr(text).check(&setup);
        for part in [
            format!("mode {bits:o}"),
            "owner ".to_owned(),
            "`chmod ".to_owned(),
        ] {
            assert!(stderr(&output).contains(&part), "{}", stderr(&output));
        }
        mode(&path, before);
    }
    // SQLite would replace the database by what it finds in a journal.
    let journal = setup.write_secret("runs.db-journal", "x");
    mode(&journal, 0o666);
    sync()
        .code(74)
        .stderr("runs.db-journal can be written by others")
        .check(&setup);
    std::fs::remove_file(journal).unwrap();
    // Reading a mirror asks nothing of it.
    mode(&dir.join("runs.db"), 0o666);
    check_all(&setup, [Case::of(&["status"]), Case::of(&["events"])]);
    // SQLite gives the files beside it the same mode.
    for name in ["runs.db", "runs.db-wal", "runs.db-shm"] {
        mode(&dir.join(name), 0o600);
    }
    // A folder in which others may replace the files.
    mode(&dir, 0o777);
    sync()
        .code(78)
        .stderr("can replace apify-mirror.toml")
        .check(&setup);
    mode(&dir, 0o700);
}

#[test]
fn links_are_not_followed_to_create_files() {
    let setup = Setup::with_runs(3);
    let dir = setup.dir.path();
    symlink(dir.join("elsewhere.db"), dir.join("runs.db")).unwrap();
    Case::of(&["sync"])
        .code(74)
        .stderr("symbolic link")
        .check(&setup);
    assert!(!dir.join("elsewhere.db").exists());
    for name in ["runs.db", "runs.db.lock"] {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    symlink(dir.join("elsewhere.lock"), dir.join("runs.db.lock")).unwrap();
    Case::of(&["sync"])
        .code(74)
        .stderr("symbolic link")
        .check(&setup);
    assert!(!dir.join("elsewhere.lock").exists());
}

/// As another user than the one whose files they are, which takes root.
#[test]
fn files_of_other_users_are_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let setup = Setup::with_runs(3);
    let dir = setup.dir.path();
    setup.configure("[[sinks]]\nname = \"run\"\ntype = \"exec\"\ncommand = [\"touch\", \"ran\"]\nstart = \"beginning\"\n[sync]\nhistory_events = true\n");
    let config = dir.join("apify-mirror.toml");
    chown(&config, Some(OTHER), Some(OTHER)).unwrap();
    for command in ["sync", "run", "audit", "check", "status"] {
        Case::of(&[command])
            .code(78)
            .stderr(format!(
                "apify-mirror.toml belongs to user {OTHER} (mode 600)"
            ))
            .stderr("chown 0")
            .check(&setup);
    }
    assert!(!dir.join("ran").exists() && !setup.database().exists());
    chown(&config, Some(0), Some(0)).unwrap();
    Case::of(&["sync"]).check(&setup);
    assert!(dir.join("ran").exists());
    chown(setup.database(), Some(OTHER), Some(OTHER)).unwrap();
    for command in ["sync", "audit"] {
        Case::of(&[command])
            .code(74)
            .stderr(format!("runs.db belongs to user {OTHER}"))
            .check(&setup);
    }
    Case::of(&["status"]).check(&setup);
}

/// What SQLite keeps beside a database lies beside the file itself, not beside a link to it.
#[test]
fn what_is_beside_the_file_that_a_link_leads_to_counts() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let setup = Setup::with_runs(3);
    setup.sync();
    let dir = setup.dir.path();
    std::fs::create_dir(dir.join("shared")).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("runs.db{suffix}");
        std::fs::rename(dir.join(&name), dir.join("shared").join(&name)).unwrap();
    }
    symlink("shared/runs.db", setup.database()).unwrap();
    Case::of(&["sync"]).check(&setup);
    assert!(dir.join("shared/runs.db.lock").exists());
    let log = dir.join("shared/runs.db-wal");
    chown(&log, Some(OTHER), Some(OTHER)).unwrap();
    Case::of(&["sync"])
        .code(74)
        .stderr("runs.db-wal: what is kept beside a database must be a regular file of its owner")
        .check(&setup);
    // SQLite would make it root's when root only reads.
    Case::of(&["status"])
        .code(74)
        .stderr("runs.db-wal: what is kept beside a database")
        .check(&setup);
    chown(&log, Some(0), Some(0)).unwrap();
    // Nothing is created beside a file of others that a link leads to.
    std::fs::remove_file(dir.join("shared/runs.db.lock")).unwrap();
    chown(dir.join("shared/runs.db"), Some(OTHER), Some(OTHER)).unwrap();
    Case::of(&["sync"])
        .code(74)
        .stderr(format!("runs.db belongs to user {OTHER}"))
        .check(&setup);
    assert!(!dir.join("shared/runs.db.lock").exists());
}

#[test]
fn a_pipe_beside_a_database_is_not_waited_for() {
    let setup = Setup::with_runs(3);
    setup.sync();
    for suffix in ["-journal", ".lock"] {
        let pipe = setup.dir.path().join(format!("runs.db{suffix}"));
        let _ = std::fs::remove_file(&pipe);
        let made = Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for command in ["status", "events", "sync"] {
            Case::of(&[command])
                .code(74)
                .stderr(format!(
                    "runs.db{suffix}: what is kept beside a database must be a regular file"
                ))
                .check(&setup);
        }
        std::fs::remove_file(pipe).unwrap();
    }
}

/// SQLite reads statistics with the schema, before anybody can look at it.
#[test]
fn statistics_that_compute_without_end_are_not_waited_for() {
    let setup = Setup::with_runs(3);
    setup.sync();
    let db = rusqlite::Connection::open(setup.database()).unwrap();
    db.execute_batch(
        "CREATE INDEX mine ON runs (origin); ANALYZE; PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = \
         'CREATE TABLE sqlite_stat1(tbl,idx,stat AS (instr(hex(zeroblob(16000000)), hex(zeroblob(8000000))||''1'')))' \
         WHERE name = 'sqlite_stat1'",
    )
    .unwrap();
    drop(db);
    for command in ["status", "sync"] {
        Case::of(&[command])
            .code(74)
            .stderr("schema takes longer to read than any of apify-mirror's")
            .check(&setup);
    }
}

#[test]
fn an_event_that_somebody_changed_stops_none_after_it() {
    let setup = Setup::with_runs(3);
    setup.configure("[sync]\nhistory_events = true\n");
    setup.sync();
    let db = rusqlite::Connection::open(setup.database()).unwrap();
    let forge = "UPDATE events SET payload = 'no' || char(10) || char(27) || '[2J' WHERE seq = 1";
    db.execute_batch(forge).unwrap();
    drop(db);
    for arguments in [&["events"][..], &["events", "--json"]] {
        let output = Case::of(arguments)
            .code(74)
            .stderr("event 1: the database holds")
            .check(&setup);
        assert!(stdout(&output).lines().count() >= 5, "{}", stdout(&output));
        assert!(!stdout(&output).contains('\u{1b}'));
    }
}

/// SQLite believes what it finds beside a database, and others may put something there.
#[test]
fn a_database_is_not_written_in_a_folder_for_all() {
    let setup = Setup::with_runs(3);
    setup.sync();
    mode(setup.dir.path(), 0o1777);
    for command in ["sync", "run", "audit"] {
        Case::of(&[command])
            .code(74)
            .stderr("can be written by others")
            .stderr("mode 1777")
            .check(&setup);
    }
    mode(setup.dir.path(), 0o700);
    setup.sync();
}

/// SQLite, as root, would give them to the owner of the database.
#[test]
fn roots_own_files_in_a_services_folder_stay_roots() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let setup = Setup::with_runs(3);
    setup.sync();
    let dir = setup.dir.path();
    let precious = setup.write_secret("precious", "root's own");
    for name in ["", "-wal", "-shm", ".lock"] {
        let path = dir.join(format!("runs.db{name}"));
        chown(path, Some(SERVICE), Some(SERVICE)).unwrap();
    }
    chown(dir, Some(SERVICE), Some(SERVICE)).unwrap();
    for suffix in ["-wal", "-shm", "-journal"] {
        let beside = dir.join(format!("runs.db{suffix}"));
        let _ = std::fs::remove_file(&beside);
        std::fs::hard_link(&precious, &beside).unwrap();
        for command in ["status", "sync"] {
            Case::of(&[command])
                .code(74)
                .stderr(format!("runs.db{suffix}"))
                .check(&setup);
        }
        let found = precious.metadata().unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o600));
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "root's own");
        std::fs::remove_file(beside).unwrap();
    }
    Case::of(&["sync"]).check(&setup);
    Case::of(&["status"]).check(&setup);
}

/// Root looks after a service's mirror, whose folder and files are the service's and stay so.
#[test]
fn what_root_creates_beside_a_services_database_is_the_services() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let setup = Setup::with_runs(3);
    let dir = setup.dir.path();
    chown(dir, Some(SERVICE), Some(SERVICE)).unwrap();
    let owners = || -> Vec<(String, u32, u32)> {
        let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let found = entry.metadata().unwrap();
                (
                    entry.file_name().into_string().unwrap(),
                    found.uid(),
                    found.gid(),
                )
            })
            .collect()
    };
    for command in ["sync", "audit"] {
        Case::of(&[command]).check(&setup);
        let owners = owners();
        assert_eq!(owners.len(), 4, "{owners:?}");
        assert!(
            owners
                .iter()
                .all(|(_, user, group)| (*user, *group) == (SERVICE, SERVICE)),
            "{owners:?}"
        );
    }
    // A daemon would look for its configuration again as that user, and programs would be on root's terminal.
    Case::of(&["run"])
        .code(74)
        .stderr("root does not run the daemon there")
        .check(&setup);
    // A copy is root's own, also where the service may not go.
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("copy.db");
    Case::of(&["backup", copy.to_str().unwrap()]).check(&setup);
    let found = copy.metadata().unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o600));
    assert_eq!(std::fs::read_dir(&copies).unwrap().count(), 1);
    // The service goes on.
    let mut service = setup.command_as(setup.binary_for_all(), &["sync"]);
    service.uid(SERVICE).gid(SERVICE);
    let output = service.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Who can open a file can lock it: the group can read the database, and cannot take its lock; others can do neither.
#[test]
fn who_may_not_write_cannot_take_the_lock() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let setup = Setup::with_runs(3);
    setup.configure("[database]\nmode = \"0640\"\n");
    setup.sync();
    mode(setup.dir.path(), 0o755);
    let opens = |name: &str, group: u32| {
        let mut command = Command::new("cat");
        command.arg(setup.dir.path().join(name));
        command
            .uid(OTHER)
            .gid(group)
            .output()
            .unwrap()
            .status
            .success()
    };
    assert_eq!(
        [opens("runs.db", 0), opens("runs.db", OTHER)],
        [true, false]
    );
    assert_eq!(
        [opens("runs.db.lock", 0), opens("runs.db.lock", OTHER)],
        [false, false]
    );
}

#[test]
fn a_planted_trigger_or_view_is_refused_and_peoples_own_tables_are_not() {
    let setup = Setup::with_runs(3);
    setup.sync();
    let sql = |statements: &str| {
        let db = rusqlite::Connection::open(setup.database()).unwrap();
        db.execute_batch(statements).unwrap();
    };
    let forge = "CREATE TRIGGER forge AFTER UPDATE ON feeds BEGIN \
         INSERT INTO events (seq, id, run_id, type, status, occurred_at, observed_at, payload) \
         VALUES (1000, 'evt_forged', 'r', 'ACTOR.RUN.SUCCEEDED', 'SUCCEEDED', 'x', 'x', '{}'); END";
    sql(forge);
    for command in ["sync", "run", "audit", "status", "events"] {
        Case::of(&[command])
            .code(74)
            .stderr("trigger is not apify-mirror's: \"forge\"")
            .stderr("DROP TRIGGER")
            .check(&setup);
    }
    sql(
        "DROP TRIGGER forge; DROP VIEW open_runs; CREATE VIEW open_runs AS \
         WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id, '' AS task_id FROM n",
    );
    for command in ["status", "sync"] {
        Case::of(&[command])
            .code(74)
            .stderr("view or index was changed: \"open_runs\"")
            .stderr("DROP VIEW \"open_runs\"")
            .check(&setup);
    }
    sql(
        "DROP VIEW open_runs; CREATE TABLE notes (run_id, note); CREATE VIEW noted AS SELECT * FROM notes",
    );
    let output = Case::of(&["sync"]).check(&setup);
    assert!(
        stderr(&output).contains("open_runs was missing"),
        "{}",
        stderr(&output)
    );
    let output = Case::of(&["status"]).check(&setup);
    let printed = stdout(&output);
    for part in ["also in the database: ", "table notes", "view noted"] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn a_secret_in_a_configuration_that_others_can_read_is_refused() {
    let setup = Setup::with_runs(3);
    let config = setup.dir.path().join("apify-mirror.toml");
    let hook = "[[sinks]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";
    setup.configure(hook);
    mode(&config, 0o644);
    let output = Case::of(&["sync"])
        .code(78)
        .stderr("sinks[0].secret")
        .stderr("chmod 600")
        .check(&setup);
    assert!(!stderr(&output).contains("MfKQ"), "{}", stderr(&output));
    mode(&config, 0o600);
    Case::of(&["check"]).stdout("ok").check(&setup);
}

#[test]
fn a_program_that_others_can_replace_is_run_with_a_warning() {
    let setup = Setup::with_runs(1);
    let program = setup.dir.path().join("notify");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    setup.configure("[[sinks]]\nname = \"run\"\ntype = \"exec\"\ncommand = [\"./notify\"]\n");
    mode(&program, 0o755);
    let output = Case::of(&["check"]).check(&setup);
    assert_eq!(stderr(&output), "");
    mode(&program, 0o777);
    for command in ["check", "sync"] {
        Case::of(&[command])
            .stderr("others decide what it runs")
            .stderr("notify can be written by others")
            .check(&setup);
    }
}
