//! Tells systemd how the daemon does: that it is alive, as its watchdog asks, what it mirrors, and that it stops.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::table::counted;
use crate::daemon::{Context, Liveness};
use crate::store::{Condition, FeedHealth};
use crate::systemd;
use crate::text::{MAX_SHOWN, escape};

/// How often the line that `systemctl status` shows is made anew.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The shortest time between two messages to the watchdog, whatever it asks for.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// Tells systemd, until it is dropped, that the daemon is alive, as long as every loop goes on, and what it mirrors; and once,
/// that it stops, after `shutdown`.
pub async fn report(context: Arc<Context>, shutdown: CancellationToken) -> Infallible {
    let stopping = async {
        shutdown.cancelled().await;
        tell(systemd::stopping());
        pending().await
    };
    tokio::select! {
        never = stopping => never,
        never = feed_watchdog(&context.liveness) => never,
        never = keep_status(&context) => never,
    }
}

async fn keep_status(context: &Context) -> Infallible {
    let mut told = String::new();
    loop {
        // In one line: whatever followed a newline would be another message to systemd.
        let line = context.reader.health().await;
        let line = line.map_or_else(
            |error| escape(error, MAX_SHOWN),
            |health| status(&health.feeds),
        );
        if line != told {
            tell(systemd::status(&line));
            told = line;
        }
        tokio::time::sleep(STATUS_EVERY).await;
    }
}

/// How many lists of runs there are, and how many of them are not well.
fn status(feeds: &[FeedHealth]) -> String {
    let mut line = format!("mirroring {}", counted(feeds.len() as u64, "task"));
    for state in Condition::ALL
        .iter()
        .filter(|state| **state != Condition::Ok)
    {
        let count = feeds.iter().filter(|feed| feed.state == *state).count();
        if count > 0 {
            line += &format!(", {count} {}", state.name());
        }
    }
    line
}

async fn feed_watchdog(liveness: &Liveness) -> Infallible {
    let Some(within) = systemd::watchdog().filter(|within| !within.is_zero()) else {
        return pending().await;
    };
    let mut hung = None;
    let mut was_told = true;
    loop {
        let overdue = liveness.overdue();
        match &overdue {
            None => {
                let told = systemd::alive();
                let is_told = told.is_ok();
                if was_told {
                    tell(told);
                }
                was_told = is_told;
            }
            Some(_) if overdue == hung => {}
            Some(name) => {
                tracing::error!("{name} hangs; the watchdog of systemd is not fed any more");
            }
        }
        hung = overdue;
        // Well before it is due.
        tokio::time::sleep((within / 3).max(LEAST_PAUSE)).await;
    }
}

/// Logs that systemd could not be told something. The daemon goes on: systemd decides what follows.
pub fn tell(told: std::io::Result<()>) {
    if let Err(error) = told {
        tracing::warn!("systemd cannot be told how the service does: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_counts_tasks_and_those_that_are_not_well() {
        let feeds = |states: &[Condition]| -> Vec<FeedHealth> {
            let feed = |state: &Condition| FeedHealth {
                id: "a".to_owned(),
                task: "janedoe~a".to_owned(),
                state: *state,
                last_success_at: None,
            };
            states.iter().map(feed).collect()
        };
        assert_eq!(status(&[]), "mirroring 0 tasks");
        assert_eq!(status(&feeds(&[Condition::Ok])), "mirroring 1 task");
        assert_eq!(
            status(&feeds(&[
                Condition::Ok,
                Condition::NotFound,
                Condition::Failing,
                Condition::Failing
            ])),
            "mirroring 4 tasks, 2 failing, 1 not found"
        );
    }
}
