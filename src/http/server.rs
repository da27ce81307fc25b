//! Accepts connections, within limits, and has the site answer their requests.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connections::{Answering, Connections};
use super::listener::Listener;
use super::refusal::Refusal;
use super::site::Site;

/// The most connections at a time. For a new one, one that nothing is being answered on gives way.
const MAX_CONNECTIONS: usize = 64;

/// The most bytes of a request, all of it: its address and its headers. Nothing here reads a body.
const MAX_REQUEST: usize = 16 << 10;

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// How long a request may take to arrive, from the first moment that one can: so long may a connection be idle, too.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

/// How long an answer may take. What Prometheus waits for by default.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// How long nothing is accepted after the system refused to, most likely for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Serves a site.
pub struct Server {
    listener: Listener,
    site: Arc<Site>,
}

impl Server {
    /// Will serve `site` to those who connect to `listener`.
    pub fn new(listener: Listener, site: Site) -> Self {
        Self {
            listener,
            site: Arc::new(site),
        }
    }

    /// Serves until `stop`, then closes every connection at once.
    pub async fn run(self, stop: CancellationToken) {
        let socket = self.listener.into_socket();
        let mut connections = Connections::at_most(MAX_CONNECTIONS);
        let serving = async {
            loop {
                match socket.accept().await {
                    Ok((stream, _)) => {
                        connections.room().await;
                        let site = Arc::clone(&self.site);
                        connections.add(|answering| serve(stream, site, answering));
                    }
                    Err(error) => {
                        let seconds = ACCEPT_AGAIN.as_secs();
                        tracing::warn!(
                            "cannot accept a connection over HTTP: {error}; trying again in {seconds} s"
                        );
                        sleep(ACCEPT_AGAIN).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            never = serving => never,
        }
        connections.close().await;
    }
}

/// Answers the requests of a connection, one after the other, until it is closed.
async fn serve(stream: TcpStream, site: Arc<Site>, answering: Answering) {
    let service = service_fn(move |request| {
        let (site, turn) = (Arc::clone(&site), answering.begin());
        async move {
            let response = answer(&site, request).await;
            drop(turn);
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ARRIVES_WITHIN)
        .max_buf_size(MAX_REQUEST)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection over HTTP ended early: {error}");
    }
}

/// Answers a request, with the headers that every answer has.
async fn answer(site: &Site, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (request, _body) = request.into_parts();
    let answered = timeout(ANSWERED_WITHIN, site.answer(&request)).await;
    let answered = answered.unwrap_or_else(|_| {
        let (path, seconds) = (request.uri.path(), ANSWERED_WITHIN.as_secs());
        tracing::warn!(path, "there was no answer over HTTP within {seconds} s");
        Err(Refusal::Unavailable)
    });
    let mut response = answered.unwrap_or_else(Response::from);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
