//! A webhook receiver on loopback, which can inject faults.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hyper::body::{Body, Incoming};
use hyper::header::{LOCATION, RETRY_AFTER};
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::http::{reply, serve, with_header};
use super::reply::{Dropped, Reply};

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When its head had arrived.
    pub at: Instant,
    /// Its path and query.
    pub path: String,
    /// Its headers, except those that are not text.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// How a receiver reacts to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status and this `Retry-After`.
    RetryAfter(u16, String),
    /// Redirects to this URL.
    Redirect(String),
    /// Closes the connection without an answer.
    Drop,
    /// Never answers.
    Hang,
}

type React = Box<dyn FnMut(&Arrival) -> Reaction + Send>;

/// A running receiver. It stops when dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    react: Mutex<React>,
    arrivals: Mutex<Vec<Arrival>>,
}

impl Receiver {
    /// Starts on a free port of 127.0.0.1, in the current runtime, and answers every request with 200.
    ///
    /// # Errors
    /// When no port is available.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            react: Mutex::new(Box::new(|_| Reaction::Status(200))),
            arrivals: Mutex::default(),
        });
        let serving = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            serving,
        })
    }

    /// The URL to send webhooks to.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Sets the reaction to each request from now on.
    pub fn set_reaction(&self, react: impl FnMut(&Arrival) -> Reaction + Send + 'static) {
        *self
            .shared
            .react
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Box::new(react);
    }

    /// All requests so far, whatever the reaction.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared
            .arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many requests have arrived so far.
    pub fn count(&self) -> usize {
        self.shared
            .arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Stops: connections are refused from now on.
    pub async fn go_away(&mut self) {
        self.serving.abort();
        // The error says that the task was cancelled, as intended.
        let _ = (&mut self.serving).await;
    }

    /// Starts again, at the same address.
    ///
    /// # Errors
    /// When another process uses the port now.
    pub async fn come_back(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.serving = tokio::spawn(listen(listener, Arc::clone(&self.shared)));
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    serve(listener, move |request| {
        receive(request, Arc::clone(&shared))
    })
    .await;
}

async fn receive(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Reply>, Dropped> {
    let at = Instant::now();
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.map_err(|_| Dropped)?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    let text = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let path = head
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let arrival = Arrival {
        at,
        path,
        headers: head.headers.iter().filter_map(text).collect(),
        body: bytes,
    };
    let reaction = (shared.react.lock().unwrap_or_else(PoisonError::into_inner))(&arrival);
    // Echoes the request, as some receivers do, to test that secrets in answers are not logged.
    let echo = format!(
        "{:?} {:?}",
        arrival.headers,
        String::from_utf8_lossy(&arrival.body)
    );
    shared
        .arrivals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(arrival);
    let answer = |status| reply(status, Reply::of(echo), "text/plain");
    match reaction {
        Reaction::Status(status) => Ok(answer(status)),
        Reaction::RetryAfter(status, after) => {
            Ok(with_header(answer(status), RETRY_AFTER, Some(&after)))
        }
        Reaction::Redirect(to) => Ok(with_header(answer(307), LOCATION, Some(&to))),
        Reaction::Drop => Err(Dropped),
        Reaction::Hang => pending().await,
    }
}
