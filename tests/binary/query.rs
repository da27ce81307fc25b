//! `query`: questions in SQL.

use std::process::Stdio;

use serde_json::Value;

use crate::cases::{Case, check_all};
use crate::support::{Setup, stderr, stdout};

#[test]
fn an_answer_has_the_form_that_was_asked_for() {
    let setup = Setup::with_runs(3);
    setup.sync();
    let sql = "SELECT 'SUCCEEDED' AS status, count(*) AS runs, NULL AS \"a,b\" FROM runs";
    let answer = |format: &str| {
        let output = Case::of(&["query", "--format", format, sql]).check(&setup);
        assert_eq!(stderr(&output), "");
        stdout(&output)
    };
    assert_eq!(
        answer("table"),
        "status     runs  a,b\nSUCCEEDED     3    -\n"
    );
    assert_eq!(answer("csv"), "status,runs,\"a,b\"\nSUCCEEDED,3,\n");
    let object = r#"{"status": "SUCCEEDED", "runs": 3, "a,b": null}"#;
    assert_eq!(answer("ndjson"), format!("{object}\n"));
    assert_eq!(answer("json"), format!("[\n  {object}\n]\n"));
    let many = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2500) SELECT n FROM n";
    let output = Case::of(&["query", "--format", "json", many]).check(&setup);
    let rows: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((rows.len(), &rows[2_499]["n"]), (2_500, &2_500.into()));
    let output = Case::of(&["query", many]).check(&setup);
    assert_eq!(stdout(&output).lines().count(), 2_501);
    for (format, nothing) in [("table", "n\n"), ("json", "[]\n"), ("ndjson", "")] {
        let sql = "SELECT 1 AS n WHERE 0";
        let output = Case::of(&["query", "--format", format, sql]).check(&setup);
        assert_eq!(stdout(&output), nothing);
    }
}

#[test]
fn mistakes_and_writing_are_refused_with_their_reason() {
    let setup = Setup::with_runs(3);
    setup.sync();
    let query = |sql: &'static str| Case::of(&["query", sql]).code(2);
    check_all(
        &setup,
        [
            query("SELEC 1").stderr("syntax error"),
            query("SELECT 1; SELECT 2").stderr("Multiple statements"),
            query("").stderr("the query cannot be run"),
            query("DELETE FROM runs").stderr("more than read"),
            query("ATTACH 'other.db' AS other").stderr("more than read"),
            query("VACUUM INTO 'other.db'").stderr("more than read"),
            Case::of(&["query", "--neutralize-formulas", "SELECT 1"])
                .code(2)
                .stderr("add `--format csv`"),
            Case::of(&["query", "--format", "csv"])
                .code(2)
                .stderr("without SQL"),
        ],
    );
    assert!(!setup.dir.path().join("other.db").exists());
    let empty = Setup::with_runs(0);
    Case::of(&["query", "SELECT 1"])
        .code(74)
        .stderr("there is no database at")
        .check(&empty);
    // Needs none.
    Case::of(&["query"]).stdout("monthly_cost: ").check(&empty);
}

#[test]
fn text_of_others_is_inert_and_formulas_are_neutralized_on_request() {
    let setup = Setup::with_runs(1);
    setup.sync();
    let sql = "SELECT char(27) || '[2J' AS x, '=1+1' AS y";
    for (format, text) in [
        ("table", r"\u{1b}[2J  =1+1"),
        ("json", r#"{"x": "\u001b[2J", "y": "=1+1"}"#),
    ] {
        Case::of(&["query", "--format", format, sql])
            .stdout(text)
            .check(&setup);
    }
    let csv = ["query", "--format", "csv", "--neutralize-formulas", sql];
    Case::of(&csv).stdout("[2J,'=1+1\n").check(&setup);
}

/// The signal of Ctrl-C or, where this process was started in the background and its children ignore that, another.
fn interrupt() -> rustix::process::Signal {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match ignored.is_some_and(|mask| mask & 0b10 > 0) {
        true => rustix::process::Signal::TERM,
        false => rustix::process::Signal::INT,
    }
}

#[test]
fn a_query_without_end_ends_with_its_reader_and_with_a_signal() {
    let setup = Setup::with_runs(1);
    setup.sync();
    let endless =
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT n FROM n";
    let start = |sql: &str| {
        let mut command = setup.bare(&["query", "--format", "ndjson", sql]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut child = start(endless);
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    // Computes, and prints nothing.
    let child = start(&format!("SELECT count(*) FROM ({endless})"));
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, interrupt()).unwrap();
    assert!(!child.wait_with_output().unwrap().status.success());
}
