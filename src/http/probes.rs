//! `/healthz` and `/readyz`: whether the daemon lives, and whether what it mirrors is fresh. They say yes or no and nothing
//! else, as everybody may ask; the reasons are in `status`.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::sparing::Sparing;
use crate::daemon::Context;

/// How long the database may take to answer.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// How long its answer, or its failure, counts.
const KEPT: Duration = Duration::from_secs(1);

/// Answers probes.
#[derive(Debug)]
pub struct Probes {
    context: Arc<Context>,
    /// Whether the database answers.
    answers: Sparing<bool>,
}

impl Probes {
    /// Probes the daemon with this context.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            answers: Sparing::kept_at_most(KEPT),
        }
    }

    /// Whether the daemon answers, and its database too.
    pub async fn alive(&self) -> Response<Full<Bytes>> {
        let context = Arc::clone(&self.context);
        let ping = || async move {
            let pinged = context.reader.ping().await;
            if let Err(error) = &pinged {
                tracing::warn!("/healthz: {error}");
            }
            Some(pinged.is_ok())
        };
        let answers = self.answers.fresh(ALIVE_WITHIN, ping).await;
        if answers.is_none() {
            let seconds = ALIVE_WITHIN.as_secs();
            tracing::warn!("/healthz: the database does not answer within {seconds} s");
        }
        say(answers.is_some_and(|answers| *answers))
    }

    /// Whether every feed is fresh.
    pub fn ready(&self) -> Response<Full<Bytes>> {
        say(self.context.freshness.all_are_fresh())
    }
}

fn say(yes: bool) -> Response<Full<Bytes>> {
    let (status, body) = match yes {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable\n"),
    };
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
