//! A server that wants to harm: what its answers cost, in memory and time, as the system counts it; and what reaches
//! terminals, logs and requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::cases::Case;
use crate::support::{Daemon, Setup, stderr, stdout, wait_until};

const MIB: usize = 1 << 20;

/// The largest body that is read.
const MAX_BODY: usize = 16 * MIB;

/// The most memory that any answer may take, the program itself included.
const MAX_MEMORY: usize = 4 * MAX_BODY;

/// The longest that a harmful answer may take, on a slow machine.
const MAX_TIME: Duration = Duration::from_secs(30);

/// What is before the items of a list, and after them.
const HEAD: &str = r#"{"data":{"offset":0,"items":["#;
const TAIL: &str = "]}}";

const TASK: &str = r#"{"data": {"id": "TaSk0000000000aa", "name": "odd", "username": "me"}}"#;

/// A body in gzip: a beginning, something many times, and an end.
fn zipped(head: &str, many: &str, times: usize, tail: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(head.as_bytes()).unwrap();
    for _ in 0..times {
        encoder.write_all(many.as_bytes()).unwrap();
    }
    encoder.write_all(tail.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// An answer with a body in gzip.
fn gzip(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn plain(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn list(items: &str) -> Vec<u8> {
    plain(format!("{HEAD}{items}{TAIL}").as_bytes())
}

/// A list of one item with this member beside its id, `size` bytes of what is repeated.
fn item_of(begin: &str, many: &str, size: usize, end: &str) -> Vec<u8> {
    let many = many.repeat(MIB / many.len());
    let head = format!(r#"{HEAD}{{"id":"odd","x":{begin}"#);
    let tail = format!("{end}}}{TAIL}");
    gzip(200, &zipped(&head, &many, size / MIB, &tail))
}

/// Whether this asks for the beginning of a list of runs.
fn is_beginning(path: &str) -> bool {
    path.contains("/runs?offset=0&")
}

/// The answer to any other request: no runs, or the task.
fn other(path: &str) -> Vec<u8> {
    match path.contains("/runs?") {
        true => list(""),
        false => plain(TASK.as_bytes()),
    }
}

/// A server that is told what to write for each path.
struct Hostile {
    setup: Setup,
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hostile {
    fn writing(write: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, write) = (Arc::clone(&requests), Arc::new(write));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (log, write) = (Arc::clone(&log), Arc::clone(&write));
                std::thread::spawn(move || {
                    let mut head = String::new();
                    let mut reader = BufReader::new(&stream);
                    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    log.lock().unwrap().push(path.clone());
                    write(&path, &mut stream);
                });
            }
        });
        Self {
            setup: Setup::with_runs(0),
            url,
            requests,
        }
    }

    /// Gives this answer to every request for the beginning of a list of runs; nothing follows.
    fn listing(answer: Vec<u8>) -> Self {
        Self::writing(move |path, stream| {
            // The reader may have had enough.
            let _ = match path {
                path if is_beginning(path) => stream.write_all(&answer),
                path => stream.write_all(&other(path)),
            };
        })
    }

    /// A daemon that logs every attempt.
    fn daemon(&self) -> Command {
        let mut command = self.setup.command(&["run", "-v"]);
        command.env("APIFY_MIRROR_API__BASE_URL", &self.url);
        command
    }

    /// Starts the daemon, waits until it logs `text`, and checks what that took.
    fn costs_little_until(&self, text: &str) {
        self.costs_little(self.daemon(), text);
    }

    fn costs_little(&self, command: Command, text: &str) {
        let began = Instant::now();
        let daemon = Daemon::start(command);
        daemon.log_line(text);
        let (took, memory) = (began.elapsed(), peak_memory(&daemon));
        println!("{text}: {took:.1?}, {} MiB at most", memory / MIB);
        assert!(took < MAX_TIME, "{text}: {took:?}");
        assert!(memory < MAX_MEMORY, "{text}: {} MiB", memory / MIB);
    }
}

/// The most memory that the process has ever had at once, in bytes.
fn peak_memory(daemon: &Daemon) -> usize {
    let path = format!("/proc/{}/status", daemon.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse::<usize>().unwrap() << 10
}

/// The time that the process has had a core, in hundredths of a second.
fn core_time(daemon: &Daemon) -> u64 {
    let path = format!("/proc/{}/stat", daemon.child.id());
    let stat = std::fs::read_to_string(path).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
    let times = fields.skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_body_that_grows_when_it_is_unpacked_is_bounded() {
    let items = r#"{"id":1},"#.repeat(100_000);
    let bomb = gzip(200, &zipped(HEAD, &items, 30, TAIL));
    let hostile = Hostile::listing(bomb);
    hostile.costs_little_until("200 with an unusable body: it is larger than 16 MiB");
    assert!(
        hostile.requests.lock().unwrap().len() < 5,
        "it is not asked for again"
    );
}

#[test]
fn many_items_are_bounded() {
    for item in [r#"{"id":1},"#, "[],", "0,", r#""","#] {
        let items = item.repeat(MIB / item.len());
        let page = gzip(200, &zipped(HEAD, &items, 15, &format!("0{TAIL}")));
        let hostile = Hostile::listing(page);
        hostile.costs_little_until("200 with an unusable body: it has more than 10000 items");
    }
}

#[test]
fn heavy_items_are_bounded() {
    // Items that weigh nearly a mebibyte each, and such as weigh some kilobytes.
    let object = format!(r#"{{"id":"a","x":[{}0]}},"#, "{},".repeat(1_250));
    let keys: String = (0..100).map(|n| format!(r#""{n}":{{"":0}},"#)).collect();
    let small = format!(r#"{{{keys}"id":"a"}},"#);
    for (item, times) in [(object, 30), (small, 9_000)] {
        let page = gzip(200, &zipped(HEAD, &item, times, &format!("0{TAIL}")));
        let hostile = Hostile::listing(page);
        hostile.costs_little_until("its items take more memory than any page may");
    }
}

#[test]
fn the_heaviest_pages_that_are_read_are_bounded() {
    let run = |n: usize, x: &str| format!(r#"{{"id":"r{n}","status":"RUNNING","x":{x}}}"#);
    let text = format!("\"{}\"", "x".repeat(MIB / 6 - 1_000));
    let objects = format!("[{}0]", "{},".repeat(1_200));
    let numbers = format!("[{}0]", "0,".repeat(9_300));
    for (x, runs) in [
        (text.as_str(), 20),
        (&objects, 22),
        (&numbers, 23),
        ("0", 7_500),
    ] {
        let items: Vec<_> = (0..runs).map(|n| run(n, x)).collect();
        let hostile = Hostile::writing(move |path, stream| {
            let answer = match path {
                path if is_beginning(path) => gzip(200, &zipped(HEAD, &items.join(","), 1, TAIL)),
                path => other(path),
            };
            let _ = stream.write_all(&answer);
        });
        hostile.costs_little_until("first sync complete");
        let count = hostile
            .setup
            .column("SELECT CAST(count(*) AS TEXT) FROM runs");
        assert_eq!(count, [runs.to_string()]);
    }
}

#[test]
fn heavy_pages_of_many_tasks_are_not_held_at_once() {
    const TASKS: usize = 15;
    let text = "x".repeat(MIB / 6 - 1_000);
    let hostile = Hostile::writing(move |path, stream| {
        let task = path.split('/').nth(3).unwrap_or_default();
        let run = |n| {
            format!(
                r#"{{"id":"{task}r{n}","status":"RUNNING","startedAt":"2026-01-{n}T00:00:00.000Z","x":"{text}"}}"#
            )
        };
        let answer = if is_beginning(path) {
            let items: Vec<_> = (10..30).map(run).collect();
            gzip(200, &zipped(HEAD, &items.join(","), 1, TAIL))
        } else if path.contains("/runs?") {
            list("")
        } else {
            let tasks: Vec<_> = (0..TASKS).map(|n| format!(r#"{{"id":"t{n}"}}"#)).collect();
            let tasks = format!(
                r#"{{"data":{{"total":{TASKS},"items":[{}]}}}}"#,
                tasks.join(",")
            );
            plain(tasks.as_bytes())
        };
        let _ = stream.write_all(&answer);
    });
    let mut command = hostile.daemon();
    command.env_remove("APIFY_MIRROR_TASKS");
    command.env("APIFY_MIRROR_DISCOVER_TASKS", "true");
    command.env("APIFY_MIRROR_API__CONCURRENCY", "1");
    let daemon = Daemon::start(command);
    let count = || {
        hostile
            .setup
            .column("SELECT CAST(count(*) AS TEXT) FROM runs")
    };
    let all = [(20 * TASKS).to_string()];
    daemon.log_line("mirroring");
    wait_until("all runs", || count() == all);
    let memory = peak_memory(&daemon);
    println!("{TASKS} tasks: {} MiB at most", memory / MIB);
    // As much again for the cache of the database, which holds all of that.
    assert!(memory < 2 * MAX_MEMORY, "{} MiB", memory / MIB);
}

#[test]
fn text_that_would_be_parsed_within_itself_is_unreadable_and_stops_nothing() {
    let inner = format!(r#"[{}0]"#, r#"{\"\":0},"#.repeat(8_000));
    let deep = format!(r#"{}\"x\"{}"#, "[".repeat(100), "]".repeat(100));
    let raw = |id: &str, text: &str| {
        format!(
            r#"{{"id":"{id}","status":"RUNNING","x":{{"$serde_json::private::RawValue":"{text}"}}}}"#
        )
    };
    let nested = |id: &str, levels: usize| {
        format!(
            r#"{{"id":"{id}","x":{}1{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    let mut items: Vec<_> = (0..20).map(|n| raw(&format!("r{n}"), &inner)).collect();
    items.extend([
        raw("deep", &deep),
        nested("n", 99),
        nested("m", 126),
        nested("o", 125),
    ]);
    items.push(r#"{"id":"good","status":"RUNNING"}"#.to_owned());
    let hostile = Hostile::listing(list(&items.join(",")));
    let mut command = hostile.daemon();
    command.env("APIFY_MIRROR_SYNC__HISTORY_EVENTS", "true");
    hostile.costs_little(command, "first sync complete");
    let ids = hostile.setup.column("SELECT id FROM runs ORDER BY id");
    assert_eq!(ids, ["good", "n"]);
    let odd = hostile
        .setup
        .column("SELECT CAST(count(*) AS TEXT) FROM unreadable_items");
    assert_eq!(odd, ["23"]);
    // What was stored can be read again.
    let mut sync = hostile.setup.command(&["sync"]);
    sync.env("APIFY_MIRROR_API__BASE_URL", &hostile.url);
    let output = sync.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    Case::of(&["events"])
        .stdout("ACTOR.RUN.CREATED")
        .check(&hostile.setup);
}

#[test]
fn one_huge_item_is_unreadable_and_bounded() {
    for (begin, many, end) in [
        ("[", r#""","#, "0]"),
        ("", "7", ""),
        ("{", r#""":0,"#, r#""a":1}"#),
        ("[", "{},", "0]"),
        (r#"""#, r"\u00e9", r#"""#),
    ] {
        let hostile = Hostile::listing(item_of(begin, many, 15 * MIB, end));
        hostile.costs_little_until("cannot be read: it takes more than 1 MiB of memory");
        let ids = hostile.setup.column("SELECT item FROM unreadable_items");
        assert_eq!(ids, ["id:odd"]);
    }
}

#[test]
fn text_that_is_cut_off_or_nested_or_no_text_is_bounded() {
    let deep = "[".repeat(MIB);
    let nested = gzip(200, &zipped(HEAD, &deep, 15, ""));
    Hostile::listing(nested).costs_little_until("it is cut off");
    let mut bytes = format!(r#"{HEAD}{{"id":"odd","x":""#).into_bytes();
    bytes.resize(15 * MIB, 0xff);
    bytes.extend(format!("\"}}{TAIL}").bytes());
    Hostile::listing(plain(&bytes)).costs_little_until("it takes more than 1 MiB of memory");
    let key = "k".repeat(MIB);
    let long_key = gzip(200, &zipped(r#"{"data":{""#, &key, 15, r#"":1}}"#));
    Hostile::listing(long_key).costs_little_until("missing field `data.items`");
}

#[test]
fn an_error_of_many_bytes_is_bounded() {
    let many = "0,".repeat(MIB / 2);
    let body = zipped(r#"{"error":{"type":"t","message":["#, &many, 15, "0]}}");
    Hostile::listing(gzip(503, &body)).costs_little_until("503 Service Unavailable");
}

#[test]
fn a_single_run_of_many_bytes_is_bounded() {
    let single = format!(r#"{{"data":{{"id":"a","x":[{}0]}}}}"#, "0,".repeat(7 * MIB));
    let lists = AtomicUsize::new(0);
    let hostile = Hostile::writing(move |path, stream| {
        let run = |id, second| {
            let started = format!("2026-03-01T10:00:0{second}.000Z");
            list(&format!(
                r#"{{"id":"{id}","status":"RUNNING","startedAt":"{started}"}}"#
            ))
        };
        let answer = match path {
            path if path.contains("/actor-runs/") => plain(single.as_bytes()),
            // After the first sync, the run is not listed any more, so that it is read singly.
            path if is_beginning(path) => match lists.fetch_add(1, Ordering::Relaxed) {
                ..2 => run("a", 1),
                _ => run("b", 2),
            },
            path => other(path),
        };
        let _ = stream.write_all(&answer);
    });
    let mut command = hostile.daemon();
    command.env("APIFY_MIRROR_SYNC__POLL_INTERVAL", "100ms");
    hostile.costs_little(command, "it takes more than 1 MiB of memory");
}

#[test]
fn times_and_numbers_beyond_all_bounds_stop_no_mirror() {
    const MOST: i64 = i64::MAX;
    let hostile = Hostile::writing(move |path, stream| {
        let run =
            |id, start| format!(r#"{{"id":"{id}","status":"RUNNING","startedAt":"{start}"}}"#);
        let items = [
            run("a", "2026-03-01T10:00:00.000Z"),
            "5".to_owned(),
            run("b", "9999-12-30T22:00:00.000Z"),
            "6".to_owned(),
            run("c", "9999-12-30T22:00:00.999Z"),
        ];
        let body = match path {
            path if path.contains("/runs?") => format!(
                r#"{{"data":{{"total":{MOST},"offset":{MOST},"limit":{MOST},"items":[{}]}}}}"#,
                items.join(",")
            ),
            path if path.contains("/actor-runs/") => {
                format!(
                    r#"{{"data":{}}}"#,
                    run(&path[path.len() - 1..], "9999-12-30T22:00:00.999Z")
                )
            }
            path => {
                let id = path.rsplit_once("~").map_or("t", |(_, name)| name);
                format!(r#"{{"data":{{"id":"{id}","createdAt":"9999-12-30T22:00:00.999Z"}}}}"#)
            }
        };
        let head =
            "HTTP/1.1 200 OK\r\nconnection: close\r\ndate: Thu, 30 Dec 9999 22:00:00 GMT\r\n";
        let length = body.len();
        let answer = format!("{head}content-length: {length}\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes());
    });
    for arguments in [["sync"], ["sync"], ["audit"], ["sync"]] {
        let mut command = hostile.setup.command(&arguments);
        command.env("APIFY_MIRROR_API__BASE_URL", &hostile.url);
        command.env("APIFY_MIRROR_TASKS", "a~ta,a~tb,a~tc");
        let output = command.output().unwrap();
        // The server's answers show no way on, which is told; the database and the process hold.
        assert!(
            matches!(output.status.code(), Some(0 | 75)),
            "{}",
            stderr(&output)
        );
    }
    Case::of(&["status"]).check(&hostile.setup);
}

#[test]
fn a_list_of_tasks_without_end_is_given_up() {
    let hostile = Hostile::writing(|path, stream| {
        let offset = path.split(['=', '&']).nth(1).unwrap_or_default();
        let offset: usize = offset.parse().unwrap_or_default();
        let task = |n| format!(r#"{{"id":"t{n}","name":"{}"}}"#, "n".repeat(300));
        let tasks: Vec<_> = (offset..offset + 1_000).map(task).collect();
        let body = format!(r#"{{"data":{{"items":[{}]}}}}"#, tasks.join(","));
        let _ = stream.write_all(&plain(body.as_bytes()));
    });
    let mut command = hostile.daemon();
    command.env_remove("APIFY_MIRROR_TASKS");
    command.env("APIFY_MIRROR_DISCOVER_TASKS", "true");
    hostile.costs_little(
        command,
        "the list does not end within 1000 pages and 20000 tasks",
    );
    assert!(hostile.requests.lock().unwrap().len() < 30);
}

/// Writes a piece again and again, with a pause, until nobody reads it any more.
fn forever(begin: &'static str, piece: &'static str, pause: Duration) -> Hostile {
    Hostile::writing(move |_, stream| {
        let _ = stream.set_nodelay(true);
        let mut next = begin;
        while stream.write_all(next.as_bytes()).is_ok() {
            std::thread::sleep(pause);
            next = piece;
        }
    })
}

#[test]
fn an_answer_without_end_takes_no_longer_than_the_timeout_and_no_core() {
    let ok = "HTTP/1.1 200 OK\r\n";
    for (begin, piece) in [
        ("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
        (ok, "x"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "1\r\nx\r\n",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n", "x"),
    ] {
        let hostile = forever(begin, piece, Duration::from_millis(20));
        let mut command = hostile.daemon();
        command.env("APIFY_MIRROR_API__TIMEOUT", "1s");
        let began = Instant::now();
        let daemon = Daemon::start(command);
        daemon.log_line("no answer in time");
        let (took, core) = (began.elapsed(), core_time(&daemon));
        assert!(took < MAX_TIME, "{piece:?}: {took:?}");
        assert!(core < 60, "{piece:?}: {core} hundredths of a second");
        assert!(peak_memory(&daemon) < MAX_MEMORY, "{piece:?}");
    }
}

#[test]
fn a_flood_of_informational_answers_ends_with_the_timeout() {
    let flood = forever("", "HTTP/1.1 103 Early Hints\r\n\r\n", Duration::ZERO);
    let mut command = flood.daemon();
    command.env("APIFY_MIRROR_API__TIMEOUT", "1s");
    flood.costs_little(command, "no answer in time");
}

#[test]
fn headers_are_bounded() {
    let endless = forever(
        "HTTP/1.1 200 OK\r\nx: ",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        Duration::ZERO,
    );
    endless.costs_little_until("the answer broke off: message head is too large");
    let many = forever("HTTP/1.1 200 OK\r\n", "x: y\r\n", Duration::ZERO);
    many.costs_little_until("the answer broke off: ");
}

/// What no terminal and no log must get.
const ACTIVE: &str = "\u{1b}]0;x\u{7}\u{9b}2J\u{7f}\u{202e}\u{2066}\u{2028}\u{200b}\u{feff}\n<0>\r";

fn is_active(c: char) -> bool {
    c != '\n' && apify_mirror::text::is_active(c)
}

#[test]
fn what_the_api_says_is_inert_everywhere() {
    let text = serde_json::to_string(ACTIVE).unwrap();
    let text = text[1..text.len() - 1].to_owned();
    let (long, message) = ("x".repeat(5 * MIB), "m".repeat(10_000));
    let hostile = Hostile::writing(move |path, stream| {
        let answer = match path {
            path if is_beginning(path) => {
                let run = |id: &str, second| {
                    format!(
                        r#"{{"id":"{id}","status":"{text}","startedAt":"2026-03-01T10:00:0{second}.000Z","title":"{text}"}}"#
                    )
                };
                let items = format!("{},{}", run("a", 1), run(&text, 2));
                plain(
                    format!(r#"{{"data":{{"total":{long},"items":[{items}]}}}}"#)
                        .replace('x', "7")
                        .as_bytes(),
                )
            }
            path if path.contains("/runs?") => list(""),
            path if path.contains("missing") => {
                let body =
                    format!(r#"{{"error":{{"type":"{text}","message":"{text}{message}"}}}}"#);
                let head = "HTTP/1.1 404 X\r\nconnection: close\r\ncontent-length:";
                format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
            }
            _ => plain(
                format!(r#"{{"data":{{"id":"T","name":"{text}","username":"{text}"}}}}"#)
                    .as_bytes(),
            ),
        };
        let _ = stream.write_all(&answer);
    });
    let case =
        |arguments: &[&str]| Case::of(arguments).env("APIFY_MIRROR_API__BASE_URL", &hostile.url);
    let mut printed = Vec::new();
    for format in ["text", "json"] {
        let sync = case(&["sync", "-vv", "--log-format", format]).check(&hostile.setup);
        let log = stderr(&sync);
        assert!(log.len() < 100_000 && log.contains("log started"), "{log}");
        printed.extend([log, stdout(&sync)]);
    }
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["events"],
        &["events", "--json"],
        &["audit"],
        &["audit", "--json"],
        &["check", "--online"],
        &["deliveries", "list", "--all"],
        &["sinks", "list"],
    ] {
        let output = case(arguments).check(&hostile.setup);
        printed.extend([stdout(&output), stderr(&output)]);
    }
    for arguments in [["sync"], ["status"]] {
        let missing = case(&arguments).env("APIFY_MIRROR_TASKS", "missing");
        let output = missing.code(65).check(&hostile.setup);
        printed.extend([stdout(&output), stderr(&output)]);
    }
    for text in printed {
        assert!(!text.contains(is_active), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("<0>")), "{text}");
        assert!(text.lines().all(|line| line.len() < 20_000), "{text}");
    }
}

#[test]
fn events_are_inert_on_standard_output_and_in_files_and_mean_the_same() {
    let mut title = serde_json::to_string(ACTIVE).unwrap();
    title.retain(|c| c != '\u{0}');
    let runs = Arc::new(Mutex::new(1));
    let count = Arc::clone(&runs);
    let hostile = Hostile::writing(move |path, stream| {
        let run = |n: usize| {
            let second = 2 * n;
            format!(
                r#"{{"id":"r{n}","status":"READY","startedAt":"2026-03-01T10:00:{second:02}.000Z","title":{title}}}"#
            )
        };
        let listed = *count.lock().unwrap();
        let answer = match path {
            path if path.contains("status=") => list(""),
            path if path.contains("/actor-runs/") => {
                let (_, id) = path.rsplit_once("/r").unwrap();
                let single = run(id.parse().unwrap());
                plain(format!(r#"{{"data":{single}}}"#).as_bytes())
            }
            path if is_beginning(path) => {
                let mut items: Vec<_> = (1..=listed).map(run).collect();
                if path.contains("desc=true") {
                    items.reverse();
                }
                list(&items.join(","))
            }
            path => other(path),
        };
        let _ = stream.write_all(&answer);
    });
    hostile.setup.configure(
        "[[sinks]]\nname = \"out\"\ntype = \"stdout\"\n[[sinks]]\nname = \"file\"\ntype = \"file\"\npath = \"events.jsonl\"\n",
    );
    let sync = || {
        Case::of(&["sync"])
            .env("APIFY_MIRROR_API__BASE_URL", &hostile.url)
            .check(&hostile.setup)
    };
    sync();
    *runs.lock().unwrap() = 2;
    let printed = stdout(&sync());
    let file = std::fs::read_to_string(hostile.setup.dir.path().join("events.jsonl")).unwrap();
    let log = stdout(&Case::of(&["events", "--json"]).check(&hostile.setup));
    assert_eq!(file, log);
    assert_eq!(file.replace('<', "\\u003c"), printed);
    assert!(!printed.contains(is_active), "{printed:?}");
    let event: Value = serde_json::from_str(printed.lines().next().unwrap()).unwrap();
    assert_eq!(event["resource"]["title"], ACTIVE);
    let stored = hostile
        .setup
        .column("SELECT payload FROM events ORDER BY seq");
    let stored: Value = serde_json::from_str(&stored[0]).unwrap();
    assert_eq!(event, stored);
}

#[test]
fn an_id_never_leads_to_another_endpoint() {
    let long = "x".repeat(101);
    let ids = [
        ".",
        "..",
        "../../v2/users/me",
        "%2e%2e",
        "a/b",
        "a\\\\b",
        &long,
    ];
    let items: Vec<_> = ids
        .iter()
        .map(|id| {
            format!(r#"{{"id":"{id}","status":"RUNNING","startedAt":"2026-03-01T10:00:01.000Z"}}"#)
        })
        .collect();
    let items = items.join(",");
    let hostile = Hostile::listing(list(&items));
    let case =
        |arguments: &[&str]| Case::of(arguments).env("APIFY_MIRROR_API__BASE_URL", &hostile.url);
    case(&["sync"]).check(&hostile.setup);
    case(&["sync"]).check(&hostile.setup);
    assert_eq!(hostile.setup.column("SELECT id FROM runs"), [""; 0]);
    let unreadable = "SELECT CAST(count(*) AS TEXT) FROM unreadable_items";
    assert_eq!(hostile.setup.column(unreadable), [ids.len().to_string()]);
    let paths = std::mem::take(&mut *hostile.requests.lock().unwrap());
    let expected = [
        "/v2/actor-tasks/janedoe~my-task",
        "/v2/actor-tasks/TaSk0000000000aa/runs?",
    ];
    let known = |path: &String| expected.iter().any(|start| path.starts_with(start));
    assert!(paths.iter().all(known), "{paths:?}");
    for task in ["..", "../x", "~..", "a\nb"] {
        case(&["sync", "--task", task])
            .bare()
            .code(2)
            .check(&hostile.setup);
    }
}
