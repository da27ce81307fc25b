//! What the simulated servers share: accepting connections and building responses.

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::reply::{Dropped, Reply};

/// Answers requests with `respond`. Dropping the future closes every connection.
pub(super) async fn serve<F>(
    listener: TcpListener,
    respond: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) where
    F: Future<Output = Result<Response<Reply>, Dropped>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service_fn(respond.clone());
                connections.spawn(async move {
                    // Answers are small, and benchmarks measure their latency.
                    let _ = stream.set_nodelay(true);
                    // An error means that the client disconnected, or is an injected fault.
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            // Most likely out of file descriptors, until other connections close.
            Err(_) => tokio::task::yield_now().await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// A response with this status, body and content type.
pub(super) fn reply(status: u16, body: Reply, kind: &'static str) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The response with one more header, if there is a value for it.
pub(super) fn with_header(
    mut response: Response<Reply>,
    name: HeaderName,
    value: Option<&str>,
) -> Response<Reply> {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        response.headers_mut().insert(name, value);
    }
    response
}
