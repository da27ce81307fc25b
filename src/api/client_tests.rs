//! The client against servers that answer in every way.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::retry::RetryPolicy;
use super::{ApiError, Client, ClientOptions, ErrorClass, Token};
use crate::model::Timestamp;
use crate::simulator::{Fault, Faults, Server, TOKEN, World};
use crate::sync::{Listing, Window};

const ALL: Window = Window {
    listing: Listing::All,
    offset: 0,
    limit: 10,
};

/// A client that does not wait long between its attempts.
fn client(url: &str) -> Client {
    let options = ClientOptions {
        base_url: url.parse().unwrap(),
        timeout: Duration::from_secs(10),
        requests_per_second: NonZeroU32::new(1_000).unwrap(),
        concurrency: NonZeroUsize::new(4).unwrap(),
    };
    let retry = RetryPolicy {
        first: Duration::from_micros(10),
        ceiling: Duration::from_micros(10),
        ..RetryPolicy::default()
    };
    Client::with_retry(options, &Token::new(TOKEN).unwrap(), retry).unwrap()
}

async fn server() -> (Server, String) {
    let mut world = World::new(1);
    let task = world.add_task("janedoe", "it");
    for second in 0..5 {
        world.create(&task, Timestamp::from_millis(second * 1_000));
    }
    (Server::start(world).await.unwrap(), task)
}

/// Serves one connection with these bytes, whatever is asked.
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
    let page = client
        .runs(&task, &Window { offset: 3, ..ALL })
        .await
        .unwrap();
    assert_eq!((page.offset, page.total, page.items.len()), (3, Some(5), 2));
    let newest = client
        .runs(
            &task,
            &Window {
                listing: Listing::Newest,
                offset: 0,
                limit: 1,
            },
        )
        .await
        .unwrap();
    assert_eq!(newest.newest_start(), Some(Timestamp::from_millis(4_000)));
    client
        .runs(
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
async fn names_cannot_leave_their_place_in_the_path() {
    let (server, _) = server().await;
    let client = client(&server.url());
    for reference in ["a b", "a/b", "a?b", "a#b", "a%2Fb", "ä~b"] {
        let error = client.task(reference).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::NotFound, "{reference}");
    }
    let asked = ["a%20b", "a%2Fb", "a%3Fb", "a%23b", "a%252Fb", "%C3%A4~b"]
        .map(|name| format!("/v2/actor-tasks/{name}"));
    assert_eq!(server.take_requests(), asked);
}

#[tokio::test]
async fn what_passes_is_retried_and_what_does_not_is_not() {
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
        (Fault::Huge(65), ErrorClass::TooLarge, 1),
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
        let error = client.runs(&task, &ALL).await.unwrap_err();
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
async fn a_run_is_gone_only_if_apify_says_so() {
    let (server, _) = server().await;
    let client = client(&server.url());
    assert_eq!(client.run("nothing").await.unwrap(), None);
    server.set_faults(Faults::always(Fault::Status(404)));
    let error = client.run("nothing").await.unwrap_err();
    assert_eq!(
        error.class(),
        ErrorClass::Other,
        "somebody else's 404: {error}"
    );
}

#[tokio::test]
async fn nobody_there_is_found_out_sooner() {
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
async fn an_answer_that_does_not_come_is_given_up_on() {
    let (server, task) = server().await;
    server.set_faults(Faults::always(Fault::Hang));
    let options = ClientOptions {
        base_url: server.url().parse().unwrap(),
        timeout: Duration::from_millis(50),
        requests_per_second: NonZeroU32::MAX,
        concurrency: NonZeroUsize::MIN,
    };
    let retry = RetryPolicy {
        attempts: 1,
        ..RetryPolicy::default()
    };
    let client = Client::with_retry(options, &Token::new(TOKEN).unwrap(), retry).unwrap();
    let error: ApiError = client.runs(&task, &ALL).await.unwrap_err();
    assert!(error.to_string().ends_with("no answer in time"), "{error}");
}

#[tokio::test]
async fn a_run_is_there_or_gone_or_somebody_elses() {
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
    let retry = RetryPolicy {
        attempts: 1,
        ..RetryPolicy::default()
    };
    let options = ClientOptions {
        base_url: canned(answer.into_bytes()).await.parse().unwrap(),
        timeout: Duration::from_secs(10),
        requests_per_second: NonZeroU32::MAX,
        concurrency: NonZeroUsize::MIN,
    };
    let client = Client::with_retry(options, &Token::new(TOKEN).unwrap(), retry).unwrap();
    let error = client.run("mine").await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("asked for the run mine, got another"),
        "{error}"
    );
}

#[tokio::test]
async fn compressed_answers_are_understood() {
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
async fn all_tasks_are_listed_and_listing_ends() {
    let mut world = World::new(1);
    for n in 0..2_500 {
        world.add_task("janedoe", &format!("task-{n}"));
    }
    let server = Server::start(world).await.unwrap();
    let client = client(&server.url());
    assert_eq!(client.tasks().await.unwrap().len(), 2_500);
    assert_eq!(client.requests(), 3);
}
