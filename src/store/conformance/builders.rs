//! What checks commit, exchange and register.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::{
    Details, Exchange, FetchLimits, Order, Registration, Settled, Subscription, Task, Timestamp,
    Verdict,
};
use crate::store::reports::{Selection, Which};
use crate::sync::{
    Baseline, Commit, Cursor, FeedState, Judgement, Observed, Seen, Source, Watermark,
};

/// The task whose runs are mirrored.
pub const FEED: &str = "task";

/// The sink of most checks of the outbox.
pub const HOOK: &str = "hook";

/// No start is too late to be believed.
pub const LATEST: Timestamp = Timestamp::from_millis(i64::MAX);

/// The instant `second` seconds after the epoch.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

/// A task of which only the id is known.
pub fn task(id: &str) -> Task {
    Task {
        id: id.into(),
        ..Task::default()
    }
}

/// A run of [`FEED`] as the API lists it, started at `second`.
pub fn run(id: &str, second: i64, status: &str) -> Value {
    json!({"id": id, "actorTaskId": FEED, "actId": "act", "userId": "user", "status": status,
        "startedAt": at(second).to_string(), "finishedAt": null, "meta": {"origin": "API", "new": 1},
        "usageTotalUsd": 0.5})
}

/// The last step of a poll that saw `items` at `now` and ended with the cursor at `offset`.
pub fn commit(now: i64, offset: u64, items: &[Value]) -> Commit {
    let observed = items.iter().map(|item| Observed {
        seen: Seen::from_json(item.clone(), LATEST).unwrap(),
        source: Source::List,
    });
    let watermark = Some(Watermark {
        started: at(offset as i64),
        id: format!("w{offset}"),
    });
    Commit {
        observed: observed.collect(),
        gone: Vec::new(),
        unreadable: Vec::new(),
        readable: Default::default(),
        covered: None,
        feed: FeedState {
            cursor: Cursor {
                offset,
                tail: 0,
                watermark,
            },
            baseline: Some(Baseline::Nothing),
            complete: true,
            watched_at: Some(at(now)),
            total: Some(offset),
            ..FeedState::default()
        },
        judgement: Judgement {
            history: Baseline::Nothing,
            settle: Duration::from_secs(60),
            details: Details::None,
            now: at(now),
            asked_at: at(now),
        },
        finished: true,
    }
}

/// The same of runs given by id and status, which all started at second 1.
pub fn commit_of(now: i64, runs: &[(&str, &str)]) -> Commit {
    let items: Vec<Value> = runs.iter().map(|(id, status)| run(id, 1, status)).collect();
    commit(now, 0, &items)
}

/// The same, seen by single reads, so that nothing must be confirmed.
pub fn confirmed(mut commit: Commit) -> Commit {
    for observed in &mut commit.observed {
        observed.source = Source::Detail;
    }
    commit
}

/// A configured sink. It gets every event, or failures only if that is its name.
pub fn registration(name: &str, from_beginning: bool) -> Registration {
    let subscription = match name {
        "failures" => failures_of(name),
        _ => all_of(name),
    };
    registration_of(subscription, from_beginning)
}

/// A configured sink with this subscription.
pub fn registration_of(subscription: Subscription, from_beginning: bool) -> Registration {
    Registration {
        subscription,
        kind: "webhook",
        from_beginning,
    }
}

/// Every event, for `sink`.
pub fn all_of(sink: &str) -> Subscription {
    Subscription {
        sink: sink.into(),
        types: None,
    }
}

/// Failures only, for `sink`.
pub fn failures_of(sink: &str) -> Subscription {
    Subscription {
        sink: sink.into(),
        types: Some(vec!["ACTOR.RUN.FAILED".into()]),
    }
}

/// At most a hundred events, with 8 MiB of bodies, but none of `except`.
pub fn limits(order: Order, except: &[i64]) -> FetchLimits {
    FetchLimits {
        order,
        events: 100,
        bytes: 8 << 20,
        except: except.iter().copied().collect::<HashSet<_>>(),
    }
}

/// An exchange of `sink` that only fetches.
pub fn exchange(sink: &str) -> Exchange {
    Exchange {
        sink: sink.into(),
        backlog: false,
        settled: Vec::new(),
        pause: Duration::ZERO,
        set_aside: None,
        fetch: limits(Order::Run, &[]),
    }
}

/// The first attempt at event `seq` of `run`, which failed unless it was delivered.
pub fn settled(seq: i64, run: &str, verdict: Verdict) -> Settled {
    Settled {
        seq,
        run_id: run.into(),
        attempts: 0,
        verdict,
        error: (verdict != Verdict::Delivered).then(|| "no".to_owned()),
        waited: Duration::ZERO,
    }
}

/// The deliveries of every sink in a state.
pub fn of_all(which: Which) -> Selection {
    Selection {
        which,
        ..Selection::default()
    }
}

/// The deliveries of one event, whatever their state.
pub fn of_event(seq: i64) -> Selection {
    Selection {
        seqs: vec![seq],
        which: Which::All,
        ..Selection::default()
    }
}

/// Numbers of events and ids of their runs, to compare with what is due.
pub fn pairs(pairs: &[(i64, &str)]) -> Vec<(i64, String)> {
    pairs
        .iter()
        .map(|(seq, run)| (*seq, (*run).to_owned()))
        .collect()
}
