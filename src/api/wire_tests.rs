//! Bodies as servers write them, and what is made of them.

use super::*;
use crate::model::Run;
use serde_json::json;

const LATEST: Timestamp = Timestamp::from_millis(4_000_000_000_000);

fn page(body: &str) -> Page {
    run_page(body.as_bytes(), LATEST).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// A page of these items.
fn list(items: &str) -> Page {
    page(&format!(r#"{{"data": {{"items": [{items}]}}}}"#))
}

/// The only run of a page with this item, and its JSON.
fn only(item: &str) -> (Run, Value) {
    let entry = list(item).entries.remove(0);
    let Entry::Run(seen) = entry else {
        panic!("{entry:?}")
    };
    (seen.run, serde_json::from_str(&seen.json).unwrap())
}

#[test]
fn a_list_must_have_whole_items() {
    for (body, expected) in [
        (r#"{"data": {"offset": 0}}"#, "missing field `data.items`"),
        (r#"{"dat": {"items": []}}"#, "missing field `data`"),
        (r#"{"data": null}"#, "`data`: expected an object"),
        (r#"{"data": [1]}"#, "`data`: expected an object"),
        (r#"{"data": {"items": null}}"#, "`items`: expected an array"),
        (
            r#"{"data": {"items": {"0": 1}}}"#,
            "`items`: expected an array",
        ),
        (r#"{"data": {"items": [{"id": "a"}"#, "cut off"),
        (r#"{"data": {"items": [{"id": "a"}, {"id": "b"#, "cut off"),
        (r#"{"data": {"items": [{"id": "a"}]}"#, "cut off"),
        (r#"{"data": {"items": [{"id": "a"},]}}"#, "expected a value"),
        (
            r#"{"data": {"items": [{"id": "a"}}, {}]}}"#,
            "expected a comma",
        ),
        (
            r#"{"data": {"items": [{"id": [1}, {}]}}"#,
            "expected a comma",
        ),
        (r#"{"data": {"items": []}} {}"#, "expected the end"),
        ("<html></html>", "expected an object"),
        ("", "cut off"),
    ] {
        for error in [
            run_page(body.as_bytes(), LATEST).unwrap_err(),
            task_page(body.as_bytes()).unwrap_err(),
        ] {
            assert!(matches!(error, Unusable::Malformed(_)), "{error}");
            assert!(error.to_string().contains(expected), "{body}: {error}");
        }
    }
    let deep = "[".repeat(1_000_000);
    let cut = format!(r#"{{"data": {{"items": [{deep}"#);
    assert!(run_page(cut.as_bytes(), LATEST).is_err());
}

#[test]
fn what_a_list_says_of_itself_counts_where_it_can_be_understood() {
    let bare = page(r#"{"more": 1, "data": {"new": {"total": 7}, "items": [{"id": "r"}]}}"#);
    let said = (bare.offset, bare.limit, bare.total, bare.desc);
    assert_eq!((said, bare.entries.len()), ((None, None, None, None), 1));
    for (text, expected) in [
        ("3", Some(3)),
        ("3.0", Some(3)),
        ("3e0", Some(3)),
        (r#""3""#, Some(3)),
        (r#"" 3.0 ""#, Some(3)),
        ("0", Some(0)),
        ("1000000000000", Some(MAX_POSITION)),
        ("1000000000001", None),
        ("9223372036854775808", None),
        ("1e300", None),
        ("1e999", None),
        ("null", None),
        ("-1", None),
        ("3.5", None),
        ("NaN", None),
        ("true", None),
        (r#""many""#, None),
        (r#""""#, None),
        ("[3]", None),
        ("{}", None),
    ] {
        let fields = ["offset", "limit", "total"].map(|name| format!(r#""{name}": {text}"#));
        let page = page(&format!(
            r#"{{"data": {{"items": [], {}}}}}"#,
            fields.join(",")
        ));
        let said = [page.offset, page.limit, page.total];
        assert_eq!(said, [expected; 3], "{text}");
    }
    for (text, expected) in [
        ("true", Some(true)),
        (r#""true""#, Some(true)),
        ("1", Some(true)),
        ("false", Some(false)),
        (r#""0""#, Some(false)),
        ("null", None),
        ("2", None),
        (r#""desc""#, None),
    ] {
        let page = page(&format!(r#"{{"data": {{"desc": {text}, "items": []}}}}"#));
        assert_eq!(page.desc, expected, "{text}");
    }
}

#[test]
fn an_odd_item_takes_its_place_beside_the_others() {
    let deep = format!(
        r#"{{"id": "deep", "x": {}1{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for (odd, id, reason) in [
        ("null", None, "not a JSON object"),
        ("7", None, "not a JSON object"),
        (r#""}],{[""#, None, "not a JSON object"),
        ("[1, [2]]", None, "not a JSON object"),
        ("{}", None, "no usable `id`"),
        (r#"{"id": "", "a": 1}"#, None, "no usable `id`"),
        (r#"{"id": 5}"#, None, "no usable `id`"),
        (r#"{"x": {"id": "inner"}}"#, None, "no usable `id`"),
        (
            deep.as_str(),
            Some("deep"),
            "nested more than 100 levels deep",
        ),
        (
            r#"{"id": "raw", "x": {"$serde_json::private::RawValue": "[0]"}}"#,
            Some("raw"),
            "a key that is reserved",
        ),
        (
            r#"{"x": "}", "id": "a\u0062", "y": tru}"#,
            Some("ab"),
            "expected",
        ),
        (r#"{"y": tru, "id": "a"}"#, Some("a"), "expected"),
        (r#"{"y" "z", "id": "a"}"#, None, "expected"),
        (r#"{"id": "a"} {"id": "b"}"#, Some("a"), "trailing"),
    ] {
        let page = list(&format!(r#"{{"id": "A"}}, {odd} ,{{"id": "C"}}"#));
        let ids: Vec<_> = page.entries.iter().map(Entry::id).collect();
        assert_eq!(ids, [Some("A"), id, Some("C")], "{odd}");
        let Entry::Unreadable(item) = &page.entries[1] else {
            panic!("{odd}")
        };
        assert!(item.reason.contains(reason), "{odd}: {}", item.reason);
        assert_eq!(item.body, odd);
    }
}

#[test]
fn of_a_large_odd_item_the_beginning_is_kept() {
    let long = format!(r#"{{"status": "{}"}}"#, "ü".repeat(10_000));
    let Entry::Unreadable(item) = list(&long).entries.remove(0) else {
        panic!()
    };
    let (most, of_half_a_letter) = (4_096, 1);
    assert_eq!(item.body.len(), most - of_half_a_letter);
    assert!(item.body.ends_with("ü…"), "{}", item.body);
}

#[test]
fn of_an_odd_item_that_is_not_text_no_more_is_kept() {
    let mut body = br#"{"data": {"items": ["#.to_vec();
    body.extend([0xff; 4_000]);
    body.extend(b"]}}");
    let Entry::Unreadable(item) = run_page(&body, LATEST).unwrap().entries.remove(0) else {
        panic!()
    };
    assert!(item.body.len() <= 4_096 && item.body.ends_with("\u{fffd}…"));
}

#[test]
fn an_item_that_would_take_too_much_memory_is_not_parsed() {
    let long = "x".repeat(MAX_ITEM);
    let many = vec!["0"; 20_000].join(",");
    for odd in [
        format!(r#"{{"id": "odd", "x": "{long}"}}"#),
        format!(r#"{{"id": "odd", "x": [{many}]}}"#),
        format!(r#"{{"id": "odd", "x": {long}}}"#).replace('x', "7"),
    ] {
        let page = list(&format!(r#"{{"id": "A"}}, {odd}, {{"id": "C"}}"#));
        let ids: Vec<_> = page.entries.iter().map(Entry::id).collect();
        assert_eq!(ids, [Some("A"), Some("odd"), Some("C")]);
        let Entry::Unreadable(item) = &page.entries[1] else {
            panic!()
        };
        assert_eq!(item.reason, "it takes more than 1 MiB of memory");
        let body = format!(r#"{{"data": {odd}}}"#);
        for error in [
            super::run(body.as_bytes(), LATEST).unwrap_err(),
            task(body.as_bytes()).unwrap_err(),
        ] {
            assert!(matches!(error, Unusable::TooLarge(_)), "{error}");
        }
        let tasks = format!(r#"{{"data": {{"items": [{odd}, {{"id": "C"}}]}}}}"#);
        let tasks = task_page(tasks.as_bytes()).unwrap().tasks;
        assert!(tasks[0].is_err() && tasks[1].is_ok());
    }
}

#[test]
fn a_page_of_too_many_or_too_heavy_items_is_an_error() {
    let page = |item: &str, items: usize| {
        let items = vec![item; items].join(",");
        run_page(
            format!(r#"{{"data": {{"items": [{items}]}}}}"#).as_bytes(),
            LATEST,
        )
    };
    assert_eq!(
        page(r#"{"id":"a"}"#, MAX_ITEMS).unwrap().entries.len(),
        MAX_ITEMS
    );
    let error = page("[]", MAX_ITEMS + 1).unwrap_err();
    assert_eq!(
        error,
        Unusable::TooLarge("it has more than 10000 items".into())
    );
    let heavy = format!(r#"{{"id": "a", "x": [{}]}}"#, vec!["{}"; 1_200].join(","));
    assert_eq!(page(&heavy, 20).unwrap().entries.len(), 20);
    let error = page(&heavy, 40).unwrap_err();
    assert!(matches!(error, Unusable::TooLarge(_)), "{error}");
}

#[test]
fn an_item_whose_id_cannot_be_part_of_an_address_has_none() {
    let long = "x".repeat(101);
    for id in [".", "..", "a/b", "%2e%2e", r"a\n", r"\u202e", &long] {
        let odd = format!(r#"{{"id": "{id}"}}"#);
        let Entry::Unreadable(item) = list(&odd).entries.remove(0) else {
            panic!("{odd}")
        };
        assert_eq!(item.id, None, "{odd}");
    }
}

#[test]
fn text_is_mended() {
    let half = format!(r#"{{"id": "r", "title": "{}"}}"#, r"a \ud83d");
    let (run, json) = only(&half);
    assert_eq!(run.extra["title"], "a \u{fffd}");
    assert_eq!(json["title"], "a \u{fffd}");
    let mut body = br#"{"data": {"items": [{"id": "r", "title": "a "#.to_vec();
    body.extend(b"\xf0\x9f\"}]}}");
    let page = run_page(&body, LATEST).unwrap();
    assert_eq!(page.runs().next().unwrap().run.extra["title"], "a \u{fffd}");
    let marked = "\u{feff}{\"data\": {\"items\": [{\"id\": \"r\"}]}}";
    assert_eq!(
        run_page(marked.as_bytes(), LATEST).unwrap().entries.len(),
        1
    );
    let single = "\u{feff}{\"data\": {\"id\": \"r\", \"x\": \"\\udc00\"}}";
    let seen = super::run(single.as_bytes(), LATEST).unwrap();
    assert_eq!(seen.run.extra["x"], "\u{fffd}");
}

#[test]
fn numbers_that_json_does_not_have_are_null() {
    let item =
        r#"{"id": "r", "usageTotalUsd": NaN, "a": [Infinity,-Infinity], "b": "NaN", "c": -1}"#;
    let (run, _) = only(item);
    assert_eq!(run.usage_total_usd, None);
    let rest = json!({"a": [null, null], "b": "NaN", "c": -1});
    assert_eq!(Value::Object(run.extra), rest);
}

#[test]
fn numbers_keep_every_digit() {
    let item = r#"{"id": "r", "usageTotalUsd": 0.9459797745628737, "f": 0.9459797745628737,
        "big": 12345678901234567890123, "far": 1e999, "buildNumberInt": 12345678901234567890}"#;
    let (run, json) = only(item);
    let cost = run.usage_total_usd.map(f64::to_bits);
    assert_eq!(cost, Some(0.945_979_774_562_873_7_f64.to_bits()));
    assert_eq!(run.build_number_int, None);
    for text in [json.to_string(), Value::Object(run.extra).to_string()] {
        for digits in [
            r#""f":0.9459797745628737"#,
            r#""big":12345678901234567890123"#,
            r#""far":1e+999"#,
            r#""buildNumberInt":12345678901234567890"#,
        ] {
            assert!(text.contains(digits), "{digits}: {text}");
        }
    }
    let (run, _) = only(r#"{"id": "r", "usageTotalUsd": 1e999}"#);
    assert_eq!((run.usage_total_usd, run.extra.len()), (None, 1));
    let (run, _) = only(r#"{"id": "r", "usageTotalUsd": 123456789012345678901234567890}"#);
    assert_eq!(run.usage_total_usd, Some(1.2345678901234568e29));
}

#[test]
fn hostile_values_are_kept() {
    let (run, _) = only(r#"{"id": "r", "status": "READY", "status": "RUNNING"}"#);
    let status = run.status.as_str();
    assert_eq!(status, "RUNNING", "the last of duplicate keys counts");
    let long = "x".repeat(MAX_ITEM / 7);
    let (run, _) = only(&format!(r#"{{"id": "r", "statusMessage": "{long}"}}"#));
    assert_eq!(run.extra["statusMessage"], long);
    let (run, _) = only(
        r#"{"id": "r", "status": 7, "startedAt": [], "meta": "none", "usageTotalUsd": "much", "buildId": {"a": 1}}"#,
    );
    let read = (&run.started_at, run.usage_total_usd, &run.build_id);
    assert_eq!(read, (&None, None, &None));
    let kept = json!({"a": 1});
    assert_eq!(run.extra["buildId"], kept, "a value of another type");
}

#[test]
fn a_start_that_the_answer_cannot_know_of_is_not_believed() {
    for (millis, believed) in [(4_000_000_000_000, true), (4_000_000_000_001, false)] {
        let at = Timestamp::from_millis(millis);
        let item = format!(r#"{{"id": "r", "startedAt": "{at}"}}"#);
        let page = list(&item);
        assert_eq!(page.entries[0].started(), believed.then_some(at));
        let seen = super::run(format!(r#"{{"data": {item}}}"#).as_bytes(), LATEST).unwrap();
        assert_eq!(seen.started, believed.then_some(at));
        assert_eq!(seen.run.started_at, Some(at.to_string()), "which is stored");
    }
}

#[test]
fn a_single_run_or_task_must_be_readable() {
    for (body, expected) in [
        (r#"{"data": {"status": "READY"}}"#, "id"),
        (r#"{"data": null}"#, ""),
        (r#"{"data": {"id": "a", "x": tru}}"#, "expected"),
        (r#"{"error": {}}"#, "missing field `data`"),
        ("<html></html>", "expected an object"),
    ] {
        for error in [
            run(body.as_bytes(), LATEST).unwrap_err(),
            task(body.as_bytes()).unwrap_err(),
        ] {
            assert!(error.to_string().contains(expected), "{body}: {error}");
        }
    }
}

#[test]
fn an_odd_task_does_not_hide_the_others() {
    let body = r#"{"data": {"total": "4", "items": [{"id": "a"}, null, {"id": 5}, {"id": "d", "name": "n"}]}}"#;
    let page = task_page(body.as_bytes()).unwrap();
    assert_eq!((page.offset, page.total), (None, Some(4)));
    let ids = page.tasks.iter().map(|task| task.as_ref().ok());
    let ids: Vec<_> = ids.map(|task| task.map(|task| task.id.as_str())).collect();
    assert_eq!(ids, [Some("a"), None, None, Some("d")]);
}
