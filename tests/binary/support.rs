//! Set-up: a simulated account, the binary, and a folder; and ways to inspect the results.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use apify_mirror::model::{Run, RunStatus, Timestamp};
use apify_mirror::simulator::{Receiver, Server, TOKEN, World};
use apify_mirror::store::{Reader, SqliteReader};
use rusqlite::{Connection, OpenFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The longest wait of a test for anything, far longer than it takes.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The `[sync]` section of a daemon that polls often.
pub const QUICK: &str = "[sync]\npoll_interval = \"100ms\"\n";

/// The start of the first run of a simulated account, in milliseconds.
pub const PAST: i64 = 1_750_000_000_000;

/// A simulated account with one task, served over HTTP, and a folder to mirror it into.
pub struct Setup {
    pub server: Server,
    pub task: String,
    pub dir: TempDir,
    runs: i64,
    runtime: Runtime,
}

impl Setup {
    /// Creates an account whose task has `runs` ended runs, a second apart.
    pub fn with_runs(runs: usize) -> Self {
        let mut world = World::new(7);
        let task = world.add_task("janedoe", "my-task");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(Server::start(world)).unwrap();
        let mut setup = Self {
            server,
            task,
            dir: tempfile::tempdir().unwrap(),
            runs: 0,
            runtime,
        };
        setup.add_runs(runs);
        setup
    }

    /// Adds ended runs after the others; returns their ids.
    pub fn add_runs(&mut self, count: usize) -> Vec<String> {
        let mut world = self.server.world();
        let add = |n: i64| {
            let started = PAST + n * 1_000;
            let id = world.create(&self.task, Timestamp::from_millis(started));
            let status = if n % 5 == 0 {
                RunStatus::Failed
            } else {
                RunStatus::Succeeded
            };
            world.finish(&id, status, Timestamp::from_millis(started + 700));
            id
        };
        let ids = (self.runs..self.runs + count as i64).map(add).collect();
        self.runs += count as i64;
        ids
    }

    /// Runs `work` on the runtime that serves the account.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Starts a receiver of webhooks.
    pub fn receiver(&self) -> Receiver {
        self.block_on(Receiver::start()).unwrap()
    }

    /// Writes the configuration file that the binary finds.
    pub fn configure(&self, toml: &str) {
        self.write_secret("apify-mirror.toml", toml);
    }

    /// A copy of the binary that every user may run. Another process makes it: what this one has open for writing, it and
    /// the programs that its other tests start cannot run.
    pub fn binary_for_all(&self) -> PathBuf {
        let copy = self.dir.path().join("apify-mirror");
        if !copy.exists() {
            let binary = env!("CARGO_BIN_EXE_apify-mirror");
            let copied = Command::new("cp").arg(binary).arg(&copy).status();
            assert!(copied.unwrap().success());
        }
        copy
    }

    /// Lets every user read the configuration file.
    pub fn publish_configuration(&self) {
        let path = self.dir.path().join("apify-mirror.toml");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Writes a file that nobody else can read; returns its path.
    pub fn write_secret(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The output of `status --json`.
    pub fn status(&self) -> Value {
        let output = self.bare(&["status", "--json"]).output().unwrap();
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    /// The status of a sink; null if there is none of that name.
    pub fn sink(&self, name: &str) -> Value {
        let status = self.status();
        let mut sinks = status["sinks"].as_array().unwrap().iter();
        let sink = sinks.find(|sink| sink["name"] == name);
        sink.cloned().unwrap_or(Value::Null)
    }

    /// The ids of the listed runs, oldest first.
    pub fn listed(&self) -> Vec<String> {
        self.server
            .world()
            .runs(&self.task)
            .map(|run| run.id.clone())
            .collect()
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("runs.db")
    }

    /// The binary, set up for the account and the folder, without a task.
    pub fn bare(&self, arguments: &[&str]) -> Command {
        self.bare_as(env!("CARGO_BIN_EXE_apify-mirror"), arguments)
    }

    /// The same for another program.
    fn bare_as(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("APIFY_TOKEN", TOKEN)
            .env("APIFY_MIRROR_API__BASE_URL", self.server.url())
            .env("APIFY_MIRROR_API__REQUESTS_PER_SECOND", "60")
            .env("APIFY_MIRROR_DATABASE__PATH", self.database());
        command
    }

    /// The binary, set up for the task.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_as(env!("CARGO_BIN_EXE_apify-mirror"), arguments)
    }

    /// The same for another program, such as a copy of the binary.
    pub fn command_as(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = self.bare_as(program, arguments);
        command.env("APIFY_MIRROR_TASKS", "janedoe~my-task");
        command
    }

    /// The binary, set up for the task, run by a shell after the commands `first`.
    pub fn command_after(&self, first: &str, arguments: &[&str]) -> Command {
        let script = format!("{first}; exec \"$0\" \"$@\"");
        let binary = env!("CARGO_BIN_EXE_apify-mirror");
        let mut command = self.command_as("sh", &["-c", &script, binary]);
        command.args(arguments);
        command
    }

    /// A daemon that polls often.
    pub fn quick_run(&self) -> Command {
        let mut command = self.command(&["run"]);
        command.env("APIFY_MIRROR_SYNC__POLL_INTERVAL", "100ms");
        command
    }

    /// Syncs once, which must succeed.
    pub fn sync(&self) -> Output {
        let output = self.command(&["sync"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        output
    }

    /// The database, read-only.
    pub fn db(&self) -> Connection {
        self.try_db().unwrap()
    }

    fn try_db(&self) -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(TIMEOUT)?;
        Ok(db)
    }

    /// One column of text.
    pub fn column(&self, sql: &str) -> Vec<String> {
        let db = self.db();
        let mut statement = db.prepare(sql).unwrap();
        let values = statement
            .query_map([], |row| row.get::<_, String>(0))
            .unwrap();
        values.map(|value| value.unwrap()).collect()
    }

    /// The first value of a query; `None` without a database, a row or a value.
    pub fn try_column(&self, sql: &str) -> Option<String> {
        self.try_db()
            .ok()?
            .query_row(sql, [], |row| row.get(0))
            .ok()?
    }

    /// Whether a poll of some task has succeeded.
    fn is_synced(&self) -> bool {
        self.try_column("SELECT last_success_at FROM cursors WHERE last_success_at IS NOT NULL")
            .is_some()
    }

    /// Waits until a poll of some task has succeeded.
    pub fn wait_until_synced(&self) {
        wait_until("the first sync", || self.is_synced());
    }

    /// The ids of runs with an event of this type, in the events' order.
    pub fn runs_with(&self, event: &str) -> Vec<String> {
        self.column(&format!(
            "SELECT run_id FROM events WHERE type = 'ACTOR.RUN.{event}' ORDER BY seq"
        ))
    }

    /// Asserts that every listed run is in the mirror, with every field equal and not marked as removed.
    pub fn assert_exact(&self) {
        let reader = SqliteReader::open(&self.database()).unwrap();
        let world = self.server.world();
        let list = world.list(&self.task, 0, 1_000_000, false, None);
        let mut pages = list.items;
        while (pages.len() as u64) < list.total {
            let more = world
                .list(&self.task, pages.len() as u64, 1_000, false, None)
                .items;
            assert!(!more.is_empty());
            pages.extend(more);
        }
        for item in &pages {
            let listed = Run::from_json(item).unwrap();
            let stored = self
                .block_on(reader.run(&listed.id))
                .unwrap()
                .unwrap_or_else(|| panic!("{} is missing", listed.id));
            assert_eq!(stored.run, listed);
            assert!(!stored.removed, "{} is marked as removed", listed.id);
        }
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Parses events from text with one JSON object per line. The last line may still be being written.
pub fn events(text: &str) -> Vec<Value> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let event = |line| serde_json::from_str(line).unwrap();
    whole.lines().map(event).collect()
}

/// The sequence numbers of events in text with one JSON object per line.
pub fn sequences(text: &str) -> Vec<i64> {
    let events = events(text);
    let numbers = events.iter().map(|event| event["sequence"].as_i64());
    numbers.map(Option::unwrap).collect()
}

/// Waits until `is_so`, for at most [`TIMEOUT`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < TIMEOUT, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A program on a terminal of its own. Killed when dropped.
pub struct OnTerminal {
    pub child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    reads: Option<std::thread::JoinHandle<()>>,
}

impl OnTerminal {
    /// Starts `command` with its output and errors on a terminal.
    pub fn start(mut command: Command) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let path = OsStr::from_bytes(name.to_bytes());
        let user = File::options().read(true).write(true).open(path).unwrap();
        let size = Winsize {
            ws_row: 40,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&user, size).unwrap();
        command.env("TERM", "xterm").stdin(Stdio::null());
        command.stdout(user.try_clone().unwrap()).stderr(user);
        let child = command.spawn().unwrap();
        // The command holds the other ends of the terminal: its output ends with the program.
        drop(command);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut controller, all) = (File::from(controller), Arc::clone(&shown));
        let reads = std::thread::spawn(move || {
            let mut some = [0; 4096];
            // An error means that the last user of the terminal is gone.
            while let Ok(bytes @ 1..) = controller.read(&mut some) {
                all.lock().unwrap().extend(&some[..bytes]);
            }
        });
        Self {
            child,
            shown,
            reads: Some(reads),
        }
    }

    /// Everything that was written to the terminal so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until the program has ended; returns what it wrote, and its exit code.
    pub fn wait(mut self) -> (String, Option<i32>) {
        let code = self.child.wait().unwrap().code();
        self.reads.take().unwrap().join().unwrap();
        (self.shown(), code)
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal with the shell's built-in `kill`, as the program may not be installed.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -{name} {}", child.id()))
        .status()
        .unwrap();
    assert!(sent.success());
}

/// A running daemon. Killed when dropped.
pub struct Daemon {
    pub child: Child,
    events: mpsc::Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// Starts `command` and waits until a poll has succeeded.
    pub fn start_synced(setup: &Setup, command: Command) -> Self {
        let daemon = Self::start(command);
        setup.wait_until_synced();
        daemon
    }

    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, events) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| send.send(line))
        });
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (
            BufReader::new(child.stderr.take().unwrap()),
            Arc::clone(&log),
        );
        std::thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .for_each(|line| lines.lock().unwrap().push(line))
        });
        Self { child, events, log }
    }

    /// Waits until the log has a line with `text`; returns the first one.
    pub fn log_line(&self, text: &str) -> String {
        let mut found = None;
        wait_until(text, || {
            let lines = self.log.lock().unwrap();
            found = lines.iter().find(|line| line.contains(text)).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    /// The next event that satisfies `wanted`.
    pub fn event(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let left = TIMEOUT.saturating_sub(began.elapsed());
            let line = self
                .events
                .recv_timeout(left)
                .expect("the event never came");
            let event: Value = serde_json::from_str(&line).unwrap();
            if wanted(&event) {
                return event;
            }
        }
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for the daemon to exit; returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        wait_until("the daemon to end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
