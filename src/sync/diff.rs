//! What an observation of a run changes: its row, and the events it raises.

use std::time::Duration;

use super::page::Seen;
use crate::model::{EventType, Run, RunStatus, Timestamp};

/// Which kind of read showed a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A list: the item is complete.
    List,
    /// A single read, which has some fields that a list lacks and lacks some that a list has.
    Detail,
}

/// A run as an answer showed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The run and the JSON it came in.
    pub seen: Seen,
    /// Which kind of read it came from.
    pub source: Source,
}

/// A run as the mirror stores it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The run.
    pub run: Run,
    /// Set while a finished run's figures may still change: every poll reads the run again until this time.
    pub settles_at: Option<Timestamp>,
    /// Whether the row is marked as no longer listed.
    pub removed: bool,
}

impl Stored {
    /// Whether every poll must read the run again: it is active, or its figures are not final yet.
    pub fn is_open(&self) -> bool {
        !self.removed && (!self.run.status.is_terminal() || self.settles_at.is_some())
    }
}

/// One observed transition, which becomes a row of `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Its event type.
    pub kind: EventType,
    /// The status before it; `None` for a run not known before.
    pub previous: Option<RunStatus>,
}

/// How an observation differs from its row. If several apply, the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// There was no row.
    New,
    /// The row was marked as removed.
    Returned,
    /// The status differs.
    Status,
    /// The cost differs.
    Usage,
    /// Another field differs.
    Fields,
    /// No field differs, but the run's figures have become final.
    Settled,
}

/// What to write for an observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The new row.
    pub row: Stored,
    /// How it differs from the old row.
    pub difference: Difference,
    /// The events it raises, in order.
    pub transitions: Vec<Transition>,
}

/// The context in which an observation is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Runs started up to this instant are history: discovering them raises no events.
    pub history_until: Option<Timestamp>,
    /// How long a finished run is read again after its end.
    pub settle: Duration,
    /// The current time, by the local clock.
    pub now: Timestamp,
    /// When it was requested, by the local clock: the answer may be as old as that.
    pub asked_at: Timestamp,
}

/// What to write for `observed`; `None` if the stored row needs no change.
pub fn observe(stored: Option<&Stored>, observed: &Observed, by: &Judgement) -> Option<Change> {
    let seen = &observed.seen.run;
    let Some(stored) = stored else {
        let settles_at = if seen.status.is_terminal() {
            settles_at_first_sight(seen, by)
        } else {
            None
        };
        let row = Stored {
            run: seen.clone(),
            settles_at,
            removed: false,
        };
        return Some(Change {
            row,
            difference: Difference::New,
            transitions: first_sight(seen, by),
        });
    };
    let run = match observed.source {
        Source::List => seen.clone(),
        Source::Detail => with_detail(&stored.run, seen),
    };
    let transitions = transition(&stored.run.status, &run.status)
        .into_iter()
        .collect();
    let row = Stored {
        settles_at: settles_at(stored, &run, by),
        run,
        removed: false,
    };
    (row != *stored).then(|| Change {
        difference: difference(stored, &row),
        row,
        transitions,
    })
}

fn difference(stored: &Stored, row: &Stored) -> Difference {
    if stored.removed {
        Difference::Returned
    } else if stored.run.status != row.run.status {
        Difference::Status
    } else if stored.run.usage_total_usd != row.run.usage_total_usd {
        Difference::Usage
    } else if stored.run != row.run {
        Difference::Fields
    } else {
        Difference::Settled
    }
}

/// The events of a run not known before: none for history, otherwise CREATED and, if the run has ended, its end.
fn first_sight(run: &Run, by: &Judgement) -> Vec<Transition> {
    let is_history = match (run.started(), by.history_until) {
        (Some(started), Some(until)) => started <= until,
        // Without a start the run may be history, and a false event is worse than a missing one.
        (None, Some(_)) => true,
        (_, None) => false,
    };
    if is_history {
        return Vec::new();
    }
    let mut transitions = vec![Transition {
        kind: EventType::Created,
        previous: None,
    }];
    if run.status.is_terminal() {
        transitions.push(Transition {
            kind: EventType::Entered(run.status.clone()),
            previous: None,
        });
    }
    transitions
}

fn transition(before: &RunStatus, after: &RunStatus) -> Option<Transition> {
    if before == after {
        return None;
    }
    let kind = if before.is_terminal() && !after.is_terminal() {
        EventType::Resurrected
    } else {
        EventType::Entered(after.clone())
    };
    Some(Transition {
        kind,
        previous: Some(before.clone()),
    })
}

/// A run first seen after its end settles `settle` after that end. An end in the future means that the local clock is
/// behind, and counts as now.
fn settles_at_first_sight(run: &Run, by: &Judgement) -> Option<Timestamp> {
    let age = by.asked_at.since(run.finished()?);
    by.settle
        .checked_sub(age)
        .filter(|left| !left.is_zero())
        .map(|left| by.now.plus(left))
}

fn settles_at(stored: &Stored, run: &Run, by: &Judgement) -> Option<Timestamp> {
    if !run.status.is_terminal() {
        return None;
    }
    let ended_again = run.status != stored.run.status || run.finished_at != stored.run.finished_at;
    if ended_again {
        // Counts from when the end was seen, which is never before it happened, so that differing clocks do not matter.
        return (!by.settle.is_zero()).then(|| by.now.plus(by.settle));
    }
    stored
        .settles_at
        .filter(|&until| by.asked_at < until)
        // Limits the time if the clock was set back after `until` was written.
        .map(|until| until.min(by.now.plus(by.settle)))
}

/// `stored`, updated from a single read. Such an answer has many fields that no list has, and lacks some that lists
/// have. So it replaces fields that both have, adds nothing to `extra` and removes nothing, except that a null
/// `finishedAt` counts: a resurrected run has one.
fn with_detail(stored: &Run, detail: &Run) -> Run {
    let mut extra = stored.extra.clone();
    for (key, value) in &mut extra {
        if let Some(newer) = detail.extra.get(key).filter(|_| key != "meta") {
            *value = newer.clone();
        }
    }
    Run {
        status: detail.status.clone(),
        finished_at: detail.finished_at.clone(),
        extra,
        ..stored.overlaid(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SETTLE: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    fn by(now: i64) -> Judgement {
        Judgement {
            history_until: None,
            settle: SETTLE,
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
            seen: Seen::from_json(json).unwrap(),
            source: Source::List,
        }
    }

    fn stored(json: Value, settles_at: Option<i64>) -> Stored {
        Stored {
            run: Run::from_json(&json).unwrap(),
            settles_at: settles_at.map(at),
            removed: false,
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
                history_until: Some(at(5)),
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
            history_until: Some(at(5)),
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
        let settled =
            observe(Some(&ended), &seen(item("SUCCEEDED", 0, Some(20))), &by(90)).unwrap();
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
}
