//! Where the log is read from, and its lines.

use super::*;
use crate::cli::output::plain;
use insta::assert_snapshot;

#[test]
fn a_limit_that_the_database_cannot_count_is_wrong_usage() {
    use clap::Parser;
    /// The command line of `events` alone.
    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        _args: Args,
    }
    for (limit, is_valid) in [
        ("0", true),
        ("9223372036854775807", true),
        ("9223372036854775808", false),
        ("18446744073709551615", false),
    ] {
        let line = ["events", "--limit", limit];
        assert_eq!(Line::try_parse_from(line).is_ok(), is_valid, "{limit}");
    }
}

#[test]
fn a_beginning_is_a_number_a_time_or_how_long_ago() {
    let at = |text: &str| Since::Time(Timestamp::parse(text).unwrap());
    for (text, expected) in [
        ("0", Since::Seq(0)),
        ("1767323045678", Since::Seq(1_767_323_045_678)),
        ("2026-01-31", at("2026-01-31T00:00:00Z")),
        ("2026-01-31T12:00", at("2026-01-31T12:00:00Z")),
        ("2026-01-31 12:00:01.5", at("2026-01-31T12:00:01.5Z")),
        ("2026-01-31T12:00:00+02:00", at("2026-01-31T10:00:00Z")),
    ] {
        assert_eq!(since(text), Ok(expected), "{text}");
    }
    let Ok(Since::Time(time)) = since("6h") else {
        panic!("6h is a time");
    };
    let hours = Timestamp::now().since(time).as_secs_f64() / 3_600.0;
    assert!((6.0..6.1).contains(&hours), "{hours}");
    for text in [
        "",
        "-1",
        "1.5",
        "yesterday",
        "2026-13-01",
        "9999999999999999999",
    ] {
        assert!(since(text).is_err(), "{text}");
    }
}

#[test]
fn types_and_statuses_are_known_by_their_short_names_too() {
    for text in [
        "ACTOR.RUN.TIMED_OUT",
        "TIMED_OUT",
        "timed-out",
        "actor.run.timed_out",
    ] {
        assert_eq!(
            event_type(text).as_deref(),
            Ok("ACTOR.RUN.TIMED_OUT"),
            "{text}"
        );
    }
    for text in ["TIMED-OUT", "timed_out", "Timed-Out"] {
        assert_eq!(status(text).as_deref(), Ok("TIMED-OUT"), "{text}");
    }
    assert!(
        event_type("DONE")
            .unwrap_err()
            .contains("ACTOR.RUN.CREATED")
    );
    assert!(status("CREATED").unwrap_err().contains("SUCCEEDED"));
}

#[test]
fn an_event_is_an_aligned_line_or_its_own_json() {
    let event = |seq: i64, payload: &str| LoggedEvent {
        seq,
        payload: payload.replace('\n', ""),
    };
    let created = event(
        7,
        r#"{"sequence": 7, "createdAt": "2026-01-02T03:04:05.678Z", "eventType": "ACTOR.RUN.CREATED",
            "status": "READY", "previousStatus": null, "eventData": {"actorRunId": "HG7ML7M8z78YcAPEB"}}"#,
    );
    let timed_out = event(
        12_345,
        r#"{"sequence": 12345, "createdAt": "2026-01-02T03:04:06.000Z", "eventType": "ACTOR.RUN.TIMED_OUT",
            "status": "TIMED-OUT", "previousStatus": "RUNNING", "eventData": {"actorRunId": "abc"}}"#,
    );
    let lines = line(&created, false).unwrap() + &line(&timed_out, false).unwrap();
    assert_snapshot!(plain(&lines), @r"
        7  2026-01-02T03:04:05.678Z  ACTOR.RUN.CREATED      HG7ML7M8z78YcAPEB  READY
    12345  2026-01-02T03:04:06.000Z  ACTOR.RUN.TIMED_OUT    abc                RUNNING → TIMED-OUT
    ");
    assert_eq!(line(&created, true).unwrap(), created.payload + "\n");
    let hostile = event(8, "{\"status\":\"\u{9b}\u{202e}\"}");
    let escaped = "{\"status\":\"\\u009b\\u202e\"}\n";
    assert_eq!(line(&hostile, true).unwrap(), escaped);
    for json in [false, true] {
        let error = line(&event(9, "hello"), json).unwrap_err();
        let message =
            r#"the database holds "hello" as events.payload; it was changed by another program"#;
        assert_eq!(error.to_string(), message);
    }
    assert!(line(&event(10, "{\t}"), true).is_err());
}
