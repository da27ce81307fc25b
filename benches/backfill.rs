//! Measures first syncs with the built binary and default settings: against the rate that Apify allows, and, where the server
//! allows any, against a loop that does nothing but insert the same rows.
//! `cargo bench --bench backfill`
//!
//! The account is served by this process, so the machine's cores do its work too. `BACKFILL=quick` leaves out the million runs.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use support::account::{Account, Server};
use support::hold;
use support::process::{self, Cost};

/// The requests a second that Apify answers for one list.
const PER_SECOND: usize = 60;

/// The runs of a page.
const PAGE: u64 = 1_000;

/// How many tasks have the runs where any number of requests is answered: the mirror asks for none of their lists more often
/// than Apify allows.
const TASKS: u64 = 40;

/// The least share of the speed that the limit of requests allows.
const LEAST_OF_ALLOWED: f64 = 0.9;

/// The least share of the speed of the loop that only inserts.
const LEAST_OF_LOOP: f64 = 0.6;

/// The most CPU for a run.
const MOST_CPU: Duration = Duration::from_micros(12);

/// The most memory.
const MOST_MEMORY: u64 = 96 << 20;

fn account(runs: u64, latency: u64) -> Account {
    Account {
        tasks: 1,
        runs,
        latency: Duration::from_millis(latency),
        per_second: Some(PER_SECOND),
    }
}

/// Mirrors the account into a new database in `dir` with the settings in `toml` and, for the rest, defaults.
fn sync(server: &Server, tasks: u64, dir: &Path, toml: &str) -> Cost {
    let tasks: Vec<String> = (0..tasks).map(|task| format!("t{task}")).collect();
    let configuration = format!(
        "tasks = {tasks:?}\n[api]\nbase_url = \"{}\"\n{toml}\n",
        server.url()
    );
    std::fs::write(dir.join("apify-mirror.toml"), configuration).unwrap();
    process::run(dir, &["sync", "--quiet"])
}

fn show(what: &str, runs: u64, cost: Cost) {
    println!(
        "{what}: {:.2} s, {:.0} runs/s, {:.1} µs of CPU a run, at most {} MiB",
        cost.wall.as_secs_f64(),
        runs as f64 / cost.wall.as_secs_f64(),
        cost.cpu.as_secs_f64() * 1e6 / runs as f64,
        cost.peak >> 20
    );
}

/// A first sync where the server allows as many requests as Apify does.
async fn allowed(runs: u64, latency: u64) -> bool {
    let server = Server::start(account(runs, latency)).await;
    let dir = tempfile::tempdir().unwrap();
    let (served, path) = (server.clone(), dir.path().to_owned());
    let cost = tokio::task::spawn_blocking(move || sync(&served, 1, &path, ""))
        .await
        .unwrap();
    let (_, refused) = server.counts();
    show(
        &format!("{runs} runs, answers after {latency} ms"),
        runs,
        cost,
    );
    let pages = runs.div_ceil(PAGE) as f64;
    let least = pages / PER_SECOND as f64 + 3.0 * latency as f64 / 1e3;
    let share = least / cost.wall.as_secs_f64();
    hold(
        &format!(
            "{share:.2} of the speed that is allowed, at least {LEAST_OF_ALLOWED}; {refused} requests refused"
        ),
        share >= LEAST_OF_ALLOWED,
    ) & hold_memory(cost)
}

fn hold_memory(cost: Cost) -> bool {
    hold(
        &format!("{} MiB, at most {}", cost.peak >> 20, MOST_MEMORY >> 20),
        cost.peak <= MOST_MEMORY,
    )
}

/// A first sync where the server allows any number of requests.
async fn unlimited(runs: u64) -> bool {
    let server = Server::start(Account {
        tasks: TASKS,
        runs: runs / TASKS,
        per_second: None,
        ..account(runs, 0)
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (served, path) = (server.clone(), dir.path().to_owned());
    let toml = "requests_per_second = 4000";
    let cost = tokio::task::spawn_blocking(move || sync(&served, TASKS, &path, toml))
        .await
        .unwrap();
    show(
        &format!("{runs} runs of {TASKS} tasks, no limit"),
        runs,
        cost,
    );
    let bare = insert_only(
        &dir.path().join("apify-mirror.db"),
        &dir.path().join("bare.db"),
    );
    let share = bare.as_secs_f64() / cost.wall.as_secs_f64();
    let cpu = cost.cpu / u32::try_from(runs).unwrap();
    hold(
        &format!(
            "{share:.2} of the speed of a loop that only inserts ({:.2} s), at least {LEAST_OF_LOOP}",
            bare.as_secs_f64()
        ),
        share >= LEAST_OF_LOOP,
    ) & hold(
        &format!("{cpu:.1?} of CPU a run, at most {MOST_CPU:?}"),
        cpu <= MOST_CPU,
    ) & hold_memory(cost)
}

/// Inserts the runs of the mirror `from` into a new database `to` of the same schema and durability, a page in a transaction;
/// returns how long the inserts and their commits took.
fn insert_only(from: &Path, to: &Path) -> Duration {
    let from = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut to = Connection::open(to).unwrap();
    to.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF")
        .unwrap();
    let mut schema = from
        .prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = 'runs' AND type IN ('table', 'index') AND sql NOT NULL ORDER BY rowid")
        .unwrap();
    let statements = schema.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for statement in statements {
        to.execute_batch(&statement.unwrap()).unwrap();
    }
    let mut select = from.prepare("SELECT * FROM runs ORDER BY rowid").unwrap();
    let columns = select.column_count();
    let parameters = vec!["?"; columns].join(", ");
    let insert = format!("INSERT INTO runs VALUES ({parameters})");
    let mut rows = select.query([]).unwrap();
    let mut took = Duration::ZERO;
    loop {
        let mut page: Vec<Vec<Value>> = Vec::new();
        while page.len() < PAGE as usize
            && let Some(row) = rows.next().unwrap()
        {
            page.push((0..columns).map(|n| row.get(n).unwrap()).collect());
        }
        if page.is_empty() {
            return took;
        }
        let began = Instant::now();
        let transaction = to.transaction().unwrap();
        {
            let mut insert = transaction.prepare_cached(&insert).unwrap();
            for row in &page {
                insert.execute(rusqlite::params_from_iter(row)).unwrap();
            }
        }
        transaction.commit().unwrap();
        took += began.elapsed();
    }
}

async fn all() -> bool {
    let quick = std::env::var_os("BACKFILL").is_some_and(|value| value == "quick");
    let sizes: &[u64] = if quick {
        &[200_000]
    } else {
        &[200_000, 1_000_000]
    };
    let mut holds = true;
    for &runs in sizes {
        for latency in [0, 50, 300] {
            holds &= allowed(runs, latency).await;
        }
        holds &= unlimited(runs).await;
    }
    holds
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(runtime.block_on(all()), "a limit does not hold");
}
