//! What there is to be had, by path.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{Method, Response};

use super::access::Access;
use super::metrics::Metrics;
use super::probes::Probes;
use super::refusal::Refusal;
use crate::daemon::Context;
use crate::store::Reader;

/// What is served.
pub struct Site {
    access: Arc<Access>,
    probes: Probes,
    metrics: Metrics,
}

impl Site {
    /// What can be said of the daemon with this context, to those whom `access` lets ask. `counting` is for reads that take
    /// long, so that nothing else waits for them.
    pub fn new(context: Arc<Context>, counting: Arc<dyn Reader>, access: Arc<Access>) -> Self {
        Self {
            access,
            probes: Probes::new(Arc::clone(&context)),
            metrics: Metrics::new(context, counting),
        }
    }

    /// Answers a request. Probes tell nothing but yes or no, to everybody.
    pub(super) async fn answer(&self, request: &Parts) -> Result<Response<Full<Bytes>>, Refusal> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        match request.uri.path() {
            "/healthz" => return Ok(self.probes.alive().await),
            "/readyz" => return Ok(self.probes.ready()),
            _ => self.access.check_host(request)?,
        }
        match request.uri.path() {
            "/metrics" => {
                self.access.check_token(request)?;
                self.metrics.answer().await
            }
            _ => Err(Refusal::NoPage),
        }
    }

    /// Adds the headers that every response has.
    pub(super) fn finish(&self, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
