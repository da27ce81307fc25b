//! What this process takes, under the names that Prometheus's own clients use.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::exposition::{Exposition, Kind};
use crate::model::Timestamp;

/// Writes what is known of this process: everything on Linux, elsewhere only its start and the time that it has used.
pub fn write(to: &mut Exposition, started: Timestamp) {
    let mut gauge = |name, help, value: Option<u64>| {
        if let Some(value) = value {
            to.family(Kind::Gauge, name, help).sample(&[], value);
        }
    };
    gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        resident_bytes(),
    );
    gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        open_files(),
    );
    gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        most_files(),
    );
    to.family(
        Kind::Gauge,
        "process_start_time_seconds",
        "Start time of the process since the Unix epoch in seconds.",
    )
    .time(&[], started);
    to.family(
        Kind::Counter,
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    )
    .sample(&[], cpu_time().as_secs_f64());
}

fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(used).unwrap_or_default()
}

/// The second number of `statm` counts pages.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Without the one that reads the folder.
fn open_files() -> Option<u64> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(files.saturating_sub(1))
}

/// `None` also where there is no limit.
fn most_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}
