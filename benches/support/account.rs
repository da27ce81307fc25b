//! An account with very many runs, made up as they are asked for, and served as fast as the machine allows.
//!
//! The simulator's account is too slow for that: it holds every run, and builds answers from them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use apify_mirror::model::Timestamp;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The token that it takes.
pub const TOKEN: &str = "apify_api_benchmark";

/// When the first run started, in milliseconds.
const FIRST_START: i64 = 1_740_000_000_000;

/// The time between two starts, in milliseconds.
const INTERVAL: i64 = 20_000;

/// What it has, and how it answers.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// How many tasks it has: `t0`, `t1`, ...
    pub tasks: u64,
    /// How many runs each task has.
    pub runs: u64,
    /// How long it waits before it answers.
    pub latency: Duration,
    /// The most requests within any second that it answers for a list; `None` for any number.
    pub per_second: Option<usize>,
}

/// A running server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    account: Account,
    runs: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    /// When the requests of the last second came for each list.
    recent: Mutex<Vec<VecDeque<Instant>>>,
}

impl Server {
    /// Serves `account` on a free port of loopback, in the current runtime, until that ends.
    pub async fn start(account: Account) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let recent = (0..account.tasks).map(|_| VecDeque::new()).collect();
        let shared = Arc::new(Shared {
            account,
            runs: AtomicU64::new(account.runs),
            answered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            recent: Mutex::new(recent),
        });
        let served = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let shared = Arc::clone(&served);
                let service = service_fn(move |request| respond(request, Arc::clone(&shared)));
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    // An error means that the client is gone.
                    let _ = connection
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { shared, address }
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests were answered, and how many were refused because there were too many within a second.
    pub fn counts(&self) -> (u64, u64) {
        let Shared {
            answered, refused, ..
        } = &*self.shared;
        (
            answered.load(Ordering::Relaxed),
            refused.load(Ordering::Relaxed),
        )
    }
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !shared.account.latency.is_zero() {
        tokio::time::sleep(shared.account.latency).await;
    }
    let (status, body) = shared.answer(request.uri().path(), request.uri().query());
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    Ok(response)
}

impl Shared {
    fn answer(&self, path: &str, query: Option<&str>) -> (StatusCode, String) {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let task = |name: &str| {
            let number = name.strip_prefix('t')?.parse::<u64>().ok()?;
            (number < self.account.tasks).then_some(number)
        };
        let found = match parts.as_slice() {
            ["v2", "actor-tasks", name] => task(name).map(task_item),
            ["v2", "actor-tasks", name, "runs"] => match task(name) {
                Some(number) if !self.admits(number) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    let body =
                        r#"{"error":{"type":"rate-limit-exceeded","message":"too many requests"}}"#;
                    return (StatusCode::TOO_MANY_REQUESTS, body.to_owned());
                }
                Some(number) => Some(self.page(number, query.unwrap_or_default())),
                None => None,
            },
            _ => None,
        };
        match found {
            Some(body) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                (StatusCode::OK, body)
            }
            None => {
                let body = r#"{"error":{"type":"record-not-found","message":"not found"}}"#;
                (StatusCode::NOT_FOUND, body.to_owned())
            }
        }
    }

    /// Whether the limit of a list allows one more request now.
    fn admits(&self, task: u64) -> bool {
        let Some(limit) = self.account.per_second else {
            return true;
        };
        let now = Instant::now();
        let mut recent = self.recent.lock().unwrap();
        let recent = &mut recent[task as usize];
        while recent
            .front()
            .is_some_and(|at| now - *at >= Duration::from_secs(1))
        {
            recent.pop_front();
        }
        let admits = recent.len() < limit;
        if admits {
            recent.push_back(now);
        }
        admits
    }

    fn page(&self, task: u64, query: &str) -> String {
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(key, value)| (key == name).then_some(value))
        };
        let number = |name, otherwise| {
            let value: Option<u64> = parameter(name).and_then(|value| value.parse().ok());
            value.unwrap_or(otherwise)
        };
        let total = match parameter("status") {
            Some(_) => 0,
            None => self.runs.load(Ordering::Relaxed),
        };
        let (offset, limit) = (number("offset", 0), number("limit", 1_000).min(1_000));
        let is_newest_first = parameter("desc") == Some("true");
        let shown = offset..offset.saturating_add(limit).min(total).max(offset);
        let count = shown.end - shown.start;
        let mut body = format!(
            r#"{{"data":{{"total":{total},"count":{count},"offset":{offset},"limit":{limit},"desc":{is_newest_first},"items":["#
        );
        for (n, place) in shown.enumerate() {
            if n > 0 {
                body.push(',');
            }
            let run = if is_newest_first {
                total - 1 - place
            } else {
                place
            };
            push_item(&mut body, task, run);
        }
        body.push_str("]}}");
        body
    }
}

fn task_item(task: u64) -> String {
    format!(
        r#"{{"data":{{"id":"t{task}","userId":"BPWZBd7Z9c746JAng","actId":"rANaydYhUxjsnA3oz","actName":"website-content-crawler","actUsername":"apify","name":"task-{task}","username":"janedoe","createdAt":"2025-01-01T00:00:00.000Z","modifiedAt":"2025-01-01T00:00:00.000Z"}}}}"#
    )
}

/// Adds a run, with the fields that the API's lists have. One in twenty has failed.
fn push_item(body: &mut String, task: u64, run: u64) {
    let started = FIRST_START + run as i64 * INTERVAL;
    let [started_at, finished_at] =
        [started, started + 13_000].map(|at| Timestamp::from_millis(at).to_string());
    let status = if run % 20 == 7 { "FAILED" } else { "SUCCEEDED" };
    let usage = (run % 97) as f64 / 1_000.0;
    // An error would mean that memory is gone.
    let _ = write!(
        body,
        r#"{{"id":"r{task:04}x{run:011}","actId":"rANaydYhUxjsnA3oz","userId":"BPWZBd7Z9c746JAng","actorTaskId":"t{task}","status":"{status}","startedAt":"{started_at}","finishedAt":"{finished_at}","buildId":"HG7ML7M8z78YcAPEB","buildNumber":"0.0.2","buildNumberInt":2,"meta":{{"origin":"SCHEDULER","clientIp":null,"userAgent":null,"scheduleId":"asdLZtadYvn4mBZmm","scheduledAt":"{started_at}"}},"usageTotalUsd":{usage},"defaultKeyValueStoreId":"k{task:04}x{run:011}","defaultDatasetId":"d{task:04}x{run:011}","defaultRequestQueueId":"q{task:04}x{run:011}"}}"#
    );
}
