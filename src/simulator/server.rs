//! The HTTP server of a simulated account, on loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::endpoints::{self, Answer, refusal};
use super::faults::{Fault, Faults};
use super::http::{reply, serve, with_header};
use super::reply::{Dropped, Reply};
use super::world::World;

/// The token of a simulated account's owner.
pub const TOKEN: &str = "apify_api_simulated";

/// The body of [`Fault::BadJson`].
const BAD_JSON: &str = r#"{"data": {"offset": 0, "items": [{"id": "#;

/// The body of [`Fault::Html`].
const HTML: &str = "<!doctype html><title>Sorry</title>";

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    faults: Mutex<Faults>,
    requests: Mutex<Vec<String>>,
    answers: Mutex<Vec<Instant>>,
}

impl Server {
    /// Serves `world` on a free port of 127.0.0.1, in the current runtime.
    ///
    /// # Errors
    /// When no port is available.
    pub async fn start(world: World) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            faults: Mutex::new(Faults::none()),
            requests: Mutex::default(),
            answers: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        let accepting = tokio::spawn(serve(listener, move |request| {
            respond(request, Arc::clone(&served))
        }));
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The account, locked: requests wait until the guard is dropped.
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.shared.world)
    }

    /// Sets the faults to inject from now on.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    /// The times of the answers without a fault since the last call.
    pub fn take_answers(&self) -> Vec<Instant> {
        std::mem::take(&mut *lock(&self.shared.answers))
    }

    /// The requests since the last call: paths with queries, in the order of arrival.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.shared.requests))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Reply>, Dropped> {
    let target = target(&request);
    let (fault, latency) = {
        let mut faults = lock(&shared.faults);
        (faults.draw(&target), faults.latency)
    };
    lock(&shared.requests).push(target);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    match fault {
        None => {
            let answer = json(answer(&request, &shared));
            lock(&shared.answers).push(Instant::now());
            Ok(answer)
        }
        Some(Fault::Reset) => Err(Dropped),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::CutBody) => {
            let (status, body) = answer(&request, &shared);
            let cut = Reply::cut(&body.to_string());
            Ok(reply(status, cut, "application/json"))
        }
        Some(Fault::Status(status)) => Ok(json(refusal(
            status,
            "simulated-fault",
            "This is a simulated fault.",
        ))),
        Some(Fault::Throttle(after)) => {
            let throttled = json(refusal(
                429,
                "rate-limit-exceeded",
                "You have exceeded the rate limit.",
            ));
            Ok(with_header(throttled, RETRY_AFTER, after.as_deref()))
        }
        Some(Fault::Redirect(to)) => {
            let redirect = reply(302, Reply::of(""), "text/plain");
            Ok(with_header(redirect, LOCATION, Some(&to)))
        }
        Some(Fault::BadJson) => Ok(reply(200, Reply::of(BAD_JSON), "application/json")),
        Some(Fault::Html) => Ok(reply(200, Reply::of(HTML), "text/html")),
        Some(Fault::Huge(mebibytes)) => {
            Ok(reply(200, Reply::spaces(mebibytes), "application/json"))
        }
    }
}

/// The path and query of a request.
fn target(request: &Request<Incoming>) -> String {
    let target = request.uri().path_and_query();
    target.map_or("/", |target| target.as_str()).to_owned()
}

fn answer(request: &Request<Incoming>, shared: &Shared) -> Answer {
    if request.method() != Method::GET {
        return refusal(
            405,
            "method-not-allowed",
            "This address answers to GET only.",
        );
    }
    match request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
    {
        None => refusal(
            401,
            "token-not-provided",
            "Authentication token was not provided.",
        ),
        Some(value) if value.strip_prefix("Bearer ") != Some(TOKEN) => refusal(
            401,
            "user-or-token-not-found",
            "User was not found or authentication token is not valid.",
        ),
        Some(_) => {
            let uri = request.uri();
            endpoints::answer(
                &lock(&shared.world),
                uri.path(),
                uri.query().unwrap_or_default(),
            )
        }
    }
}

fn json((status, body): Answer) -> Response<Reply> {
    reply(
        status,
        Reply::of(body.to_string()),
        "application/json; charset=utf-8",
    )
}
