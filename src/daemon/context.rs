//! What every part of the daemon shares.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::watch;

use super::progress::Progress;
use crate::api::Client;
use crate::delivery::Subscription;
use crate::store::Store;
use crate::sync::Settings;

/// What is to be mirrored, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// References to tasks: ids, `username~name` or `~name`.
    pub tasks: Vec<String>,
    /// Whether every task of the account is mirrored too.
    pub discover_tasks: bool,
    /// How feeds are polled; the seed is mixed with each task's id.
    pub sync: Settings,
}

/// What every part of the daemon shares.
#[derive(Debug)]
pub struct Context {
    /// The API.
    pub client: Client,
    /// The mirror.
    pub store: Store,
    /// What to mirror.
    pub options: Options,
    /// What sinks want.
    pub subscriptions: Vec<Subscription>,
    /// Shows how far long catch-ups have come.
    pub progress: Progress,
    /// Changes when a commit may have given the couriers something to do.
    pub events: watch::Sender<u64>,
}

impl Context {
    /// How the feed of the task `id` is polled: as every other, but not in step with them.
    pub fn settings_for(&self, id: &str) -> Settings {
        let mut hasher = DefaultHasher::new();
        (id, self.options.sync.jitter_seed).hash(&mut hasher);
        Settings { jitter_seed: hasher.finish(), ..self.options.sync.clone() }
    }
}
