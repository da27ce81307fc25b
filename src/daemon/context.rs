//! The state shared by all parts of the daemon.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, RwLock, watch};

use super::counters::Counters;
use super::freshness::Freshness;
use super::liveness::Liveness;
use super::progress::Progress;
use super::worker::Worker;
use crate::api::Client;
use crate::model::{Registration, Retention, TEMPORARY_SINK, Timestamp};
use crate::sinks::{BuildError, Discard, Place, Sink, SinkSettings};
use crate::store::{Committed, Reader, Store, StoreError};
use crate::sync::{Commit, Settings};

/// The part of the configuration that a running daemon can change: tasks, polling and sinks.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// References to tasks: ids, `username~name` or `~name`.
    pub tasks: Vec<String>,
    /// Whether to mirror every task of the account as well.
    pub discover_tasks: bool,
    /// How feeds are polled; each feed derives its own seed from this one and its task's id.
    pub sync: Settings,
    /// How long the mirror keeps what nobody needs any more.
    pub retention: Retention,
    /// Where events go.
    pub sinks: Vec<SinkPlan>,
    /// What becomes of the subscriptions in the database.
    pub subscriptions: Subscriptions,
}

/// What putting a plan into force does to the subscriptions in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscriptions {
    /// The plan's sinks, and no others, become the configured ones: it comes from a configuration file.
    Configured,
    /// None is changed. The plan's only sink gets what is raised until the end, beside them.
    Temporary,
    /// None is changed, and nothing is delivered. In a mirror that no configuration file was ever used with, events are
    /// kept for the next plan with a temporary subscription.
    Unchanged,
}

/// A sink, ready for deliveries. Two are equal when their configurations, secrets included, are equal.
#[derive(Clone)]
pub struct SinkPlan {
    settings: SinkSettings,
    hidden: Vec<String>,
    sink: Arc<dyn Sink>,
    silent: bool,
}

impl SinkPlan {
    /// Builds the sink that `settings` describe, whose secrets must be resolved. `hidden` names environment variables that
    /// hold secrets of sinks; programs that the sink runs do not get them.
    ///
    /// # Errors
    /// When the system denies a resource that the sink needs. The message names the sink.
    pub async fn build(settings: SinkSettings, hidden: Vec<String>) -> Result<Self, BuildError> {
        let built = settings.options.build(&hidden).await;
        let sink = built.map_err(|BuildError(problem)| {
            BuildError(format!("sink {}: {problem}", settings.name))
        })?;
        Ok(Self {
            settings,
            hidden,
            sink,
            silent: false,
        })
    }

    /// Delivers to nowhere: the events count as delivered, and are only in the event log.
    pub(crate) fn silence(&mut self) {
        self.silent = true;
        self.sink = Arc::new(Discard);
    }

    /// Whether it writes to standard output.
    pub(crate) fn prints(&self) -> bool {
        !self.silent && self.settings.options.place() == Some(Place::StandardOutput)
    }

    /// Delivers to `sink` in the place of the one that was built.
    pub(crate) fn replace(&mut self, sink: Arc<dyn Sink>) {
        self.sink = sink;
    }

    /// The sink's configuration.
    pub fn settings(&self) -> &SinkSettings {
        &self.settings
    }
}

impl PartialEq for SinkPlan {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, &self.hidden, self.silent)
            == (&other.settings, &other.hidden, other.silent)
    }
}

impl fmt::Debug for SinkPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkPlan")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The state shared by all parts of the daemon.
pub struct Context {
    /// The client of the API.
    pub client: Client,
    /// The writing side of the mirror.
    pub store: Arc<dyn Store>,
    /// The reading side of the mirror.
    pub reader: Arc<dyn Reader>,
    /// Shows the progress of long catch-ups and audits.
    pub progress: Progress,
    /// By when each loop has to be back.
    pub liveness: Arc<Liveness>,
    /// Counts what is done.
    pub counters: Counters,
    /// Which feeds are fresh.
    pub freshness: Freshness,
    /// Notified when a task turns out to be gone: its reference may mean another by now.
    pub(super) lost: Notify,
    /// Changes when a commit wants details of runs to be read.
    pub(super) details_asked: watch::Sender<u64>,
    /// The plan in force.
    pub(super) plan: watch::Sender<Arc<Plan>>,
    /// Held for reading by every commit, and for writing while a plan is put into force: a commit must not raise events
    /// for the sinks of one plan after those of another were registered, or a new sink would miss them.
    committing: RwLock<()>,
}

impl Plan {
    /// The settings for the feed of the task `id`, with a seed of its own so that feeds do not poll in step.
    pub fn settings_for(&self, id: &str) -> Settings {
        Settings {
            seed: self.sync.seed.of(id),
            ..self.sync.clone()
        }
    }
}

impl Context {
    /// Puts `plan` into force, as [`Context::adopt`] does.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn new(
        client: Client,
        store: Arc<dyn Store>,
        reader: Arc<dyn Reader>,
        progress: Progress,
        plan: Plan,
    ) -> Result<Self, StoreError> {
        let context = Self {
            client,
            store,
            reader,
            progress,
            liveness: Arc::default(),
            counters: Counters::new(),
            freshness: Freshness::new(),
            lost: Notify::new(),
            details_asked: watch::Sender::new(0),
            plan: watch::Sender::new(Arc::new(plan.clone())),
            committing: RwLock::new(()),
        };
        context.adopt(plan).await?;
        Ok(context)
    }

    /// The plan in force.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.borrow())
    }

    /// Puts `plan` into force, after registering its sinks, so that no event is raised for an unregistered sink.
    ///
    /// # Errors
    /// When the database fails; the previous plan stays in force.
    pub async fn adopt(&self, plan: Plan) -> Result<(), StoreError> {
        let sinks = plan.sinks.iter();
        let registrations: Vec<Registration> =
            sinks.map(|sink| sink.settings.registration()).collect();
        let now = Timestamp::now();
        let _alone = self.committing.write().await;
        match plan.subscriptions {
            Subscriptions::Configured => self.store.register(&registrations, now).await?,
            Subscriptions::Temporary => self.open_temporary(&registrations).await?,
            Subscriptions::Unchanged if self.keeps_for_temporary().await? => {
                self.open_temporary(&registrations).await?;
            }
            Subscriptions::Unchanged => self.store.close_temporary(now).await?,
        }
        self.counters
            .keep_sinks(|name| plan.sinks.iter().any(|sink| sink.settings.name == name));
        self.plan.send_replace(Arc::new(plan));
        Ok(())
    }

    /// How long `requests` may take while as many are made for each loop, and each loop commits.
    pub(super) fn longest(&self, requests: usize) -> Duration {
        /// How long a commit may take.
        const COMMIT: Duration = Duration::from_secs(1);
        let loops = u32::try_from(self.liveness.count()).unwrap_or(u32::MAX);
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        let commits = COMMIT.saturating_mul(loops);
        self.client
            .longest(requests.saturating_mul(loops))
            .saturating_add(commits)
    }

    async fn open_temporary(&self, sinks: &[Registration]) -> Result<(), StoreError> {
        for sink in sinks
            .iter()
            .filter(|sink| sink.subscription.sink == TEMPORARY_SINK)
        {
            self.store.open_temporary(sink, Timestamp::now()).await?;
        }
        Ok(())
    }

    /// Whether only commands without a configuration file were ever used with this mirror.
    async fn keeps_for_temporary(&self) -> Result<bool, StoreError> {
        let subscriptions = self.reader.subscriptions().await?;
        Ok(subscriptions
            .iter()
            .all(|subscription| subscription.temporary))
    }

    /// Closes the subscription that was for this command alone.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.store.close_temporary(Timestamp::now()).await
    }

    /// Commits to a feed.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn commit(
        &self,
        feed_id: &str,
        commit: Commit,
    ) -> Result<Committed, StoreError> {
        let _in_force = self.committing.read().await;
        let began = Instant::now();
        let committed = self.store.commit(feed_id, commit).await?;
        self.counters.committed(&committed, began.elapsed());
        if committed.details_asked > 0 {
            let asked = committed.details_asked;
            self.details_asked
                .send_modify(|all| *all = all.wrapping_add(asked));
        }
        Ok(committed)
    }

    /// Creates a worker for a sink that has no other.
    pub(super) fn worker(&self, sink: &SinkPlan) -> Worker {
        let name = &sink.settings.name;
        Worker::new(
            Arc::clone(&self.store),
            Arc::clone(&sink.sink),
            sink.settings.registration(),
            sink.settings.give_up_after,
            self.plan().sync.seed.of(name),
            self.liveness
                .enter(format!("the worker of the sink {name}")),
            self.counters.sink(name),
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::pin::pin;

    use super::*;
    use crate::api::{ClientOptions, Token};
    use crate::model::{InFlight, Seed};
    use crate::options::Environment;
    use crate::store::SqliteStore;

    /// A plan with the sinks that `toml` configures.
    async fn plan(toml: &str, environment: &Environment) -> Plan {
        let overrides = crate::config::Overrides::default();
        let settings =
            crate::config::parse(Some(toml), environment, overrides, String::new).unwrap();
        let mut sinks = Vec::new();
        for sink in settings.resolved_sinks(environment).unwrap() {
            sinks.push(SinkPlan::build(sink, Vec::new()).await.unwrap());
        }
        Plan {
            tasks: Vec::new(),
            discover_tasks: false,
            sync: Settings {
                seed: Seed(1),
                ..settings.sync
            },
            retention: settings.retention,
            sinks,
            subscriptions: Subscriptions::Configured,
        }
    }

    async fn context(plan: Plan) -> Context {
        let options = ClientOptions {
            base_url: "http://127.0.0.1:1".parse().unwrap(),
            timeout: Duration::from_secs(1),
            requests_per_second: NonZeroU32::MIN,
            concurrency: InFlight::Fixed(1),
        };
        let client = Client::new(options, &Token::new("token").unwrap()).unwrap();
        let (store, reader) = SqliteStore::in_memory().unwrap();
        Context::new(
            client,
            Arc::new(store),
            Arc::new(reader),
            Progress::new(None),
            plan,
        )
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn a_plan_comes_into_force_between_two_commits() {
        let none = Environment::new();
        let context = context(plan("sinks = []", &none).await).await;
        let under_way = context.committing.read().await;
        let mut adopt = pin!(context.adopt(plan("", &none).await));
        tokio::select! {
            biased;
            _ = &mut adopt => panic!("a commit for the old plan is under way"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(context.reader.sinks().await.unwrap().len(), 0);
        drop(under_way);
        adopt.await.unwrap();
        assert_eq!(context.reader.sinks().await.unwrap()[0].name, "stdout");
    }

    #[tokio::test]
    async fn a_changed_secret_makes_another_sink_and_nothing_else_does() {
        let toml = "[[sinks]]\nname = \"a\"\ntype = \"stdout\"\n[[sinks]]\nname = \"b\"\ntype = \"webhook\"\n\
                    url = \"http://127.0.0.1:1/\"\nsecret_env = \"HOOK\"";
        let with = |secret: &str| Environment::from([("HOOK".to_owned(), secret.to_owned())]);
        let before = plan(toml, &with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).await;
        let same = plan(toml, &with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).await;
        assert_eq!(before.sinks, same.sinks);
        let after = plan(toml, &with("whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh")).await;
        assert_eq!(before.sinks[0], after.sinks[0]);
        assert_ne!(before.sinks[1], after.sinks[1]);
    }
}
