//! The HTTP face of a simulated account, on loopback.

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
    /// Serves `world` on a free port of 127.0.0.1, on the runtime this is called on.
    ///
    /// # Errors
    /// When no port can be had.
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

    /// Where it is, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The account, to look at and to change. Requests wait meanwhile.
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.shared.world)
    }

    /// Misbehaves as told from now on.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    /// When answers without a fault were made since this was last asked.
    pub fn take_answers(&self) -> Vec<Instant> {
        std::mem::take(&mut *lock(&self.shared.answers))
    }

    /// The requests since this was last asked: paths with their queries, in the order of their arrival.
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
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str())
        .to_owned();
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
        Some(Fault::Redirect(to)) => Ok(with_header(
            reply(302, Reply::of(""), "text/plain"),
            LOCATION,
            Some(&to),
        )),
        Some(Fault::BadJson) => Ok(reply(
            200,
            Reply::of(r#"{"data": {"offset": 0, "items": [{"id": "#),
            "application/json",
        )),
        Some(Fault::Html) => Ok(reply(
            200,
            Reply::of("<!doctype html><title>Sorry</title>"),
            "text/html",
        )),
        Some(Fault::Huge(mebibytes)) => {
            Ok(reply(200, Reply::spaces(mebibytes), "application/json"))
        }
        Some(Fault::CutBody) => {
            let (status, body) = answer(&request, &shared);
            Ok(reply(
                status,
                Reply::cut(&body.to_string()),
                "application/json",
            ))
        }
        Some(Fault::Reset) => Err(Dropped),
        Some(Fault::Hang) => std::future::pending().await,
    }
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
