//! Columns and views as people query them: what the traits do not answer.

use rusqlite::types::Value as Sql;
use serde_json::json;

use super::connection::Db;
use crate::store::conformance::builders::{FEED, at, commit, run, task};
use crate::sync::Commit;

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
fn a_row_names_the_runs_own_task_and_the_one_that_lists_it() {
    let mut db = db();
    let mut foreign = run("a", 1, "READY");
    foreign["actorTaskId"] = json!("another");
    db.commit(FEED, &commit(10, 1, &[foreign])).unwrap();
    assert_eq!(
        column(&db, "SELECT task_id || ' ' || feed_id FROM runs"),
        ["another task"]
    );
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
    db.commit(FEED, &commit(20, 1, &[run("a", 1, "RUNNING")]))
        .unwrap();
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
