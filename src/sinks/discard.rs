//! Events that nobody wants to see: delivered to nowhere.

use async_trait::async_trait;

use super::sink::Sink;
use crate::model::{AttemptOutcome, Due, SinkLimits};

/// Takes every event and does nothing with it. They stay in the event log.
pub struct Discard;

#[async_trait]
impl Sink for Discard {
    fn limits(&self) -> SinkLimits {
        SinkLimits::STREAM
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        vec![AttemptOutcome::Delivered; events.len()]
    }
}
