//! `type = "exec"`: one run of a program for each event.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use async_trait::async_trait;

use super::environment;
use super::options::{BuildError, CheckError, SinkOptions};
use super::sink::Sink;
use crate::files::{self, Purpose, Untrusted};
use crate::model::{AttemptOutcome, Due, SinkLimits};
use crate::options::{
    Environment, HOUR, LOOKS_LIKE_A_TOKEN, Problem, Reader, SECOND, looks_like_token,
};

/// The exit code by which a program asks for a retry (`EX_TEMPFAIL`).
const TRY_AGAIN: i32 = 75;

/// The most output that is logged, in bytes for each of the two streams.
const MAX_OUTPUT: usize = 64 << 10;

/// How long to wait for the rest of the output once the program has ended: its children may hold the streams open.
const OUTPUT_WITHIN: Duration = Duration::from_millis(100);

/// The configuration.
#[derive(Clone, PartialEq, Eq)]
struct ExecOptions {
    program: String,
    arguments: Vec<String>,
    /// The variables that it gets by their names.
    environment: Vec<String>,
    /// The longest that one process may run.
    timeout: Duration,
    /// The most concurrent processes.
    concurrency: usize,
}

/// Arguments may hold secrets.
impl fmt::Debug for ExecOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecOptions")
            .field("program", &self.program)
            .field("arguments", &self.arguments.len())
            .field("environment", &self.environment.len())
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .finish()
    }
}

/// Reads the keys of this type.
pub(super) fn read(section: &mut Reader<'_>) -> Option<Arc<dyn SinkOptions>> {
    let mut command = section.list("command").unwrap_or_default().into_iter();
    let timeout = section.duration("timeout", Duration::from_millis(100)..=HOUR, 60 * SECOND);
    let concurrency = section.number("concurrency", 1..=64, 1) as usize;
    let environment = environment::read(section);
    let program = command.next().filter(|program| !program.is_empty());
    if program.as_deref().is_some_and(looks_like_token) {
        section.problem("command", LOOKS_LIKE_A_TOKEN);
        return None;
    }
    if program.is_none() {
        let message = "is missing or empty; name a program and its arguments: [\"prog\", \"arg\"]";
        section.problem("command", message);
    }
    let arguments = command.collect();
    Some(Arc::new(ExecOptions {
        program: program?,
        arguments,
        environment,
        timeout,
        concurrency,
    }))
}

#[async_trait]
impl SinkOptions for ExecOptions {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn runs_programs(&self) -> bool {
        true
    }

    fn passed_variables(&self) -> &[String] {
        &self.environment
    }

    fn warning(&self) -> Option<String> {
        let path = std::env::var("PATH").unwrap_or_default();
        let program = which::which_in(&self.program, Some(path), ".").ok()?;
        match files::check(&program, Purpose::Configuration) {
            Err(Untrusted::Io { .. }) | Ok(()) => None,
            Err(untrusted) => Some(format!("others decide what it runs: {untrusted}")),
        }
    }

    fn resolve(self: Arc<Self>, _: &Environment) -> Result<Arc<dyn SinkOptions>, Problem> {
        Ok(self)
    }

    async fn build(&self, hidden: &[String]) -> Result<Arc<dyn Sink>, BuildError> {
        Ok(Arc::new(Exec {
            options: self.clone(),
            environment: environment::passed(&self.environment, hidden),
        }))
    }

    async fn check(&self, environment: &Environment) -> Result<String, CheckError> {
        let path = environment.get("PATH").map_or("", String::as_str);
        check(&self.program, path).map_err(CheckError::Configuration)
    }
}

/// Looks up `program` on `path`, as the system does.
fn check(program: &str, path: &str) -> Result<String, String> {
    match which::which_in(program, Some(path), ".") {
        Ok(file) => match wrong_first_line(&file) {
            None => Ok(format!("runs {}", file.display())),
            Some(problem) => Err(problem),
        },
        Err(_) => Err(format!(
            "there is no program {program} to run; give its path, or set PATH"
        )),
    }
}

/// What is wrong with the first line of the script `file`, if it is one. The system says of a missing interpreter that
/// there is no such file, as if the script were missing.
fn wrong_first_line(file: &Path) -> Option<String> {
    let mut beginning = Vec::new();
    let opened = std::fs::File::open(file).ok()?;
    opened
        .take(MAX_FIRST_LINE)
        .read_to_end(&mut beginning)
        .ok()?;
    let line = beginning
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let line = String::from_utf8_lossy(line);
    let file = file.display();
    if line.ends_with('\r') {
        return Some(format!(
            "the first line of {file} ends with CRLF, so that its interpreter is not found; save it with LF as line ends"
        ));
    }
    let interpreter = line.split_whitespace().next()?;
    (!Path::new(interpreter).exists()).then(|| {
        format!("there is no {interpreter}, the interpreter of {file}; install it, or correct the first line of the script")
    })
}

/// The longest first line of a script, in bytes.
const MAX_FIRST_LINE: u64 = 256;

/// The exit code of `env` and of shells where there is no such program.
const NOT_FOUND: i32 = 127;

/// Runs a program for each event, with the body on standard input and its main parts in the environment.
struct Exec {
    options: ExecOptions,
    /// The environment of the program, beside what it gets of the event.
    environment: Vec<(OsString, OsString)>,
}

impl Exec {
    async fn run(&self, event: &Due) -> AttemptOutcome {
        let failed = |error: String| AttemptOutcome::Failed {
            error: format!("{}: {error}", self.options.program),
            retry_after: None,
        };
        let mut child = match Group::spawn(self.command(event)) {
            Ok(child) => child,
            Err(error) => return failed(self.why_not_started(&error)),
        };
        match child
            .feed(event, &self.options.program, self.options.timeout)
            .await
        {
            Err(error) => failed(error.to_string()),
            // Dropping the group kills it.
            Ok(None) => failed(format!(
                "did not end within {:?}, and was killed",
                self.options.timeout
            )),
            Ok(Some(status)) if status.success() => AttemptOutcome::Delivered,
            Ok(Some(status)) if status.code() == Some(TRY_AGAIN) => {
                failed("asks to be tried again (exit code 75)".to_owned())
            }
            Ok(Some(status)) => {
                let why = (status.code() == Some(NOT_FOUND)).then(|| self.wrong_first_line());
                let why = why
                    .flatten()
                    .map_or_else(String::new, |why| format!(", {why}"));
                AttemptOutcome::Rejected {
                    error: format!("{}: {status}{why}", self.options.program),
                }
            }
        }
    }

    fn wrong_first_line(&self) -> Option<String> {
        wrong_first_line(&which::which(&self.options.program).ok()?)
    }

    /// Why the program could not be started.
    fn why_not_started(&self, error: &io::Error) -> String {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        let why = is_missing.then(|| self.wrong_first_line()).flatten();
        why.unwrap_or_else(|| error.to_string())
    }

    fn command(&self, event: &Due) -> Command {
        let mut command = Command::new(&self.options.program);
        command.args(&self.options.arguments).process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.envs(environment::of_event(&event.payload));
        command
    }
}

#[async_trait]
impl Sink for Exec {
    fn limits(&self) -> SinkLimits {
        SinkLimits::independent_runs(self.options.concurrency)
    }

    fn attempt_limit(&self) -> Duration {
        self.options.timeout.saturating_add(OUTPUT_WITHIN)
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            outcomes.push(self.run(event).await);
        }
        outcomes
    }
}

/// A running program and its process group, which is killed if this is dropped before the program has ended.
struct Group {
    child: Child,
    id: Option<Pid>,
}

/// The process groups of running programs, for [`kill_programs`].
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every running program with its process group, for a process that is about to exit: their sinks are no longer
/// there to do so. No program starts after that.
pub fn kill_programs() {
    let began = Instant::now();
    let running = loop {
        match RUNNING.try_lock() {
            Ok(running) => break running,
            Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
            // A program is being started, which can hang where its file lies on a network.
            Err(TryLockError::WouldBlock) if began.elapsed() > STARTS_WITHIN => return,
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    };
    for id in running.iter().filter_map(|id| Pid::from_raw(*id)) {
        // Fails only if it has ended meanwhile.
        let _ = kill_process_group(id, Signal::KILL);
    }
    // Never unlocked again: whoever starts a program has to wait.
    std::mem::forget(running);
}

/// How long the start of a program may keep the process from ending.
const STARTS_WITHIN: Duration = Duration::from_secs(1);

impl Group {
    /// Starts a program that leads a process group.
    fn spawn(mut command: Command) -> io::Result<Self> {
        // Locked until it is in the list, so that none is missed.
        let mut running = running();
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        running.extend(id);
        Ok(Self {
            child,
            id: id.and_then(Pid::from_raw),
        })
    }

    /// Writes the event to standard input and waits for the exit status; `None` on timeout.
    async fn feed(
        &mut self,
        event: &Due,
        program: &str,
        timeout: Duration,
    ) -> io::Result<Option<ExitStatus>> {
        let child = &mut self.child;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut printed = (Vec::new(), Vec::new());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program need not read its input: the environment may be enough for it.
                let _ = stdin.write_all(event.payload.as_bytes()).await;
            }
        };
        let read = async {
            tokio::join!(
                collect(stdout, &mut printed.0),
                collect(stderr, &mut printed.1)
            )
        };
        let status = {
            let mut io = pin!(async { tokio::join!(write, read) });
            let mut io_done = false;
            let ended = tokio::time::timeout(timeout, async {
                loop {
                    tokio::select! {
                        _ = &mut io, if !io_done => io_done = true,
                        status = child.wait() => return status,
                    }
                }
            });
            let Ok(status) = ended.await else {
                return Ok(None);
            };
            if !io_done {
                let _ = tokio::time::timeout(OUTPUT_WITHIN, io).await;
            }
            status?
        };
        for (stream, printed) in [("stdout", printed.0), ("stderr", printed.1)] {
            let text = String::from_utf8_lossy(&printed);
            for line in text.lines() {
                tracing::debug!(program, event = event.id, stream, "{line}");
            }
        }
        Ok(Some(status))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut running = running();
        running.remove(&id.as_raw_pid());
        // Without an id of its own the child has ended and was waited for.
        if self.child.id().is_some() {
            // Fails only if it has ended meanwhile.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// Reads a stream to its end, and keeps at most [`MAX_OUTPUT`] bytes.
async fn collect(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        let left = MAX_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..read.min(left)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sink::testing::due;
    use super::*;

    const PAYLOAD: &str = r#"{"id":"evt_a_1","sequence":7,"eventType":"ACTOR.RUN.FAILED","status":"FAILED",
        "previousStatus":null,"eventData":{"actorId":"act","actorTaskId":"task","actorRunId":"a"}}"#;

    fn exec(program: &str, arguments: &[&str], timeout: Duration) -> Exec {
        let arguments = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        Exec {
            options: ExecOptions {
                program: program.to_owned(),
                arguments,
                environment: Vec::new(),
                timeout,
                concurrency: 1,
            },
            environment: environment::passed(&[], &["HOME".to_owned()]),
        }
    }

    fn shell(script: &str, timeout: Duration) -> Exec {
        exec("sh", &["-c", script], timeout)
    }

    async fn once(sink: &Exec, event: Due) -> AttemptOutcome {
        sink.deliver(&[event]).await.remove(0)
    }

    async fn outcome(script: &str) -> AttemptOutcome {
        once(
            &shell(script, Duration::from_secs(30)),
            due(7, "a", PAYLOAD),
        )
        .await
    }

    #[tokio::test]
    async fn exit_codes_decide_the_outcome() {
        assert_eq!(outcome("exit 0").await, AttemptOutcome::Delivered);
        assert!(matches!(
            outcome("exit 75").await,
            AttemptOutcome::Failed { .. }
        ));
        let AttemptOutcome::Rejected { error } = outcome("exit 3").await else {
            panic!()
        };
        assert_eq!(error, "sh: exit status: 3");
        assert!(matches!(
            outcome("kill -9 $$").await,
            AttemptOutcome::Rejected { .. }
        ));
        let missing = exec("/nonexistent/program", &[], Duration::from_secs(1));
        let AttemptOutcome::Failed { error, .. } = once(&missing, due(1, "a", "{}")).await else {
            panic!()
        };
        assert!(error.starts_with("/nonexistent/program: "), "{error}");
    }

    #[tokio::test]
    async fn the_event_is_on_standard_input_and_in_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let seen = dir.path().join("seen");
        let script = format!("cat > {0}; echo >> {0}; env >> {0}", seen.display());
        assert_eq!(outcome(&script).await, AttemptOutcome::Delivered);
        let seen = std::fs::read_to_string(seen).unwrap();
        assert!(seen.starts_with(PAYLOAD), "{seen}");
        for line in [
            "APIFY_EVENT_ID=evt_a_1",
            "APIFY_EVENT_SEQUENCE=7",
            "APIFY_EVENT_TYPE=ACTOR.RUN.FAILED",
            "APIFY_ACTOR_ID=act",
            "APIFY_TASK_ID=task",
            "APIFY_RUN_ID=a",
            "APIFY_STATUS=FAILED",
        ] {
            assert!(
                seen.lines().any(|seen| seen == line),
                "{line} is not in\n{seen}"
            );
        }
        assert!(!seen.contains("APIFY_PREVIOUS_STATUS"), "there is none");
        assert!(
            !seen.lines().any(|line| line.starts_with("HOME=")),
            "it is hidden"
        );
    }

    #[tokio::test]
    async fn large_unread_input_and_large_output_do_not_block() {
        let payload = format!(r#"{{"id":"{}"}}"#, "x".repeat(1 << 20));
        let chatty = shell("head -c 1000000 /dev/zero", Duration::from_secs(30));
        assert_eq!(
            once(&chatty, due(1, "a", &payload)).await,
            AttemptOutcome::Delivered
        );
    }

    #[tokio::test]
    async fn a_background_process_does_not_delay_the_outcome() {
        let began = std::time::Instant::now();
        assert_eq!(
            outcome("sleep 60 & exit 0").await,
            AttemptOutcome::Delivered
        );
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_timeout_kills_the_process_group() {
        let dir = tempfile::tempdir().unwrap();
        let id = dir.path().join("id");
        let script = format!(
            "sleep 3000 & echo $! > {0}.new; mv {0}.new {0}; wait",
            id.display()
        );
        let AttemptOutcome::Failed { error, .. } = once(
            &shell(&script, Duration::from_secs(3)),
            due(1, "a", PAYLOAD),
        )
        .await
        else {
            panic!()
        };
        assert!(error.contains("did not end within 3s"), "{error}");
        let id = std::fs::read_to_string(id).expect("the script started within three seconds");
        let is_running = || {
            std::fs::read_to_string(format!("/proc/{}/stat", id.trim()))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        let killed = async {
            while is_running() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), killed)
            .await
            .expect("it was killed");
    }

    #[test]
    fn programs_are_looked_up_on_the_path() {
        assert_eq!(
            check("sh", "/nonexistent:/bin"),
            Ok("runs /bin/sh".to_owned())
        );
        assert!(check("/bin/sh", "").is_ok());
        assert!(
            check("sh", "/nonexistent")
                .unwrap_err()
                .contains("no program sh")
        );
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert!(
            check(&plain.display().to_string(), "").is_err(),
            "it may not be run"
        );
    }
}
