//! Workers, with scripted sinks and a database in a file. The machine has its own tests; these check that its commands are
//! executed and that every result reaches it.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::counters::Counters;
use super::liveness::Liveness;
use super::worker::Worker;
use crate::model::{
    AttemptOutcome, Details, Due, Order, Registration, Seed, SinkLimits, Subscription, Task,
    Timestamp,
};
use crate::sinks::Sink;
use crate::store::{Reader, SinkState, SinkStatus, SqliteReader, SqliteStore, Store};
use crate::sync::{Baseline, Commit, FeedState, Judgement, Observed, Seen, Source};

const SINK: &str = "sink";

/// Timeout, longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// The outcome of an event; `None` for an attempt that never ends.
type Plan = Box<dyn Fn(&Due) -> Option<AttemptOutcome> + Send + Sync>;

/// The longest that an attempt is expected to take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(1);

/// A sink that answers as planned and records the events it received.
struct Fake {
    plan: Plan,
    received: Mutex<Vec<i64>>,
    called: Notify,
}

#[async_trait]
impl Sink for Fake {
    fn limits(&self) -> SinkLimits {
        SinkLimits {
            order: Order::Run,
            batch: 1,
            concurrency: 4,
        }
    }

    fn attempt_limit(&self) -> Duration {
        ATTEMPT_LIMIT
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        let seqs = events.iter().map(|event| event.seq);
        self.received.lock().unwrap().extend(seqs);
        self.called.notify_one();
        tokio::task::yield_now().await;
        match events.iter().map(&self.plan).collect() {
            Some(outcomes) => outcomes,
            None => pending().await,
        }
    }
}

struct Setup {
    dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    reader: SqliteReader,
    sink: Arc<Fake>,
    stop: CancellationToken,
}

fn registration(sink: &str) -> Registration {
    Registration {
        subscription: Subscription {
            sink: sink.to_owned(),
            types: None,
        },
        kind: "webhook",
        from_beginning: sink != SINK,
    }
}

impl Setup {
    /// Creates a registered sink with an empty outbox, in a database of its own.
    async fn new(plan: impl Fn(&Due) -> Option<AttemptOutcome> + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.db");
        let (store, _) = SqliteStore::open(&path).unwrap();
        let reader = SqliteReader::open(&path).unwrap();
        let task = Task {
            id: "task".into(),
            ..Task::default()
        };
        store.save_task(&task, Timestamp::now()).await.unwrap();
        let setup = Self {
            dir,
            store: Arc::new(store),
            reader,
            sink: Arc::new(Fake {
                plan: Box::new(plan),
                received: Mutex::default(),
                called: Notify::new(),
            }),
            stop: CancellationToken::new(),
        };
        setup.register(&[SINK]).await;
        setup
    }

    async fn register(&self, names: &[&str]) {
        let sinks: Vec<Registration> = names.iter().map(|name| registration(name)).collect();
        self.store.register(&sinks, Timestamp::now()).await.unwrap();
    }

    fn worker(&self, sink: &str) -> Worker {
        let (store, fake) = (self.store.clone(), self.sink.clone());
        let pulse = Arc::new(Liveness::default()).enter("a worker");
        let counters = Counters::new().sink(sink);
        Worker::new(
            store,
            fake,
            registration(sink),
            LONG,
            Seed(1),
            pulse,
            counters,
        )
    }

    /// Starts a worker in the background.
    fn start(&self) -> JoinHandle<()> {
        let work = self.worker(SINK).run(self.stop.clone());
        tokio::spawn(async move { work.await.unwrap() })
    }

    /// Raises an event for each of these runs.
    async fn raise(&self, status: &str, runs: usize) {
        let now = Timestamp::now();
        let observed = (0..runs).map(|n| Observed {
            seen: Seen::from_json(
                json!({"id": format!("r{n}"), "status": status, "startedAt": now.to_string()}),
                now,
            )
            .unwrap(),
            source: Source::List,
        });
        let commit = Commit {
            observed: observed.collect(),
            gone: Vec::new(),
            unreadable: Vec::new(),
            readable: Default::default(),
            covered: None,
            feed: FeedState {
                baseline: Some(Baseline::Nothing),
                ..FeedState::default()
            },
            judgement: Judgement {
                history: Baseline::Nothing,
                settle: Duration::ZERO,
                details: Details::None,
                now,
                asked_at: now,
            },
            finished: true,
        };
        self.store.commit("task", commit).await.unwrap();
    }

    async fn status(&self) -> SinkStatus {
        self.reader.sinks().await.unwrap().remove(0)
    }

    fn received(&self) -> usize {
        self.sink.received.lock().unwrap().len()
    }

    /// Waits until nothing is pending.
    async fn until_empty(&self) {
        let wait = async {
            while self.status().await.pending > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, wait).await.expect("waited too long");
    }
}

fn delivered(_: &Due) -> Option<AttemptOutcome> {
    Some(AttemptOutcome::Delivered)
}

#[tokio::test]
async fn a_drain_delivers_every_due_event_once() {
    let setup = Setup::new(delivered).await;
    for status in ["READY", "RUNNING", "SUCCEEDED"] {
        setup.raise(status, 300).await;
    }
    setup.worker(SINK).drain(LONG).await.unwrap();
    let mut received = setup.sink.received.lock().unwrap().clone();
    received.sort_unstable();
    assert_eq!(received, (1..=900).collect::<Vec<_>>());
    let status = setup.status().await;
    assert_eq!(
        (status.pending, status.dead, status.state),
        (0, 0, SinkState::Ok)
    );
}

#[tokio::test]
async fn a_notification_wakes_a_worker_that_has_nothing_to_do() {
    let setup = Setup::new(delivered).await;
    let work = setup.start();
    let began = Instant::now();
    for round in 0..10 {
        setup.raise(&format!("STATUS-{round}"), 1).await;
        setup.until_empty().await;
    }
    assert_eq!(setup.received(), 10);
    // Without notifications, it would look every five seconds, and take fifty.
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    setup.stop.cancel();
    work.await.unwrap();
}

#[tokio::test]
async fn failed_attempts_are_retried() {
    let setup = Setup::new(|due| {
        Some(match due.attempts {
            0 => AttemptOutcome::Failed {
                error: "not now".into(),
                retry_after: None,
            },
            _ => AttemptOutcome::Delivered,
        })
    })
    .await;
    let work = setup.start();
    setup.raise("READY", 3).await;
    setup.until_empty().await;
    assert_eq!(setup.received(), 6);
    assert_eq!(setup.status().await.last_error, None);
    setup.stop.cancel();
    work.await.unwrap();
}

#[tokio::test]
async fn a_stopped_worker_resumes_its_backlog() {
    let setup = Setup::new(delivered).await;
    setup.raise("READY", 12_000).await;
    setup.register(&["other"]).await;
    let stopped = CancellationToken::new();
    stopped.cancel();
    setup.worker("other").run(stopped).await.unwrap();
    assert_eq!(setup.status().await.state, SinkState::CatchingUp);
    setup.worker("other").drain(LONG).await.unwrap();
    assert_eq!(
        (setup.status().await.state, setup.received()),
        (SinkState::Ok, 12_000)
    );
}

#[tokio::test]
async fn a_drain_ends_after_its_time_limit_and_that_of_an_attempt() {
    let began = std::time::Instant::now();
    let setup = Setup::new(|_| None).await;
    setup.raise("READY", 100).await;
    let drained = setup.worker(SINK).drain(Duration::from_millis(50));
    timeout(LONG, drained).await.expect("it ends").unwrap();
    assert!(
        began.elapsed() > ATTEMPT_LIMIT,
        "attempts in flight may end"
    );
    assert_eq!(setup.status().await.pending, 100);
}

#[tokio::test]
async fn attempts_in_flight_are_recorded_when_a_worker_stops() {
    let setup = Setup::new(delivered).await;
    let work = setup.start();
    setup.raise("READY", 1).await;
    // The sink has been called, and yields before it answers.
    setup.sink.called.notified().await;
    setup.stop.cancel();
    work.await.unwrap();
    assert_eq!(setup.status().await.pending, 0);
}

#[tokio::test]
async fn a_hanging_sink_does_not_keep_a_worker_from_stopping() {
    let setup = Setup::new(|_| None).await;
    let work = setup.start();
    setup.raise("READY", 1).await;
    setup.sink.called.notified().await;
    setup.stop.cancel();
    timeout(LONG, work).await.expect("it stops").unwrap();
    assert_eq!(setup.status().await.pending, 1, "it is still owed");
}

#[tokio::test]
#[should_panic = "a bug in a sink"]
async fn a_panic_in_a_sink_ends_its_worker() {
    let setup = Setup::new(|_| panic!("a bug in a sink")).await;
    setup.raise("READY", 1).await;
    // The panic must propagate.
    let _ = setup.worker(SINK).drain(LONG).await;
}

/// While another process keeps the database locked, deliveries that could not be recorded are not attempted.
#[tokio::test]
async fn deliveries_pause_while_the_database_is_locked() {
    let other: Arc<Mutex<Option<rusqlite::Connection>>> = Arc::default();
    let execute = |other: &Mutex<Option<rusqlite::Connection>>, sql| {
        let other = other.lock().unwrap();
        other.as_ref().unwrap().execute_batch(sql).unwrap();
    };
    let (blocker, is_locked) = (Arc::clone(&other), Arc::new(Notify::new()));
    let locked = Arc::clone(&is_locked);
    let setup = Setup::new(move |due| {
        if due.seq == 2 {
            execute(&blocker, "BEGIN IMMEDIATE");
            locked.notify_one();
        }
        Some(AttemptOutcome::Delivered)
    })
    .await;
    let path = setup.dir.path().join("runs.db");
    let connection = rusqlite::Connection::open(path).unwrap();
    // On a slow disk the store may hold the lock for a moment.
    connection.busy_timeout(LONG).unwrap();
    *other.lock().unwrap() = Some(connection);
    let work = setup.start();
    setup.raise("READY", 1).await;
    setup.until_empty().await;
    setup.raise("RUNNING", 1_000).await;
    timeout(LONG, is_locked.notified()).await.unwrap();
    let error = setup.worker("other").drain(LONG).await.unwrap_err();
    assert!(error.is_temporary(), "a pass does not wait: {error}");
    let received = setup.received();
    assert!(received < 100, "{received} were delivered");
    execute(&other, "COMMIT");
    setup.until_empty().await;
    let mut received = setup.sink.received.lock().unwrap().clone();
    received.sort_unstable();
    assert_eq!(received, (1..=1_001).collect::<Vec<_>>(), "each once");
    setup.stop.cancel();
    work.await.unwrap();
}
