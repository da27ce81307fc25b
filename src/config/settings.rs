//! The validated settings, and their ranges.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Map, Value};
use reqwest::Url;

use super::http::{self, HttpSettings};
use super::network::check_variables;
use crate::files::{Readers, Untrusted};
use crate::model::{Details, InFlight, MOST_IN_FLIGHT, Retention, Seed};
use crate::options::{
    DAY, Environment, HOUR, LOOKS_LIKE_A_TOKEN, Problem, Problems, Reader, SECOND, looks_like_token,
};
use crate::sinks::{self, SinkSettings};
use crate::sync::MAX_SETTLE;
use crate::web::is_loopback;

/// Apify's own rate limit for each user is 250,000 a minute; that for each resource is kept whatever is configured.
const MOST_REQUESTS_PER_SECOND: u32 = 4_000;

/// Everything that can be configured, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// References to the tasks to mirror.
    pub tasks: Vec<String>,
    /// Whether to mirror every task of the account.
    pub discover_tasks: bool,
    /// Settings of the API client.
    pub api: ApiSettings,
    /// The database file.
    pub database: PathBuf,
    /// Who may read it.
    pub readers: Readers,
    /// How feeds are polled. The seed is 0 and the number of pages read ahead is `api.concurrency`.
    pub sync: crate::sync::Settings,
    /// How long the mirror keeps what nobody needs any more.
    pub retention: Retention,
    /// Whether there is a configuration file. Without one, the only sink is standard output, for this command alone.
    pub from_file: bool,
    /// The sinks.
    pub sinks: Vec<SinkSettings>,
    /// What is served over HTTP, and to whom.
    pub http: HttpSettings,
    /// The level of the log.
    pub log_level: LogLevel,
    /// The form of log lines.
    pub log_format: LogFormat,
}

/// Settings of the API client.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiSettings {
    /// The base URL, https unless it is loopback.
    pub base_url: Url,
    /// A file that contains the token and nothing else.
    pub token_file: Option<PathBuf>,
    /// The longest one attempt of a request may take.
    pub timeout: Duration,
    /// The most requests in a second, all feeds together.
    pub requests_per_second: NonZeroU32,
    /// The most requests in flight, all feeds together.
    pub concurrency: InFlight,
}

/// The level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Errors that end the program or need action.
    Error,
    /// Problems worth a look.
    Warn,
    /// Events of normal operation.
    Info,
    /// Details.
    Debug,
    /// Everything.
    Trace,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings from flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces the configured tasks, and that all are mirrored, unless empty.
    pub tasks: Vec<String>,
    /// Mirrors every task of the account, beside the configured ones.
    pub all_tasks: bool,
    /// The database file.
    pub database: Option<PathBuf>,
    /// The form of log lines.
    pub log_format: Option<LogFormat>,
}

impl Settings {
    /// Validates a tree of settings.
    pub(super) fn from_tree(
        tree: Map<String, Value>,
        overrides: Overrides,
    ) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut root = Reader::new("", tree, &mut problems);

        let named = !overrides.tasks.is_empty();
        let tasks = tasks(&mut root, overrides.tasks);
        let discover_tasks = root.flag("discover_tasks", false);
        let discover_tasks = overrides.all_tasks || (discover_tasks && !named);
        let api = root.section("api", api);
        let (path, readers) = root.section("database", database);
        let database = overrides
            .database
            .or(path.map(PathBuf::from))
            .unwrap_or_else(|| "apify-mirror.db".into());
        let mut sync = root.section("sync", sync);
        let retention = root.section("retention", retention);
        let sinks = sinks::read(&mut root, &database);
        let http = root.section("http", http::read);
        let (log_level, log_format) = root.section("log", log);
        root.finish();

        let Some(api) = api.filter(|_| problems.is_empty()) else {
            return Err(Problems(problems));
        };
        sync.read_ahead = api.concurrency.most();
        let log_format = overrides.log_format.unwrap_or(log_format);
        Ok(Self {
            tasks,
            discover_tasks,
            api,
            database,
            readers,
            sync,
            retention,
            from_file: true,
            sinks,
            http,
            log_level,
            log_format,
        })
    }

    /// The default settings.
    ///
    /// # Errors
    /// Never; the defaults pass the same validation as everything else, which a test checks.
    pub fn defaults() -> Result<Self, Problems> {
        Self::from_tree(Map::new(), Overrides::default())
    }

    /// The same settings, for a command that has no configuration file.
    #[must_use]
    pub(super) fn without_file(self) -> Self {
        Self {
            from_file: false,
            sinks: vec![sinks::temporary()],
            ..self
        }
    }

    /// The same settings, for a command whose standard output is the journal: events go there only where that is configured.
    #[must_use]
    pub fn for_the_journal(mut self) -> Self {
        self.sinks.retain(|sink| !sink.implied);
        self
    }

    /// The sinks with the current value of every secret.
    ///
    /// # Errors
    /// When a sink's secret is missing or not valid, a sink would write into the database or into another sink's file, or
    /// a variable names a proxy or certificates that cannot be used.
    pub fn resolved_sinks(&self, environment: &Environment) -> Result<Vec<SinkSettings>, Problems> {
        let mut problems = check_variables(environment);
        problems.extend(sinks::check_places(
            &self.sinks,
            &self.database,
            &self.token_files(),
        ));
        let mut resolved = Vec::new();
        for (n, sink) in self.sinks.iter().enumerate() {
            match sink.resolve(n, environment) {
                Ok(sink) => resolved.push(sink),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(resolved)
        } else {
            Err(Problems(problems))
        }
    }

    /// The files that hold tokens.
    fn token_files(&self) -> Vec<&Path> {
        let files = [&self.api.token_file, &self.http.read_token_file];
        files.into_iter().filter_map(Option::as_deref).collect()
    }

    /// Checks that the configuration file is one for secrets, if there is any in it.
    pub(super) fn check_inline_secrets(
        &self,
        check: impl Fn() -> Result<(), Untrusted>,
    ) -> Result<(), Problems> {
        let inline = self.sinks.iter().enumerate().find_map(|(n, sink)| {
            let key = sink.options.inline_secret()?;
            Some(format!("sinks[{n}].{key}"))
        });
        let Some(key) = inline else { return Ok(()) };
        check().map_err(|untrusted| {
            let message = format!(
                "is given in a file that is not for secrets: {untrusted}; or give it in a file of its own (`secret_file`, `headers_file`)"
            );
            Problem::new(key, message).into()
        })
    }

    /// The environment variables that hold secrets of sinks.
    pub fn secret_variables(&self) -> Vec<String> {
        let variables = self
            .sinks
            .iter()
            .filter_map(|sink| sink.options.secret_variable());
        variables.map(str::to_owned).collect()
    }

    /// Checks that there is something to mirror.
    ///
    /// # Errors
    /// When no task is named and discovery is off.
    pub fn require_tasks(&self) -> Result<(), Problems> {
        if self.tasks.is_empty() && !self.discover_tasks {
            let message = "names no task; add one (`tasks = [\"janedoe~my-task\"]` or `--task janedoe~my-task`), \
                           or mirror all (`discover_tasks = true` or `--all-tasks`)";
            return Err(Problem::new("tasks", message).into());
        }
        Ok(())
    }
}

/// Reads the configured tasks; `flags` replace them unless empty.
fn tasks(root: &mut Reader<'_>, flags: Vec<String>) -> Vec<String> {
    let configured = root.texts("tasks").unwrap_or_default();
    let tasks = if flags.is_empty() { configured } else { flags };
    for (n, task) in tasks.iter().enumerate() {
        if let Err(message) = check_reference(task) {
            root.problem(&format!("tasks[{n}]"), message);
        }
    }
    tasks
}

fn api(section: &mut Reader<'_>) -> Option<ApiSettings> {
    let base_url = section
        .text("base_url")
        .unwrap_or_else(|| "https://api.apify.com".to_owned());
    let base_url =
        check_base_url(&base_url).map_err(|message| section.problem("base_url", message));
    let token_file = section
        .text("token_file")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let timeout = section.duration("timeout", SECOND..=HOUR, Duration::from_secs(30));
    let rate = section.number("requests_per_second", 1..=MOST_REQUESTS_PER_SECOND, 60);
    let concurrency = section.number_or_auto("concurrency", 1..=MOST_IN_FLIGHT as u32);
    Some(ApiSettings {
        base_url: base_url.ok()?,
        token_file,
        timeout,
        requests_per_second: NonZeroU32::new(rate)?,
        concurrency: concurrency.map_or(InFlight::Auto, |number| InFlight::Fixed(number as usize)),
    })
}

/// The policies for details, by name.
const DETAILS: [(&str, Details); 3] = [
    ("none", Details::None),
    ("failed", Details::Failed),
    ("all", Details::All),
];

fn sync(section: &mut Reader<'_>) -> crate::sync::Settings {
    let settings = crate::sync::Settings {
        poll_interval: section.duration(
            "poll_interval",
            Duration::from_millis(100)..=DAY,
            15 * SECOND,
        ),
        // A page of one entry could not both overlap the previous page and contain something new.
        page_size: section.number("page_size", 2..=1_000, 1_000),
        overlap: section.number("overlap", 0..=500, 20),
        watch_interval: section.duration("watch_interval", Duration::ZERO..=30 * DAY, 60 * SECOND),
        settle: section.duration("settle", Duration::ZERO..=MAX_SETTLE, 60 * SECOND),
        audit_interval: Some(section.duration("audit_interval", SECOND..=365 * DAY, 6 * HOUR)),
        read_ahead: 1,
        history_events: section.flag("history_events", false),
        details: section.choice("details", &DETAILS, Details::None),
        seed: Seed::default(),
    };
    if settings.overlap >= settings.page_size {
        let message = format!(
            "is {}; it must be less than `sync.page_size`, which is {}",
            settings.overlap, settings.page_size
        );
        section.problem("overlap", message);
    }
    settings
}

fn retention(section: &mut Reader<'_>) -> Retention {
    let mut keep = |key| section.duration_or_forever(key, SECOND..=36_500 * DAY);
    Retention {
        removed_runs: keep("removed_runs"),
        events: keep("events"),
        dead_deliveries: keep("dead_deliveries"),
    }
}

fn log(section: &mut Reader<'_>) -> (LogLevel, LogFormat) {
    let levels = [
        ("off", LogLevel::Off),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let level = section.choice("level", &levels, LogLevel::Info);
    let format = section.choice(
        "format",
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        LogFormat::Text,
    );
    (level, format)
}

fn database(section: &mut Reader<'_>) -> (Option<String>, Readers) {
    let path = section.text("path");
    if let Some(Err(message)) = path.as_deref().map(check_database_path) {
        section.problem("path", message);
    }
    let modes = [("0600", Readers::Owner), ("0640", Readers::Group)];
    (path, section.choice("mode", &modes, Readers::Owner))
}

/// Checks that `path` names a file. SQLite would take some names for something else.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub fn check_database_path(path: &str) -> Result<(), String> {
    if path.trim().is_empty() {
        return Err("is empty; name a file, or leave it out for \"apify-mirror.db\"".to_owned());
    }
    if looks_like_token(path) {
        return Err(LOOKS_LIKE_A_TOKEN.to_owned());
    }
    let is_address = ["file:", "sqlite:", ":memory:"]
        .iter()
        .any(|beginning| path.starts_with(beginning));
    if is_address || path.contains("://") {
        // It may hold a password.
        let message = "is an address; write the plain path of a file, such as \"runs.db\"";
        return Err(message.to_owned());
    }
    Ok(())
}

/// A task is named by its id, by `username~name`, or by `~name` for one of the token's owner.
///
/// # Errors
/// What is wrong with it, and the remedy, without any of it: an address may have been pasted, with a token in it.
pub fn check_reference(task: &str) -> Result<(), &'static str> {
    if looks_like_token(task) {
        return Err(LOOKS_LIKE_A_TOKEN);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let (owner, name) = task.split_once('~').unwrap_or(("", task));
    let fits = !name.is_empty()
        && name.chars().all(plain)
        && owner.chars().all(plain)
        && !name.chars().all(|c| c == '.');
    if fits {
        return Ok(());
    }
    Err("is no task; name one by its ID, by `username~task-name` or by `~task-name`")
}

/// Messages contain none of the address, which may be a token in the wrong place or hold a password.
fn check_base_url(text: &str) -> Result<Url, String> {
    if text.is_empty() {
        return Err("is empty; write \"https://api.apify.com\", or leave it out".to_owned());
    }
    let url = Url::parse(text)
        .map_err(|error| format!("is not an address ({error}); write \"https://api.apify.com\""))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "has a user or a password in it; remove that, only the token is needed".to_owned(),
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a `?` or a `#` in it; leave out everything from there on".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(
            "is plain http; use https to protect the token (http is for loopback only)".to_owned(),
        ),
        _ => Err("must begin with https://".to_owned()),
    }
}
