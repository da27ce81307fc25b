//! Standard output, standard error and files that take only part of what is written, or nothing.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;

use crate::disk::with_little_space;
use crate::support::{Setup, signal, stderr, stdout, wait_until};

/// The largest file in these tests, in bytes: more than the database and its log need.
const LARGEST: u64 = 16 << 20;

/// Makes the file at `path` so large that `left` bytes more fit, and its last line whole.
fn fill(path: &Path, left: u64) {
    let mut file = File::create(path).unwrap();
    file.set_len(LARGEST - left - 1).unwrap();
    let mut end = OpenOptions::new().append(true).open(path).unwrap();
    end.write_all(b"\n").unwrap();
    file.flush().unwrap();
}

/// How often each event has a whole line in `text`. Every other line must be the beginning of one.
fn whole_lines(text: &str) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match serde_json::from_str::<Value>(line) {
            Ok(event) => *found.entry(event["id"].to_string()).or_default() += 1,
            Err(error) => assert!(
                error.is_eof() && line.matches("\"sequence\"").count() <= 1,
                "not the beginning of one line: {line}"
            ),
        }
    }
    found
}

fn assert_each_once(text: &str, events: usize) {
    let found = whole_lines(text);
    assert_eq!(found.len(), events, "an event is in no whole line");
    let repeated: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
    assert!(
        repeated.is_empty(),
        "lines that were whole are repeated: {repeated:?}"
    );
}

/// What was appended to the file at `path` after it was filled.
fn appended(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let begin = bytes.iter().rposition(|byte| *byte == 0).unwrap() + 2;
    String::from_utf8(bytes[begin..].to_vec()).unwrap()
}

#[test]
fn a_line_that_was_cut_off_by_a_full_disk_is_closed_and_whole_lines_are_not_repeated() {
    for in_a_file_sink in [false, true] {
        let mut setup = Setup::with_runs(3);
        let path = setup.dir.path().join("events.jsonl");
        if in_a_file_sink {
            setup
                .configure("[[sinks]]\nname = \"out\"\ntype = \"file\"\npath = \"events.jsonl\"\n");
        } else {
            setup.configure("[[sinks]]\nname = \"out\"\ntype = \"stdout\"\n");
        }
        let redirected = || -> Stdio {
            if in_a_file_sink {
                return Stdio::null();
            }
            OpenOptions::new().append(true).open(&path).unwrap().into()
        };
        fill(&path, 2_500);
        setup.sync();
        setup.add_runs(10);
        let mut limited = with_little_space(&setup, "sync", (LARGEST >> 10) as u32);
        let output = limited.stdout(redirected()).output().unwrap();
        assert_eq!(output.status.code(), Some(75), "{}", stderr(&output));
        let pending = setup.sink("out")["pending"].as_u64().unwrap();
        assert!(
            (1..20).contains(&pending),
            "whole lines count: {pending} of 20 are pending"
        );
        let mut command = setup.command(&["sync"]);
        let output = command.stdout(redirected()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_each_once(&appended(&path), 20);
    }
}

#[test]
fn a_daemon_closes_the_line_that_a_full_disk_cut_off() {
    let mut setup = Setup::with_runs(3);
    let path = setup.dir.path().join("out");
    setup.sync();
    setup.add_runs(10);
    fill(&path, 2_500);
    let mut command = with_little_space(&setup, "run", (LARGEST >> 10) as u32);
    command
        .stdout(OpenOptions::new().append(true).open(&path).unwrap())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_until("the full disk", || {
        setup.sink("stdout.once")["state"] == "failing"
    });
    let lifted = Command::new("prlimit")
        .arg("--pid")
        .arg(child.id().to_string())
        .arg("--fsize=unlimited")
        .status();
    if lifted.is_ok() {
        wait_until("the rest", || setup.sink("stdout.once")["pending"] == 0);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if lifted.is_err() {
        eprintln!("skipped: prlimit is not installed");
        return;
    }
    assert_each_once(&appended(&path), 20);
}

/// The two ends of a pipe whose writing end does not block.
fn pipe_that_does_not_block() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(writer.as_fd()).unwrap();
    fcntl_setfl(writer.as_fd(), flags | OFlags::NONBLOCK).unwrap();
    (reader, writer)
}

/// The same for a socket, as a supervisor may give one.
fn socket_that_does_not_block() -> (Box<dyn Read>, Stdio) {
    let (reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    (Box::new(reader), OwnedFd::from(writer).into())
}

#[test]
fn a_stream_that_does_not_block_is_waited_for() {
    let ends = || {
        let (reader, writer) = pipe_that_does_not_block();
        let pipe: (Box<dyn Read>, Stdio) = (Box::new(reader), writer.into());
        [pipe, socket_that_does_not_block()]
    };
    for (for_sync, for_events) in ends().into_iter().zip(ends()) {
        let setup = Setup::with_runs(1_000);
        setup.configure("[[sinks]]\nname = \"out\"\ntype = \"stdout\"\n");
        let mut sync = setup.command(&["sync"]);
        sync.env("APIFY_MIRROR_SYNC__HISTORY_EVENTS", "true");
        // Nothing reads until it must be full.
        let all = || setup.try_column("SELECT max(seq) || '' FROM events WHERE seq >= 2000");
        let text = read_slowly(sync, for_sync, || wait_until("events", || all().is_some()));
        assert_each_once(&text, 2_000);
        assert_eq!(setup.sink("out")["pending"], 0);
        let text = read_slowly(setup.bare(&["events", "--json"]), for_events, || ());
        assert_each_once(&text, 2_000);
    }
}

/// What `command` writes into `stream`, read in small pieces once `ready` returns. It must succeed.
fn read_slowly(
    mut command: Command,
    (mut reader, writer): (Box<dyn Read>, Stdio),
    ready: impl FnOnce(),
) -> String {
    let child = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its copy of the writing end would keep the stream from ending.
    drop(command);
    ready();
    let (mut text, mut part) = (Vec::new(), [0; 512]);
    while let Ok(read @ 1..) = reader.read(&mut part) {
        text.extend_from_slice(&part[..read]);
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    String::from_utf8(text).unwrap()
}

fn full() -> Stdio {
    OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

#[test]
fn nothing_fails_because_standard_error_cannot_be_written() {
    let mut setup = Setup::with_runs(3);
    setup.sync();
    setup.add_runs(1);
    let commands: [(&[&str], i32); 8] = [
        (&["sync", "-vv"], 0),
        (&["audit", "--json"], 0),
        (&["check", "--online", "--task", "~nothing"], 65),
        (&["status", "-vv"], 0),
        (&["events"], 0),
        (&["sync", "--db", "/nonexistent/runs.db"], 74),
        (&["sink"], 2),
        (&["demo", "--seconds", "1"], 0),
    ];
    for (arguments, code) in commands {
        let output = setup.command(arguments).stderr(full()).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            stdout(&output)
        );
        let closed = setup
            .command_after("exec 2>&-", arguments)
            .output()
            .unwrap();
        assert_eq!(
            closed.status.code(),
            Some(code),
            "{arguments:?} with it closed"
        );
    }
    let mut command = setup.quick_run();
    let mut child = command
        .arg("-vv")
        .stdout(Stdio::null())
        .stderr(full())
        .spawn()
        .unwrap();
    let id = setup.add_runs(1).remove(0);
    wait_until("the run", || {
        setup.runs_with("SUCCEEDED").contains(&id) || setup.runs_with("FAILED").contains(&id)
    });
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    let mut setup = Setup::with_runs(3);
    setup.sync();
    setup.add_runs(1);
    setup.configure("sinks = []");
    let commands: [&[&str]; 9] = [
        &["sync"],
        &["audit"],
        &["audit", "--json"],
        &["check"],
        &["status"],
        &["events"],
        &["deliveries", "list"],
        &["--help"],
        &["--version"],
    ];
    for arguments in commands {
        let output = setup.command(arguments).stdout(full()).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(74),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("standard output: No space left"),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_daemon() {
    let mut setup = Setup::with_runs(3);
    setup.sync();
    let (reader, mut writer) = pipe_that_does_not_block();
    while writer.write(&[b'x'; 512]).is_ok() {}
    let flags = fcntl_getfl(writer.as_fd()).unwrap();
    fcntl_setfl(writer.as_fd(), flags - OFlags::NONBLOCK).unwrap();
    let mut command = setup.quick_run();
    command.arg("-vv").stdout(Stdio::null()).stderr(writer);
    let mut child = command.spawn().unwrap();
    let id = setup.add_runs(1).remove(0);
    wait_until("the run", || setup.runs_with("CREATED").contains(&id));
    signal(&child, "TERM");
    wait_until("its end", || child.try_wait().unwrap().is_some());
    drop(reader);
}
