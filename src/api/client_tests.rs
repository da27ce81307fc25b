//! The client against servers that answer and fail in many ways.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::client::{Client, ClientOptions};
use super::error::{ApiError, ErrorClass};
use super::retry::RetryPolicy;
use super::token::{Token, TokenSource};
use crate::model::{InFlight, Timestamp};
use crate::simulator::{Fault, Faults, Server, TOKEN, World};
use crate::sync::{Listing, Page, Window};

const ALL: Window = Window {
    listing: Listing::All,
    offset: 0,
    limit: 10,
};

/// What bodies are expected to have, in bytes.
const EXPECTED: usize = 1 << 20;

/// A client with short waits between attempts.
fn client(url: &str) -> Client {
    let retry = RetryPolicy {
        first: Duration::from_micros(10),
        ceiling: Duration::from_micros(10),
        ..RetryPolicy::default()
    };
    client_with(url, Duration::from_secs(10), retry)
}

/// A client that makes one attempt.
fn client_without_retries(url: &str, timeout: Duration) -> Client {
    let retry = RetryPolicy {
        attempts: 1,
        ..RetryPolicy::default()
    };
    client_with(url, timeout, retry)
}

fn client_with(url: &str, timeout: Duration, retry: RetryPolicy) -> Client {
    client_as(TOKEN, url, timeout, retry)
}

fn client_as(token: &str, url: &str, timeout: Duration, retry: RetryPolicy) -> Client {
    let options = ClientOptions {
        base_url: url.parse().unwrap(),
        timeout,
        requests_per_second: NonZeroU32::new(1_000).unwrap(),
        concurrency: InFlight::Fixed(8),
    };
    Client::with_retry(options, &Token::new(token).unwrap(), retry).unwrap()
}

/// A page, after as many attempts as it takes.
async fn runs(client: &Client, task: &str, window: &Window) -> Result<Page, ApiError> {
    Ok(client.runs_again(task, window, EXPECTED, None).await?.page)
}

async fn server() -> (Server, String) {
    let mut world = World::new(1);
    let task = world.add_task("janedoe", "it");
    for second in 0..5 {
        world.create(&task, Timestamp::from_millis(second * 1_000));
    }
    (Server::start(world).await.unwrap(), task)
}

/// Answers one connection with these bytes, whatever the request.
async fn canned(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    });
    url
}

#[tokio::test]
async fn windows_become_queries() {
    let (server, task) = server().await;
    let client = client(&server.url());
    let page = runs(&client, &task, &Window { offset: 3, ..ALL })
        .await
        .unwrap();
    let said = (page.offset, page.total, page.entries.len());
    assert_eq!(said, (Some(3), Some(5), 2));
    let newest = runs(
        &client,
        &task,
        &Window {
            listing: Listing::Newest,
            offset: 0,
            limit: 1,
        },
    )
    .await
    .unwrap();
    assert_eq!(
        newest.entries[0].started(),
        Some(Timestamp::from_millis(4_000))
    );
    runs(
        &client,
        &task,
        &Window {
            listing: Listing::Active,
            ..ALL
        },
    )
    .await
    .unwrap();
    let queries = server
        .take_requests()
        .into_iter()
        .map(|request| request.split_once('?').unwrap().1.to_owned());
    assert_eq!(
        queries.collect::<Vec<_>>(),
        [
            "offset=3&limit=10",
            "offset=0&limit=1&desc=true",
            "offset=0&limit=10&status=READY%2CRUNNING%2CTIMING-OUT%2CABORTING"
        ]
    );
}

#[tokio::test]
async fn nothing_is_asked_for_by_a_name_that_could_lead_elsewhere() {
    let (server, _) = server().await;
    let client = client(&server.url());
    for name in [
        "", ".", "..", "a b", "a/b", "../x", "a\\b", "a?b", "a#b", "a%2Fb", "%2e%2e", "ä~b", "a\n",
    ] {
        for error in [
            client.task(name).await.unwrap_err(),
            client.run(name).await.unwrap_err(),
            runs(&client, name, &ALL).await.unwrap_err(),
        ] {
            assert_eq!(error.class(), ErrorClass::Other, "{name}");
            assert!(
                error.to_string().ends_with("it was not asked for"),
                "{error}"
            );
        }
    }
    assert_eq!(server.take_requests(), [""; 0]);
    client.task("jane.doe~my-task_1").await.unwrap_err();
    assert_eq!(
        server.take_requests(),
        ["/v2/actor-tasks/jane.doe~my-task_1"]
    );
}

#[tokio::test]
async fn only_failures_that_may_pass_are_retried() {
    let (server, task) = server().await;
    for (fault, class, attempts) in [
        (Fault::Status(400), ErrorClass::Other, 1),
        (Fault::Status(401), ErrorClass::TokenRefused, 1),
        (Fault::Status(403), ErrorClass::Forbidden, 1),
        (Fault::Status(404), ErrorClass::NotFound, 1),
        (
            Fault::Redirect("http://127.0.0.1:1/".into()),
            ErrorClass::Redirected,
            1,
        ),
        (Fault::Huge(17), ErrorClass::TooLarge, 1),
        (Fault::Status(408), ErrorClass::Temporary, 10),
        (Fault::Status(500), ErrorClass::Temporary, 10),
        (Fault::Throttle(None), ErrorClass::Throttled, 10),
        (Fault::CutBody, ErrorClass::Temporary, 10),
        (Fault::Reset, ErrorClass::Temporary, 10),
        (Fault::BadJson, ErrorClass::Malformed, 10),
        (Fault::Html, ErrorClass::Malformed, 10),
    ] {
        server.set_faults(Faults::always(fault.clone()));
        let client = client(&server.url());
        let error = runs(&client, &task, &ALL).await.unwrap_err();
        assert_eq!(
            (error.class(), client.requests()),
            (class, attempts),
            "{fault:?}: {error}"
        );
        assert!(
            error
                .to_string()
                .starts_with(&format!("{}/v2/actor-tasks/{task}/runs?", server.url())),
            "{error}"
        );
        assert!(!error.to_string().contains(TOKEN), "{error}");
    }
}

#[tokio::test]
async fn a_run_is_gone_only_if_apify_answers_record_not_found() {
    let (server, _) = server().await;
    let client = client(&server.url());
    assert_eq!(client.run("nothing").await.unwrap(), None);
    server.set_faults(Faults::always(Fault::Status(404)));
    let error = client.run("nothing").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Other, "a proxy's 404: {error}");
}

#[tokio::test]
async fn a_token_that_the_server_repeats_is_hidden() {
    let body = r#"{"error": {"type": "invalid-value", "message": "got Bearer s3cret-t0ken"}}"#;
    let length = body.len();
    let answer = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\n\r\n{body}");
    let url = canned(answer.into_bytes()).await;
    let client = client_as(
        "s3cret-t0ken",
        &url,
        Duration::from_secs(10),
        RetryPolicy::default(),
    );
    let shown = client.run("r").await.unwrap_err().to_string();
    assert!(shown.contains("got Bearer [token]"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn an_unreachable_server_is_reported_sooner() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let client = client(&format!("http://{closed}"));
    let error = client.task("x").await.unwrap_err();
    assert_eq!(
        (error.class(), client.requests()),
        (ErrorClass::Temporary, 5)
    );
    assert!(error.to_string().contains("cannot connect: "), "{error}");
}

#[tokio::test]
async fn an_attempt_without_an_answer_times_out() {
    let (server, task) = server().await;
    server.set_faults(Faults::always(Fault::Hang));
    let client = client_without_retries(&server.url(), Duration::from_millis(50));
    let error = runs(&client, &task, &ALL).await.unwrap_err();
    assert!(error.to_string().ends_with("no answer in time"), "{error}");
}

#[tokio::test]
async fn a_run_is_found_or_gone_or_another_run() {
    let (server, task) = server().await;
    let client = client(&server.url());
    let id = server.world().runs(&task).next().unwrap().id.clone();
    assert_eq!(client.run(&id).await.unwrap().unwrap().run.id, id);
    assert_eq!(client.run("gone").await.unwrap(), None);
    let body = r#"{"data": {"id": "another"}}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let url = canned(answer.into_bytes()).await;
    let client = client_without_retries(&url, Duration::from_secs(10));
    let error = client.run("mine").await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("asked for the run mine, got another"),
        "{error}"
    );
}

#[tokio::test]
async fn single_runs_are_given_up_sooner() {
    let (server, task) = server().await;
    let id = server.world().runs(&task).next().unwrap().id.clone();
    for fault in [Fault::Status(503), Fault::BadJson] {
        server.set_faults(Faults::always(fault));
        let client = client(&server.url());
        client.run(&id).await.unwrap_err();
        assert_eq!(client.requests(), 3);
    }
}

/// Answers one connection with this body and these headers.
async fn canned_with(headers: &str, body: &str) -> String {
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {length}\r\n\r\n{body}");
    canned(answer.into_bytes()).await
}

#[tokio::test]
async fn the_date_of_an_answer_limits_which_starts_are_believed() {
    let at = |text| Timestamp::parse(text).unwrap();
    let body = r#"{"data": {"items": [{"id": "a", "startedAt": "1994-11-06T08:59:37Z"},
        {"id": "b", "startedAt": "1994-11-06T08:59:38Z"}]}}"#;
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let client = client(&canned_with(date, body).await);
    assert_eq!(client.server_time(), None);
    let page = runs(&client, "task", &ALL).await.unwrap();
    let starts: Vec<_> = page.runs().map(|seen| seen.started).collect();
    assert_eq!(starts, [Some(at("1994-11-06T08:59:37Z")), None]);
    let said = client.server_time();
    assert_eq!(said, Some(at("1994-11-06T08:49:37.999Z")));
}

#[tokio::test]
async fn without_a_date_the_local_clock_limits_which_starts_are_believed() {
    let hours = |hours: u64| Timestamp::now().plus(Duration::from_secs(hours * 3_600));
    for (start, believed) in [(hours(23), true), (hours(25), false)] {
        let body = format!(r#"{{"data": {{"items": [{{"id": "a", "startedAt": "{start}"}}]}}}}"#);
        let client = client(&canned_with("", &body).await);
        let page = runs(&client, "task", &ALL).await.unwrap();
        assert_eq!(page.entries[0].started().is_some(), believed);
        assert_eq!(client.server_time(), None);
    }
}

#[tokio::test]
async fn a_task_that_cannot_be_read_does_not_hide_the_others() {
    let body = r#"{"data": {"total": 3, "items": [{"id": "a"}, null, {"id": "c"}]}}"#;
    let client = client(&canned_with("", body).await);
    let tasks = client.tasks().await.unwrap();
    let ids: Vec<_> = tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["a", "c"]);
}

#[tokio::test]
async fn compressed_answers_are_decoded() {
    const ZIPPED: [u8; 44] = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 255, 171, 86, 74, 73, 44, 73, 84, 178, 82, 168, 86, 202, 76,
        1, 82, 74, 85, 153, 5, 5, 169, 41, 74, 181, 181, 0, 26, 49, 137, 77, 26, 0, 0, 0,
    ];
    let mut answer =
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n".to_vec();
    answer.extend(ZIPPED);
    let url = canned(answer).await;
    assert_eq!(client(&url).task("x").await.unwrap().id, "zipped");
}

#[tokio::test]
async fn all_tasks_are_listed() {
    let mut world = World::new(1);
    for n in 0..2_500 {
        world.add_task("janedoe", &format!("task-{n}"));
    }
    let server = Server::start(world).await.unwrap();
    let client = client(&server.url());
    assert_eq!(client.tasks().await.unwrap().len(), 2_500);
    assert_eq!(client.requests(), 3);
}

/// A source whose token is `token` each time, and how often it was read.
fn source(token: &'static str) -> (TokenSource, Arc<AtomicU32>) {
    let reads = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&reads);
    let source = TokenSource::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Token::new(token).map_err(|invalid| invalid.to_string())
    });
    (source, reads)
}

#[tokio::test]
async fn a_refused_token_is_read_again_and_another_one_is_used_at_once() {
    let (server, task) = server().await;
    let client = client_as(
        "old",
        &server.url(),
        Duration::from_secs(10),
        RetryPolicy::default(),
    );
    let refused = runs(&client, &task, &ALL).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::TokenRefused);
    assert!(!client.was_accepted());

    let (same, reads) = source("old");
    client.set_token_source(same);
    assert_eq!(reads.load(Ordering::Relaxed), 0, "it is not refused yet");
    runs(&client, &task, &ALL).await.unwrap_err();
    assert_eq!(reads.load(Ordering::Relaxed), 1, "once for each request");
    assert!(!client.was_accepted());

    let replaced = client.token_replaced();
    let (new, reads) = source(TOKEN);
    client.set_token_source(new);
    runs(&client, &task, &ALL).await.unwrap();
    replaced.await;
    assert!(client.was_accepted());
    runs(&client, &task, &ALL).await.unwrap();
    assert_eq!(reads.load(Ordering::Relaxed), 1, "it is kept");
}

#[tokio::test]
async fn a_source_without_a_usable_token_changes_nothing() {
    let (server, task) = server().await;
    let client = client(&server.url());
    let (unusable, _) = source("with space");
    assert!(client.read_token_from(unusable).is_err());
    let (same, _) = source(TOKEN);
    assert_eq!(client.read_token_from(same), Ok(false));
    runs(&client, &task, &ALL).await.unwrap();
}

#[tokio::test]
async fn apifys_own_403_and_404_show_that_the_token_is_accepted() {
    for (status, accepted) in [(400, false), (401, false), (403, true), (404, true)] {
        let (server, task) = server().await;
        server.set_faults(Faults::always(Fault::Status(status)));
        let client = client_without_retries(&server.url(), Duration::from_secs(10));
        runs(&client, &task, &ALL).await.unwrap_err();
        assert_eq!(client.was_accepted(), accepted, "{status}");
    }
}

/// A body that finds no room before its turn is dropped: waiting, it would hold up the requests of others.
#[tokio::test]
async fn a_body_without_room_before_its_turn_is_asked_for_again_later() {
    let (server, task) = server().await;
    let client = client(&server.url());
    let memory = client.memory();
    let right = memory.body_ahead(16, CancellationToken::new()).unwrap();
    let rest = || memory.body_ahead(64 << 10, CancellationToken::new());
    let _rest: Vec<_> = std::iter::from_fn(rest).collect();
    assert!(client.runs(&task, &ALL, right).await.unwrap().is_none());
    runs(&client, &task, &ALL).await.unwrap();
}

/// A page that was read ahead becomes one only when it is its turn, and few are at once.
#[tokio::test]
async fn a_page_waits_for_its_turn_and_for_the_right_to_hold_it() {
    let (server, task) = server().await;
    let client = client(&server.url());
    let mut turns = Vec::new();
    let mut reads = Vec::new();
    for _ in 0..6 {
        let turn = CancellationToken::new();
        turns.push(turn.clone());
        let right = client.memory().body_ahead(EXPECTED, turn).unwrap();
        let (client, task) = (client.clone(), task.clone());
        let read = async move { client.runs(&task, &ALL, right).await };
        reads.push(tokio::spawn(read));
    }
    let early = tokio::time::timeout(Duration::from_millis(100), &mut reads[0]).await;
    assert!(early.is_err(), "it is not its turn");
    turns.iter().for_each(CancellationToken::cancel);
    let mut held = Vec::new();
    while held.len() < 4 {
        let n = reads.iter().position(tokio::task::JoinHandle::is_finished);
        match n {
            Some(n) => held.push(reads.remove(n).await.unwrap().unwrap().unwrap()),
            None => tokio::task::yield_now().await,
        }
    }
    let early = tokio::time::timeout(Duration::from_millis(100), &mut reads[0]).await;
    assert!(early.is_err() && !reads[1].is_finished(), "four are held");
    held.clear();
    for read in reads {
        read.await.unwrap().unwrap();
    }
}
