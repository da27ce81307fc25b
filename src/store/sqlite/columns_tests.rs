//! Columns and views as people query them: what the traits do not answer.

use rusqlite::types::Value as Sql;
use serde_json::json;

use super::connection::Db;
use crate::store::conformance::builders::{FEED, at, commit, confirmed, run, task};
use crate::sync::{Commit, Unreadable};

fn db() -> Db {
    let mut db = Db::in_memory().unwrap();
    db.save_task(&task(FEED), at(0)).unwrap();
    db
}

fn column(db: &Db, sql: &str) -> Vec<String> {
    let mut statement = db.connection.prepare(sql).unwrap();
    let values = statement.query_map([], |row| row.get(0)).unwrap();
    let text = |value: Sql| match value {
        Sql::Null => "null".to_owned(),
        Sql::Integer(number) => number.to_string(),
        Sql::Real(number) => number.to_string(),
        Sql::Text(text) => text,
        Sql::Blob(_) => "blob".to_owned(),
    };
    values.map(|value| text(value.unwrap())).collect()
}

#[test]
fn every_field_has_its_place() {
    let mut db = db();
    let mut full = run("a", 1, "SUCCEEDED");
    full["finishedAt"] = json!("2019-12-12T09:30:12.202Z");
    full["generalAccess"] = json!("RESTRICTED");
    db.commit(FEED, &commit(10, 1, &[full])).unwrap();
    for (name, expected) in [
        ("finished_at", "2019-12-12T09:30:12.202Z"),
        (
            "extra",
            r#"{"generalAccess":"RESTRICTED","meta":{"new":1}}"#,
        ),
        ("usage_total_usd", "0.5"),
        ("first_seen_at", "1970-01-01T00:00:10.000Z"),
    ] {
        let sql = format!("SELECT {name} FROM runs");
        assert_eq!(column(&db, &sql), [expected], "{name}");
    }
}

#[test]
fn times_in_other_forms_sort_with_the_others_and_what_is_not_understood_is_kept() {
    let mut db = db();
    let mut other = run("a", 1, "SUCCEEDED");
    other["startedAt"] = json!(1_000);
    other["finishedAt"] = json!("1970-01-01 02:00:03+02:00");
    other["meta"]["scheduledAt"] = json!(1_575_099_264_202_i64);
    db.commit(FEED, &commit(10, 1, &[other])).unwrap();
    for (name, expected) in [
        ("started_at", "null"),
        ("finished_at", "1970-01-01T00:00:03.000Z"),
        ("scheduled_at", "2019-11-30T07:34:24.202Z"),
        ("extra", r#"{"meta":{"new":1},"startedAt":1000}"#),
    ] {
        let sql = format!("SELECT {name} FROM runs");
        assert_eq!(column(&db, &sql), [expected], "{name}");
    }
}

#[test]
fn numbers_of_any_size_keep_their_digits() {
    let mut db = db();
    let mut large = run("a", 1, "READY");
    let digits = "[123456789012345678901234567890,0.1,1e+999]";
    large["big"] = serde_json::from_str(digits).unwrap();
    db.commit(FEED, &commit(10, 1, &[large])).unwrap();
    for (sql, expected) in [
        ("SELECT extra FROM runs", digits),
        ("SELECT payload FROM events", digits),
        ("SELECT json_extract(extra, '$.big[1]') FROM runs", "0.1"),
        (
            "SELECT json_type(payload, '$.resource.big[2]') FROM events",
            "real",
        ),
    ] {
        let found = column(&db, sql).remove(0);
        assert!(found.contains(expected), "{sql}: {found}");
    }
}

#[test]
fn a_row_shows_where_an_item_that_cannot_be_read_is_and_why() {
    let mut db = db();
    let item = |id: Option<&str>, reason: &str| Unreadable {
        id: id.map(str::to_owned),
        reason: reason.into(),
        body: "{".into(),
    };
    let hour = 3_600;
    for (now, items) in [
        (10, [(5, item(Some("a"), "cut")), (6, item(None, "odd"))]),
        (11, [(4, item(Some("a"), "cut")), (6, item(None, "odder"))]),
        (
            9 + hour,
            [(4, item(Some("a"), "cut")), (6, item(None, "odder"))],
        ),
        (
            11 + hour,
            [(4, item(Some("a"), "cut")), (5, item(None, "odder"))],
        ),
    ] {
        let step = Commit {
            unreadable: items.to_vec(),
            ..commit(now, 1, &[])
        };
        db.commit(FEED, &step).unwrap();
    }
    let rows = column(
        &db,
        "SELECT feed_id || ' ' || iif(item LIKE 'id:%', item, substr(item, 1, 7) || length(item)) || ' ' || position
             || ' ' || reason || ' ' || body || ' ' || unixepoch(first_seen_at) || ' ' || unixepoch(last_seen_at)
         FROM unreadable_items ORDER BY position",
    );
    let expected = [
        "task id:a 4 cut { 10 3611",
        "task sha256:71 5 odder { 10 3611",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn a_row_names_the_runs_own_task_and_the_one_that_lists_it() {
    let mut db = db();
    let mut foreign = run("a", 1, "READY");
    foreign["actorTaskId"] = json!("another");
    let mut silent = run("b", 2, "READY");
    silent["actorTaskId"] = json!(null);
    for now in [10, 20] {
        let items = [foreign.clone(), silent.clone()];
        db.commit(FEED, &commit(now, 1, &items)).unwrap();
    }
    assert_eq!(
        column(
            &db,
            "SELECT task_id || ' ' || feed_id FROM runs ORDER BY id"
        ),
        ["another task", "task task"]
    );
    let updated = "SELECT DISTINCT unixepoch(updated_at) FROM runs";
    assert_eq!(column(&db, updated), ["10"]);
}

#[test]
fn a_run_that_is_gone_has_the_time_it_was_missed_until_it_is_back() {
    let mut db = db();
    let listed = |now| commit(now, 1, &[run("a", 1, "RUNNING")]);
    db.commit(FEED, &listed(10)).unwrap();
    for now in [11, 12] {
        let gone = Commit {
            gone: vec!["a".into()],
            ..commit(now, 1, &[])
        };
        db.commit(FEED, &gone).unwrap();
        assert_eq!(
            column(&db, "SELECT removed_at FROM runs"),
            ["1970-01-01T00:00:11.000Z"]
        );
    }
    db.commit(FEED, &listed(13)).unwrap();
    assert_eq!(column(&db, "SELECT removed_at FROM runs"), ["null"]);
}

#[test]
fn events_carry_the_times_of_the_run_where_it_has_them() {
    let mut db = db();
    let mut ended = run("a", 1, "SUCCEEDED");
    ended["finishedAt"] = json!(at(7).to_string());
    db.commit(FEED, &commit(10, 1, &[ended])).unwrap();
    let again = confirmed(commit(20, 1, &[run("a", 1, "RUNNING")]));
    db.commit(FEED, &again).unwrap();
    let seconds = column(
        &db,
        "SELECT unixepoch(occurred_at) || ' ' || unixepoch(observed_at) FROM events ORDER BY seq",
    );
    assert_eq!(seconds, ["1 10", "7 10", "20 20"]);
}

#[test]
fn a_status_that_is_no_end_did_not_happen_at_the_end() {
    let mut db = db();
    db.commit(FEED, &commit(10, 1, &[run("a", 1, "READY")]))
        .unwrap();
    let mut aborting = run("a", 1, "ABORTING");
    aborting["finishedAt"] = json!(at(7).to_string());
    db.commit(FEED, &commit(20, 1, &[aborting])).unwrap();
    assert_eq!(
        column(
            &db,
            "SELECT unixepoch(occurred_at) FROM events ORDER BY seq"
        ),
        ["1", "20"]
    );
}

#[test]
fn views_answer_for_people() {
    let mut db = db();
    let mut ended = run("a", 86_400, "FAILED");
    ended["finishedAt"] = json!(at(86_460).to_string());
    let items = [ended, run("b", 86_500, "RUNNING")];
    db.commit(FEED, &commit(90_000, 2, &items)).unwrap();
    for (sql, expected) in [
        ("SELECT duration_seconds FROM run_durations", "60"),
        (
            "SELECT day || ' ' || runs || ' ' || failures || ' ' || cost_usd FROM daily_runs",
            "1970-01-02 2 1 1.0",
        ),
        ("SELECT id FROM open_runs", "b"),
        (
            "SELECT last_run_id || ' ' || runs || ' ' || open_runs FROM task_health",
            "b 2 1",
        ),
    ] {
        assert_eq!(column(&db, sql), [expected], "{sql}");
    }
}
