//! SIGHUP: reads the configuration again, and applies it if it is valid.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::context::{Context, Plan};
use crate::delivery::STORE_RETRY;
use crate::store::StoreError;

type Loading = Pin<Box<dyn Future<Output = Result<Plan, String>> + Send>>;

/// Reads the configuration again on SIGHUP.
pub struct Reload {
    hangup: Signal,
    load: Box<dyn Fn() -> Loading + Send>,
}

impl Reload {
    /// Creates a handler that reads plans with `load`, whose error lists the problems of the configuration, whenever
    /// `hangup` was received.
    pub fn new<F>(hangup: Signal, load: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Plan, String>> + Send + 'static,
    {
        Self {
            hangup,
            load: Box::new(move || Box::pin(load())),
        }
    }

    /// Catches SIGHUP from now on. Any that comes before [`Reload::serve`] is served then.
    ///
    /// # Errors
    /// When signals cannot be caught.
    pub fn hangups() -> io::Result<Signal> {
        signal(SignalKind::hangup())
    }

    /// Puts a new plan into force on each SIGHUP; an invalid one is refused and the old one stays. Never returns.
    pub async fn serve(mut self, context: Arc<Context>) {
        while self.hangup.recv().await.is_some() {
            match (self.load)().await {
                Ok(plan) => {
                    let changed = *context.plan() != plan;
                    match adopt(&context, &plan).await {
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

/// Puts `plan` into force. While the database fails temporarily, for example because another program holds its lock,
/// tries again: the signal must not be lost.
async fn adopt(context: &Context, plan: &Plan) -> Result<(), StoreError> {
    loop {
        match context.adopt(plan.clone()).await {
            Err(error) if error.is_temporary() => {
                let seconds = STORE_RETRY.as_secs();
                tracing::error!(
                    "SIGHUP: the new configuration waits for the database: {error}; trying again in {seconds} s"
                );
                tokio::time::sleep(STORE_RETRY).await;
            }
            result => return result,
        }
    }
}
