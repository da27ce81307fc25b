//! From settings to the parts that `run` and `sync` work with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::error::CliError;
use crate::api::{Client, ClientOptions, Token};
use crate::config::Settings;
use crate::daemon::{Context, Options, Progress};
use crate::delivery::{Courier, Subscription};
use crate::model::Timestamp;
use crate::sinks::Stdout;
use crate::store::{Store, Writer};

/// How long to wait at the end for the database to be closed. One that takes longer is as safe as after a crash.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The parts.
pub struct Setup {
    /// What every part shares.
    pub context: Arc<Context>,
    /// One for each sink.
    pub couriers: Vec<Courier>,
    /// The database's thread.
    pub writer: Writer,
}

impl Setup {
    /// Makes the client and opens the database.
    ///
    /// # Errors
    /// When either cannot be done.
    pub fn new(settings: &Settings, token: &Token, progress: Progress) -> Result<Self, CliError> {
        let client = client(settings, token)?;
        let (store, writer) = Store::open(&settings.database)?;
        let couriers = settings.sinks.iter().map(|sink| Courier::new(sink.name.clone(), Stdout::default())).collect();
        let subscriptions = settings
            .sinks
            .iter()
            .map(|sink| Subscription { sink: sink.name.clone(), types: sink.events.clone() })
            .collect();
        let mut sync = settings.sync.clone();
        // Two instances that start together must not poll in step.
        sync.jitter_seed = Timestamp::now().as_millis().unsigned_abs() ^ u64::from(std::process::id()).rotate_left(32);
        let options = Options { tasks: settings.tasks.clone(), discover_tasks: settings.discover_tasks, sync };
        let context = Context { client, store, options, subscriptions, progress, events: watch::Sender::new(0) };
        Ok(Self { context: Arc::new(context), couriers, writer })
    }
}

/// A client as configured.
///
/// # Errors
/// When the system does not allow one.
pub fn client(settings: &Settings, token: &Token) -> Result<Client, CliError> {
    let api = &settings.api;
    let options = ClientOptions {
        base_url: api.base_url.clone(),
        timeout: api.timeout,
        requests_per_second: api.requests_per_second,
        concurrency: api.concurrency,
    };
    Ok(Client::new(options, token)?)
}

/// Waits for the database to be closed, which it is once nobody uses it, but not for long.
pub async fn close(writer: Writer) {
    let closed = tokio::task::spawn_blocking(move || writer.join());
    if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
        tracing::debug!("leaving while the database is being closed");
    }
}
