//! What every part of the daemon shares.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::progress::Progress;
use super::worker::Worker;
use crate::api::Client;
use crate::model::{Registration, Subscription, Timestamp};
use crate::sinks::{BuildError, Sink, SinkSettings};
use crate::store::{Reader, Store, StoreError};
use crate::sync::Settings;

/// Which tasks to mirror and which sinks to deliver to, and how: what can change while the daemon runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// References to tasks: ids, `username~name` or `~name`.
    pub tasks: Vec<String>,
    /// Whether every task of the account is mirrored too.
    pub discover_tasks: bool,
    /// How feeds are polled; the seed is mixed with each task's id.
    pub sync: Settings,
    /// Where events go.
    pub sinks: Vec<SinkPlan>,
}

/// A sink, ready to be delivered to. Two are equal when they are configured alike, secrets included.
#[derive(Clone)]
pub struct SinkPlan {
    settings: SinkSettings,
    hidden: Vec<String>,
    sink: Arc<dyn Sink>,
}

impl SinkPlan {
    /// Makes the sink that `settings` describe, whose secrets have been resolved. `hidden` are environment variables
    /// that hold secrets of sinks, for a program that the sink runs not to see.
    ///
    /// # Errors
    /// When the system refuses something that the sink needs. The message names the sink.
    pub async fn build(settings: SinkSettings, hidden: Vec<String>) -> Result<Self, BuildError> {
        let built = settings.options.build(&hidden).await;
        let sink = built.map_err(|BuildError(problem)| {
            BuildError(format!("sink {}: {problem}", settings.name))
        })?;
        Ok(Self {
            settings,
            hidden,
            sink,
        })
    }

    /// What is configured.
    pub fn settings(&self) -> &SinkSettings {
        &self.settings
    }
}

impl PartialEq for SinkPlan {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings && self.hidden == other.hidden
    }
}

impl fmt::Debug for SinkPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkPlan")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What every part of the daemon shares.
pub struct Context {
    /// The API.
    pub client: Client,
    /// The mirror, to write.
    pub store: Arc<dyn Store>,
    /// The mirror, to read beside that.
    pub reader: Arc<dyn Reader>,
    /// The plan in force.
    pub plan: watch::Sender<Arc<Plan>>,
    /// Shows how far long catch-ups and audits have come.
    pub progress: Progress,
}

impl Plan {
    /// What the sinks subscribe to.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.sinks
            .iter()
            .map(|sink| sink.settings.subscription())
            .collect()
    }

    /// How the feed of the task `id` is polled: as every other, but not in step with them.
    pub fn settings_for(&self, id: &str) -> Settings {
        Settings {
            seed: self.sync.seed.of(id),
            ..self.sync.clone()
        }
    }
}

impl Context {
    /// The plan in force.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.borrow())
    }

    /// Puts `plan` into force: its sinks are registered before the first event is raised under it.
    ///
    /// # Errors
    /// When the database fails; what was in force stays.
    pub async fn adopt(&self, plan: Plan) -> Result<(), StoreError> {
        let sinks = plan.sinks.iter();
        let registrations: Vec<Registration> =
            sinks.map(|sink| sink.settings.registration()).collect();
        self.store
            .register(&registrations, Timestamp::now())
            .await?;
        self.plan.send_replace(Arc::new(plan));
        Ok(())
    }

    /// A worker for a sink, which must have no other.
    pub(super) fn worker(&self, sink: &SinkPlan) -> Worker {
        Worker::new(
            Arc::clone(&self.store),
            Arc::clone(&sink.sink),
            sink.settings.subscription(),
            sink.settings.give_up_after,
            self.plan().sync.seed.of(&sink.settings.name),
        )
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
