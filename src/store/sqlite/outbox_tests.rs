//! The outbox, against a real database.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use super::{Db, Selection, Which};
use crate::model::{
    FetchLimits, Fetched, MAX_RETRY_WAIT as MAX_WAIT, Order, Overdue, Registration, Settled,
    Subscription, Task, Timestamp, Verdict,
};
use crate::sync::{Baseline, Commit, FeedState, Judgement, Observed, Seen, Source};

const FEED: &str = "task";
const HOOK: &str = "hook";

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

fn registration(name: &str, from_beginning: bool) -> Registration {
    Registration {
        name: name.into(),
        kind: "webhook",
        from_beginning,
    }
}

fn all_of(sink: &str) -> Subscription {
    Subscription {
        sink: sink.into(),
        types: None,
    }
}

fn db() -> Db {
    let mut db = Db::in_memory().unwrap();
    db.save_task(
        &Task {
            id: FEED.into(),
            ..Task::default()
        },
        at(0),
    )
    .unwrap();
    db.register(&[registration(HOOK, false)], at(0)).unwrap();
    db
}

/// Has runs be seen at `now`, each in a status; every change raises events for `sinks`.
fn see(db: &mut Db, now: i64, runs: &[(&str, &str)], sinks: &[Subscription]) {
    let observed = runs.iter().map(|(id, status)| Observed {
        seen: Seen::from_json(json!({"id": id, "status": status, "startedAt": at(1).to_string()}))
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
            now: at(now),
            asked_at: at(now),
        },
        finished: true,
    };
    db.commit(FEED, &commit, sinks).unwrap();
}

fn fetch(db: &Db, order: Order, now: i64, except: &[i64]) -> Fetched {
    let room = FetchLimits {
        order,
        events: 100,
        except: except.iter().copied().collect::<HashSet<_>>(),
    };
    db.due(HOOK, &room, at(now)).unwrap()
}

/// The numbers and runs of what is due.
fn due(db: &Db, now: i64) -> Vec<(i64, String)> {
    fetch(db, Order::Run, now, &[])
        .events
        .into_iter()
        .map(|due| (due.seq, due.run_id))
        .collect()
}

fn settle(db: &mut Db, now: i64, seq: i64, run: &str, verdict: Verdict) {
    let error = (verdict != Verdict::Delivered).then(|| "no".to_owned());
    db.record(
        HOOK,
        &[Settled {
            seq,
            run_id: run.into(),
            verdict,
            error,
        }],
        at(now),
    )
    .unwrap();
}

fn pairs(pairs: &[(i64, &str)]) -> Vec<(i64, String)> {
    pairs
        .iter()
        .map(|(seq, run)| (*seq, (*run).to_owned()))
        .collect()
}

#[test]
fn one_event_of_a_run_is_due_at_a_time() {
    let mut db = db();
    see(
        &mut db,
        10,
        &[("a", "READY"), ("b", "READY")],
        &[all_of(HOOK)],
    );
    see(&mut db, 20, &[("a", "RUNNING")], &[all_of(HOOK)]);
    see(&mut db, 30, &[("a", "SUCCEEDED")], &[all_of(HOOK)]);
    assert_eq!(due(&db, 30), pairs(&[(1, "a"), (2, "b")]));
    settle(&mut db, 31, 1, "a", Verdict::Delivered);
    assert_eq!(due(&db, 31), pairs(&[(2, "b"), (3, "a")]));
    settle(&mut db, 32, 3, "a", Verdict::Retry { at: at(50) });
    assert_eq!(
        due(&db, 49),
        pairs(&[(2, "b")]),
        "what comes after it has to wait too"
    );
    assert_eq!(fetch(&db, Order::Run, 49, &[2]).next_due, Some(at(50)));
    let again = fetch(&db, Order::Run, 50, &[2]).events.remove(0);
    assert_eq!(
        (again.seq, again.attempts, again.first_attempt_at),
        (3, 1, Some(at(32)))
    );
    settle(&mut db, 51, 3, "a", Verdict::SetAside);
    assert_eq!(
        due(&db, 51),
        pairs(&[(2, "b"), (4, "a")]),
        "what was set aside is in nobody's way"
    );
}

#[test]
fn a_stream_gets_everything_in_order_whatever_the_runs() {
    let mut db = db();
    see(
        &mut db,
        10,
        &[("a", "READY"), ("b", "SUCCEEDED")],
        &[all_of(HOOK)],
    );
    see(&mut db, 20, &[("a", "RUNNING")], &[all_of(HOOK)]);
    let seqs = |db: &Db, except: &[i64]| {
        fetch(db, Order::Stream, 20, except)
            .events
            .iter()
            .map(|due| due.seq)
            .collect::<Vec<_>>()
    };
    assert_eq!(seqs(&db, &[]), [1, 2, 3, 4]);
    assert_eq!(seqs(&db, &[1, 2]), [3, 4]);
    let settled = |seq, run: &str| Settled {
        seq,
        run_id: run.into(),
        verdict: Verdict::Delivered,
        error: None,
    };
    db.record(
        HOOK,
        &[settled(1, "a"), settled(2, "b"), settled(3, "b")],
        at(21),
    )
    .unwrap();
    assert_eq!(seqs(&db, &[]), [4]);
    assert_eq!(
        due(&db, 21),
        pairs(&[(4, "a")]),
        "and a sink that takes runs apart could go on from there"
    );
}

#[test]
fn having_been_tried_does_not_make_an_event_due_before_its_turn() {
    let mut db = db();
    see(&mut db, 10, &[("a", "READY")], &[all_of(HOOK)]);
    see(&mut db, 20, &[("a", "RUNNING")], &[all_of(HOOK)]);
    // A stream's batch, which fails as a whole.
    let settled = |seq| {
        let verdict = Verdict::Retry { at: at(30) };
        Settled {
            seq,
            run_id: "a".into(),
            verdict,
            error: Some("no".into()),
        }
    };
    db.record(HOOK, &[settled(1), settled(2)], at(21)).unwrap();
    assert_eq!(due(&db, 30), pairs(&[(1, "a")]));
    settle(&mut db, 31, 1, "a", Verdict::SetAside);
    // The second is under way when somebody has the first tried again.
    let first = Selection {
        seqs: vec![1],
        which: Which::Failed,
        ..Selection::default()
    };
    assert_eq!(db.retry_deliveries(&first, at(32)).unwrap(), 1);
    settle(&mut db, 33, 2, "a", Verdict::Retry { at: at(34) });
    assert_eq!(due(&db, 40), pairs(&[(1, "a")]));
}

#[test]
fn fetching_is_bounded_in_bytes() {
    let mut db = db();
    let big = "x".repeat(5 << 20);
    let runs = ["a", "b"].map(|run| format!("{run}{big}"));
    for run in &runs {
        see(&mut db, 10, &[(run, "READY")], &[all_of(HOOK)]);
    }
    let fetched = fetch(&db, Order::Run, 10, &[]);
    assert_eq!(
        fetched.events.len(),
        1,
        "each of them is larger than what may be read at once"
    );
}

#[test]
fn a_clock_that_was_set_back_does_not_put_retries_off() {
    let mut db = db();
    see(&mut db, 10, &[("a", "READY")], &[all_of(HOOK)]);
    let soon = at(20).plus(MAX_WAIT);
    settle(&mut db, 20, 1, "a", Verdict::Retry { at: soon });
    assert_eq!(due(&db, 20), []);
    assert_eq!(due(&db, -100 * 86_400).len(), 1);
    assert_eq!(
        fetch(&db, Order::Stream, -100 * 86_400, &[]).events.len(),
        1,
        "and is not read twice by a stream"
    );
}

#[test]
fn what_is_held_does_not_hide_what_else_is_due() {
    let mut db = db();
    see(
        &mut db,
        10,
        &[("a", "READY"), ("b", "READY"), ("c", "READY")],
        &[all_of(HOOK)],
    );
    for order in [Order::Run, Order::Stream] {
        let room = FetchLimits {
            order,
            events: 1,
            except: HashSet::from([1, 2]),
        };
        let fetched = db.due(HOOK, &room, at(10)).unwrap();
        assert_eq!(
            fetched.events.iter().map(|due| due.seq).collect::<Vec<_>>(),
            [3]
        );
    }
}

#[test]
fn what_is_told_of_a_sink() {
    let mut db = db();
    see(
        &mut db,
        10,
        &[("a", "READY"), ("b", "READY")],
        &[all_of(HOOK)],
    );
    settle(&mut db, 20, 1, "a", Verdict::Retry { at: at(30) });
    settle(&mut db, 21, 2, "b", Verdict::SetAside);
    let status = db.sinks().unwrap().remove(0);
    assert_eq!(
        (status.state.as_str(), status.pending, status.dead),
        ("failing", 1, 1)
    );
    assert_eq!(status.oldest, Some(at(10).to_string()));
    assert_eq!(
        status.failing_since,
        Some(at(20).to_string()),
        "since the first failure"
    );
    assert_eq!(status.last_error.as_deref(), Some("no"));
    settle(&mut db, 30, 1, "a", Verdict::Delivered);
    let status = db.sinks().unwrap().remove(0);
    assert_eq!(
        (status.state.as_str(), status.pending, status.dead),
        ("ok", 0, 1)
    );
    assert_eq!(
        (status.last_delivered_at, status.failing_since),
        (Some(at(30).to_string()), None)
    );
}

#[test]
fn what_an_ill_sink_has_been_owed_for_too_long_is_set_aside() {
    let mut db = db();
    see(
        &mut db,
        10,
        &[("a", "READY"), ("b", "READY")],
        &[all_of(HOOK)],
    );
    see(&mut db, 20, &[("a", "RUNNING")], &[all_of(HOOK)]);
    see(&mut db, 90, &[("c", "READY")], &[all_of(HOOK)]);
    let set_aside = |db: &mut Db, until: i64| {
        db.set_aside(HOOK, Overdue::OwedSince(at(until)), "ill", 100, at(95))
            .unwrap()
    };
    assert_eq!(set_aside(&mut db, 50), 0, "it has not failed");
    settle(&mut db, 30, 1, "a", Verdict::Retry { at: at(31) });
    assert_eq!(
        set_aside(&mut db, 29),
        0,
        "it has not been failing for so long"
    );
    assert_eq!(set_aside(&mut db, 50), 3, "all but what is new");
    assert_eq!(due(&db, 95), pairs(&[(4, "c")]));
    assert_eq!(
        db.set_aside(HOOK, Overdue::All, "gone", 100, at(96))
            .unwrap(),
        1
    );
    assert_eq!(due(&db, 96), []);
}

#[test]
fn an_event_can_be_tried_again_or_dropped() {
    let mut db = db();
    see(
        &mut db,
        10,
        &[("a", "READY"), ("b", "READY"), ("c", "READY")],
        &[all_of(HOOK)],
    );
    see(
        &mut db,
        20,
        &[("a", "RUNNING"), ("b", "RUNNING")],
        &[all_of(HOOK)],
    );
    settle(&mut db, 30, 1, "a", Verdict::SetAside);
    settle(&mut db, 30, 2, "b", Verdict::Retry { at: at(900) });
    let listed = |db: &Db, which| {
        let selection = Selection {
            which,
            ..Selection::default()
        };
        db.deliveries(&selection, 100)
            .unwrap()
            .into_iter()
            .map(|d| (d.seq, d.state))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&db, Which::Dead), [(1, "dead")]);
    assert_eq!(listed(&db, Which::Failed), [(1, "dead"), (2, "retrying")]);
    assert_eq!(
        listed(&db, Which::All),
        [
            (1, "dead"),
            (2, "retrying"),
            (3, "waiting"),
            (4, "waiting"),
            (5, "waiting")
        ]
    );
    let other = Selection {
        sink: Some("other".into()),
        which: Which::Failed,
        ..Selection::default()
    };
    assert_eq!(db.retry_deliveries(&other, at(40)).unwrap(), 0);

    let failed = Selection {
        which: Which::Failed,
        ..Selection::default()
    };
    assert_eq!(db.retry_deliveries(&failed, at(40)).unwrap(), 2);
    assert_eq!(
        due(&db, 40),
        pairs(&[(3, "c"), (1, "a"), (2, "b")]),
        "one of each run, the oldest"
    );
    assert!(
        fetch(&db, Order::Run, 40, &[])
            .events
            .iter()
            .all(|due| due.attempts == 0),
        "as if never tried"
    );

    let second = Selection {
        seqs: vec![2],
        which: Which::All,
        ..Selection::default()
    };
    assert_eq!(db.drop_deliveries(&second, at(50)).unwrap(), 1);
    assert_eq!(
        due(&db, 50),
        pairs(&[(3, "c"), (1, "a"), (5, "b")]),
        "the next of its run takes its place"
    );
    let everything = Selection {
        which: Which::All,
        ..Selection::default()
    };
    assert_eq!(db.drop_deliveries(&everything, at(60)).unwrap(), 4);
    assert_eq!(listed(&db, Which::All), []);
    // Dropped while under way: nothing brings it back.
    settle(&mut db, 61, 3, "c", Verdict::Retry { at: at(70) });
    assert_eq!(listed(&db, Which::All), []);
}

#[test]
fn many_deliveries_are_changed_in_parts() {
    let mut db = db();
    let ids: Vec<String> = (0..12_000).map(|n| format!("r{n}")).collect();
    let runs: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "READY")).collect();
    see(&mut db, 10, &runs, &[all_of(HOOK)]);
    while db
        .set_aside(HOOK, Overdue::All, "gone", 5_000, at(20))
        .unwrap()
        == 5_000
    {}
    assert_eq!(db.sinks().unwrap()[0].dead, 12_000);
    let dead = Selection::default();
    assert_eq!(db.retry_deliveries(&dead, at(30)).unwrap(), 12_000);
    let all = Selection {
        which: Which::All,
        ..Selection::default()
    };
    assert_eq!(db.drop_deliveries(&all, at(30)).unwrap(), 12_000);
}

/// Books what is missing, three events at a time.
fn catch_up(db: &mut Db, sink: &Subscription) {
    for _ in 0..100 {
        if db.book_backlog(sink, 3, at(100)).unwrap() {
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn a_sink_added_later_starts_now_or_at_the_beginning() {
    let mut db = db();
    see(
        &mut db,
        10,
        &[("a", "READY"), ("b", "FAILED")],
        &[all_of(HOOK)],
    );
    see(&mut db, 20, &[("a", "RUNNING")], &[all_of(HOOK)]);
    let failures = Subscription {
        sink: "failures".into(),
        types: Some(vec!["ACTOR.RUN.FAILED".into()]),
    };
    let sinks = [all_of(HOOK), all_of("now"), all_of("all"), failures.clone()];
    db.register(
        &[
            registration(HOOK, false),
            registration("now", false),
            registration("all", true),
            registration("failures", true),
        ],
        at(30),
    )
    .unwrap();
    let owed = |db: &Db, sink: &str| {
        let selection = Selection {
            sink: Some(sink.into()),
            which: Which::All,
            ..Selection::default()
        };
        db.deliveries(&selection, 100)
            .unwrap()
            .into_iter()
            .map(|d| d.seq)
            .collect::<Vec<_>>()
    };
    // While the past is being booked, the present waits for its turn: the order of a run must not be lost.
    see(&mut db, 40, &[("a", "SUCCEEDED")], &sinks);
    assert_eq!((owed(&db, "now"), owed(&db, "all")), (vec![5], vec![]));
    assert_eq!(db.sinks().unwrap()[0].state, "catching up");
    catch_up(&mut db, &all_of("all"));
    catch_up(&mut db, &failures);
    assert_eq!(
        (owed(&db, "all"), owed(&db, "failures")),
        (vec![1, 2, 3, 4, 5], vec![3])
    );
    see(&mut db, 50, &[("c", "READY")], &sinks);
    assert_eq!(
        (owed(&db, "all").len(), owed(&db, "failures").len()),
        (6, 1)
    );

    // The next start finds the same sinks but one: nothing begins anew, and nobody else is taken for removed.
    db.register(
        &[
            registration(HOOK, false),
            registration("all", true),
            registration("failures", true),
        ],
        at(60),
    )
    .unwrap();
    let states: Vec<_> = db
        .sinks()
        .unwrap()
        .into_iter()
        .map(|sink| (sink.name, sink.state))
        .collect();
    let expected = [
        ("all", "ok"),
        ("failures", "ok"),
        (HOOK, "ok"),
        ("now", "removed"),
    ];
    assert_eq!(
        states,
        expected.map(|(name, state)| (name.to_owned(), state.to_owned()))
    );
}

#[test]
fn a_sink_that_is_removed_keeps_what_it_is_owed_and_goes_on_from_there() {
    let mut db = db();
    see(
        &mut db,
        10,
        &[("a", "READY"), ("b", "READY")],
        &[all_of(HOOK)],
    );
    settle(&mut db, 11, 1, "a", Verdict::Delivered);
    db.register(&[], at(20)).unwrap();
    settle(&mut db, 25, 2, "b", Verdict::Retry { at: at(26) });
    see(&mut db, 30, &[("a", "RUNNING")], &[]);
    let status = db.sinks().unwrap().remove(0);
    assert_eq!((status.state.as_str(), status.pending), ("removed", 1));

    // Back again: what it missed, or not.
    db.register(&[registration(HOOK, true)], at(40)).unwrap();
    catch_up(&mut db, &all_of(HOOK));
    assert_eq!(
        db.sinks().unwrap()[0].failing_since,
        None,
        "what it did long ago does not count"
    );
    assert_eq!(due(&db, 100), pairs(&[(2, "b"), (3, "a")]));
    settle(&mut db, 50, 2, "b", Verdict::Delivered);
    settle(&mut db, 50, 3, "a", Verdict::Delivered);
    db.register(&[], at(60)).unwrap();
    assert_eq!(
        db.sinks().unwrap().len(),
        0,
        "nothing is owed to it, so it is forgotten"
    );
    see(&mut db, 70, &[("a", "SUCCEEDED")], &[]);
    db.register(&[registration(HOOK, false)], at(80)).unwrap();
    assert!(db.book_backlog(&all_of(HOOK), 3, at(80)).unwrap());
    assert_eq!(due(&db, 100), [], "it starts now");
    see(&mut db, 90, &[("a", "RUNNING")], &[all_of(HOOK)]);
    assert_eq!(due(&db, 100).len(), 1);
}
