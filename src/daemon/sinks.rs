//! Keeps a worker for every sink of the plan.

use std::collections::HashMap;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::JoinMap;

use super::context::{Context, SinkPlan};
use super::error::RunError;
use crate::store::StoreError;

/// Workers, by the names of their sinks.
#[derive(Default)]
struct Workers {
    tasks: JoinMap<String, Result<(), StoreError>>,
    /// The workers that have not ended.
    running: HashMap<String, Running>,
}

struct Running {
    plan: SinkPlan,
    stop: CancellationToken,
}

/// Keeps a worker running for every sink of the plan until `shutdown`; then lets attempts in flight end.
///
/// # Errors
/// When the database fails permanently.
pub async fn supervise_sinks(
    context: Arc<Context>,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let mut plans = context.plan.subscribe();
    let mut workers = Workers::default();
    loop {
        let plan = Arc::clone(&plans.borrow_and_update());
        workers
            .stop_unless(|running| plan.sinks.contains(running))
            .await?;
        for sink in &plan.sinks {
            workers.ensure(&context, sink);
        }
        tokio::select! {
            () = shutdown.cancelled() => return workers.stop_unless(|_| false).await,
            _ = plans.changed() => {}
            ended = workers.ended() => ended?,
        }
    }
}

impl Workers {
    /// Starts a worker for `sink` unless it has one.
    fn ensure(&mut self, context: &Context, sink: &SinkPlan) {
        let name = &sink.settings().name;
        if self.running.contains_key(name) {
            return;
        }
        let stop = CancellationToken::new();
        let worker = context.worker(sink);
        self.tasks.spawn(name.clone(), worker.run(stop.clone()));
        let plan = sink.clone();
        self.running.insert(name.clone(), Running { plan, stop });
    }

    /// Stops all workers that `stays` does not keep, and waits until they have ended: a sink must not have two workers.
    async fn stop_unless(&mut self, stays: impl Fn(&SinkPlan) -> bool) -> Result<(), RunError> {
        let mut stopped = Vec::new();
        for (name, running) in &self.running {
            if !stays(&running.plan) {
                running.stop.cancel();
                tracing::debug!(
                    sink = name,
                    "stopping the worker of a changed or removed sink"
                );
                stopped.push(name.clone());
            }
        }
        while stopped.iter().any(|name| self.running.contains_key(name)) {
            self.ended().await?;
        }
        Ok(())
    }

    /// Waits until a worker ends, because it was stopped or the database failed.
    async fn ended(&mut self) -> Result<(), RunError> {
        match self.tasks.join_next().await {
            None => pending().await,
            Some((name, Ok(result))) => {
                self.running.remove(&name);
                Ok(result?)
            }
            // Nothing aborts a worker.
            Some((_, Err(panicked))) => resume_unwind(panicked.into_panic()),
        }
    }
}
