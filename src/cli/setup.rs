//! From settings to the parts that `run`, `sync`, `audit` and `demo` work with.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Uid, geteuid};

use super::error::CliError;
use super::globals::{Globals, TaskArgs};
use super::{logging, settings};
use crate::api::{Client, ClientOptions, Token, TokenSource};
use crate::config::{Settings, find_token, find_token_again};
use crate::daemon::{Context, Plan, Progress, SinkPlan, Subscriptions};
use crate::files::{Untrusted, master_of};
use crate::model::{Seed, Timestamp};
use crate::options::Environment;
use crate::store::{SqliteStore, StoreError, Writer};
use crate::sync;

/// How long to wait at the end for the database to be closed. One that takes longer is as safe as after a crash.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What becomes of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// They are delivered to the sinks.
    Delivered,
    /// The same, but a sink that no configuration names prints nothing: its events are only in the event log.
    NotPrintedUnasked,
    /// Nothing is delivered, and no subscription changes.
    Kept,
}

/// The parts.
pub struct Setup {
    /// What every part shares.
    pub context: Arc<Context>,
    /// The database's thread.
    pub writer: Writer,
}

impl Setup {
    /// Begins as [`begin`] does and goes on as [`Setup::open`]. Also returns the settings.
    ///
    /// # Errors
    /// As for both.
    pub async fn from_flags(
        globals: &Globals,
        environment: &Environment,
        tasks: &TaskArgs,
    ) -> Result<(Self, Settings), CliError> {
        let (settings, progress) = begin(globals, environment, tasks)?;
        // It would look for its configuration and its token again as that user.
        let me = refuse_for_root(&settings, "the daemon")?;
        let setup = Self::open(&settings, environment, progress, Events::Delivered).await?;
        refuse_if_changed(&settings, me, "the daemon")?;
        Ok((setup, settings))
    }

    /// Finds the token and goes on as [`Setup::new`], with what `settings` say.
    ///
    /// # Errors
    /// When there is no token, and as for [`Setup::new`].
    pub async fn open(
        settings: &Settings,
        environment: &Environment,
        progress: Progress,
        events: Events,
    ) -> Result<Self, CliError> {
        let programs = (events != Events::Kept)
            .then(|| programs(settings))
            .flatten();
        let programs = programs.as_deref();
        let me = programs
            .map(|what| refuse_for_root(settings, what))
            .transpose()?;
        let token = find_token(settings.api.token_file.as_deref(), environment)?;
        let mut plan = plan(settings, environment, seed()).await?;
        match events {
            Events::Delivered => {}
            Events::NotPrintedUnasked => {
                let implied = plan.sinks.iter_mut();
                let implied = implied.filter(|sink| sink.settings().implied);
                implied.for_each(SinkPlan::silence);
            }
            Events::Kept => plan.subscriptions = Subscriptions::Unchanged,
        }
        let setup = Self::new(settings, &token, plan, progress).await?;
        if let (Some(me), Some(what)) = (me, programs) {
            refuse_if_changed(settings, me, what)?;
        }
        let source = token_source(settings, environment);
        setup.context.client.set_token_source(source);
        Ok(setup)
    }

    /// Makes the client, opens the database and puts `plan` into force.
    ///
    /// # Errors
    /// When the client cannot be made, or the database cannot be opened or written.
    pub async fn new(
        settings: &Settings,
        token: &Token,
        plan: Plan,
        progress: Progress,
    ) -> Result<Self, CliError> {
        let client = client(settings, token)?;
        let (store, writer) = SqliteStore::open_for(&settings.database, settings.readers)?;
        let reader = Arc::new(store.reader(&settings.database)?);
        let context = Context::new(client, Arc::new(store), reader, progress, plan).await?;
        Ok(Self {
            context: Arc::new(context),
            writer,
        })
    }
}

/// The programs that sinks run, if any. As another user, they would be on root's terminal, and have variables of root's
/// environment.
fn programs(settings: &Settings) -> Option<String> {
    let mut sinks = settings.sinks.iter();
    let sink = sinks.find(|sink| sink.options.runs_programs())?;
    Some(format!("the programs of the sink {}", sink.name))
}

/// Refuses to run `what` as root on the database of another user; returns who runs this.
///
/// # Errors
/// When root does.
fn refuse_for_root(settings: &Settings, what: &str) -> Result<Uid, CliError> {
    match master_of(&settings.database).map_err(StoreError::from)? {
        None => Ok(geteuid()),
        Some(owner) => Err(refused(settings, owner, what)),
    }
}

/// Refuses to run `what` where it turned out that the database is another user's than `before`.
fn refuse_if_changed(settings: &Settings, before: Uid, what: &str) -> Result<(), CliError> {
    match geteuid() {
        now if now == before => Ok(()),
        now => Err(refused(settings, now.as_raw(), what)),
    }
}

fn refused(settings: &Settings, owner: u32, what: &str) -> CliError {
    CliError::Store(StoreError::from(Untrusted::OfAnother {
        path: settings.database.clone(),
        owner,
        what: what.to_owned(),
    }))
}

/// Reads the settings and starts the log.
///
/// # Errors
/// When the settings are not valid or name no task.
pub fn begin(
    globals: &Globals,
    environment: &Environment,
    tasks: &TaskArgs,
) -> Result<(Settings, Progress), CliError> {
    let (settings, _) = settings::read(globals, environment, tasks)?;
    settings.require_tasks()?;
    logging::start(globals, &settings);
    Ok((settings, globals.progress()))
}

/// A seed for the jitter of this process's waits: two instances that start together must not poll in step.
pub fn seed() -> Seed {
    Seed(
        Timestamp::now().as_millis().unsigned_abs() ^ u64::from(std::process::id()).rotate_left(32),
    )
}

/// What `settings` say of tasks and sinks, which can change while the daemon runs, with the secrets they point to.
///
/// # Errors
/// When a secret cannot be read, or a sink cannot be built.
pub async fn plan(
    settings: &Settings,
    environment: &Environment,
    seed: Seed,
) -> Result<Plan, CliError> {
    let hidden = settings.secret_variables();
    let mut sinks = Vec::new();
    for sink in settings.resolved_sinks(environment)? {
        if let Some(warning) = sink.options.warning() {
            tracing::warn!(sink = sink.name, "{warning}");
        }
        // A worker restarts when anything changes that its sink is made from: only what a sink needs is part of it.
        let hidden = if sink.options.runs_programs() {
            hidden.clone()
        } else {
            Vec::new()
        };
        sinks.push(SinkPlan::build(sink, hidden).await?);
    }
    Ok(Plan {
        tasks: settings.tasks.clone(),
        discover_tasks: settings.discover_tasks,
        sync: sync::Settings {
            seed,
            ..settings.sync.clone()
        },
        retention: settings.retention,
        sinks,
        subscriptions: if settings.from_file {
            Subscriptions::Configured
        } else {
            Subscriptions::Temporary
        },
    })
}

/// Where the token of `settings` is read again when it may have changed.
pub fn token_source(settings: &Settings, environment: &Environment) -> TokenSource {
    let (file, environment) = (settings.api.token_file.clone(), environment.clone());
    TokenSource::new(move || {
        find_token_again(file.as_deref(), &environment).map_err(|error| error.to_string())
    })
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

/// Waits until the database is closed, which happens when its last user has ended; at most for [`CLOSE_WITHIN`].
pub async fn close(writer: Writer) {
    let closed = tokio::task::spawn_blocking(move || writer.join());
    if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
        tracing::debug!("leaving while the database is being closed");
    }
}
