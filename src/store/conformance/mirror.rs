//! The mirror that a check is about, and short ways to use it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::builders::{FEED, HOOK, at, commit_of, exchange, limits, registration, settled, task};
use crate::model::{Exchange, Exchanged, Fetched, Order, Overdue, Settled, Verdict};
use crate::store::reports::{
    Delivery, EventFilter, Selection, SinkStatus, SubscriptionStatus, TaskStatus, Which,
};
use crate::store::states::DeliveryState;
use crate::store::traits::{Reader, Store};
use crate::store::written::{Committed, Written};
use crate::sync::{Commit, Stored};

/// An empty mirror. Its shortcuts are about the feed [`FEED`] and panic when the database fails.
pub struct Mirror {
    /// Its writing side.
    pub store: Arc<dyn Store>,
    /// Its reading side.
    pub reader: Arc<dyn Reader>,
    _home: Option<TempDir>,
}

impl Mirror {
    /// A mirror of these two sides, in `home` where it has one.
    pub fn new(
        store: impl Store + 'static,
        reader: impl Reader + 'static,
        home: Option<TempDir>,
    ) -> Self {
        Self {
            store: Arc::new(store),
            reader: Arc::new(reader),
            _home: home,
        }
    }

    /// Opens the feed, with these sinks from now on.
    pub async fn start(&self, sinks: &[&str]) {
        self.store.open_feed(&task(FEED), at(0)).await.unwrap();
        self.register(sinks, 0).await;
    }

    /// Registers these sinks, new ones from now on.
    pub async fn register(&self, sinks: &[&str], now: i64) {
        let sinks: Vec<_> = sinks.iter().map(|name| registration(name, false)).collect();
        self.store.register(&sinks, at(now)).await.unwrap();
    }

    /// Registers these sinks, new ones from the beginning.
    pub async fn register_from_beginning(&self, sinks: &[&str], now: i64) {
        let sinks: Vec<_> = sinks.iter().map(|name| registration(name, true)).collect();
        self.store.register(&sinks, at(now)).await.unwrap();
    }

    /// Commits to the feed observations that need no confirmation; returns what changed.
    pub async fn commit(&self, commit: &Commit) -> Written {
        let committed = self.commit_all(commit).await;
        assert_eq!(committed.unconfirmed, [""; 0]);
        committed.written
    }

    /// Commits to the feed.
    pub async fn commit_all(&self, commit: &Commit) -> Committed {
        self.store.commit(FEED, commit.clone()).await.unwrap()
    }

    /// Has runs be seen at `now`, each in a status; every change raises an event.
    pub async fn see(&self, now: i64, runs: &[(&str, &str)]) {
        self.commit(&commit_of(now, runs)).await;
    }

    /// Has `count` new runs be seen at `now` in one commit: one event each. Their ids begin with `prefix`.
    pub async fn see_many(&self, now: i64, prefix: &str, count: usize) {
        let ids: Vec<String> = (0..count).map(|n| format!("{prefix}{n}")).collect();
        let runs: Vec<_> = ids.iter().map(|id| (id.as_str(), "READY")).collect();
        self.see(now, &runs).await;
    }

    /// Makes an exchange.
    pub async fn exchange(&self, exchange: &Exchange, now: i64) -> Exchanged {
        self.store
            .exchange(exchange.clone(), at(now))
            .await
            .unwrap()
    }

    /// What [`HOOK`] fetches.
    pub async fn fetch(&self, order: Order, now: i64, except: &[i64]) -> Fetched {
        let fetch = Exchange {
            fetch: limits(order, except),
            ..exchange(HOOK)
        };
        self.exchange(&fetch, now).await.fetched
    }

    /// The numbers and runs of what is due for [`HOOK`], runs apart.
    pub async fn due(&self, now: i64) -> Vec<(i64, String)> {
        let fetched = self.fetch(Order::Run, now, &[]).await;
        fetched
            .events
            .into_iter()
            .map(|due| (due.seq, due.run_id))
            .collect()
    }

    /// Records the result of an attempt to deliver one event to [`HOOK`] as it is now.
    pub async fn settle(&self, now: i64, seq: i64, run: &str, verdict: Verdict) {
        let all = Selection {
            sink: Some(HOOK.into()),
            which: Which::All,
            ..Selection::default()
        };
        let deliveries = self.deliveries(&all).await;
        let row = deliveries.iter().find(|delivery| delivery.seq == seq);
        let attempts = row.map_or(0, |delivery| delivery.attempts);
        self.settle_attempt(now, seq, run, attempts, verdict).await;
    }

    /// Records the result of an attempt to deliver one event to [`HOOK`] as it was after so many attempts.
    pub async fn settle_attempt(
        &self,
        now: i64,
        seq: i64,
        run: &str,
        attempts: u32,
        verdict: Verdict,
    ) {
        let one = Settled {
            attempts,
            ..settled(seq, run, verdict)
        };
        let record = Exchange {
            settled: vec![one],
            ..exchange(HOOK)
        };
        self.exchange(&record, now).await;
    }

    /// Records a failed attempt at event 1, after which [`HOOK`] is not attempted for `pause` seconds.
    pub async fn fail(&self, now: i64, pause: u64) {
        let failed = Exchange {
            settled: vec![settled(1, "a", Verdict::Retry { at: at(now) })],
            pause: Duration::from_secs(pause),
            ..exchange(HOOK)
        };
        self.exchange(&failed, now).await;
    }

    /// Sets deliveries to [`HOOK`] aside, at most a chunk; returns how many.
    pub async fn set_aside(&self, now: i64, which: Overdue, reason: &str) -> usize {
        let set_aside = Exchange {
            set_aside: Some((which, reason.into())),
            ..exchange(HOOK)
        };
        self.exchange(&set_aside, now).await.set_aside
    }

    /// Copies a chunk of backlog; returns whether that was all.
    pub async fn copy_backlog(&self, now: i64, sink: &str) -> bool {
        let copy = Exchange {
            backlog: true,
            ..exchange(sink)
        };
        self.exchange(&copy, now).await.live
    }

    /// Copies all of the backlog.
    pub async fn catch_up(&self, now: i64, sink: &str) {
        for _ in 0..100 {
            if self.copy_backlog(now, sink).await {
                return;
            }
        }
        panic!("it never ends");
    }

    /// What is stored of a run.
    pub async fn run(&self, id: &str) -> Stored {
        self.reader.run(id).await.unwrap().unwrap()
    }

    /// The bodies of all events, by number.
    pub async fn events(&self) -> Vec<(i64, String)> {
        let (events, _) = self
            .reader
            .events_after(0, &EventFilter::default(), 1_000_000)
            .await
            .unwrap();
        events
            .into_iter()
            .map(|event| (event.seq, event.payload))
            .collect()
    }

    /// A field of the bodies of all events.
    pub async fn event_fields(&self, field: &str) -> Vec<String> {
        let bodies = self.events().await;
        let field = |(_, body): &(i64, String)| {
            let body: Value = serde_json::from_str(body).unwrap();
            body[field].as_str().unwrap().to_owned()
        };
        bodies.iter().map(field).collect()
    }

    /// How the feed fares at `now`.
    pub async fn task_status(&self, now: i64) -> TaskStatus {
        let mut tasks = self.reader.overview(at(now)).await.unwrap().tasks;
        let n = tasks.iter().position(|task| task.id == FEED).unwrap();
        tasks.remove(n)
    }

    /// How a sink fares; `None` when it is forgotten.
    pub async fn sink(&self, name: &str) -> Option<SinkStatus> {
        let sinks = self.reader.sinks().await.unwrap();
        sinks.into_iter().find(|sink| sink.name == name)
    }

    /// A subscription; `None` when there is none by this name.
    pub async fn subscription(&self, name: &str) -> Option<SubscriptionStatus> {
        let subscriptions = self.reader.subscriptions().await.unwrap();
        subscriptions
            .into_iter()
            .find(|subscription| subscription.name == name)
    }

    /// Deliveries of `selection`.
    pub async fn deliveries(&self, selection: &Selection) -> Vec<Delivery> {
        self.reader.deliveries(selection, 1_000_000).await.unwrap()
    }

    /// The numbers of all events that a sink is owed or gave up on.
    pub async fn owed(&self, sink: &str) -> Vec<i64> {
        let selection = Selection {
            sink: Some(sink.into()),
            which: Which::All,
            ..Selection::default()
        };
        let deliveries = self.deliveries(&selection).await;
        deliveries.iter().map(|delivery| delivery.seq).collect()
    }

    /// The numbers and states of deliveries.
    pub async fn states(&self, which: Which) -> Vec<(i64, DeliveryState)> {
        let selection = Selection {
            which,
            ..Selection::default()
        };
        let deliveries = self.deliveries(&selection).await;
        deliveries
            .iter()
            .map(|delivery| (delivery.seq, delivery.state))
            .collect()
    }
}
