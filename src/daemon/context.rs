//! What every part of the daemon shares.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::sync::watch;

use super::progress::Progress;
use crate::api::Client;
use crate::config::SinkSettings;
use crate::delivery::{Courier, Subscription};
use crate::store::Store;
use crate::sync::Settings;

/// What is to be mirrored and told, and how: what can change while the daemon runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// References to tasks: ids, `username~name` or `~name`.
    pub tasks: Vec<String>,
    /// Whether every task of the account is mirrored too.
    pub discover_tasks: bool,
    /// How feeds are polled; the seed is mixed with each task's id.
    pub sync: Settings,
    /// Where events go.
    pub sinks: Vec<SinkSettings>,
}

/// What every part of the daemon shares.
pub struct Context {
    /// The API.
    pub client: Client,
    /// The mirror.
    pub store: Store,
    /// What to mirror and tell, now.
    pub plan: watch::Sender<Arc<Plan>>,
    /// Makes the courier of a sink.
    pub courier: fn(&SinkSettings) -> Courier,
    /// Shows how far long catch-ups and audits have come.
    pub progress: Progress,
    /// Changes when a commit may have given the couriers something to do.
    pub events: watch::Sender<u64>,
}

impl Plan {
    /// What sinks want.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let subscription = |sink: &SinkSettings| Subscription { sink: sink.name.clone(), types: sink.events.clone() };
        self.sinks.iter().map(subscription).collect()
    }

    /// How the feed of the task `id` is polled: as every other, but not in step with them.
    pub fn settings_for(&self, id: &str) -> Settings {
        let mut hasher = DefaultHasher::new();
        (id, self.sync.jitter_seed).hash(&mut hasher);
        Settings { jitter_seed: hasher.finish(), ..self.sync.clone() }
    }
}

impl Context {
    /// What to mirror and tell, now.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.borrow())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("plan", &self.plan).finish_non_exhaustive()
    }
}
