//! The built binary, run as a user runs it, and what it costs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use super::account::TOKEN;

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// From its start to its end.
    pub wall: Duration,
    /// Of all its threads, in user and in kernel mode.
    pub cpu: Duration,
    /// The most memory that was resident at once, in bytes, as far as a look every few milliseconds shows.
    pub peak: u64,
}

/// Runs `apify-mirror` with `arguments` in `dir` to its end.
///
/// # Panics
/// When it fails.
pub fn run(dir: &Path, arguments: &[&str]) -> Cost {
    let before = used_by_children();
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_apify-mirror"))
        .args(arguments)
        .current_dir(dir)
        .env("APIFY_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    let status = loop {
        peak = peak.max(most_resident(child.id()));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    assert!(status.success(), "{arguments:?}: {status}");
    Cost {
        wall: began.elapsed(),
        cpu: used_by_children() - before,
        peak,
    }
}

fn used_by_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let spent = usage.user_time() + usage.system_time();
    Duration::from_micros(
        u64::try_from(spent.tv_sec() * 1_000_000 + spent.tv_usec()).unwrap_or_default(),
    )
}

/// The most memory of a process that was ever resident; 0 where that is not known.
fn most_resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        let value = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
        value.parse::<u64>().ok()
    });
    kib.unwrap_or_default() << 10
}
