//! Odd answers that people met: what must come of each. The list has three runs, A, B and C, unless said otherwise.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cases::Case;
use crate::support::{Daemon, Setup, stderr, stdout, wait_until};

const A: &str = "RunAAAAAAAAAAAAAA";
const B: &str = "RunBBBBBBBBBBBBBB";
const C: &str = "RunCCCCCCCCCCCCCC";

/// The body of an answer, whose list can be divided as a server does for an offset and a limit.
#[derive(Clone)]
struct Answer {
    head: String,
    items: Vec<String>,
    tail: String,
    /// The most items that the server gives at once.
    most: usize,
    /// Whether it takes no notice of `desc`.
    ignores_desc: bool,
    /// Whether it then takes no notice of `limit` either.
    ignores_limit_of_desc: bool,
}

impl Answer {
    fn of(case: &str) -> Self {
        let path = format!(
            "{}/tests/fixtures/cases/{case}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(path).unwrap();
        let begin = text.find("\"items\": [").unwrap() + "\"items\": [".len();
        let (items, end) = items(&text, begin);
        Self {
            head: text[..begin].to_owned(),
            items: items.into_iter().map(|at| text[at].to_owned()).collect(),
            tail: text[end..].to_owned(),
            most: 1_000,
            ignores_desc: false,
            ignores_limit_of_desc: false,
        }
    }

    /// What the server answers to a request for the list.
    fn to(&self, request: &str) -> String {
        let number = |name: &str, default| {
            let (_, value) = request.split_once(&format!("{name}="))?;
            let value: usize = value.split(['&', ' ']).next()?.parse().unwrap_or(default);
            Some(value)
        };
        let offset = number("offset", 0).unwrap_or(0);
        let limit = number("limit", 1_000).unwrap_or(1_000).min(self.most);
        let mut items = self.items.clone();
        if request.contains("status=") {
            items.clear();
        } else if request.contains("desc=true") && !self.ignores_desc {
            items.reverse();
        } else if request.contains("desc=true") && self.ignores_limit_of_desc {
            return self.body(0, &items);
        }
        let begin = offset.min(items.len());
        let end = (begin + limit).min(items.len());
        self.body(offset, &items[begin..end])
    }

    /// The body for these items. The offset is written as in the file: 0, "0" or 0.0.
    fn body(&self, offset: usize, items: &[String]) -> String {
        let head = self
            .head
            .replace("\"offset\": 0", &format!("\"offset\": {offset}"));
        let head = head.replace("\"offset\": \"0", &format!("\"offset\": \"{offset}"));
        format!("{head}{}{}", items.join(","), self.tail)
    }
}

/// Where the items of the array are whose text begins at `at`, and where it ends.
fn items(text: &str, mut at: usize) -> (Vec<Range<usize>>, usize) {
    let (mut items, mut begin) = (Vec::new(), at);
    let (mut depth, mut in_string) = (0, false);
    loop {
        match text.as_bytes()[at] {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b',' | b']' if depth == 0 => {
                items.push(begin..at);
                begin = at + 1;
                if text.as_bytes()[at] == b']' {
                    return (items, at);
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

/// A server of one task and its list.
struct Odd {
    setup: Setup,
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Odd {
    /// Serves the list of a case.
    fn case(case: &str) -> Self {
        Self::answering(Answer::of(case))
    }

    fn answering(answer: Answer) -> Self {
        Self::serving(move |_, request| (200, answer.to(request)))
    }

    /// Serves what `list` gives for the nth request for the list: a status and a body.
    fn serving(mut list: impl FnMut(usize, &str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let path = read_request(&stream);
                let (status, body) = if path.contains("/runs") {
                    let mut log = log.lock().unwrap();
                    log.push(path.split_once('?').unwrap_or_default().1.to_owned());
                    list(log.len(), &path)
                } else {
                    (
                        200,
                        r#"{"data": {"id": "TaSk0000000000aa", "name": "odd", "username": "me"}}"#
                            .to_owned(),
                    )
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        Self {
            setup: Setup::with_runs(0),
            url,
            requests,
        }
    }

    /// Syncs once, which must succeed; returns what it logged.
    fn sync(&self) -> String {
        let sync = Case::of(&["sync"]).env("APIFY_MIRROR_API__BASE_URL", &self.url);
        stderr(&sync.check(&self.setup))
    }

    /// A daemon that polls every 300 ms.
    fn run(&self) -> Command {
        let mut command = self.setup.command(&["run"]);
        command.env("APIFY_MIRROR_API__BASE_URL", &self.url);
        command.env("APIFY_MIRROR_SYNC__POLL_INTERVAL", "300ms");
        command
    }

    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    fn runs(&self) -> Vec<String> {
        self.setup.column("SELECT id FROM runs ORDER BY id")
    }

    /// That these runs and no events are in the mirror, and its only feed is complete.
    fn assert_mirrored(&self, runs: &[&str]) {
        assert_eq!(self.runs(), runs);
        assert_eq!(self.setup.column("SELECT id FROM events"), [""; 0]);
        let state = "SELECT condition || ' ' || first_sync_complete FROM feeds";
        assert_eq!(self.setup.column(state), ["ok 1"]);
    }

    /// That the first sync mirrors all three, and the next is one request.
    fn assert_all_three_and_idle(&self) {
        self.sync();
        self.assert_mirrored(&[A, B, C]);
        self.take_requests();
        self.sync();
        assert_eq!(self.take_requests(), ["offset=0&limit=1000"]);
        self.assert_mirrored(&[A, B, C]);
    }

    /// That polls of a daemon become this many requests each.
    fn assert_idle_polls_take(&self, each: usize) {
        let daemon = Daemon::start_synced(&self.setup, self.run());
        wait_until("some polls", || self.requests.lock().unwrap().len() >= 10);
        self.take_requests();
        std::thread::sleep(Duration::from_secs(3));
        let requests = self.take_requests();
        drop(daemon);
        // Ten polls, a few more with jitter.
        assert!(requests.len() <= 14 * each, "{requests:?}");
    }
}

/// Reads a request; returns its path and query.
fn read_request(stream: &TcpStream) -> String {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn half_an_emoji_is_stored_as_a_replacement() {
    let odd = Odd::case("item-lone-surrogate");
    odd.assert_all_three_and_idle();
    let halves = "SELECT id FROM runs WHERE user_agent = 'bot ' || char(65533)";
    assert_eq!(odd.setup.column(halves), [B]);
}

#[test]
fn an_item_that_is_no_run_does_not_stop_the_others() {
    for case in ["item-without-id", "item-null"] {
        let odd = Odd::case(case);
        odd.sync();
        odd.assert_mirrored(&[A, C]);
    }
}

#[test]
fn an_item_that_is_no_run_is_kept_counted_and_told_once() {
    for (case, why) in [
        (
            "item-without-id",
            "a run has no usable `id` (a non-empty string)",
        ),
        ("item-null", "a run is not a JSON object"),
    ] {
        let odd = Odd::case(case);
        let log = odd.sync();
        let line = log.lines().find(|line| line.contains(why));
        let line = line.unwrap_or_else(|| panic!("{case}: {log}"));
        assert!(line.contains("task=\"me~odd\" position=1"), "{line}");
        let rows = "SELECT feed_id || ' ' || position || ' ' || reason FROM unreadable_items";
        let expected = format!("TaSk0000000000aa 1 {why}");
        assert_eq!(odd.setup.column(rows), [expected]);
        let kept = odd.setup.column("SELECT body FROM unreadable_items");
        assert_eq!(kept.join("\n"), Answer::of(case).items[1].trim());
        assert!(!odd.sync().contains("cannot be read"), "{case}: told twice");
        Case::of(&["status"])
            .stdout("me~odd: 1 item of its list cannot be read")
            .check(&odd.setup);
        let json = Case::of(&["status", "--json"]).check(&odd.setup);
        assert!(stdout(&json).contains("\"unreadable_items\": 1"));
    }
}

#[test]
fn an_item_that_is_not_json_does_not_stop_the_others() {
    let odd = Odd::case("item-nan");
    odd.assert_all_three_and_idle();
    let free = "SELECT id FROM runs WHERE usage_total_usd IS NULL";
    assert_eq!(odd.setup.column(free), [B]);

    let deep = Odd::case("item-deep");
    deep.sync();
    deep.assert_mirrored(&[A, C]);
}

#[test]
fn an_item_that_is_nested_too_deeply_is_kept_by_its_id() {
    let odd = Odd::case("item-deep");
    odd.sync();
    let rows = "SELECT item || ' ' || position || ' ' || length(body) FROM unreadable_items";
    let found = odd.setup.column(rows).join("\n");
    assert!(found.starts_with(&format!("id:{B} 1 ")), "{found}");
}

#[test]
fn an_integer_keeps_every_digit() {
    let mut answer = Answer::of("item-integer-beyond-u64");
    let odd = Odd::answering(answer.clone());
    odd.assert_all_three_and_idle();
    let kept = "SELECT id FROM runs WHERE extra LIKE '%:98765432109876543210%'";
    assert_eq!(odd.setup.column(kept), [B]);

    // A run of tomorrow raises an event.
    let new = answer.items[1].replace(B, "RunDDDDDDDDDDDDDD");
    let new = new.replace("2026-03-01T10:00:02", "2026-03-01T10:00:04");
    answer.items.push(new);
    let mut first = Some(Answer::of("item-integer-beyond-u64"));
    let later = Odd::serving(move |nth, request| {
        if nth > 4 {
            first = None;
        }
        (200, first.as_ref().unwrap_or(&answer).to(request))
    });
    later.sync();
    wait_until("the new run", || {
        later.sync();
        later.runs().len() == 4
    });
    let body = "SELECT payload FROM events WHERE type = 'ACTOR.RUN.CREATED'";
    let bodies = later.setup.column(body).join("\n");
    assert!(bodies.contains(":98765432109876543210"), "{bodies}");
}

#[test]
fn counts_in_other_forms_are_understood() {
    for case in ["counts-as-strings", "counts-as-floats"] {
        let odd = Odd::case(case);
        odd.assert_all_three_and_idle();
        let total = "SELECT CAST(server_total AS TEXT) FROM feeds";
        assert_eq!(odd.setup.column(total), ["3"], "{case}");
    }
}

/// The list of `total-absent`, with this in the place of the total.
fn total(total: &str) -> Answer {
    let mut answer = Answer::of("total-absent");
    let said = format!("\"data\": {{{total}");
    answer.head = answer.head.replacen("\"data\": {", &said, 1);
    answer
}

#[test]
fn a_list_without_a_total_is_complete_and_audited() {
    for said in ["", "\"total\": null,", "\"total\": -1,"] {
        let odd = Odd::answering(total(said));
        odd.sync();
        odd.assert_mirrored(&[A, B, C]);
        let audit = Case::of(&["audit"]).env("APIFY_MIRROR_API__BASE_URL", &odd.url);
        audit.check(&odd.setup);
        let audited = "SELECT id FROM feeds WHERE last_audit_at IS NOT NULL";
        assert_eq!(odd.setup.column(audited).len(), 1, "{said}");
        odd.assert_mirrored(&[A, B, C]);
    }
}

#[test]
fn an_idle_poll_of_a_list_without_a_total_is_one_request() {
    for said in ["", "\"total\": null,", "\"total\": -1,"] {
        Odd::answering(total(said)).assert_idle_polls_take(1);
    }
}

#[test]
fn a_total_below_what_the_page_shows_hides_nothing() {
    let mut answer = Answer::of("total-below-the-page");
    for (id, second) in [("RunDDDDDDDDDDDDDD", 4), ("RunEEEEEEEEEEEEEE", 5)] {
        let next = answer.items[2].replace(C, id);
        let from = "2026-03-01T10:00:03";
        answer
            .items
            .push(next.replace(from, &format!("2026-03-01T10:00:0{second}")));
    }
    answer.most = 3;
    let odd = Odd::answering(answer);
    odd.sync();
    odd.assert_mirrored(&[A, B, C, "RunDDDDDDDDDDDDDD", "RunEEEEEEEEEEEEEE"]);
}

#[test]
fn a_newest_run_without_a_start_makes_no_news_of_history() {
    let odd = Odd::case("start-null-newest");
    odd.sync();
    odd.assert_mirrored(&[A, B, C]);
    // What is read again is the whole list, which could be the first page of a longer one.
    odd.assert_idle_polls_take(2);
    odd.assert_mirrored(&[A, B, C]);
}

#[test]
fn a_first_run_without_a_start_makes_no_loop() {
    let odd = Odd::case("start-null-first");
    odd.assert_all_three_and_idle();
    odd.assert_idle_polls_take(1);
    let without = "SELECT id FROM runs WHERE started_at IS NULL";
    assert_eq!(odd.setup.column(without), [A]);
}

#[test]
fn starts_in_other_forms_are_understood_and_sort() {
    for case in ["start-without-zone", "start-epoch-millis"] {
        let odd = Odd::case(case);
        odd.assert_all_three_and_idle();
        let starts = "SELECT started_at FROM runs ORDER BY started_at";
        let expected = [1, 2, 3].map(|second| format!("2026-03-01T10:00:0{second}.000Z"));
        assert_eq!(odd.setup.column(starts), expected, "{case}");
    }
}

#[test]
fn an_ignored_order_makes_no_news_of_history() {
    let answer = Answer::of("desc-ignored");
    // Whether the limit is obeyed, and whether the answer says in which order it is.
    for (obeys_limit, says_order) in [(false, true), (true, true), (true, false)] {
        let mut answer = answer.clone();
        answer.ignores_desc = true;
        answer.ignores_limit_of_desc = !obeys_limit;
        if !says_order {
            answer.head = answer.head.replace("\"desc\"", "\"other\"");
        }
        let odd = Odd::answering(answer);
        odd.sync();
        odd.assert_mirrored(&[A, B, C]);
    }
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    Odd::case("bom").assert_all_three_and_idle();
}

#[test]
fn a_proxys_403_or_404_is_retried_like_a_503() {
    for status in [403, 404] {
        let path = format!(
            "{}/tests/fixtures/cases/proxy-{status}.html",
            env!("CARGO_MANIFEST_DIR")
        );
        let page = std::fs::read_to_string(path).unwrap();
        let answer = Answer::of("counts-as-strings");
        let odd = Odd::serving(move |nth, request| match nth {
            1 | 3 => (status, page.clone()),
            _ => (200, answer.to(request)),
        });
        odd.sync();
        odd.assert_mirrored(&[A, B, C]);
    }
}
