//! What counts as wrong, and what is worst.

use super::*;
use crate::store::Unresolved;

const NOW: &str = "2026-01-10T12:00:00.000Z";

fn measure() -> Measure {
    Measure {
        now: Timestamp::parse(NOW).unwrap(),
        limit: Duration::from_secs(120),
        strict: false,
        configured: None,
        unknown: Vec::new(),
        held: false,
    }
}

/// A feed whose last success is so many seconds old.
fn polled(seconds: u64) -> TaskStatus {
    let at = measure().now.minus(Duration::from_secs(seconds));
    TaskStatus {
        id: "a".to_owned(),
        name: None,
        username: None,
        cursor: 1,
        watermark: None,
        server_total: None,
        rows: 1,
        open_runs: 0,
        removed: 0,
        unreadable_items: 0,
        first_sync_complete: true,
        last_success_at: Some(at.to_string()),
        last_success_age_seconds: Some(seconds),
        success_interval_seconds: None,
        last_audit_at: None,
        audit_offset: None,
        state: Condition::Ok,
        last_error: None,
        last_error_at: None,
    }
}

/// A feed that fails since long, and was tried so many seconds ago.
fn failing(seconds: u64) -> TaskStatus {
    let at = measure().now.minus(Duration::from_secs(seconds));
    TaskStatus {
        state: Condition::Failing,
        last_error: Some("503".to_owned()),
        last_error_at: Some(at.to_string()),
        ..polled(3_600)
    }
}

fn sink(state: SinkState, dead: u64) -> SinkStatus {
    SinkStatus {
        name: "hook".to_owned(),
        r#type: "webhook".to_owned(),
        state,
        pending: 0,
        dead,
        missed: 0,
        oldest: None,
        last_delivered_at: None,
        failing_since: None,
        last_error: None,
    }
}

fn overview(tasks: Vec<TaskStatus>, sinks: Vec<SinkStatus>) -> Overview {
    Overview {
        tasks,
        unresolved: Vec::new(),
        sinks,
        other_objects: Vec::new(),
    }
}

fn kinds(measure: &Measure, overview: &Overview) -> Vec<Kind> {
    let problems = measure.problems(overview);
    problems.iter().map(|problem| problem.kind).collect()
}

#[test]
fn a_success_is_recent_up_to_the_limit() {
    assert!(!measure().is_stale(&polled(120)));
    assert!(measure().is_stale(&polled(121)));
    // The clock of another machine may be ahead.
    let ahead = TaskStatus {
        last_success_at: Some("2026-01-10T12:00:05.000Z".to_owned()),
        ..polled(0)
    };
    assert!(!measure().is_stale(&ahead));
}

#[test]
fn the_limit_follows_the_interval_and_is_two_minutes_at_least() {
    for (interval, limit) in [(1, 120), (15, 120), (40, 120), (60, 180), (3_600, 10_800)] {
        let limit = Duration::from_secs(limit);
        assert_eq!(default_limit(Duration::from_secs(interval)), limit);
    }
}

#[test]
fn the_limit_is_that_of_the_observed_interval_unless_another_was_asked_for() {
    let hourly = |seconds| TaskStatus {
        success_interval_seconds: Some(3_600),
        ..polled(seconds)
    };
    let strict = Measure {
        strict: true,
        ..measure()
    };
    assert!(!measure().is_stale(&hourly(3 * 3_600)));
    assert!(measure().is_stale(&hourly(3 * 3_600 + 1)));
    assert!(strict.is_stale(&hourly(121)));
    let often = TaskStatus {
        success_interval_seconds: Some(1),
        ..polled(120)
    };
    assert!(!measure().is_stale(&often), "two minutes at least");
}

#[test]
fn a_feed_that_never_succeeded_is_stale_unless_it_may_be_at_its_first_sync() {
    let new = TaskStatus {
        last_success_at: None,
        state: Condition::FirstSync,
        ..polled(0)
    };
    for (held, strict, stale) in [
        (false, false, true),
        (true, false, false),
        (true, true, true),
    ] {
        let measure = Measure {
            held,
            strict,
            ..measure()
        };
        assert_eq!(measure.is_stale(&new), stale, "{held} {strict}");
    }
}

#[test]
fn nothing_is_expected_of_tasks_that_are_lost_or_not_configured() {
    for state in [Condition::NotFound, Condition::Forbidden] {
        let lost = TaskStatus {
            state,
            ..polled(3_600)
        };
        assert!(!measure().is_stale(&lost));
        assert_eq!(
            kinds(&measure(), &overview(vec![lost], Vec::new())),
            [Kind::Lost]
        );
    }
    let others = Measure {
        configured: Some(HashSet::from(["b".to_owned()])),
        ..measure()
    };
    for task in [polled(3_600), failing(1)] {
        assert!(!others.is_stale(&task));
        assert_eq!(kinds(&others, &overview(vec![task], Vec::new())), []);
    }
    let ours = Measure {
        configured: Some(HashSet::from(["a".to_owned()])),
        ..measure()
    };
    assert!(ours.is_stale(&polled(3_600)));
}

#[test]
fn a_feed_fails_while_it_is_tried_and_is_stale_when_nobody_tries() {
    for (tried, kind) in [
        (1, Kind::Failing),
        (600, Kind::Failing),
        (3_000, Kind::Stale),
    ] {
        let overview = overview(vec![failing(tried)], Vec::new());
        let problems = measure().problems(&overview);
        assert_eq!(problems[0].kind, kind);
        assert!(problems[0].message.contains("503"), "{problems:?}");
    }
}

#[test]
fn a_feed_that_fails_in_its_first_sync_fails_however_rarely_it_is_tried() {
    let first = TaskStatus {
        last_success_at: None,
        ..failing(3_000)
    };
    let held = Measure {
        held: true,
        ..measure()
    };
    let overview = overview(vec![first], Vec::new());
    assert_eq!(kinds(&held, &overview), [Kind::Failing]);
}

#[test]
fn a_name_that_was_never_looked_for_is_stale() {
    let unknown = Measure {
        unknown: vec!["~new".to_owned(), "~nothing".to_owned()],
        ..measure()
    };
    let mut overview = overview(vec![polled(1)], Vec::new());
    overview.unresolved.push(Unresolved {
        reference: "~nothing".to_owned(),
        error: "404".to_owned(),
        at: NOW.to_owned(),
    });
    assert_eq!(kinds(&unknown, &overview), [Kind::Stale, Kind::Lost]);
    // Whoever holds the mirror may be about to look for it.
    let held = Measure {
        held: true,
        ..unknown
    };
    assert_eq!(kinds(&held, &overview), [Kind::Lost]);
}

#[test]
fn the_worst_comes_first() {
    let unreadable = TaskStatus {
        unreadable_items: 1,
        ..polled(1)
    };
    let mut all = overview(
        vec![unreadable, failing(1), polled(3_600)],
        vec![sink(SinkState::Ok, 1), sink(SinkState::Failing, 0)],
    );
    all.unresolved.push(Unresolved {
        reference: "~nothing".to_owned(),
        error: "404".to_owned(),
        at: NOW.to_owned(),
    });
    let expected = [
        Kind::Stale,
        Kind::Failing,
        Kind::Lost,
        Kind::SinkFailing,
        Kind::Dead,
        Kind::Unreadable,
    ];
    assert_eq!(kinds(&measure(), &all), expected);
    let problems = measure().problems(&all);
    assert!(problems.iter().all(|problem| !problem.remedy.is_empty()));
}

#[test]
fn codes() {
    let well = overview(vec![polled(1)], vec![sink(SinkState::Ok, 0)]);
    let stale = overview(vec![polled(3_600)], Vec::new());
    let fails = overview(vec![failing(1)], Vec::new());
    let unreadable = overview(
        vec![TaskStatus {
            unreadable_items: 1,
            ..polled(1)
        }],
        Vec::new(),
    );
    let lost = || TaskStatus {
        state: Condition::NotFound,
        ..polled(1)
    };
    let sink_fails = overview(vec![polled(1)], vec![sink(SinkState::Failing, 0)]);
    let dead = overview(vec![polled(1)], vec![sink(SinkState::Ok, 1)]);
    let removed = overview(vec![polled(1)], vec![sink(SinkState::Removed, 0)]);
    for (overview, plain, checked) in [
        (well, 0, 0),
        (removed, 0, 0),
        (unreadable, 0, 0),
        (stale, 0, 75),
        (fails, 0, 75),
        (sink_fails, 0, 75),
        (dead, 0, 75),
        (overview(vec![], vec![]), 0, 75),
        (overview(vec![lost()], vec![]), 65, 65),
        (overview(vec![lost(), failing(1)], vec![]), 65, 75),
    ] {
        let problems = measure().problems(&overview);
        let codes = [false, true].map(|checks| exit_code(&problems, checks) as i32);
        assert_eq!(codes, [plain, checked], "{problems:?}");
    }
}

#[test]
fn ages_in_two_units() {
    let now = measure().now;
    for (at, text) in [
        ("2026-01-10T11:59:55Z", "5s ago"),
        ("2026-01-10T11:57:55Z", "2m 5s ago"),
        ("2026-01-10T09:57:55Z", "2h 2m ago"),
        ("2026-01-01T09:57:55Z", "9d 2h ago"),
        ("2027-01-01T00:00:00Z", "0s ago"),
    ] {
        assert_eq!(age(Some(at), now), text);
    }
    assert_eq!(age(None, now), "never");
}
