//! SIGHUP: reads the configuration again, and applies it if it is valid.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::context::{Context, Plan};

type Loading = Pin<Box<dyn Future<Output = Result<Plan, String>> + Send>>;

/// Reads the configuration again on SIGHUP.
pub struct Reload {
    hangup: Signal,
    load: Box<dyn Fn() -> Loading + Send>,
}

impl Reload {
    /// Creates a handler that reads plans with `load`, whose error lists the problems of the configuration.
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

    /// Puts a new plan into force on each SIGHUP; an invalid one is refused and the old one stays. Never returns.
    pub async fn serve(mut self, context: Arc<Context>) {
        while self.hangup.recv().await.is_some() {
            match (self.load)().await {
                Ok(plan) => {
                    let changed = *context.plan() != plan;
                    match context.adopt(plan).await {
                        Ok(()) => tracing::info!(changed, "SIGHUP: read the configuration again"),
                        Err(error) => tracing::error!(
                            "SIGHUP: the previous configuration stays in force: {error}"
                        ),
                    }
                }
                Err(problems) => {
                    tracing::error!(
                        "SIGHUP: the new configuration is not valid, the previous one stays in force: {problems}"
                    );
                }
            }
        }
        // The end of the signal stream must not end the daemon.
        std::future::pending().await
    }
}
