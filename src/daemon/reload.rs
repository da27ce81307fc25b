//! SIGHUP: the configuration is read again, and taken if it is right.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::context::{Context, Plan};

type Loading = Pin<Box<dyn Future<Output = Result<Plan, String>> + Send>>;

/// Reads the configuration again whenever SIGHUP asks for it.
pub struct Reload {
    hangup: Signal,
    load: Box<dyn Fn() -> Loading + Send>,
}

impl Reload {
    /// Reads plans with `load`, which gives all that is wrong with the configuration as its error.
    ///
    /// # Errors
    /// When signals cannot be caught.
    pub fn new<F>(load: impl Fn() -> F + Send + 'static) -> io::Result<Self>
    where
        F: Future<Output = Result<Plan, String>> + Send + 'static,
    {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            load: Box::new(move || Box::pin(load())),
        })
    }

    /// Puts a new plan into force each time one is asked for. A plan that is not valid is refused, and the old one stays in force.
    /// Never ends.
    pub async fn serve(mut self, context: Arc<Context>) {
        while self.hangup.recv().await.is_some() {
            match (self.load)().await {
                Ok(plan) => {
                    let changed = *context.plan() != plan;
                    match context.adopt(plan).await {
                        Ok(()) => tracing::info!(changed, "SIGHUP: read the configuration again"),
                        Err(error) => tracing::error!("SIGHUP: what was in force stays: {error}"),
                    }
                }
                Err(problems) => {
                    tracing::error!(
                        "SIGHUP: the configuration was not taken, what was in force stays: {problems}"
                    );
                }
            }
        }
        // Without the signal's stream there is nothing left to wait for, which must not end the daemon.
        std::future::pending().await
    }
}
