//! Rows deleted by hand, and what earlier versions left.

use super::connection::Db;
use crate::model::{Details, Exchange, TEMPORARY_SINK, Verdict};
use crate::store::DetailsAnswer;
use crate::store::conformance::builders::{
    FEED, HOOK, at, commit, commit_of, confirmed, exchange, of_event, registration, run, settled,
    task,
};
use crate::store::reports::{EventFilter, Selection, Which};
use crate::store::states::Condition;

fn db() -> Db {
    let mut db = Db::in_memory().unwrap();
    db.save_task(&task(FEED), at(0)).unwrap();
    db.register(&[registration(HOOK, false)], at(0)).unwrap();
    db
}

fn see(db: &mut Db, now: i64, runs: &[(&str, &str)]) -> u64 {
    let step = confirmed(commit_of(now, runs));
    db.commit(FEED, &step).unwrap().written.events
}

/// The numbers of what is due for [`HOOK`].
fn due(db: &mut Db, now: i64) -> Vec<i64> {
    let fetched = db.exchange(&exchange(HOOK), at(now)).unwrap().fetched;
    fetched.events.iter().map(|due| due.seq).collect()
}

fn ids(db: &Db) -> Vec<String> {
    let mut statement = db
        .connection
        .prepare("SELECT id FROM events ORDER BY seq")
        .unwrap();
    let ids = statement.query_map([], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

#[test]
fn a_run_whose_row_was_deleted_raises_nothing_twice() {
    let mut db = db();
    see(&mut db, 10, &[("a", "READY"), ("b", "READY")]);
    see(&mut db, 11, &[("a", "RUNNING"), ("b", "FAILED")]);
    db.by_hand("DELETE FROM runs").unwrap();
    assert_eq!(see(&mut db, 20, &[("a", "RUNNING"), ("b", "FAILED")]), 0);
    assert_eq!(see(&mut db, 21, &[("a", "FAILED"), ("b", "READY")]), 2);
    let before = ids(&db);
    db.by_hand("DELETE FROM runs").unwrap();
    assert_eq!(see(&mut db, 22, &[("a", "FAILED"), ("b", "FAILED")]), 1);
    assert_eq!(ids(&db)[..before.len()], before);
    assert_eq!(ids(&db)[before.len()..], ["evt_b_FAILED_-_x1"]);
    let (events, _) = db.events_after(0, &EventFilter::default(), 100).unwrap();
    db.by_hand("DELETE FROM runs").unwrap();
    let of_feed = EventFilter {
        feeds: Some(vec![FEED.into()]),
        ..EventFilter::default()
    };
    assert_eq!(db.events_after(0, &of_feed, 100).unwrap().0, events);
}

/// A list can show a run as it was for a while.
#[test]
fn a_run_whose_row_was_deleted_and_that_is_seen_as_it_was_before_raises_nothing_twice() {
    let mut db = db();
    see(&mut db, 10, &[("a", "RUNNING")]);
    let mut failed = run("a", 1, "FAILED");
    failed["finishedAt"] = at(30).to_string().into();
    let failed = |now| commit(now, 1, std::slice::from_ref(&failed));
    assert_eq!(db.commit(FEED, &failed(40)).unwrap().written.events, 1);
    db.by_hand("DELETE FROM runs").unwrap();
    assert_eq!(see(&mut db, 50, &[("a", "RUNNING")]), 0);
    assert_eq!(db.commit(FEED, &failed(60)).unwrap().written.events, 0);
    assert_eq!(ids(&db), ["evt_a_CREATED", "evt_a_FAILED_30000"]);
}

#[test]
fn a_run_whose_events_an_earlier_version_numbered_raises_nothing_twice() {
    let mut db = db();
    see(&mut db, 10, &[("a", "FAILED"), ("b", "READY")]);
    db.by_hand("UPDATE events SET id = 'evt_' || run_id || '_' || seq; DELETE FROM runs")
        .unwrap();
    assert_eq!(see(&mut db, 20, &[("a", "FAILED"), ("b", "READY")]), 0);
    assert_eq!(see(&mut db, 21, &[("b", "FAILED")]), 1);
    assert_eq!(
        ids(&db),
        ["evt_a_1", "evt_a_2", "evt_b_3", "evt_b_FAILED_-"]
    );
}

#[test]
fn deliveries_of_deleted_events_are_removed_and_block_nothing() {
    let mut db = db();
    see(&mut db, 10, &[("a", "READY"), ("b", "READY")]);
    see(&mut db, 11, &[("a", "RUNNING")]);
    db.by_hand("DELETE FROM events WHERE seq = 1").unwrap();
    let all = Selection {
        which: Which::All,
        ..Selection::default()
    };
    assert_eq!(db.deliveries(&all, 10).unwrap().len(), 3);
    let mut one = exchange(HOOK);
    one.fetch.events = 1;
    let fetched = db.exchange(&one, at(12)).unwrap().fetched;
    assert_eq!(
        fetched.events[0].seq, 2,
        "it does not take the place of another"
    );
    assert_eq!(due(&mut db, 12), [2, 3]);
    assert_eq!(db.deliveries(&all, 10).unwrap().len(), 2);
    assert_eq!(db.drop_deliveries(&of_event(2), at(13)).unwrap(), 1);
}

#[test]
fn a_sink_that_comes_back_is_told_how_many_events_were_deleted() {
    let mut db = db();
    see(&mut db, 10, &[("a", "READY")]);
    db.register(&[], at(20)).unwrap();
    see(
        &mut db,
        30,
        &[("b", "READY"), ("c", "READY"), ("d", "READY")],
    );
    db.by_hand("DELETE FROM events WHERE seq IN (2, 4)")
        .unwrap();
    db.register(&[registration(HOOK, false)], at(40)).unwrap();
    let copy = Exchange {
        backlog: true,
        ..exchange(HOOK)
    };
    assert_eq!(db.exchange(&copy, at(50)).unwrap().missed, 2);
    assert_eq!(db.exchange(&copy, at(51)).unwrap().missed, 0, "once");
    assert_eq!(due(&mut db, 52), [1, 3]);
    assert_eq!(db.subscriptions().unwrap()[0].missed, 2);
    assert_eq!(db.sinks().unwrap()[0].missed, 2);
}

#[test]
fn what_comes_after_a_deleted_delivery_becomes_due() {
    let mut db = db();
    see(&mut db, 10, &[("a", "READY")]);
    see(&mut db, 11, &[("a", "RUNNING")]);
    db.by_hand("DELETE FROM deliveries WHERE seq = 1").unwrap();
    assert_eq!(due(&mut db, 12), [2]);
    let done = Exchange {
        settled: vec![settled(1, "a", Verdict::Delivered)],
        ..exchange(HOOK)
    };
    db.exchange(&done, at(13)).unwrap();
    assert_eq!(due(&mut db, 14), [2]);
}

#[test]
fn a_sink_whose_row_was_deleted_is_registered_again() {
    let mut db = db();
    see(&mut db, 10, &[("a", "READY")]);
    db.by_hand("DELETE FROM sinks").unwrap();
    see(&mut db, 11, &[("b", "READY")]);
    let exchanged = db.exchange(&exchange(HOOK), at(12)).unwrap();
    assert!(exchanged.unknown);
    assert_eq!(exchanged.fetched.events.len(), 1);
    assert!(db.restore(&registration(HOOK, true), at(12)).unwrap());
    assert!(!db.restore(&registration(HOOK, true), at(12)).unwrap());
    see(&mut db, 13, &[("c", "READY")]);
    assert!(!db.exchange(&exchange(HOOK), at(14)).unwrap().unknown);
    assert_eq!(due(&mut db, 14), [1, 3]);
    // At the next start, what it is still owed shows that it is not new.
    db.by_hand("DELETE FROM sinks").unwrap();
    db.register(&[registration(HOOK, true)], at(20)).unwrap();
    let copy = Exchange {
        backlog: true,
        ..exchange(HOOK)
    };
    db.exchange(&copy, at(21)).unwrap();
    assert_eq!(due(&mut db, 21), [1, 3]);
}

#[test]
fn rows_of_tasks_feeds_and_audits_are_written_again() {
    let mut db = db();
    let step = commit(10, 2, &[run("a", 1, "READY")]);
    db.commit(FEED, &step).unwrap();
    db.save_reference("me~it", Ok(&task(FEED)), at(10)).unwrap();
    db.by_hand("DELETE FROM tasks; DELETE FROM feeds; DELETE FROM audits")
        .unwrap();
    db.save_reference("me~it", Err("no answer"), at(11))
        .unwrap();
    db.record_failure(FEED, Condition::Failing, "no answer", at(11))
        .unwrap();
    db.by_hand("DELETE FROM tasks; DELETE FROM feeds").unwrap();
    let next = commit(12, 3, &[run("a", 1, "RUNNING"), run("b", 2, "READY")]);
    assert_eq!(db.commit(FEED, &next).unwrap().written.events, 2);
    assert_eq!(db.feed(FEED).unwrap(), Some(next.feed));
    assert_eq!(db.overview(at(13)).unwrap().tasks.len(), 1);
}

#[test]
fn no_number_is_used_twice() {
    let resets = [
        "DELETE FROM sqlite_sequence",
        "UPDATE sqlite_sequence SET seq = 0",
        "DELETE FROM event_numbers; DELETE FROM events",
        "DELETE FROM events; DELETE FROM sqlite_sequence",
        "DELETE FROM events; DELETE FROM sqlite_sequence; DELETE FROM event_numbers",
    ];
    let mut db = db();
    let mut last = 0;
    for (n, reset) in (10..).zip(resets) {
        see(&mut db, n, &[(&format!("r{n}"), "READY")]);
        let seq: i64 = db
            .connection
            .query_row("SELECT max(seq) FROM events", [], |row| row.get(0))
            .unwrap();
        assert_eq!(seq, last + 1, "before {reset}");
        last = seq;
        db.by_hand(reset).unwrap();
    }
}

#[test]
fn what_an_earlier_version_owed_to_standard_output_is_taken_over() {
    let mut db = db();
    db.register(&[registration("stdout", false)], at(0))
        .unwrap();
    see(&mut db, 10, &[("a", "READY")]);
    db.by_hand("UPDATE sinks SET type = 'stdout', temporary = NULL")
        .unwrap();
    db.open_temporary(&registration(TEMPORARY_SINK, false), at(20))
        .unwrap();
    let fetched = db
        .exchange(&exchange(TEMPORARY_SINK), at(20))
        .unwrap()
        .fetched;
    assert_eq!(fetched.events.len(), 1);
    let names: Vec<String> = db
        .subscriptions()
        .unwrap()
        .into_iter()
        .map(|sink| sink.name)
        .collect();
    assert_eq!(names, [HOOK, TEMPORARY_SINK]);

    // One that a configuration file names stays.
    db.register(&[registration("stdout", false)], at(30))
        .unwrap();
    db.by_hand("UPDATE sinks SET type = 'stdout' WHERE name = 'stdout'")
        .unwrap();
    db.open_temporary(&registration(TEMPORARY_SINK, false), at(40))
        .unwrap();
    assert_eq!(db.subscriptions().unwrap().len(), 3);
}

/// Whoever may write the database may write odd rows, which stop neither details nor deliveries.
#[test]
fn rows_about_details_that_somebody_else_wrote_stop_nothing() {
    let mut db = db();
    let mut step = commit_of(10, &[("a", "FAILED"), ("b", "FAILED"), ("c", "FAILED")]);
    step.judgement.details = Details::Failed;
    db.commit(FEED, &step).unwrap();
    db.by_hand(
        "UPDATE details_due SET due_at = 'x' WHERE run_id = 'a';
         UPDATE details_due SET attempts = -1 WHERE run_id = 'b';
         INSERT INTO details_due (run_id, due_at) VALUES (CAST(x'ff' AS TEXT), '2000'), ('nobody', 'y');
         UPDATE events SET held_until = 'x' WHERE run_id = 'a' AND held_until IS NOT NULL;
         INSERT INTO details_scan (only_row, policy, before) VALUES (1, 'failed', -5)",
    )
    .unwrap();
    let (mut asked, mut released) = (Vec::new(), 0);
    for second in 11..200 {
        released += db.release_overdue(at(second)).unwrap().0;
        let due = db.due_details(Details::Failed, (2, 2), at(second)).unwrap();
        for id in due.urgent.into_iter().chain(due.others) {
            let answer = [(id.clone(), DetailsAnswer::Unavailable)];
            released += db.save_details(&answer, at(second)).unwrap().released;
            asked.push(id);
        }
    }
    asked.sort();
    asked.dedup();
    assert_eq!(
        (asked, released),
        (vec!["a".into(), "b".into(), "c".into()], 3)
    );
    let mut owed = due(&mut db, 200);
    owed.sort_unstable();
    assert_eq!(owed, [1, 3, 5], "the first of each run");
}

/// Such a time between now and the latest that any may have is no reason to look again without a pause.
#[test]
fn times_that_cannot_be_read_make_nobody_look_again_at_once() {
    let mut db = db();
    see(&mut db, 10, &[("a", "READY")]);
    db.by_hand(
        "INSERT INTO details_due (run_id, due_at) VALUES ('a', '1970-01-01T00:00:30zzz');
         UPDATE events SET held_until = '1970-01-01T00:00:21zzz'",
    )
    .unwrap();
    // Looks through the older runs.
    db.due_details(Details::All, (1, 1), at(20)).unwrap();
    let due = db.due_details(Details::All, (1, 1), at(20)).unwrap();
    assert_eq!((due.others, due.next), (Vec::new(), Some(at(30))));
    assert_eq!(db.release_overdue(at(20)).unwrap(), (0, Some(at(30))));
    assert_eq!(db.release_overdue(at(30)).unwrap().0, 1);
    // Later as a text, earlier as a time.
    db.by_hand("UPDATE details_due SET due_at = '1970-01-01T20:00:00.000+23:00'")
        .unwrap();
    let due = db.due_details(Details::All, (1, 1), at(20)).unwrap();
    assert_eq!((due.others, due.next), (Vec::new(), Some(at(30))));
    db.by_hand("UPDATE events SET held_until = '1970-01-01T00:00:25.000+00:01'")
        .unwrap();
    assert_eq!(db.release_overdue(at(20)).unwrap(), (0, Some(at(30))));
    db.by_hand(
        "UPDATE details_due SET due_at = CAST(x'313937302d30312d30315430303a30303a3330ff' AS TEXT);
         UPDATE events SET held_until = CAST(x'313937302d30312d30315430303a30303a3330ff' AS TEXT)",
    )
    .unwrap();
    let due = db.due_details(Details::All, (1, 1), at(20)).unwrap();
    assert_eq!(due.next, Some(at(30)));
    db.release_overdue(at(20)).unwrap();
}

/// A run whose figures are to be final in years is not read again and again until then; one whose row cannot be read takes
/// no other's details.
#[test]
fn odd_rows_of_runs_make_nobody_ask_without_end() {
    let mut db = db();
    let step = |id: &str| {
        let mut step = commit_of(10, &[(id, "FAILED")]);
        step.judgement.details = Details::All;
        step
    };
    for id in ["a", "b"] {
        db.commit(FEED, &step(id)).unwrap();
    }
    db.by_hand(
        "UPDATE runs SET settles_at = '2030-01-01T00:00:00.000Z' WHERE id = 'a';
         UPDATE runs SET extra = 'nope' WHERE id = 'b'",
    )
    .unwrap();
    let found = |id: &str| {
        let seen = step(id).observed.remove(0).seen;
        (id.to_owned(), DetailsAnswer::Found(Box::new(seen)))
    };
    let saved = db.save_details(&[found("b"), found("a")], at(20)).unwrap();
    assert_eq!((saved.read, saved.given_up), (1, 1));
    let due = db.due_details(Details::All, (9, 9), at(30)).unwrap();
    assert_eq!((due.urgent, due.others), (Vec::new(), Vec::new()));
}

/// Events that wait are let go some at a time, however many of them are of one run.
#[test]
fn very_many_events_that_wait_are_let_go_in_parts() {
    let mut db = db();
    see(&mut db, 10, &[("a", "READY")]);
    db.by_hand(
        "WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
         INSERT INTO events (seq, id, run_id, task_id, type, status, occurred_at, observed_at, payload, held_until)
         SELECT n, 'e' || n, 'a', 'task', 'x', 'x', '', '', '{}', '2000' FROM n",
    )
    .unwrap();
    let (mut parts, mut released) = (0, 0);
    while let (part @ 1.., _) = db.release_overdue(at(20)).unwrap() {
        assert!(part <= 500);
        (parts, released) = (parts + 1, released + part);
    }
    assert_eq!((parts, released), (6, 2_999));
}
