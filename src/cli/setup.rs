//! From settings to the parts that `run` and `sync` work with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::error::CliError;
use crate::api::{Client, ClientOptions, Token};
use crate::config::{Settings, SinkSettings};
use crate::daemon::{Context, Plan, Progress};
use crate::delivery::Courier;
use crate::model::Timestamp;
use crate::sinks::Stdout;
use crate::store::{Store, Writer};
use crate::sync;

/// How long to wait at the end for the database to be closed. One that takes longer is as safe as after a crash.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The parts.
pub struct Setup {
    /// What every part shares.
    pub context: Arc<Context>,
    /// The database's thread.
    pub writer: Writer,
}

impl Setup {
    /// Makes the client and opens the database.
    ///
    /// # Errors
    /// When either cannot be done.
    pub fn new(
        settings: &Settings,
        token: &Token,
        progress: Progress,
        courier: fn(&SinkSettings) -> Courier,
    ) -> Result<Self, CliError> {
        let client = client(settings, token)?;
        let (store, writer) = Store::open(&settings.database)?;
        // Two instances that start together must not poll in step.
        let seed = Timestamp::now().as_millis().unsigned_abs() ^ u64::from(std::process::id()).rotate_left(32);
        let plan = watch::Sender::new(Arc::new(plan(settings, seed)));
        let context = Context { client, store, plan, courier, progress, events: watch::Sender::new(0) };
        Ok(Self { context: Arc::new(context), writer })
    }
}

/// What `settings` say of tasks and sinks, which can change while the daemon runs.
pub fn plan(settings: &Settings, jitter_seed: u64) -> Plan {
    Plan {
        tasks: settings.tasks.clone(),
        discover_tasks: settings.discover_tasks,
        sync: sync::Settings { jitter_seed, ..settings.sync.clone() },
        sinks: settings.sinks.clone(),
    }
}

/// The courier of a sink as configured.
pub fn courier(sink: &SinkSettings) -> Courier {
    Courier::new(sink.name.clone(), Stdout::default())
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
