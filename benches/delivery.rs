//! Measures the latency and throughput of deliveries, and the cost of a dead receiver, each against a limit.
//! `cargo bench --bench delivery`
//!
//! Only the account is simulated; the daemon, its database on disk and HTTP on loopback are real. Receiver and account run
//! in the same process, so the figures include their work.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apify_mirror::api::{Client, ClientOptions, Token};
use apify_mirror::daemon::{self, Context, Feed, Plan, Progress, SinkPlan, Subscriptions};
use apify_mirror::model::{Details, InFlight, Retention, RunStatus, Seed, Task, Timestamp};
use apify_mirror::simulator::{Receiver, Server, TOKEN, World};
use apify_mirror::sinks::{
    Address, SecretSource, SigningKeys, SinkSettings, Start, WebhookOptions,
};
use apify_mirror::store::{SqliteReader, SqliteStore};
use apify_mirror::sync::Settings;
use tokio_util::sync::CancellationToken;

/// Number of changes in the latency measurement.
const CHANGES: usize = 300;

/// Limits on the time from the API's answer to the first byte at the receiver, at the median and the 99th percentile.
const LATENCY_LIMITS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(50)];

/// Number of events in the burst, one for each run.
const BURST: usize = 10_000;

/// The least number of events per second in the burst.
const RATE_LIMIT: f64 = 2_000.0;

/// Number of events that the dead receiver is owed.
const BACKLOG: usize = 50_000;

/// Number of polls with and without a dead receiver.
const POLLS: usize = 200;

/// Limit on the additional median time of a poll with a dead receiver.
const DELAY_LIMIT: Duration = Duration::from_millis(2);

/// Limit on the additional memory with a dead receiver.
const MEMORY_LIMIT: usize = 64 << 20;

struct Bench {
    server: Server,
    task: String,
    context: Arc<Context>,
    _dir: tempfile::TempDir,
}

async fn plan(url: &str) -> Plan {
    let keys = SigningKeys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let hook = WebhookOptions {
        address: Address::Url(url.parse().unwrap()),
        secret: SecretSource::Keys(keys),
        headers: Default::default(),
        headers_file: None,
        timeout: Duration::from_secs(10),
        concurrency: 32,
    };
    let settings = SinkSettings {
        implied: false,
        name: "hook".into(),
        events: Some(vec!["ACTOR.RUN.CREATED".into()]),
        give_up_after: Duration::from_secs(3_600),
        start: Start::Now,
        options: Arc::new(hook),
    };
    Plan {
        tasks: vec!["~it".into()],
        discover_tasks: false,
        sync: Settings {
            page_size: 1_000,
            overlap: 20,
            poll_interval: Duration::from_millis(100),
            watch_interval: Duration::from_secs(3_600),
            settle: Duration::ZERO,
            audit_interval: None,
            read_ahead: 4,
            history_events: false,
            details: Details::None,
            seed: Seed(1),
        },
        retention: Retention::default(),
        sinks: vec![SinkPlan::build(settings, Vec::new()).await.unwrap()],
        subscriptions: Subscriptions::Configured,
    }
}

impl Bench {
    async fn new(url: &str) -> Self {
        let mut world = World::new(1);
        let task = world.add_task("janedoe", "it");
        let server = Server::start(world).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = ClientOptions {
            base_url: server.url().parse().unwrap(),
            timeout: Duration::from_secs(10),
            requests_per_second: NonZeroU32::new(1_000).unwrap(),
            concurrency: InFlight::Fixed(4),
        };
        let client = Client::new(options, &Token::new(TOKEN).unwrap()).unwrap();
        // The database's thread ends with the process.
        let path = dir.path().join("runs.db");
        let (store, _) = SqliteStore::open(&path).unwrap();
        let reader = Arc::new(SqliteReader::open(&path).unwrap());
        let plan = plan(url).await;
        let (store, progress) = (Arc::new(store), Progress::new(None));
        let context = Context::new(client, store, reader, progress, plan)
            .await
            .unwrap();
        Self {
            server,
            task,
            context: Arc::new(context),
            _dir: dir,
        }
    }

    /// Creates a run that has ended, so that polls do not read it again.
    fn create(&self) {
        let mut world = self.server.world();
        let id = world.create(&self.task, Timestamp::now());
        world.finish(&id, RunStatus::Succeeded, Timestamp::now());
    }

    /// Loads a feed and catches up.
    async fn feed(&self) -> Feed {
        let task = Task {
            id: self.task.clone(),
            ..Task::default()
        };
        let mut feed = Feed::load(Arc::clone(&self.context), task).await.unwrap();
        feed.poll().await.unwrap();
        feed
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn show(name: &str, mut durations: Vec<Duration>) -> Vec<Duration> {
    durations.sort();
    let at = |percent| percentile(&durations, percent).as_secs_f64() * 1e3;
    println!(
        "{name:<34} p50 {:7.2}  p90 {:7.2}  p99 {:7.2}  max {:7.2} ms",
        at(50),
        at(90),
        at(99),
        at(100)
    );
    durations
}

/// Prints and returns whether a limit holds.
fn hold(what: &str, holds: bool) -> bool {
    println!("  {} {what}", if holds { "ok  " } else { "OVER" });
    holds
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "waited too long"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Measures the time from the API's answer that shows a change to the first byte at the receiver.
async fn latency() -> bool {
    let receiver = Receiver::start().await.unwrap();
    let bench = Bench::new(&receiver.url()).await;
    bench.feed().await;
    let stop = CancellationToken::new();
    let daemon = tokio::spawn(daemon::run(Arc::clone(&bench.context), stop.clone(), None));
    let mut latencies = Vec::new();
    for n in 0..CHANGES {
        let created = Instant::now();
        bench.create();
        until(|| receiver.count() > n).await;
        let shown = bench
            .server
            .take_answers()
            .into_iter()
            .find(|at| *at > created)
            .unwrap();
        latencies.push(receiver.arrivals()[n].at - shown);
    }
    stop.cancel();
    daemon.await.unwrap().unwrap();
    let sorted = show("answer to first byte", latencies);
    let [median, high] = LATENCY_LIMITS;
    hold(
        &format!("p50 within {median:?}"),
        percentile(&sorted, 50) <= median,
    ) & hold(
        &format!("p99 within {high:?}"),
        percentile(&sorted, 99) <= high,
    )
}

/// Measures the throughput of many events at once.
async fn burst() -> bool {
    let receiver = Receiver::start().await.unwrap();
    let bench = Bench::new(&receiver.url()).await;
    bench.feed().await;
    (0..BURST).for_each(|_| bench.create());
    let stop = CancellationToken::new();
    let daemon = tokio::spawn(daemon::run(Arc::clone(&bench.context), stop.clone(), None));
    until(|| receiver.count() >= BURST).await;
    stop.cancel();
    daemon.await.unwrap().unwrap();
    let arrivals = receiver.arrivals();
    let first = arrivals.iter().map(|arrival| arrival.at).min().unwrap();
    let last = arrivals.iter().map(|arrival| arrival.at).max().unwrap();
    let ids: HashMap<&str, ()> = arrivals
        .iter()
        .map(|arrival| (arrival.headers["webhook-id"].as_str(), ()))
        .collect();
    assert_eq!(ids.len(), BURST, "every event arrived");
    show(
        "burst: after the first arrival",
        arrivals.iter().map(|arrival| arrival.at - first).collect(),
    );
    let rate = BURST as f64 / (last - first).as_secs_f64();
    hold(
        &format!("{rate:.0} events a second, at least {RATE_LIMIT:.0}"),
        rate >= RATE_LIMIT,
    )
}

/// Measures polls that find one change each while a dead receiver is owed many events.
async fn dead_receiver() -> bool {
    let mut receiver = Receiver::start().await.unwrap();
    let bench = Bench::new(&receiver.url()).await;
    let mut feed = bench.feed().await;
    let plain = polls(&bench, &mut feed).await;
    (0..BACKLOG).for_each(|_| bench.create());
    while feed.poll().await.unwrap().written.added > 0 {}
    // Both measurements use the same database, so that they differ only in the worker.
    let without = polls(&bench, &mut feed).await;
    receiver.go_away().await;
    let memory = resident();
    let stop = CancellationToken::new();
    // A daemon without tasks only runs the workers of sinks.
    bench
        .context
        .adopt(Plan {
            tasks: Vec::new(),
            ..plan(&receiver.url()).await
        })
        .await
        .unwrap();
    let daemon = tokio::spawn(daemon::run(Arc::clone(&bench.context), stop.clone(), None));
    let with = polls(&bench, &mut feed).await;
    let grown = resident().saturating_sub(memory);
    let owed = bench.context.reader.sinks().await.unwrap()[0].pending;
    stop.cancel();
    daemon.await.unwrap().unwrap();
    assert!(owed >= BACKLOG as u64, "{owed} are owed");
    show("poll: nothing owed", plain);
    let without = show("poll: owed, without a worker", without);
    let with = show("poll: owed to a dead receiver", with);
    let delay = percentile(&with, 50).saturating_sub(percentile(&without, 50));
    hold(
        &format!("p50 delayed by {delay:?}, at most {DELAY_LIMIT:?}"),
        delay <= DELAY_LIMIT,
    ) & hold(
        &format!(
            "{} KiB more memory, at most {}",
            grown >> 10,
            MEMORY_LIMIT >> 10
        ),
        grown <= MEMORY_LIMIT,
    )
}

async fn polls(bench: &Bench, feed: &mut Feed) -> Vec<Duration> {
    let mut durations = Vec::new();
    for _ in 0..POLLS {
        bench.create();
        let began = Instant::now();
        feed.poll().await.unwrap();
        durations.push(began.elapsed());
    }
    durations
}

/// The resident memory of this process, in bytes; 0 if unknown.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or_default() * 4_096
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let holds = runtime.block_on(async { latency().await & burst().await & dead_receiver().await });
    assert!(holds, "a limit does not hold");
}
