//! The views for people, on data made for each; and every query that the documentation shows.

use std::collections::BTreeSet;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::connection::Db;

const SQL_MD: &str = include_str!("../../../docs/sql.md");
const README: &str = include_str!("../../../README.md");

/// A database with the task `t`, called `my-task`, and the rows that `sql` makes.
fn db(sql: &str) -> Db {
    let db = Db::in_memory().unwrap();
    let task =
        "INSERT INTO tasks (id, name, first_seen_at, updated_at) VALUES ('t', 'my-task', '', '')";
    db.connection.execute_batch(task).unwrap();
    db.connection.execute_batch(sql).unwrap();
    db
}

/// A run of the task `t`: its id, status, start, and how many seconds it took, if it ended.
fn run(id: &str, status: &str, started: &str, seconds: Option<f64>) -> String {
    let seconds = seconds.map_or_else(|| "NULL".to_owned(), |seconds| seconds.to_string());
    let finished =
        format!("strftime('%Y-%m-%dT%H:%M:%fZ', julianday({started}) + {seconds} / 86400.0)");
    let is_open = seconds == "NULL";
    format!(
        "INSERT INTO runs (id, task_id, feed_id, status, started_at, finished_at, duration_seconds, is_open, usage_total_usd,
             build_number, first_seen_at, updated_at)
         VALUES ('{id}', 't', 't', '{status}', strftime('%Y-%m-%dT%H:%M:%fZ', {started}), {finished}, {seconds}, {is_open},
             0.5, '0.1', '', '');"
    )
}

/// The rows of a query, their cells separated by a space.
fn rows(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let count = statement.column_count();
    let rows = statement.query_map([], |row| {
        let cells = (0..count).map(|n| {
            Ok(match row.get(n)? {
                Value::Null => "-".to_owned(),
                Value::Integer(number) => number.to_string(),
                Value::Real(number) => number.to_string(),
                Value::Text(text) => text,
                Value::Blob(_) => unreachable!("no view has blobs"),
            })
        });
        cells.collect::<rusqlite::Result<Vec<_>>>()
    });
    rows.unwrap().map(|row| row.unwrap().join(" ")).collect()
}

#[test]
fn a_day_counts_every_way_to_end() {
    let at = |hour| format!("'2026-03-05 {hour:02}:00'");
    let statuses = ["SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED", "ABORTED"];
    let mut sql: String = (0..)
        .zip(statuses)
        .map(|(n, status)| run(&n.to_string(), status, &at(n), Some(60.0)))
        .collect();
    sql += &run("open", "RUNNING", &at(23), None);
    let day = "SELECT task, day, runs, open, succeeded, failed, timed_out, aborted, failures, cost_usd FROM daily_runs";
    assert_eq!(
        rows(&db(&sql).connection, day),
        ["my-task 2026-03-05 6 1 1 1 1 2 2 3"]
    );
    let build =
        "SELECT build_number, first_run_at, runs, failures, failure_percent FROM build_health";
    assert_eq!(
        rows(&db(&sql).connection, build),
        ["0.1 2026-03-05T00:00:00.000Z 6 2 40"]
    );
}

#[test]
fn health_counts_failures_since_the_last_success_and_seven_days() {
    let sql = [
        run("old", "SUCCEEDED", "'now', '-8 days'", Some(60.0)),
        run("good", "SUCCEEDED", "'now', '-6 days'", Some(60.0)),
        run("bad", "FAILED", "'now', '-5 days'", Some(60.0)),
        run("stopped", "ABORTED", "'now', '-4 days'", Some(60.0)),
        run("late", "TIMED-OUT", "'now', '-3 days'", Some(60.0)),
        run("open", "RUNNING", "'now', '-1 hour'", None),
    ];
    let health = "SELECT last_run_id, last_status, failures_in_a_row, runs, open_runs, runs_7d, failure_percent_7d,
        cost_usd_7d, last_succeeded_at = (SELECT finished_at FROM runs WHERE id = 'good') FROM task_health";
    assert_eq!(
        rows(&db(&sql.concat()).connection, health),
        ["open RUNNING 2 6 1 5 50 2.5 1"]
    );
    let nothing = "SELECT task, runs, failures_in_a_row, runs_7d, failure_percent_7d, last_succeeded_at FROM task_health";
    assert_eq!(rows(&db("").connection, nothing), ["my-task 0 0 0 - -"]);
}

#[test]
fn slow_is_twice_the_median() {
    let slow = "SELECT run_id, duration_seconds, usual_seconds, times_usual FROM slow_runs ORDER BY run_id";
    let of = |seconds: &[f64]| {
        let runs = seconds.iter().enumerate().map(|(n, seconds)| {
            let started = format!("'2026-01-01', '{n} hours'");
            run(&n.to_string(), "SUCCEEDED", &started, Some(*seconds))
        });
        // Failed runs are not usual, but can be slow.
        let failed = run("x", "FAILED", "'2026-01-02'", Some(1_000.0));
        db(&(runs.collect::<String>() + &failed))
    };
    assert_eq!(
        rows(&of(&[10.0, 40.0, 20.0, 10.0, 90.0]).connection, slow),
        ["1 40 20 2", "4 90 20 4.5", "x 1000 20 50"]
    );
    assert_eq!(
        rows(&of(&[10.0, 40.0, 20.0, 10.0, 90.0, 30.0]).connection, slow),
        ["4 90 25 3.6", "x 1000 25 40"]
    );
    assert!(rows(&of(&[10.0, 40.0, 20.0, 90.0]).connection, slow).is_empty());
}

#[test]
fn gaps_are_where_a_schedule_missed_its_usual_interval() {
    let scheduled = |id: &str, at: &str| {
        run(id, "SUCCEEDED", at, Some(1.0))
            + &format!(
                "UPDATE runs SET schedule_id = 's', scheduled_at = started_at WHERE id = '{id}';"
            )
    };
    let gaps =
        "SELECT expected_at, gap_minutes, usual_minutes FROM schedule_gaps ORDER BY expected_at";
    let past = [
        scheduled("a", "'2026-01-01 00:00'"),
        scheduled("b", "'2026-01-01 01:00'"),
        scheduled("c", "'2026-01-01 02:00'"),
        scheduled("d", "'2026-01-01 05:00'"),
        scheduled("e", "'2026-01-01 06:20'"),
    ];
    // A schedule that has been still for long is not missed for ever.
    assert_eq!(
        rows(&db(&past.concat()).connection, gaps),
        ["2026-01-01T03:10:00.000Z 180 70"]
    );
    let current = [
        scheduled("a", "'now', '-300 minutes'"),
        scheduled("b", "'now', '-240 minutes'"),
        scheduled("c", "'now', '-180 minutes'"),
        scheduled("d", "'now', '-120 minutes'"),
    ];
    let missed = "SELECT gap_minutes >= 120 AND gap_minutes < 121, usual_minutes,
        round((julianday('now') - julianday(expected_at)) * 1440) FROM schedule_gaps";
    assert_eq!(rows(&db(&current.concat()).connection, missed), ["1 60 60"]);
    let few = [
        scheduled("a", "'2026-01-01'"),
        scheduled("b", "'2026-01-02'"),
        scheduled("c", "'2026-01-09'"),
    ];
    assert!(rows(&db(&few.concat()).connection, gaps).is_empty());
}

#[test]
fn overlaps_are_pairs_once_and_last_as_long_as_both_run() {
    let sql = [
        run("a", "SUCCEEDED", "'2026-01-01 00:00:00'", Some(100.0)),
        run("b", "SUCCEEDED", "'2026-01-01 00:01:00'", Some(100.0)),
        run("c", "SUCCEEDED", "'2026-01-01 00:01:00'", Some(10.0)),
        // Begins when the others have ended.
        run("d", "SUCCEEDED", "'2026-01-01 00:02:40'", Some(10.0)),
        run("e", "RUNNING", "'now', '-100 seconds'", None),
        run("f", "RUNNING", "'now', '-50 seconds'", None),
    ];
    let overlaps =
        "SELECT run_id, other_id, round(overlap_seconds, -1) FROM overlapping_runs ORDER BY 1, 2";
    assert_eq!(
        rows(&db(&sql.concat()).connection, overlaps),
        ["a b 40", "a c 10", "b c 10", "e f 50"]
    );
}

#[test]
fn a_month_is_forecast_from_the_days_before_today() {
    let day: u32 = rows(&db("").connection, "SELECT strftime('%d', 'now')")[0]
        .parse()
        .unwrap();
    let days: f64 = rows(
        &db("").connection,
        "SELECT strftime('%d', 'now', 'start of month', '+1 month', '-1 day')",
    )[0]
    .parse()
    .unwrap();
    let mut sql = run(
        "past",
        "SUCCEEDED",
        "'now', 'start of month', '-40 days'",
        Some(1.0),
    );
    sql += &run("today", "SUCCEEDED", "'now', 'start of day'", Some(1.0));
    let mut cost = 0.5;
    let mut forecast = 0.5 * days;
    if day > 1 {
        sql += &run("first", "SUCCEEDED", "'now', 'start of month'", Some(1.0));
        sql += "UPDATE runs SET usage_total_usd = 3 WHERE id = 'first';";
        cost += 3.0;
        forecast = f64::max(3.0 * days / f64::from(day - 1), cost);
    }
    let db = db(&sql);
    let month =
        "SELECT cost_usd, abs(forecast_usd - {}) < 0.000002 FROM monthly_cost ORDER BY month";
    let month = month.replace("{}", &forecast.to_string());
    let found = rows(&db.connection, &month);
    assert_eq!(found[1], format!("{cost} 1"));
    let past = "SELECT cost_usd = forecast_usd FROM monthly_cost ORDER BY month";
    assert_eq!(rows(&db.connection, past)[0], "1");
}

#[test]
fn changes_are_events_and_removals() {
    let sql = run("a", "FAILED", "'2026-01-01'", Some(1.0))
        + "UPDATE runs SET removed_at = '2026-01-03T00:00:00.000Z';
           INSERT INTO events (id, run_id, task_id, type, previous_status, status, occurred_at, observed_at, payload) VALUES
               ('1', 'a', 't', 'ACTOR.RUN.CREATED', NULL, 'READY', '', '2026-01-01T00:00:00.000Z', ''),
               ('2', 'a', 't', 'ACTOR.RUN.FAILED', 'READY', 'FAILED', '', '2026-01-02T00:00:00.000Z', '');";
    assert_eq!(
        rows(
            &db(&sql).connection,
            "SELECT task, run_id, what FROM recent_changes ORDER BY at"
        ),
        [
            "my-task a created: READY",
            "my-task a READY → FAILED",
            "my-task a removed"
        ]
    );
}

/// The statements in the blocks of SQL of a document.
fn statements(document: &str) -> Vec<&str> {
    let blocks = document.split("```sql\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

#[test]
fn every_query_in_the_documentation_runs() {
    let db = db(&run("a", "SUCCEEDED", "'now', '-1 hour'", Some(1.0)));
    let queries = statements(SQL_MD);
    assert_eq!(queries.len(), 13);
    let inline = README.split("sqlite3 runs.db \"").skip(1);
    let inline: Vec<&str> = inline.map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(inline.len() >= 2);
    for sql in queries.into_iter().chain(inline) {
        rows(&db.connection, sql);
    }
}

#[test]
fn the_documentation_names_the_columns_of_every_view() {
    for view in super::query::views().unwrap() {
        let columns: Vec<String> = view
            .columns
            .iter()
            .map(|column| format!("`{column}`"))
            .collect();
        let row = format!("| {} |\n", columns.join(", "));
        let begin = format!("\n| `{}` | ", view.view);
        let line = SQL_MD
            .split(&begin)
            .nth(1)
            .and_then(|rest| rest.split_inclusive('\n').next());
        assert!(
            line.is_some_and(|line| line.ends_with(&row)),
            "{}: {row}",
            view.view
        );
    }
}

/// Datasette shows the questions of the documentation, with a field where a name has to be put.
#[test]
fn datasette_has_the_questions_of_the_documentation() {
    let metadata = include_str!("../../../datasette/metadata.json");
    let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
    let database = &metadata["databases"]["runs"];
    let queries = database["queries"].as_object().unwrap();
    let canned: BTreeSet<&str> = queries
        .values()
        .map(|query| query["sql"].as_str().unwrap())
        .collect();
    let asked: Vec<String> = statements(SQL_MD)
        .iter()
        .map(|sql| {
            sql.trim_end()
                .trim_end_matches(';')
                .replace("'my-task'", ":task")
        })
        .collect();
    assert_eq!(canned, asked.iter().map(String::as_str).collect());
    for query in queries.values() {
        let title = query["title"].as_str().unwrap();
        assert!(
            SQL_MD.contains(&format!("\n{title}\n\n```sql\n")),
            "{title}"
        );
    }
    let views = super::query::views().unwrap();
    let tables = database["tables"].as_object().unwrap();
    for view in views {
        let sort = ["sort", "sort_desc"]
            .iter()
            .find_map(|key| tables[view.view][*key].as_str());
        assert!(
            view.columns
                .iter()
                .any(|column| Some(column.as_str()) == sort),
            "{}",
            view.view
        );
    }
}
