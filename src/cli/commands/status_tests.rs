//! What `status` prints.

use super::*;
use crate::cli::output::plain;
use insta::assert_snapshot;

const NOW: &str = "2026-01-10T12:00:00.000Z";

fn now() -> Timestamp {
    Timestamp::parse(NOW).unwrap()
}

fn task(name: &str) -> TaskStatus {
    TaskStatus {
        id: format!("id-of-{name}"),
        name: Some(name.to_owned()),
        username: Some("janedoe".to_owned()),
        cursor: 1_234_567,
        watermark: Some("2026-01-10T11:59:00.000Z".to_owned()),
        server_total: Some(1_234_567),
        rows: 1_234_570,
        open_runs: 2,
        removed: 3,
        unreadable_items: 0,
        first_sync_complete: true,
        last_success_at: Some("2026-01-10T11:59:55.000Z".to_owned()),
        last_success_age_seconds: Some(5),
        success_interval_seconds: None,
        last_audit_at: Some("2026-01-10T09:57:00.000Z".to_owned()),
        audit_offset: None,
        state: Condition::Ok,
        last_error: None,
        last_error_at: None,
    }
}

fn sink(name: &str) -> SinkStatus {
    SinkStatus {
        name: name.to_owned(),
        r#type: "webhook".to_owned(),
        state: SinkState::Ok,
        pending: 0,
        dead: 0,
        missed: 0,
        oldest: None,
        last_delivered_at: Some("2026-01-10T11:58:00.000Z".to_owned()),
        failing_since: None,
        last_error: None,
    }
}

fn measure() -> Measure {
    Measure {
        now: now(),
        limit: Duration::from_secs(120),
        strict: false,
        configured: None,
        unknown: Vec::new(),
        held: false,
    }
}

/// What people see, without colours.
fn printed(overview: &Overview, measure: &Measure) -> String {
    plain(&text(overview, &measure.problems(overview), measure))
}

#[test]
fn an_empty_mirror() {
    let overview = Overview {
        tasks: Vec::new(),
        unresolved: Vec::new(),
        sinks: Vec::new(),
        other_objects: Vec::new(),
    };
    assert_snapshot!(printed(&overview, &measure()), @r"
    problem  no task has been mirrored yet
    remedy   run `apify-mirror sync`, or start `apify-mirror run`
    ");
    let held = Measure {
        held: true,
        ..measure()
    };
    assert_snapshot!(printed(&overview, &held), @r"first sync: no task has been mirrored yet");
}

#[test]
fn a_mirror_that_is_well() {
    let overview = Overview {
        tasks: vec![task("my-task")],
        unresolved: Vec::new(),
        sinks: vec![sink("hook")],
        other_objects: Vec::new(),
    };
    assert_snapshot!(printed(&overview, &measure()), @r"
    all well: 1 task, 1 sink

    task                cursor     listed       rows  open  removed  last success  last audit  state
    janedoe~my-task  1,234,567  1,234,567  1,234,570     2        3        5s ago   2h 3m ago  ok

    sink  type     pending  dead  oldest  last delivery  state
    hook  webhook        0     0       -      2m 0s ago  ok
    ");
}

#[test]
fn tasks_in_several_states() {
    let unnamed = TaskStatus {
        name: None,
        cursor: 0,
        server_total: None,
        rows: 0,
        last_success_at: None,
        last_audit_at: None,
        state: Condition::FirstSync,
        ..task("new")
    };
    let failing = TaskStatus {
        state: Condition::Failing,
        last_error: Some("https://api.apify.com/v2: 503".to_owned()),
        last_error_at: Some("2026-01-10T11:59:58.000Z".to_owned()),
        unreadable_items: 1_234,
        ..task("日本")
    };
    let overview = Overview {
        tasks: vec![task("my-task"), unnamed, failing],
        unresolved: vec![Unresolved {
            reference: "~nothing".to_owned(),
            error: "404 record-not-found".to_owned(),
            at: NOW.to_owned(),
        }],
        sinks: Vec::new(),
        other_objects: Vec::new(),
    };
    let held = Measure {
        held: true,
        ..measure()
    };
    assert_snapshot!(printed(&overview, &held), @r"
    problem  janedoe~日本: https://api.apify.com/v2: 503 (and 2 problems more)
    remedy   find out more with `apify-mirror check --online`; what may pass is tried again by itself

    task                cursor     listed       rows  open  removed  last success  last audit  state
    janedoe~my-task  1,234,567  1,234,567  1,234,570     2        3  5s ago        2h 3m ago   ok
    id-of-new                0          -          0     2        3  never         never       first sync
    janedoe~日本     1,234,567  1,234,567  1,234,570     2        3  5s ago        2h 3m ago   failing
    janedoe~日本: https://api.apify.com/v2: 503
    janedoe~日本: 1,234 items of its list cannot be read, see the table unreadable_items
    ~nothing: 404 record-not-found
    ");
}

#[test]
fn a_mirror_that_nobody_keeps_current() {
    let old = |name| TaskStatus {
        last_success_at: Some("2026-01-05T08:00:00.000Z".to_owned()),
        ..task(name)
    };
    let failed = TaskStatus {
        state: Condition::Failing,
        last_error: Some("503".to_owned()),
        last_error_at: Some("2026-01-05T08:30:00.000Z".to_owned()),
        ..old("failed")
    };
    let overview = Overview {
        tasks: vec![old("my-task"), failed, old("former")],
        unresolved: Vec::new(),
        sinks: Vec::new(),
        other_objects: Vec::new(),
    };
    let measure = Measure {
        configured: Some(["id-of-my-task", "id-of-failed"].map(str::to_owned).into()),
        ..measure()
    };
    assert_snapshot!(printed(&overview, &measure), @r"
    problem  janedoe~my-task: was last polled successfully 5d 4h ago (and 1 problem more)
    remedy   start `apify-mirror run`, or run `apify-mirror sync`; if that is done less often than every 2m 0s, give `--max-age`

    task                cursor     listed       rows  open  removed  last success  last audit  state
    janedoe~my-task  1,234,567  1,234,567  1,234,570     2        3     5d 4h ago   2h 3m ago  stale
    janedoe~failed   1,234,567  1,234,567  1,234,570     2        3     5d 4h ago   2h 3m ago  failing, stale
    janedoe~former   1,234,567  1,234,567  1,234,570     2        3     5d 4h ago   2h 3m ago  not configured
    janedoe~failed: 503
    ");
}

#[test]
fn sinks_in_several_states() {
    let failing = SinkStatus {
        state: SinkState::Failing,
        pending: 12_345,
        oldest: Some("2026-01-01T09:57:55.000Z".to_owned()),
        failing_since: Some(NOW.to_owned()),
        last_error: Some("cannot connect".to_owned()),
        ..sink("hook")
    };
    let dead = SinkStatus {
        dead: 1,
        last_delivered_at: None,
        ..sink("other")
    };
    // The error of a sink that neither fails nor has given up on an event is not shown.
    let recovered = SinkStatus {
        last_error: Some("an old error".to_owned()),
        missed: 1_234,
        ..sink("recovered")
    };
    let overview = Overview {
        tasks: vec![task("my-task")],
        unresolved: Vec::new(),
        sinks: vec![failing, dead, recovered],
        other_objects: vec!["table notes".to_owned(), "view noted".to_owned()],
    };
    assert_snapshot!(printed(&overview, &measure()), @r"
    problem  sink hook: cannot connect (and 1 problem more)
    remedy   find out more with `apify-mirror check --online`; events are kept and tried again by themselves

    task                cursor     listed       rows  open  removed  last success  last audit  state
    janedoe~my-task  1,234,567  1,234,567  1,234,570     2        3        5s ago   2h 3m ago  ok

    sink       type     pending  dead     oldest  last delivery  state
    hook       webhook   12,345     0  9d 2h ago  2m 0s ago      failing
    other      webhook        0     1          -  never          ok
    recovered  webhook        0     0          -  2m 0s ago      ok
    hook: cannot connect
    other: some events were set aside
    recovered: did not get 1,234 events, which the event log no longer had

    also in the database: table notes, view noted
    ");
}

#[test]
fn programs_get_what_is_wrong_beside_what_they_always_got() {
    let overview = Overview {
        tasks: vec![TaskStatus {
            last_success_at: Some("2026-01-10T11:00:00.000Z".to_owned()),
            ..task("my-task")
        }],
        unresolved: Vec::new(),
        sinks: vec![sink("hook")],
        other_objects: Vec::new(),
    };
    let problems = measure().problems(&overview);
    let measure = measure();
    let json = report(&overview, &problems, &measure);
    assert_snapshot!(serde_json::to_string_pretty(&json).unwrap(), @r#"
    {
      "tasks": [
        {
          "id": "id-of-my-task",
          "name": "my-task",
          "username": "janedoe",
          "cursor": 1234567,
          "watermark": "2026-01-10T11:59:00.000Z",
          "server_total": 1234567,
          "rows": 1234570,
          "open_runs": 2,
          "removed": 3,
          "unreadable_items": 0,
          "first_sync_complete": true,
          "last_success_at": "2026-01-10T11:00:00.000Z",
          "last_success_age_seconds": 5,
          "success_interval_seconds": null,
          "last_audit_at": "2026-01-10T09:57:00.000Z",
          "audit_offset": null,
          "state": "ok",
          "last_error": null,
          "last_error_at": null,
          "stale": true,
          "stale_after_seconds": 120,
          "configured": null
        }
      ],
      "unresolved": [],
      "sinks": [
        {
          "name": "hook",
          "type": "webhook",
          "state": "ok",
          "pending": 0,
          "dead": 0,
          "missed": 0,
          "oldest": null,
          "last_delivered_at": "2026-01-10T11:58:00.000Z",
          "failing_since": null,
          "last_error": null
        }
      ],
      "other_objects": [],
      "problems": [
        {
          "kind": "stale",
          "subject": "janedoe~my-task",
          "message": "was last polled successfully 1h 0m ago",
          "remedy": "start `apify-mirror run`, or run `apify-mirror sync`; if that is done less often than every 2m 0s, give `--max-age`"
        }
      ],
      "stale_after_seconds": 120
    }
    "#);
}

#[test]
fn what_others_wrote_stays_on_its_line() {
    let overview = Overview {
        tasks: vec![TaskStatus {
            state: Condition::Failing,
            last_error: Some("a\n\u{1b}[2Jb".to_owned()),
            last_error_at: Some(NOW.to_owned()),
            ..task("my-task")
        }],
        unresolved: Vec::new(),
        sinks: Vec::new(),
        other_objects: Vec::new(),
    };
    let measure = measure();
    let colored = text(&overview, &measure.problems(&overview), &measure);
    assert!(!colored.contains("\u{1b}[2J"), "{colored:?}");
    assert_eq!(printed(&overview, &measure).lines().count(), 6);
}
