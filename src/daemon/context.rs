//! What every part of the daemon shares.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::progress::Progress;
use super::worker::Worker;
use crate::api::Client;
use crate::config::{SinkSettings, Start};
use crate::model::{Registration, Subscription, Timestamp};
use crate::sinks::{SigningKeys, Sink};
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

/// A sink, with the secrets that its settings point to.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkPlan {
    /// What is configured.
    pub settings: SinkSettings,
    /// What a webhook is signed with.
    pub keys: SigningKeys,
    /// For a sink that runs a program: environment variables that hold secrets of sinks, for it not to see.
    pub hidden: Vec<String>,
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
    /// Makes a sink.
    pub sink: fn(&SinkPlan) -> Arc<dyn Sink>,
    /// Shows how far long catch-ups and audits have come.
    pub progress: Progress,
}

impl Plan {
    /// What sinks want.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.sinks.iter().map(SinkPlan::subscription).collect()
    }

    /// How the feed of the task `id` is polled: as every other, but not in step with them.
    pub fn settings_for(&self, id: &str) -> Settings {
        Settings {
            seed: self.sync.seed.of(id),
            ..self.sync.clone()
        }
    }
}

impl SinkPlan {
    fn subscription(&self) -> Subscription {
        Subscription {
            sink: self.settings.name.clone(),
            types: self.settings.events.clone(),
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
        let registrations: Vec<Registration> = plan
            .sinks
            .iter()
            .map(|SinkPlan { settings, .. }| Registration {
                name: settings.name.clone(),
                kind: settings.target.name(),
                from_beginning: settings.start == Start::Beginning,
            })
            .collect();
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
            (self.sink)(sink),
            sink.subscription(),
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
