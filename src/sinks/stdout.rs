//! `type = "stdout"`: one JSON object per line, on standard output.

use std::sync::Arc;

use async_trait::async_trait;

use super::options::{BuildError, CheckError, Place, SinkOptions};
use super::sink::{STREAM_WAITS, Sink, blocking};
use crate::model::{AttemptOutcome, Due, SinkLimits};
use crate::options::{Environment, Problem, Reader};
use crate::stdio::{Patience, write_lines};

/// The configuration, which has no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StdoutOptions;

/// Reads the keys of this type.
pub(super) fn read(_: &mut Reader<'_>) -> Option<Arc<dyn SinkOptions>> {
    Some(Arc::new(StdoutOptions))
}

#[async_trait]
impl SinkOptions for StdoutOptions {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn place(&self) -> Option<Place> {
        Some(Place::StandardOutput)
    }

    fn resolve(self: Arc<Self>, _: &Environment) -> Result<Arc<dyn SinkOptions>, Problem> {
        Ok(self)
    }

    async fn build(&self, _: &[String]) -> Result<Arc<dyn Sink>, BuildError> {
        Ok(Arc::new(Stdout))
    }

    async fn check(&self, _: &Environment) -> Result<String, CheckError> {
        Ok("is standard output".to_owned())
    }
}

/// Writes events to standard output.
struct Stdout;

#[async_trait]
impl Sink for Stdout {
    fn limits(&self) -> SinkLimits {
        SinkLimits::STREAM
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        blocking(events, "standard output", |lines, cancelled| {
            let without_progress = Some(STREAM_WAITS);
            write_lines(
                lines,
                Patience {
                    without_progress,
                    cancelled,
                },
            )
        })
        .await
    }
}
