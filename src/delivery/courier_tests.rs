//! Couriers, with sinks that do as they are told and a real database.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::Courier;
use crate::model::{
    AttemptOutcome, Due, Order, Registration, SinkLimits, Subscription, Task, Timestamp,
};
use crate::sinks::Sink;
use crate::store::{SinkStatus, Store, Writer};
use crate::sync::{Baseline, Commit, FeedState, Judgement, Observed, Seen, Source};

const SINK: &str = "sink";

type Plan = Box<dyn Fn(&Due, u32) -> AttemptOutcome + Send + Sync>;

/// A sink that answers as planned, by event and attempt, and remembers what it was handed.
struct Fake {
    limits: SinkLimits,
    plan: Plan,
    handed: Mutex<Vec<(String, i64)>>,
    accepted: Mutex<Vec<i64>>,
    attempts: Mutex<HashMap<i64, u32>>,
    /// How many calls were under way at each.
    at_once: Mutex<Vec<usize>>,
    under_way: AtomicUsize,
    changed: Notify,
}

impl Fake {
    fn new(
        limits: SinkLimits,
        plan: impl Fn(&Due, u32) -> AttemptOutcome + Send + Sync + 'static,
    ) -> Self {
        Self {
            limits,
            plan: Box::new(plan),
            handed: Mutex::default(),
            accepted: Mutex::default(),
            attempts: Mutex::default(),
            at_once: Mutex::default(),
            under_way: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }
}

#[async_trait]
impl Sink for Fake {
    fn limits(&self) -> SinkLimits {
        self.limits
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        let others = self.under_way.fetch_add(1, Ordering::Relaxed);
        self.at_once.lock().unwrap().push(others + 1);
        tokio::task::yield_now().await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        let mut outcome = AttemptOutcome::Delivered;
        for event in events {
            self.handed
                .lock()
                .unwrap()
                .push((event.run_id.clone(), event.seq));
            let mut attempts = self.attempts.lock().unwrap();
            let attempt = attempts.entry(event.seq).or_default();
            *attempt += 1;
            if outcome == AttemptOutcome::Delivered {
                outcome = (self.plan)(event, *attempt);
            }
        }
        if outcome == AttemptOutcome::Delivered {
            self.accepted
                .lock()
                .unwrap()
                .extend(events.iter().map(|event| event.seq));
        }
        self.changed.notify_one();
        vec![outcome; events.len()]
    }
}

struct Setup {
    dir: tempfile::TempDir,
    store: Store,
    _writer: Writer,
    sink: Arc<Fake>,
    bell: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

fn failed() -> AttemptOutcome {
    AttemptOutcome::Failed {
        error: "not now".into(),
        retry_after: None,
    }
}

const BY_RUN: SinkLimits = SinkLimits {
    order: Order::Run,
    batch: 1,
    concurrency: 4,
};

impl Setup {
    async fn new(
        limits: SinkLimits,
        plan: impl Fn(&Due, u32) -> AttemptOutcome + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(&dir.path().join("runs.db")).unwrap();
        let sink = Registration {
            name: SINK.into(),
            kind: "webhook",
            from_beginning: false,
        };
        store
            .call(move |db| {
                db.save_task(
                    &Task {
                        id: "task".into(),
                        ..Task::default()
                    },
                    Timestamp::now(),
                )?;
                db.register(&[sink], Timestamp::now())
            })
            .await
            .unwrap();
        let (bell, stop) = (watch::Sender::new(0), watch::Sender::new(false));
        Self {
            dir,
            store,
            _writer: writer,
            sink: Arc::new(Fake::new(limits, plan)),
            bell,
            stop,
        }
    }

    fn courier(&self, give_up_after: Duration) -> Courier {
        let subscription = Subscription {
            sink: SINK.into(),
            types: None,
        };
        Courier::new(subscription, Arc::<Fake>::clone(&self.sink), give_up_after)
    }

    /// Raises an event for each of these runs.
    async fn see(&self, status: &str, runs: impl IntoIterator<Item = String>) {
        let now = Timestamp::now();
        let observed = runs.into_iter().map(|id| Observed {
            seen: Seen::from_json(
                json!({"id": id, "status": status, "startedAt": now.to_string()}),
            )
            .unwrap(),
            source: Source::List,
        });
        let commit = Commit {
            observed: observed.collect(),
            gone: Vec::new(),
            covered: None,
            feed: FeedState {
                baseline: Some(Baseline(None)),
                ..FeedState::default()
            },
            judgement: Judgement {
                history_until: None,
                settle: Duration::ZERO,
                now,
                asked_at: now,
            },
            finished: true,
        };
        let all = [Subscription {
            sink: SINK.into(),
            types: None,
        }];
        self.store
            .call(move |db| db.commit("task", &commit, &all))
            .await
            .unwrap();
        self.bell.send_modify(|rung| *rung += 1);
    }

    async fn status(&self) -> SinkStatus {
        self.store
            .call(|db| Ok(db.sinks()?.remove(0)))
            .await
            .unwrap()
    }

    fn handed(&self) -> Vec<(String, i64)> {
        self.sink.handed.lock().unwrap().clone()
    }

    async fn drain(&self) {
        self.courier(Duration::from_secs(60))
            .drain(self.store.clone(), Duration::from_secs(30))
            .await
            .unwrap();
    }

    /// Has a courier work in the background.
    fn start(&self, give_up_after: Duration) -> tokio::task::JoinHandle<()> {
        let courier = self.courier(give_up_after);
        let work = courier.run(
            self.store.clone(),
            self.bell.subscribe(),
            self.stop.subscribe(),
        );
        tokio::spawn(async move { work.await.unwrap() })
    }

    /// Waits until something is so, looking whenever the sink was handed something.
    async fn until(&self, is_so: impl AsyncFn() -> bool) {
        let wait = async {
            while !is_so().await {
                let _ =
                    tokio::time::timeout(Duration::from_millis(20), self.sink.changed.notified())
                        .await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .expect("waited in vain");
    }
}

fn runs(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("r{n}"))
}

#[tokio::test]
async fn everything_due_is_delivered_once_and_in_order_for_each_run() {
    let setup = Setup::new(BY_RUN, |_, _| AttemptOutcome::Delivered).await;
    for status in ["READY", "RUNNING", "SUCCEEDED"] {
        setup.see(status, runs(300)).await;
    }
    setup.drain().await;
    let handed = setup.handed();
    assert_eq!(handed.len(), 900);
    for run in runs(300) {
        let seqs: Vec<i64> = handed
            .iter()
            .filter(|(of, _)| *of == run)
            .map(|(_, seq)| *seq)
            .collect();
        assert!(seqs.len() == 3 && seqs.is_sorted(), "{run}: {seqs:?}");
    }
    let status = setup.status().await;
    assert_eq!(
        (status.pending, status.dead, status.state.as_str()),
        (0, 0, "ok")
    );
}

#[tokio::test]
async fn a_stream_gets_batches_in_the_order_of_numbers() {
    let setup = Setup::new(SinkLimits::STREAM, |_, _| AttemptOutcome::Delivered).await;
    for status in ["READY", "RUNNING"] {
        setup.see(status, runs(700)).await;
    }
    setup.drain().await;
    let seqs: Vec<i64> = setup.handed().into_iter().map(|(_, seq)| seq).collect();
    assert_eq!(seqs, (1..=1_400).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_stays_in_order_when_it_fails() {
    let setup = Setup::new(SinkLimits::STREAM, |due, attempt| {
        if [1, 700].contains(&due.seq) && attempt == 1 {
            failed()
        } else {
            AttemptOutcome::Delivered
        }
    })
    .await;
    for status in ["READY", "RUNNING", "SUCCEEDED", "RUNNING"] {
        setup.see(status, runs(700)).await;
    }
    let work = setup.start(Duration::from_secs(60));
    setup
        .until(async || setup.status().await.pending == 0)
        .await;
    assert_eq!(
        *setup.sink.accepted.lock().unwrap(),
        (1..=2_800).collect::<Vec<_>>()
    );
    setup.stop.send_replace(true);
    work.await.unwrap();
}

#[tokio::test]
async fn a_run_that_fails_delays_only_itself() {
    let setup = Setup::new(BY_RUN, |due, _| {
        if due.run_id == "r0" {
            failed()
        } else {
            AttemptOutcome::Delivered
        }
    })
    .await;
    for status in ["READY", "RUNNING"] {
        setup.see(status, runs(100)).await;
    }
    setup.drain().await;
    let handed = setup.handed();
    assert_eq!(
        handed.iter().filter(|(run, _)| run == "r0").count(),
        1,
        "its second event waits behind the first"
    );
    assert_eq!(handed.len(), 199);
    assert_eq!(setup.status().await.pending, 2);
}

#[tokio::test]
async fn what_failed_is_tried_again() {
    let setup = Setup::new(BY_RUN, |_, attempt| {
        if attempt < 2 {
            failed()
        } else {
            AttemptOutcome::Delivered
        }
    })
    .await;
    let work = setup.start(Duration::from_secs(60));
    setup.see("READY", runs(3)).await;
    setup
        .until(async || setup.status().await.pending == 0)
        .await;
    assert_eq!(setup.handed().len(), 6);
    assert_eq!(setup.status().await.last_error, None);
    setup.stop.send_replace(true);
    work.await.unwrap();
}

#[tokio::test]
async fn a_bell_wakes_a_courier_that_has_nothing_to_do() {
    let setup = Setup::new(BY_RUN, |_, _| AttemptOutcome::Delivered).await;
    let work = setup.start(Duration::from_secs(60));
    let began = std::time::Instant::now();
    for round in 1..=10 {
        setup
            .see(if round % 2 == 0 { "READY" } else { "RUNNING" }, runs(1))
            .await;
        setup
            .until(async || setup.handed().len() == round && setup.status().await.pending == 0)
            .await;
    }
    // Looking by itself every five seconds, it would take fifty.
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    setup.stop.send_replace(true);
    work.await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_set_aside_and_the_next_goes() {
    let refused = || AttemptOutcome::Refused {
        error: "400".into(),
    };
    let setup = Setup::new(BY_RUN, move |due, _| {
        if due.seq == 1 {
            refused()
        } else {
            AttemptOutcome::Delivered
        }
    })
    .await;
    for status in ["READY", "RUNNING"] {
        setup.see(status, runs(2)).await;
    }
    setup.drain().await;
    assert_eq!(setup.handed().len(), 4);
    let status = setup.status().await;
    assert_eq!((status.pending, status.dead), (0, 1));
}

#[tokio::test]
async fn a_sink_that_is_gone_has_everything_set_aside() {
    let gone = || AttemptOutcome::Gone {
        error: "410".into(),
    };
    let setup = Setup::new(BY_RUN, move |_, _| gone()).await;
    for status in ["READY", "RUNNING", "FAILED"] {
        setup.see(status, runs(2_500)).await;
    }
    let work = setup.start(Duration::from_secs(60));
    setup
        .until(async || setup.status().await.pending == 0)
        .await;
    assert_eq!(setup.status().await.dead, 7_500);
    assert!(
        setup.handed().len() < 100,
        "{} attempts",
        setup.handed().len()
    );
    // What comes later is tried, as somebody may have mended it.
    let before = setup.handed().len();
    setup.see("RUNNING", runs(1)).await;
    setup.until(async || setup.handed().len() > before).await;
    setup.stop.send_replace(true);
    work.await.unwrap();
}

#[tokio::test]
async fn an_ill_sink_is_tried_one_event_at_a_time() {
    let setup = Setup::new(BY_RUN, |_, _| failed()).await;
    setup.see("READY", runs(5_000)).await;
    setup.drain().await;
    let attempts = setup.handed().len();
    assert!(attempts < 20, "{attempts} attempts");
    assert_eq!(setup.status().await.pending, 5_000);

    let work = setup.start(Duration::from_secs(60));
    setup
        .until(async || setup.handed().len() >= 2 * attempts + 2)
        .await;
    let at_once = setup.sink.at_once.lock().unwrap().clone();
    assert_eq!(at_once[2 * attempts..], [1, 1], "{at_once:?}");
    setup.stop.send_replace(true);
    work.await.unwrap();
}

/// While another process keeps the database to itself, nothing is delivered that could not be written down.
#[tokio::test]
async fn nothing_more_is_delivered_while_the_books_cannot_be_written() {
    let other: Arc<Mutex<Option<rusqlite::Connection>>> = Arc::default();
    let intruder = Arc::clone(&other);
    let setup = Setup::new(BY_RUN, move |due, _| {
        if due.seq == 2 {
            intruder
                .lock()
                .unwrap()
                .as_ref()
                .unwrap()
                .execute_batch("BEGIN IMMEDIATE")
                .unwrap();
        }
        AttemptOutcome::Delivered
    })
    .await;
    *other.lock().unwrap() =
        Some(rusqlite::Connection::open(setup.dir.path().join("runs.db")).unwrap());
    setup
        .store
        .call(|db| Ok(db.connection().busy_timeout(Duration::from_millis(1))?))
        .await
        .unwrap();
    let work = setup.start(Duration::from_secs(60));
    setup.see("READY", runs(1)).await;
    setup
        .until(async || setup.status().await.pending == 0)
        .await;
    setup.see("RUNNING", runs(1_000)).await;
    setup.until(async || setup.handed().len() > 1).await;
    // Every question goes through the same thread as the attempts to write.
    for _ in 0..200 {
        setup.status().await;
    }
    let handed = setup.handed().len();
    assert!(handed < 100, "{handed} were handed over");
    other
        .lock()
        .unwrap()
        .as_ref()
        .unwrap()
        .execute_batch("COMMIT")
        .unwrap();
    setup
        .until(async || setup.status().await.pending == 0)
        .await;
    let mut handed = setup.handed();
    handed.sort();
    assert!(
        handed.windows(2).all(|two| two[0] != two[1]) && handed.len() == 1_001,
        "each once: {}",
        handed.len()
    );
    setup.stop.send_replace(true);
    work.await.unwrap();
}

#[tokio::test]
async fn booking_the_past_can_be_stopped_and_goes_on_later() {
    let setup = Setup::new(BY_RUN, |_, _| AttemptOutcome::Delivered).await;
    setup.see("READY", runs(12_000)).await;
    let other = Registration {
        name: "other".into(),
        kind: "webhook",
        from_beginning: true,
    };
    setup
        .store
        .call(move |db| db.register(&[other], Timestamp::now()))
        .await
        .unwrap();
    let courier = || {
        let subscription = Subscription {
            sink: "other".into(),
            types: None,
        };
        Courier::new(
            subscription,
            Arc::<Fake>::clone(&setup.sink),
            Duration::from_secs(60),
        )
    };
    setup.stop.send_replace(true);
    courier()
        .run(
            setup.store.clone(),
            setup.bell.subscribe(),
            setup.stop.subscribe(),
        )
        .await
        .unwrap();
    let state = async || {
        setup
            .store
            .call(|db| Ok(db.sinks()?.remove(0).state))
            .await
            .unwrap()
    };
    assert_eq!(state().await, "catching up");
    courier()
        .drain(setup.store.clone(), Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(
        (state().await, setup.handed().len()),
        ("ok".to_owned(), 12_000)
    );
}

#[tokio::test]
async fn draining_has_a_bound() {
    let setup = Setup::new(BY_RUN, |_, _| AttemptOutcome::Delivered).await;
    setup.see("READY", runs(100)).await;
    let subscription = Subscription {
        sink: SINK.into(),
        types: None,
    };
    let courier = Courier::new(
        subscription,
        Arc::new(Hanging(Arc::default())),
        Duration::from_secs(60),
    );
    let drained = courier.drain(setup.store.clone(), Duration::from_millis(50));
    tokio::time::timeout(Duration::from_secs(30), drained)
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(setup.status().await.pending, 100);
}

#[tokio::test]
async fn an_ill_sink_that_is_well_again_gets_everything() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let plan = move |_: &Due, _| {
        if is_well.load(Ordering::Relaxed) {
            AttemptOutcome::Delivered
        } else {
            failed()
        }
    };
    let setup = Setup::new(BY_RUN, plan).await;
    setup.see("READY", runs(1_000)).await;
    let work = setup.start(Duration::from_secs(600));
    setup
        .until(async || setup.status().await.state == "failing")
        .await;
    well.store(true, Ordering::Relaxed);
    setup
        .until(async || setup.status().await.pending == 0)
        .await;
    setup.stop.send_replace(true);
    work.await.unwrap();
}

#[tokio::test]
async fn what_an_ill_sink_is_owed_is_given_up_in_time() {
    let setup = Setup::new(BY_RUN, |_, _| failed()).await;
    for status in ["READY", "RUNNING"] {
        setup.see(status, runs(6_000)).await;
    }
    let work = setup.start(Duration::from_millis(100));
    setup
        .until(async || setup.status().await.pending == 0)
        .await;
    let status = setup.status().await;
    assert_eq!(
        (status.dead, status.last_error.as_deref()),
        (12_000, Some("not now"))
    );
    setup.stop.send_replace(true);
    work.await.unwrap();
}

#[tokio::test]
async fn what_is_under_way_when_it_is_time_to_stop_is_written_down() {
    let gate = Arc::new(Notify::new());
    let (entered, opened) = (Arc::new(Notify::new()), Arc::clone(&gate));

    struct Slow(Arc<Notify>, Arc<Notify>);
    #[async_trait]
    impl Sink for Slow {
        fn limits(&self) -> SinkLimits {
            BY_RUN
        }
        async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
            self.0.notify_one();
            self.1.notified().await;
            vec![AttemptOutcome::Delivered; events.len()]
        }
    }
    let setup = Setup::new(BY_RUN, |_, _| AttemptOutcome::Delivered).await;
    let subscription = Subscription {
        sink: SINK.into(),
        types: None,
    };
    let courier = Courier::new(
        subscription,
        Arc::new(Slow(Arc::clone(&entered), opened)),
        Duration::from_secs(60),
    );
    let work = tokio::spawn(courier.run(
        setup.store.clone(),
        setup.bell.subscribe(),
        setup.stop.subscribe(),
    ));
    setup.see("READY", runs(1)).await;
    entered.notified().await;
    setup.stop.send_replace(true);
    gate.notify_one();
    work.await.unwrap().unwrap();
    assert_eq!(setup.status().await.pending, 0);
}

/// A sink that never answers.
struct Hanging(Arc<Notify>);

#[async_trait]
impl Sink for Hanging {
    fn limits(&self) -> SinkLimits {
        BY_RUN
    }

    async fn deliver(&self, _: &[Due]) -> Vec<AttemptOutcome> {
        self.0.notify_one();
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_hangs_does_not_keep_a_courier_from_stopping() {
    let entered = Arc::new(Notify::new());
    let setup = Setup::new(BY_RUN, |_, _| AttemptOutcome::Delivered).await;
    let subscription = Subscription {
        sink: SINK.into(),
        types: None,
    };
    let courier = Courier::new(
        subscription,
        Arc::new(Hanging(Arc::clone(&entered))),
        Duration::from_secs(60),
    );
    let work = tokio::spawn(courier.run(
        setup.store.clone(),
        setup.bell.subscribe(),
        setup.stop.subscribe(),
    ));
    setup.see("READY", runs(1)).await;
    entered.notified().await;
    setup.stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("it stops")
        .unwrap()
        .unwrap();
    assert_eq!(setup.status().await.pending, 1, "it is still owed");
}
