//! What there is to be had, by path.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use super::hosts::Hosts;
use super::metrics::Metrics;
use super::probes::Probes;
use super::refusal::Refusal;
use super::tokens::Tokens;
use crate::daemon::Context;
use crate::store::Reader;

/// What is served.
pub struct Site {
    hosts: Hosts,
    tokens: Arc<Tokens>,
    probes: Probes,
    metrics: Metrics,
}

impl Site {
    /// What can be said of the daemon with this context, to those who ask one of `hosts` with one of `tokens`. `counting` is
    /// for reads that take long, so that nothing else waits for them.
    pub fn new(
        context: Arc<Context>,
        counting: Arc<dyn Reader>,
        hosts: Hosts,
        tokens: Arc<Tokens>,
    ) -> Self {
        Self {
            hosts,
            tokens,
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
            _ => self.hosts.check(request)?,
        }
        match request.uri.path() {
            "/metrics" => {
                self.tokens.check(request)?;
                self.metrics.answer().await
            }
            _ => Err(Refusal::NoPage),
        }
    }
}
