//! `/metrics`: reads what is to be shown. Nothing is kept between two scrapes but what would be too expensive to find anew
//! for each.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::exposition::{Exposition, MEDIA_TYPE};
use super::families::{self, Scraped};
use super::process;
use super::refusal::Refusal;
use super::sparing::Sparing;
use crate::daemon::Context;
use crate::model::{RunStatus, Timestamp};
use crate::store::{FeedHealth, Reader, SinkStatus, StoreError};

/// How long counting rows may take before a scrape shows the counts of an earlier one, or none.
const COUNTED_WITHIN: Duration = Duration::from_secs(5);

/// How long counts are shown before they are found anew, however long that takes.
const KEPT: Duration = Duration::from_secs(600);

/// Answers scrapes.
pub struct Metrics {
    context: Arc<Context>,
    counting: Arc<dyn Reader>,
    started: Timestamp,
    runs: Sparing<Vec<(RunStatus, u64)>>,
    sinks: Sparing<Vec<SinkStatus>>,
}

impl Metrics {
    /// Shows what the daemon with this context has done since now, and what it keeps. Rows are counted by `counting`.
    pub fn new(context: Arc<Context>, counting: Arc<dyn Reader>) -> Self {
        Self {
            context,
            counting,
            started: Timestamp::now(),
            runs: Sparing::kept_at_most(KEPT),
            sinks: Sparing::kept_at_most(KEPT),
        }
    }

    /// All metrics.
    pub async fn answer(&self) -> Result<Response<Full<Bytes>>, Refusal> {
        let health = self.context.reader.health().await.map_err(|error| {
            tracing::warn!("/metrics: {error}");
            Refusal::Unavailable
        })?;
        let (runs, sinks) = tokio::join!(self.runs(), self.sinks());
        let mut text = Exposition::default();
        families::write(
            &mut text,
            &Scraped {
                feeds: self.polled(&health.feeds),
                health: &health,
                runs: runs.as_deref().map(Vec::as_slice),
                sinks: sinks.as_deref().map(Vec::as_slice),
                requests: self.context.client.counts(),
                counters: &self.context.counters,
            },
        );
        process::write(&mut text, self.started);
        let mut response = Response::new(text.finish().into());
        let kind = HeaderValue::from_static(MEDIA_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(response)
    }

    async fn runs(&self) -> Option<Arc<Vec<(RunStatus, u64)>>> {
        let reader = Arc::clone(&self.counting);
        let count = || async move { known(reader.runs_by_status().await) };
        self.runs.recent(COUNTED_WITHIN, count).await
    }

    async fn sinks(&self) -> Option<Arc<Vec<SinkStatus>>> {
        let reader = Arc::clone(&self.counting);
        let count = || async move { known(reader.sinks().await) };
        self.sinks.recent(COUNTED_WITHIN, count).await
    }

    /// The feeds that are polled, each with its last success to the moment; all that are stored while it is not known which
    /// are. One that was polled under an earlier configuration is nobody's worry.
    fn polled(&self, stored: &[FeedHealth]) -> Vec<FeedHealth> {
        let Some(expected) = self.context.freshness.expected() else {
            return stored.to_vec();
        };
        let polled = stored.iter().filter_map(|feed| {
            let last = *expected.get(&feed.id)?;
            let last_success_at = feed.last_success_at.max(last);
            Some(FeedHealth {
                last_success_at,
                ..feed.clone()
            })
        });
        polled.collect()
    }
}

/// What was counted, unless that failed.
fn known<T>(counted: Result<T, StoreError>) -> Option<T> {
    counted
        .inspect_err(|error| tracing::warn!("/metrics: {error}"))
        .ok()
}
