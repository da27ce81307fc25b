//! What every store must do, checked through [`Store`] and [`Reader`] alone: a second database is held to the same
//! checks by one more module at the end of this file.
//!
//! A check takes a fresh [`Mirror`]. One that [`checks`] does not list is dead code, which the compiler reports.

mod commits;
mod deliveries;
mod outbox;
mod reads;
mod sinks;
mod tasks;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::reports::{Selection, SinkStatus, Which};
use super::sqlite::{SqliteReader, SqliteStore};
use super::traits::{Reader, Store};
use super::written::Written;
use crate::model::{
    Exchange, Exchanged, FetchLimits, Fetched, Order, Overdue, Registration, Settled, Subscription,
    Task, Timestamp, Verdict,
};
use crate::sync::{
    Baseline, Commit, Cursor, FeedState, Judgement, Observed, OpenRun, Seen, Source, Watermark,
};

/// The feed of most checks.
const FEED: &str = "task";
/// The sink of most checks.
const HOOK: &str = "hook";

/// An empty mirror with one feed and the sink [`HOOK`].
struct Mirror {
    store: Arc<dyn Store>,
    reader: Arc<dyn Reader>,
    _folder: Option<tempfile::TempDir>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

/// A run as the API lists it.
fn run(id: &str, second: i64, status: &str) -> Value {
    json!({"id": id, "actorTaskId": FEED, "actId": "act", "userId": "user", "status": status,
        "startedAt": at(second).to_string(), "finishedAt": null, "meta": {"origin": "API", "new": 1},
        "usageTotalUsd": 0.5})
}

/// A poll's commit at `now` that saw these items and read up to `offset`.
fn commit(now: i64, offset: u64, items: &[Value]) -> Commit {
    let observed = items.iter().map(|item| Observed {
        seen: Seen::from_json(item.clone()).unwrap(),
        source: Source::List,
    });
    let watermark = Some(Watermark {
        started: at(offset as i64),
        id: format!("w{offset}"),
    });
    Commit {
        observed: observed.collect(),
        gone: Vec::new(),
        covered: None,
        feed: FeedState {
            cursor: Cursor { offset, watermark },
            baseline: Some(Baseline(None)),
            complete: true,
            watched_at: Some(at(now)),
            total: Some(offset),
            ..FeedState::default()
        },
        judgement: Judgement {
            history_until: None,
            settle: Duration::from_secs(60),
            now: at(now),
            asked_at: at(now),
        },
        finished: true,
    }
}

fn registration(name: &str, from_beginning: bool) -> Registration {
    Registration {
        name: name.into(),
        kind: "webhook",
        from_beginning,
    }
}

/// A subscription to every event.
fn all_of(sink: &str) -> Subscription {
    Subscription {
        sink: sink.into(),
        types: None,
    }
}

fn settled(seq: i64, run_id: &str, verdict: Verdict) -> Settled {
    let error = (verdict != Verdict::Delivered).then(|| "no".to_owned());
    Settled {
        seq,
        run_id: run_id.into(),
        verdict,
        error,
    }
}

/// An exchange that only fetches.
fn fetch(order: Order, events: usize, except: &[i64]) -> Exchange {
    let except: HashSet<i64> = except.iter().copied().collect();
    Exchange {
        sink: HOOK.into(),
        backlog: None,
        settled: Vec::new(),
        set_aside: None,
        fetch: FetchLimits {
            order,
            events,
            except,
        },
    }
}

impl Mirror {
    async fn new(
        store: Arc<dyn Store>,
        reader: Arc<dyn Reader>,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        let task = Task {
            id: FEED.into(),
            ..Task::default()
        };
        store.open_feed(&task, at(0)).await.unwrap();
        store
            .register(&[registration(HOOK, false)], at(0))
            .await
            .unwrap();
        Self {
            store,
            reader,
            _folder: folder,
        }
    }

    /// SQLite in memory.
    async fn in_memory() -> Self {
        let (store, reader) = SqliteStore::in_memory().unwrap();
        Self::new(Arc::new(store), Arc::new(reader), None).await
    }

    /// SQLite in a file, read over a connection of its own.
    async fn in_a_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.db");
        let (store, _) = SqliteStore::open(&path).unwrap();
        let reader = SqliteReader::open(&path).unwrap();
        Self::new(Arc::new(store), Arc::new(reader), Some(folder)).await
    }

    /// Commits for the sink [`HOOK`].
    async fn commit(&self, commit: &Commit) -> Written {
        self.commit_for(commit, &[all_of(HOOK)]).await
    }

    async fn commit_for(&self, commit: &Commit, subscriptions: &[Subscription]) -> Written {
        self.store
            .commit(FEED, commit.clone(), subscriptions)
            .await
            .unwrap()
    }

    /// These runs are seen at `now`, each in a status; every change raises events.
    async fn see(&self, now: i64, runs: &[(&str, &str)]) {
        let items: Vec<Value> = runs.iter().map(|(id, status)| run(id, 1, status)).collect();
        self.commit(&commit(now, 1, &items)).await;
    }

    async fn exchange(&self, exchange: Exchange, now: i64) -> Exchanged {
        self.store.exchange(exchange, at(now)).await.unwrap()
    }

    async fn fetch(&self, order: Order, now: i64, except: &[i64]) -> Fetched {
        self.exchange(fetch(order, 100, except), now).await.fetched
    }

    /// The sequence numbers and runs of what is due for the sink [`HOOK`].
    async fn due(&self, now: i64) -> Vec<(i64, String)> {
        let events = self.fetch(Order::Run, now, &[]).await.events;
        events
            .into_iter()
            .map(|due| (due.seq, due.run_id))
            .collect()
    }

    async fn record(&self, now: i64, settled: &[Settled]) {
        let exchange = Exchange {
            settled: settled.to_vec(),
            ..fetch(Order::Run, 0, &[])
        };
        self.exchange(exchange, now).await;
    }

    async fn settle(&self, now: i64, seq: i64, run: &str, verdict: Verdict) {
        self.record(now, &[settled(seq, run, verdict)]).await;
    }

    async fn set_aside(&self, which: Overdue, now: i64) -> usize {
        let set_aside = Some((which, "given up".to_owned()));
        self.exchange(
            Exchange {
                set_aside,
                ..fetch(Order::Run, 0, &[])
            },
            now,
        )
        .await
        .set_aside
    }

    /// Copies the backlog of a sink, in as many exchanges as it takes; gives how many.
    async fn catch_up(&self, subscription: &Subscription) -> usize {
        for exchanges in 1..100 {
            let backlog = Some(subscription.clone());
            let exchange = Exchange {
                sink: subscription.sink.clone(),
                backlog,
                ..fetch(Order::Run, 0, &[])
            };
            if self.exchange(exchange, 100).await.live {
                return exchanges;
            }
        }
        panic!("it never ends");
    }

    async fn sink(&self) -> SinkStatus {
        self.reader.sinks().await.unwrap().remove(0)
    }

    /// The states of all sinks, by name.
    async fn states(&self) -> Vec<(String, String)> {
        let sinks = self.reader.sinks().await.unwrap();
        sinks
            .into_iter()
            .map(|sink| (sink.name, sink.state.to_string()))
            .collect()
    }

    /// The sequence numbers of all deliveries to a sink.
    async fn owed(&self, sink: &str) -> Vec<i64> {
        let selection = Selection {
            sink: Some(sink.into()),
            which: Which::All,
            ..Selection::default()
        };
        let deliveries = self.reader.deliveries(&selection, 100_000).await.unwrap();
        deliveries
            .into_iter()
            .map(|delivery| delivery.seq)
            .collect()
    }

    /// The bodies of all events, in order.
    async fn bodies(&self) -> Vec<Value> {
        let (events, _) = self.reader.events_after(0, None, 100_000).await.unwrap();
        events
            .iter()
            .map(|event| serde_json::from_str(&event.payload).unwrap())
            .collect()
    }

    async fn feed(&self) -> FeedState {
        self.reader.feed(FEED).await.unwrap().unwrap()
    }

    async fn status(&self, id: &str) -> String {
        self.reader
            .run(id)
            .await
            .unwrap()
            .unwrap()
            .run
            .status
            .to_string()
    }

    async fn is_removed(&self, id: &str) -> bool {
        self.reader.run(id).await.unwrap().unwrap().removed
    }

    async fn open_runs(&self) -> Vec<OpenRun> {
        let open = self.store.open_runs(FEED, &Cursor::default(), 1_000).await;
        open.unwrap().runs
    }
}

fn pairs(pairs: &[(i64, &str)]) -> Vec<(i64, String)> {
    pairs
        .iter()
        .map(|(seq, run)| (*seq, (*run).to_owned()))
        .collect()
}

/// Every check, as a test of the store that `$open` makes.
macro_rules! checks {
    ($open:expr) => {
        checks! { $open;
            commits: [
                rows_events_deliveries_and_cursor_move_together,
                a_failed_poll_is_recorded_once_and_cleared_by_the_next_success,
                lost_tasks_are_told_from_failing_ones,
                a_lasting_failure_is_recorded_again_after_a_heartbeat,
                the_later_of_two_entries_with_one_id_counts,
                a_run_that_names_another_task_belongs_to_the_feed_that_lists_it,
                a_run_that_is_gone_is_marked_kept_and_no_longer_open,
                ids_and_bodies_of_events,
                changes_are_counted_by_kind,
                an_audit_in_progress_is_stored_and_removed_with_the_commit,
                commits_that_raise_events_notify,
            ]
            deliveries: [
                a_delivery_can_be_retried_or_dropped,
                many_deliveries_are_changed_in_parts,
                a_delivery_dropped_in_flight_stays_dropped,
            ]
            outbox: [
                one_event_of_a_run_is_due_at_a_time,
                a_stream_gets_everything_in_order,
                an_attempt_does_not_make_an_event_due_before_its_turn,
                fetching_is_bounded_in_bytes,
                a_clock_that_was_set_back_does_not_delay_retries,
                events_held_by_the_worker_do_not_hide_others,
                the_health_of_a_sink,
                a_failing_sinks_overdue_deliveries_are_set_aside,
                an_exchange_made_again_changes_nothing,
            ]
            reads: [
                distances_are_counted_behind_the_watermark,
                unseen_runs_are_bounded_and_include_those_without_a_start,
                the_log_is_read_in_batches_and_by_feed,
            ]
            sinks: [
                a_sink_added_later_starts_now_or_at_the_beginning,
                a_removed_sink_keeps_its_deliveries_and_goes_on_from_there,
                a_long_backlog_is_copied_in_parts,
            ]
            tasks: [
                references_are_believed_for_a_while,
                a_task_keeps_what_an_answer_left_out,
            ]
        }
    };
    ($open:expr; $($subject:ident: [$($check:ident,)+])+) => {
        $($(
            #[tokio::test]
            async fn $check() {
                super::$subject::$check($open.await).await;
            }
        )+)+
    };
}

mod sqlite_in_memory {
    use super::Mirror;
    checks!(Mirror::in_memory());
}

mod sqlite_in_a_file {
    use super::Mirror;
    checks!(Mirror::in_a_file());
}
