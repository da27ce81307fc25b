//! What observations change, case by case.

use std::time::Duration;

use serde_json::{Value, json};

use super::diff::*;
use super::page::Seen;
use super::testing::LATEST;
use crate::model::{Details, Run, RunStatus, Timestamp};

const SETTLE: Duration = Duration::from_secs(60);

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

fn by(now: i64) -> Judgement {
    Judgement {
        history: Baseline::Nothing,
        settle: SETTLE,
        details: Details::None,
        now: at(now),
        asked_at: at(now),
    }
}

fn item(status: &str, started: i64, finished: Option<i64>) -> Value {
    json!({"id": "r", "status": status, "startedAt": at(started).to_string(),
        "finishedAt": finished.map(|second| at(second).to_string()), "usageTotalUsd": 0.1})
}

fn seen(json: Value) -> Observed {
    Observed {
        seen: Seen::from_json(json, LATEST).unwrap(),
        source: Source::List,
    }
}

fn stored(json: Value, settles_at: Option<i64>) -> Stored {
    Stored {
        run: Run::from_json(&json).unwrap(),
        settles_at: settles_at.map(at),
        removed: false,
        last_end: None,
    }
}

fn names(change: &Change) -> Vec<(String, Option<&str>)> {
    let name = |t: &'_ Transition| t.kind.name().trim_start_matches("ACTOR.RUN.").to_owned();
    change
        .transitions
        .iter()
        .map(|t| (name(t), t.previous.as_ref().map(RunStatus::as_str)))
        .collect()
}

#[test]
fn transitions_of_known_runs() {
    let cases = [
        ("READY", "RUNNING", "RUNNING"),
        ("READY", "SUCCEEDED", "SUCCEEDED"),
        ("RUNNING", "TIMING-OUT", "TIMING_OUT"),
        ("TIMING-OUT", "TIMED-OUT", "TIMED_OUT"),
        ("RUNNING", "PAUSED", "PAUSED"),
        ("FAILED", "RUNNING", "RESURRECTED"),
        ("SUCCEEDED", "READY", "RESURRECTED"),
        ("TIMED-OUT", "ABORTED", "ABORTED"),
    ];
    for (before, after, event) in cases {
        let change = observe(
            Some(&stored(item(before, 0, None), None)),
            &seen(item(after, 0, None)),
            &by(10),
        )
        .unwrap();
        assert_eq!(
            names(&change),
            [(event.to_owned(), Some(before))],
            "{before} → {after}"
        );
    }
}

#[test]
fn an_unchanged_run_is_not_written_again() {
    let before = stored(item("RUNNING", 0, None), None);
    assert_eq!(
        observe(Some(&before), &seen(item("RUNNING", 0, None)), &by(10)),
        None
    );
    let mut other = item("RUNNING", 0, None);
    other["usageTotalUsd"] = json!(0.2);
    let change = observe(Some(&before), &seen(other), &by(10)).unwrap();
    assert_eq!(change.transitions, [], "a changed cost raises no event");
    assert_eq!(change.row.run.usage_total_usd, Some(0.2));
}

#[test]
fn the_most_important_difference_counts() {
    let before = stored(item("SUCCEEDED", 0, Some(5)), Some(10));
    let after = |change: fn(&mut Value)| {
        let mut json = item("SUCCEEDED", 0, Some(5));
        change(&mut json);
        observe(Some(&before), &seen(json), &by(20)).map(|change| change.difference)
    };
    assert_eq!(
        after(|json| json["status"] = json!("FAILED")),
        Some(Difference::Status)
    );
    assert_eq!(
        after(|json| json["usageTotalUsd"] = json!(9)),
        Some(Difference::Usage)
    );
    assert_eq!(
        after(|json| json["buildId"] = json!("b")),
        Some(Difference::Fields)
    );
    assert_eq!(after(|_| {}), Some(Difference::Settled));
    let removed = Stored {
        removed: true,
        ..before.clone()
    };
    let returned = observe(Some(&removed), &seen(item("FAILED", 0, Some(5))), &by(20)).unwrap();
    assert_eq!(returned.difference, Difference::Returned);
    assert_eq!(
        observe(None, &seen(item("READY", 0, None)), &by(20))
            .unwrap()
            .difference,
        Difference::New
    );
}

#[test]
fn a_new_run_raises_created_and_its_end() {
    let active = observe(None, &seen(item("RUNNING", 5, None)), &by(10)).unwrap();
    assert_eq!(names(&active), [("CREATED".to_owned(), None)]);
    let ended = observe(None, &seen(item("FAILED", 5, Some(8))), &by(10)).unwrap();
    assert_eq!(
        names(&ended),
        [("CREATED".to_owned(), None), ("FAILED".to_owned(), None)]
    );
}

#[test]
fn history_up_to_and_including_the_baseline_raises_no_events() {
    for (started, silent) in [(4, true), (5, true), (6, false)] {
        let judge = Judgement {
            history: Baseline::UpTo(at(5)),
            ..by(10)
        };
        let change = observe(None, &seen(item("SUCCEEDED", started, Some(7))), &judge).unwrap();
        assert_eq!(
            change.transitions.is_empty(),
            silent,
            "started at {started}"
        );
    }
    let judge = Judgement {
        history: Baseline::UpTo(at(5)),
        ..by(10)
    };
    let change = observe(None, &seen(json!({"id": "r", "status": "READY"})), &judge).unwrap();
    assert_eq!(change.transitions, [], "a run without a start");
}

#[test]
fn a_finished_run_settles_after_the_end_was_seen() {
    let running = stored(item("RUNNING", 0, None), None);
    let ended = observe(
        Some(&running),
        &seen(item("SUCCEEDED", 0, Some(20))),
        &by(30),
    )
    .unwrap()
    .row;
    assert_eq!(ended.settles_at, Some(at(90)));
    assert!(ended.is_open());

    assert_eq!(
        observe(Some(&ended), &seen(item("SUCCEEDED", 0, Some(20))), &by(89)),
        None,
        "not settled yet"
    );
    let settled = observe(Some(&ended), &seen(item("SUCCEEDED", 0, Some(20))), &by(90)).unwrap();
    assert_eq!(
        (settled.row.settles_at, settled.transitions.len()),
        (None, 0)
    );
    assert!(!settled.row.is_open());

    let back = observe(
        Some(&ended),
        &seen(item("SUCCEEDED", 0, Some(20))),
        &by(-1_000),
    )
    .unwrap()
    .row;
    assert_eq!(back.settles_at, Some(at(-940)), "the clock was set back");
    let again = observe(
        Some(&settled.row),
        &seen(item("SUCCEEDED", 0, Some(200))),
        &by(210),
    )
    .unwrap();
    assert_eq!(
        (again.row.settles_at, again.transitions.len()),
        (Some(at(270)), 0),
        "it ran and ended again, unobserved"
    );
}

#[test]
fn an_answer_requested_before_a_run_settles_does_not_settle_it() {
    let late = Judgement {
        asked_at: at(50),
        ..by(100)
    };
    let ended = stored(item("SUCCEEDED", 0, Some(10)), Some(90));
    assert_eq!(
        observe(Some(&ended), &seen(item("SUCCEEDED", 0, Some(10))), &late),
        None,
        "not settled yet"
    );
    let first = observe(None, &seen(item("SUCCEEDED", 0, Some(10))), &late).unwrap();
    assert_eq!(
        first.row.settles_at,
        Some(at(120)),
        "its age counts from the request"
    );
}

#[test]
fn a_run_first_seen_after_its_end_settles_by_its_age() {
    for (finished, settles_at) in [
        (30, Some(90)),
        (29, Some(89)),
        (-29, Some(31)),
        (-30, None),
        (-5_000, None),
        (500, Some(90)),
    ] {
        let change = observe(
            None,
            &seen(item("SUCCEEDED", -9_999, Some(finished))),
            &by(30),
        )
        .unwrap();
        assert_eq!(
            change.row.settles_at,
            settles_at.map(at),
            "finished at {finished}"
        );
    }
    let unknown_end = observe(None, &seen(item("SUCCEEDED", 0, None)), &by(30)).unwrap();
    assert_eq!(unknown_end.row.settles_at, None);
}

#[test]
fn a_removed_run_that_is_listed_again_is_unmarked() {
    let gone = Stored {
        removed: true,
        ..stored(item("RUNNING", 0, None), None)
    };
    assert!(!gone.is_open());
    let change = observe(Some(&gone), &seen(item("RUNNING", 0, None)), &by(10)).unwrap();
    assert!(!change.row.removed);
    assert_eq!(change.transitions, []);
}

#[test]
fn a_single_read_updates_without_adding_or_losing_fields() {
    let mut listed = item("RUNNING", 0, None);
    listed["buildNumberInt"] = json!(7);
    listed["generalAccess"] = json!("OLD");
    let mut detail = item("SUCCEEDED", 0, Some(9));
    detail["generalAccess"] = json!("NEW");
    detail["stats"] = json!({"memAvgBytes": 1});
    let observed = Observed {
        source: Source::Detail,
        ..seen(detail)
    };
    let row = observe(Some(&stored(listed, None)), &observed, &by(10))
        .unwrap()
        .row
        .run;
    assert_eq!(row.build_number_int, Some(7));
    assert_eq!(Value::Object(row.extra), json!({"generalAccess": "NEW"}));
    assert_eq!(
        (row.status, row.finished_at),
        (RunStatus::Succeeded, Some(at(9).to_string()))
    );

    let resurrected = Observed {
        source: Source::Detail,
        ..seen(item("RUNNING", 0, None))
    };
    let row = observe(
        Some(&stored(item("FAILED", 0, Some(3)), None)),
        &resurrected,
        &by(10),
    )
    .unwrap()
    .row
    .run;
    assert_eq!(row.finished_at, None, "a null end counts");
}

#[test]
fn what_a_list_shows_from_before_must_be_confirmed() {
    let row = |json, last_end: Option<i64>| Stored {
        last_end: last_end.map(|second| at(second).to_string()),
        ..stored(json, None)
    };
    let ended = row(item("SUCCEEDED", 0, Some(20)), Some(20));
    let again = row(item("RUNNING", 0, None), Some(20));
    let cases = [
        (
            &ended,
            item("RUNNING", 0, None),
            true,
            "a resurrection, or an old answer",
        ),
        (&ended, item("SUCCEEDED", 0, Some(20)), false, "the same"),
        (&ended, item("FAILED", 0, Some(10)), true, "an older end"),
        (&ended, item("FAILED", 0, Some(30)), false, "a newer end"),
        (&again, item("READY", 0, None), true, "before it ran"),
        (
            &again,
            item("SUCCEEDED", 0, Some(20)),
            true,
            "the end before its resurrection",
        ),
        (
            &again,
            item("SUCCEEDED", 0, Some(40)),
            false,
            "its next end",
        ),
        (
            &again,
            item("PAUSED", 0, None),
            false,
            "a status that is not known",
        ),
    ];
    for (row, json, expected, name) in cases {
        let mut observed = seen(json);
        assert_eq!(leads_back(row, &observed), expected, "{name}");
        observed.source = Source::Detail;
        assert!(
            !leads_back(row, &observed),
            "a single read is believed: {name}"
        );
    }
}
