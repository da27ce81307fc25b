//! Brings one sink what it is owed.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::work::{Until, Work};
use crate::model::Subscription;
use crate::sinks::Sink;
use crate::store::{Store, StoreError};

/// How long to leave a database alone that cannot be used.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(5);

/// Brings one sink what it is owed.
#[derive(Clone)]
pub struct Courier {
    pub(super) subscription: Subscription,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) give_up_after: Duration,
}

impl Courier {
    /// A courier for `sink`, whose deliveries are booked as `subscription` says, and given up on `give_up_after` their
    /// first attempt.
    pub fn new(subscription: Subscription, sink: Arc<dyn Sink>, give_up_after: Duration) -> Self {
        Self {
            subscription,
            sink,
            give_up_after,
        }
    }

    /// Delivers until `stop` says so, whenever `bell` rings or something becomes due; then lets what is under way end.
    ///
    /// # Errors
    /// When the database fails in a way that does not pass.
    pub async fn run(
        self,
        store: Arc<dyn Store>,
        mut bell: watch::Receiver<u64>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), StoreError> {
        loop {
            match Work::new(self.clone(), Arc::clone(&store), Until::Stopped)
                .go_on(&mut bell, &mut stop)
                .await
            {
                Err(error) if error.is_temporary() => {
                    let seconds = STORE_RETRY.as_secs();
                    tracing::error!(
                        sink = self.subscription.sink,
                        "{error}; trying again in {seconds} s"
                    );
                    tokio::select! {
                        () = sleep(STORE_RETRY) => {}
                        () = told(&mut stop) => return Ok(()),
                    }
                }
                result => return result,
            }
        }
    }

    /// Delivers what is due, for at most `within`. Does not wait for what failed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drain(self, store: Arc<dyn Store>, within: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + within;
        let (_bell, mut silent) = watch::channel(0);
        let (_stop, mut never) = watch::channel(false);
        Work::new(self, store, Until::NothingIsDue { deadline })
            .go_on(&mut silent, &mut never)
            .await
    }
}

/// Waits until it is time to stop.
pub(super) async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        pending::<()>().await;
    }
}
