//! Prunes what the configuration does not keep, some rows at a time, so that commits and deliveries wait for none of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::Context;
use crate::delivery::STORE_RETRY;
use crate::model::{Retention, Timestamp};
use crate::store::{PrunePosition, Pruned, Store, StoreError};

/// How often the daemon looks for what is older than it is kept.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Time between two steps of the daemon: it prunes up to five hundred rows a second.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest that a pass prunes. The next goes on.
pub(super) const PRUNE_WITHIN: Duration = Duration::from_secs(10);

/// How far pruning may go at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Time between two steps.
    pub(crate) pause: Duration,
    /// When it ends, done or not.
    pub(crate) until: Option<Instant>,
}

impl Pace {
    fn is_over(self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Removes what `retention` does not keep, and adds it to `pruned`.
///
/// # Errors
/// When the database fails; the steps before that stay.
pub(crate) async fn prune(
    store: &dyn Store,
    retention: &Retention,
    pace: Pace,
    pruned: &mut Pruned,
) -> Result<(), StoreError> {
    let mut next = (!retention.is_forever()).then(PrunePosition::default);
    while let Some(from) = next.take_if(|_| !pace.is_over()) {
        let step = store.prune(retention, &from, Timestamp::now()).await?;
        *pruned += step.pruned;
        next = step.next;
        if next.is_some() {
            tokio::time::sleep(pace.pause).await;
        }
    }
    Ok(())
}

/// Gives space back to the file system that is free within the database.
///
/// # Errors
/// When the database fails.
pub(super) async fn release_space(store: &dyn Store, pace: Pace) -> Result<(), StoreError> {
    while !pace.is_over() && store.release_space().await? {
        tokio::time::sleep(pace.pause).await;
    }
    Ok(())
}

/// Prunes as long as the daemon runs. What goes wrong is logged, and stops nothing else.
pub(super) async fn keep_pruning(context: Arc<Context>) -> Infallible {
    let mut plans = context.plan.subscribe();
    loop {
        let retention = plans.borrow_and_update().retention;
        tokio::select! {
            never = prune_regularly(&*context.store, &retention) => match never {},
            _ = plans.changed() => {}
        }
    }
}

async fn prune_regularly(store: &dyn Store, retention: &Retention) -> Infallible {
    let pace = Pace {
        pause: PAUSE,
        until: None,
    };
    loop {
        let mut pruned = Pruned::default();
        let done = match prune(store, retention, pace, &mut pruned).await {
            Ok(()) => release_space(store, pace).await,
            failed => failed,
        };
        if pruned != Pruned::default() {
            let Pruned {
                runs,
                events,
                dead_deliveries,
            } = pruned;
            tracing::info!(
                runs,
                events,
                dead_deliveries,
                "pruned what is no longer kept"
            );
        }
        let wait = match done {
            Ok(()) => PRUNE_EVERY,
            Err(error) if error.is_temporary() => {
                let seconds = STORE_RETRY.as_secs();
                tracing::error!("cannot prune: {error}; trying again in {seconds} s");
                STORE_RETRY
            }
            Err(error) => {
                tracing::error!("cannot prune: {error}");
                PRUNE_EVERY
            }
        };
        tokio::time::sleep(wait).await;
    }
}
