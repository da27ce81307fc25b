//! A courier for every sink, as the plan has it.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::context::{Context, SinkPlan};
use super::run::RunError;
use super::signals::Shutdown;
use crate::store::StoreError;

/// Couriers at work, by the names of their sinks.
struct Couriers {
    work: JoinSet<Result<(), StoreError>>,
    members: HashMap<String, Member>,
}

struct Member {
    sink: SinkPlan,
    task: Id,
    stop: watch::Sender<bool>,
}

/// Keeps a courier going for every sink of the plan, until `shutdown`; then lets what is under way end.
///
/// # Errors
/// When the database fails.
pub async fn supervise_sinks(
    context: Arc<Context>,
    mut shutdown: Shutdown,
) -> Result<(), RunError> {
    let mut plans = context.plan.subscribe();
    let mut couriers = Couriers {
        work: JoinSet::new(),
        members: HashMap::new(),
    };
    loop {
        let plan = Arc::clone(&plans.borrow_and_update());
        couriers
            .stop_unless(|member| plan.sinks.contains(&member.sink))
            .await?;
        for sink in &plan.sinks {
            couriers.employ(&context, sink);
        }
        tokio::select! {
            () = shutdown.asked() => return couriers.stop_unless(|_| false).await,
            _ = plans.changed() => {}
            ended = couriers.ended() => ended?,
        }
    }
}

impl Couriers {
    fn employ(&mut self, context: &Context, sink: &SinkPlan) {
        let name = &sink.settings.name;
        if self.members.contains_key(name) {
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let courier = context.courier(sink);
        let work = courier.run(
            Arc::clone(&context.store),
            context.store.notifications(),
            stopped,
        );
        let task = self.work.spawn(work).id();
        self.members.insert(
            name.clone(),
            Member {
                sink: sink.clone(),
                task,
                stop,
            },
        );
    }

    /// Stops all that are not to stay, and waits until they have: a sink must not have two couriers.
    async fn stop_unless(&mut self, stays: impl Fn(&Member) -> bool) -> Result<(), RunError> {
        let leaving: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| !stays(member))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &leaving {
            if let Some(member) = self.members.get(name) {
                member.stop.send_replace(true);
                tracing::debug!(sink = name, "no longer delivering, or not as before");
            }
        }
        while leaving.iter().any(|name| self.members.contains_key(name)) {
            self.ended().await?;
        }
        Ok(())
    }

    /// Waits until one has ended: because it was stopped, or in trouble.
    async fn ended(&mut self) -> Result<(), RunError> {
        let (task, result) = match self.work.join_next_with_id().await {
            None => pending().await,
            Some(Ok(ended)) => ended,
            Some(Err(panicked)) => resume(panicked),
        };
        self.members.retain(|_, member| member.task != task);
        Ok(result?)
    }
}

/// Nothing cancels a courier: it has panicked.
fn resume(error: JoinError) -> ! {
    std::panic::resume_unwind(error.into_panic())
}
