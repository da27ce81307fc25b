//! Tells systemd how the daemon does: that it is alive, as its watchdog asks, and that it stops.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::daemon::Liveness;
use crate::systemd;

/// Tells systemd, until it is dropped, that the daemon is alive, as long as every loop of `liveness` goes on; and once, that
/// it stops, after `shutdown`.
pub async fn report(liveness: Arc<Liveness>, shutdown: CancellationToken) -> Infallible {
    let stopping = async {
        shutdown.cancelled().await;
        tell(systemd::stopping());
        pending().await
    };
    tokio::select! {
        never = stopping => never,
        never = feed_watchdog(&liveness) => never,
    }
}

async fn feed_watchdog(liveness: &Liveness) -> Infallible {
    let Some(within) = systemd::watchdog() else {
        return pending().await;
    };
    let mut hung = None;
    loop {
        let overdue = liveness.overdue();
        match &overdue {
            None => tell(systemd::alive()),
            Some(_) if overdue == hung => {}
            Some(name) => {
                tracing::error!("{name} hangs; the watchdog of systemd is not fed any more");
            }
        }
        hung = overdue;
        tokio::time::sleep(wait(within)).await;
    }
}

/// The time between two messages, where systemd wants one `within` some time.
fn wait(within: Duration) -> Duration {
    within / 3
}

/// Logs that systemd could not be told something. The daemon goes on: systemd decides what follows.
pub fn tell(told: std::io::Result<()>) {
    if let Err(error) = told {
        tracing::warn!("systemd cannot be told how the service does: {error}");
    }
}
