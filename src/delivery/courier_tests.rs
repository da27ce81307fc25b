//! Couriers, with sinks that do as they are told and a real database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, watch};

use super::{Courier, Enlisted, Subscription};
use crate::model::{Task, Timestamp};
use crate::sinks::{Delivering, Intake, Order, Outcome, Sink};
use crate::store::{Due, SinkStatus, Store, Writer};
use crate::sync::{Baseline, Commit, FeedState, Judgement, Observed, Seen, Source};

const SINK: &str = "sink";

type Plan = Box<dyn Fn(&Due, u32) -> Outcome + Send + Sync>;

/// A sink that answers as planned, by event and attempt, and remembers what it was handed.
struct Fake {
    intake: Intake,
    plan: Plan,
    handed: Mutex<Vec<(String, i64)>>,
    attempts: Mutex<HashMap<i64, u32>>,
    changed: Notify,
}

impl Sink for Fake {
    fn intake(&self) -> Intake {
        self.intake
    }

    fn deliver<'a>(&'a self, events: &'a [Due]) -> Delivering<'a> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut outcome = Outcome::Delivered;
            for event in events {
                self.handed.lock().unwrap().push((event.run_id.clone(), event.seq));
                let mut attempts = self.attempts.lock().unwrap();
                let attempt = attempts.entry(event.seq).or_default();
                *attempt += 1;
                if outcome == Outcome::Delivered {
                    outcome = (self.plan)(event, *attempt);
                }
            }
            self.changed.notify_one();
            outcome
        })
    }
}

struct Setup {
    _dir: tempfile::TempDir,
    store: Store,
    _writer: Writer,
    sink: Arc<Fake>,
    bell: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

fn failed() -> Outcome {
    Outcome::Failed { error: "not now".into(), retry_after: None }
}

const BY_RUN: Intake = Intake { order: Order::Run, batch: 1, concurrency: 4 };

impl Setup {
    async fn new(intake: Intake, plan: impl Fn(&Due, u32) -> Outcome + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(&dir.path().join("runs.db")).unwrap();
        let sink = Enlisted { name: SINK.into(), kind: "webhook", from_beginning: false };
        store
            .call(move |db| {
                db.save_task(&Task { id: "task".into(), ..Task::default() }, Timestamp::now())?;
                db.enlist(&[sink], Timestamp::now())
            })
            .await
            .unwrap();
        let sink = Fake {
            intake,
            plan: Box::new(plan),
            handed: Mutex::default(),
            attempts: Mutex::default(),
            changed: Notify::new(),
        };
        let (bell, stop) = (watch::Sender::new(0), watch::Sender::new(false));
        Self { _dir: dir, store, _writer: writer, sink: Arc::new(sink), bell, stop }
    }

    fn courier(&self, give_up_after: Duration) -> Courier {
        let subscription = Subscription { sink: SINK.into(), types: None };
        Courier::new(subscription, Arc::<Fake>::clone(&self.sink), give_up_after)
    }

    /// Raises an event for each of these runs.
    async fn see(&self, status: &str, runs: impl IntoIterator<Item = String>) {
        let now = Timestamp::now();
        let observed = runs.into_iter().map(|id| Observed {
            seen: Seen::from_json(json!({"id": id, "status": status, "startedAt": now.to_string()})).unwrap(),
            source: Source::List,
        });
        let commit = Commit {
            observed: observed.collect(),
            gone: Vec::new(),
            covered: None,
            feed: FeedState { baseline: Some(Baseline(None)), ..FeedState::default() },
            judgement: Judgement { history_until: None, settle: Duration::ZERO, now, asked_at: now },
            finished: true,
        };
        let all = [Subscription { sink: SINK.into(), types: None }];
        self.store.call(move |db| db.commit("task", &commit, &all)).await.unwrap();
        self.bell.send_modify(|rung| *rung += 1);
    }

    async fn status(&self) -> SinkStatus {
        self.store.call(|db| Ok(db.sinks()?.remove(0))).await.unwrap()
    }

    fn handed(&self) -> Vec<(String, i64)> {
        self.sink.handed.lock().unwrap().clone()
    }

    async fn drain(&self) {
        self.courier(Duration::from_secs(60)).drain(self.store.clone(), Duration::from_secs(30)).await.unwrap();
    }

    /// Has a courier work in the background.
    fn start(&self, give_up_after: Duration) -> tokio::task::JoinHandle<()> {
        let courier = self.courier(give_up_after);
        let work = courier.run(self.store.clone(), self.bell.subscribe(), self.stop.subscribe());
        tokio::spawn(async move { work.await.unwrap() })
    }

    /// Waits until something is so, looking whenever the sink was handed something.
    async fn until(&self, is_so: impl AsyncFn() -> bool) {
        let wait = async {
            while !is_so().await {
                let _ = tokio::time::timeout(Duration::from_millis(20), self.sink.changed.notified()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("waited in vain");
    }
}

fn runs(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("r{n}"))
}

#[tokio::test]
async fn everything_due_is_delivered_once_and_in_order_for_each_run() {
    let setup = Setup::new(BY_RUN, |_, _| Outcome::Delivered).await;
    for status in ["READY", "RUNNING", "SUCCEEDED"] {
        setup.see(status, runs(300)).await;
    }
    setup.drain().await;
    let handed = setup.handed();
    assert_eq!(handed.len(), 900);
    for run in runs(300) {
        let seqs: Vec<i64> = handed.iter().filter(|(of, _)| *of == run).map(|(_, seq)| *seq).collect();
        assert!(seqs.len() == 3 && seqs.is_sorted(), "{run}: {seqs:?}");
    }
    let status = setup.status().await;
    assert_eq!((status.pending, status.dead, status.state.as_str()), (0, 0, "ok"));
}

#[tokio::test]
async fn a_stream_gets_batches_in_the_order_of_numbers() {
    let setup = Setup::new(Intake::STREAM, |_, _| Outcome::Delivered).await;
    for status in ["READY", "RUNNING"] {
        setup.see(status, runs(700)).await;
    }
    setup.drain().await;
    let seqs: Vec<i64> = setup.handed().into_iter().map(|(_, seq)| seq).collect();
    assert_eq!(seqs, (1..=1_400).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_run_that_fails_delays_only_itself() {
    let setup = Setup::new(BY_RUN, |due, _| if due.run_id == "r0" { failed() } else { Outcome::Delivered }).await;
    for status in ["READY", "RUNNING"] {
        setup.see(status, runs(100)).await;
    }
    setup.drain().await;
    let handed = setup.handed();
    assert_eq!(handed.iter().filter(|(run, _)| run == "r0").count(), 1, "its second event waits behind the first");
    assert_eq!(handed.len(), 199);
    assert_eq!(setup.status().await.pending, 2);
}

#[tokio::test]
async fn what_failed_is_tried_again_and_a_bell_wakes_at_once() {
    let setup = Setup::new(BY_RUN, |_, attempt| if attempt < 2 { failed() } else { Outcome::Delivered }).await;
    let work = setup.start(Duration::from_secs(60));
    setup.see("READY", runs(3)).await;
    setup.until(async || setup.status().await.pending == 0).await;
    assert_eq!(setup.handed().len(), 6);
    assert_eq!(setup.status().await.last_error, None);
    setup.stop.send_replace(true);
    work.await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_set_aside_and_the_next_goes() {
    let refused = || Outcome::Refused { error: "400".into() };
    let setup = Setup::new(BY_RUN, move |due, _| if due.seq == 1 { refused() } else { Outcome::Delivered }).await;
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
    let gone = || Outcome::Gone { error: "410".into() };
    let setup = Setup::new(BY_RUN, move |_, _| gone()).await;
    for status in ["READY", "RUNNING", "FAILED"] {
        setup.see(status, runs(2_500)).await;
    }
    let work = setup.start(Duration::from_secs(60));
    setup.until(async || setup.status().await.pending == 0).await;
    assert_eq!(setup.status().await.dead, 7_500);
    assert!(setup.handed().len() < 100, "{} attempts", setup.handed().len());
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
}

#[tokio::test]
async fn an_ill_sink_that_is_well_again_gets_everything() {
    let setup = Setup::new(BY_RUN, |_, _| Outcome::Delivered).await;
    let well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let setup = Setup {
        sink: Arc::new(Fake {
            intake: BY_RUN,
            plan: Box::new(move |_, _| {
                if is_well.load(std::sync::atomic::Ordering::Relaxed) { Outcome::Delivered } else { failed() }
            }),
            handed: Mutex::default(),
            attempts: Mutex::default(),
            changed: Notify::new(),
        }),
        ..setup
    };
    setup.see("READY", runs(1_000)).await;
    let work = setup.start(Duration::from_secs(600));
    setup.until(async || setup.status().await.state == "failing").await;
    well.store(true, std::sync::atomic::Ordering::Relaxed);
    setup.until(async || setup.status().await.pending == 0).await;
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
    setup.until(async || setup.status().await.pending == 0).await;
    let status = setup.status().await;
    assert_eq!((status.dead, status.last_error.as_deref()), (12_000, Some("not now")));
    setup.stop.send_replace(true);
    work.await.unwrap();
}

#[tokio::test]
async fn what_is_under_way_when_it_is_time_to_stop_is_written_down() {
    let gate = Arc::new(Notify::new());
    let (entered, opened) = (Arc::new(Notify::new()), Arc::clone(&gate));

    struct Slow(Arc<Notify>, Arc<Notify>);
    impl Sink for Slow {
        fn intake(&self) -> Intake {
            BY_RUN
        }
        fn deliver<'a>(&'a self, _: &'a [Due]) -> Delivering<'a> {
            Box::pin(async {
                self.0.notify_one();
                self.1.notified().await;
                Outcome::Delivered
            })
        }
    }
    let setup = Setup::new(BY_RUN, |_, _| Outcome::Delivered).await;
    let subscription = Subscription { sink: SINK.into(), types: None };
    let courier = Courier::new(subscription, Arc::new(Slow(Arc::clone(&entered), opened)), Duration::from_secs(60));
    let work = tokio::spawn(courier.run(setup.store.clone(), setup.bell.subscribe(), setup.stop.subscribe()));
    setup.see("READY", runs(1)).await;
    entered.notified().await;
    setup.stop.send_replace(true);
    gate.notify_one();
    work.await.unwrap().unwrap();
    assert_eq!(setup.status().await.pending, 0);
}

#[tokio::test]
async fn what_hangs_does_not_keep_a_courier_from_stopping() {
    struct Hanging(Arc<Notify>);
    impl Sink for Hanging {
        fn intake(&self) -> Intake {
            BY_RUN
        }
        fn deliver<'a>(&'a self, _: &'a [Due]) -> Delivering<'a> {
            self.0.notify_one();
            Box::pin(std::future::pending())
        }
    }
    let entered = Arc::new(Notify::new());
    let setup = Setup::new(BY_RUN, |_, _| Outcome::Delivered).await;
    let subscription = Subscription { sink: SINK.into(), types: None };
    let courier = Courier::new(subscription, Arc::new(Hanging(Arc::clone(&entered))), Duration::from_secs(60));
    let work = tokio::spawn(courier.run(setup.store.clone(), setup.bell.subscribe(), setup.stop.subscribe()));
    setup.see("READY", runs(1)).await;
    entered.notified().await;
    setup.stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it stops").unwrap().unwrap();
    assert_eq!(setup.status().await.pending, 1, "it is still owed");
}
