//! The `[[sinks]]` sections, validated.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::layers::Environment;
use super::reader::{Problem, Reader};
use super::secrets::SecretSource;
use crate::model::{EventType, RunStatus};
use crate::sinks::{OWN_HEADERS, SigningKeys};
use crate::web::is_loopback;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Apify's own webhooks are tried for about as long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(32 * 3_600);

/// The types of sinks, as the configuration names them.
const TYPES: &str = "`stdout`, `file`, `webhook` or `exec`";

/// Somewhere events go.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkSettings {
    /// The name its deliveries are booked under.
    pub name: String,
    /// The types of events it wants; `None` for all.
    pub events: Option<Vec<String>>,
    /// How long after its first attempt an event is given up on.
    pub give_up_after: Duration,
    /// What it gets if it is added later.
    pub start: Start,
    /// What it is.
    pub target: Target,
}

/// What a sink gets that is added to a mirror which has events already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// What happens from then on.
    Now,
    /// All that has happened too.
    Beginning,
}

/// What a sink is.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file that is appended to.
    File {
        /// The file.
        path: PathBuf,
    },
    /// An address that is posted to.
    Webhook(WebhookSettings),
    /// A program that is run.
    Exec(ExecSettings),
}

/// An address that is posted to.
#[derive(Clone, PartialEq)]
pub struct WebhookSettings {
    /// The address.
    pub url: Url,
    /// Where its secrets are.
    pub secret: SecretSource,
    /// More headers.
    pub headers: HeaderMap,
    /// The longest one attempt may take.
    pub timeout: Duration,
    /// The most attempts at once.
    pub concurrency: usize,
}

/// A program that is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSettings {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The longest one run of it may take.
    pub timeout: Duration,
    /// The most runs of it at once.
    pub concurrency: usize,
}

impl Target {
    /// The type's name, as the configuration has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::File { .. } => "file",
            Self::Webhook(_) => "webhook",
            Self::Exec(_) => "exec",
        }
    }
}

impl SinkSettings {
    /// The keys that the `n`-th sink's events are signed with, as they are now.
    pub(super) fn keys(&self, n: usize, environment: &Environment) -> Result<SigningKeys, Problem> {
        let Target::Webhook(WebhookSettings { secret, .. }) = &self.target else {
            return Ok(SigningKeys::default());
        };
        let key = match secret {
            SecretSource::File(_) => "secret_file",
            SecretSource::Variable(_) => "secret_env",
            SecretSource::None | SecretSource::Inline(_) => "secret",
        };
        secret
            .keys(environment)
            .map_err(|error| Problem::new(format!("sinks[{n}].{key}"), error.to_string()))
    }

    /// The environment variable that holds its secret.
    pub(super) fn secret_variable(&self) -> Option<&str> {
        match &self.target {
            Target::Webhook(WebhookSettings {
                secret: SecretSource::Variable(name),
                ..
            }) => Some(name),
            _ => None,
        }
    }
}

/// Addresses may hold secrets.
impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// Without the key, events go to standard output; an empty list means nowhere.
pub(super) fn sinks(root: &mut Reader<'_>, database: &Path) -> Vec<SinkSettings> {
    let Some(sinks) = root.tables("sinks", sink) else {
        return vec![SinkSettings {
            name: "stdout".to_owned(),
            events: None,
            give_up_after: GIVE_UP_AFTER,
            start: Start::Now,
            target: Target::Stdout,
        }];
    };
    let (mut names, mut places) = (HashSet::new(), HashSet::new());
    for (n, sink) in sinks.iter().enumerate() {
        if !names.insert(&sink.name) {
            root.problem(
                &format!("sinks[{n}].name"),
                format!(
                    "is {:?}, as another sink's; give it one of its own",
                    sink.name
                ),
            );
        }
        let place = match &sink.target {
            Target::Stdout => Some(("type", None)),
            Target::File { path } => Some(("path", Some(path))),
            Target::Webhook(_) | Target::Exec(_) => None,
        };
        if place == Some(("path", Some(&database.to_owned()))) {
            root.problem(
                &format!("sinks[{n}].path"),
                "is the database; name another file",
            );
        }
        if let Some((key, _)) = place.filter(|place| !places.insert(*place)) {
            root.problem(
                &format!("sinks[{n}].{key}"),
                "is another sink's too, and their lines would mix; give it its own",
            );
        }
    }
    sinks
}

fn sink(section: &mut Reader<'_>) -> SinkSettings {
    let name = section.text("name").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        section.problem(
            "name",
            format!("is {name:?}; a sink needs a name of letters, digits, `-` and `_`"),
        );
    }
    let kind = section.text("type");
    let events = section.texts("events");
    for event in events.iter().flatten() {
        if !known_events().any(|known| known == *event) {
            let known: Vec<_> = known_events().collect();
            section.problem(
                "events",
                format!("has {event:?}; known are {}", known.join(", ")),
            );
        }
    }
    if events.as_ref().is_some_and(Vec::is_empty) {
        section.problem(
            "events",
            "is empty, so the sink would get nothing; leave it out for all events",
        );
    }
    let give_up_after = section.duration("give_up_after", SECOND..=8_760 * HOUR, GIVE_UP_AFTER);
    let start = section.choice(
        "start",
        &[("now", Start::Now), ("beginning", Start::Beginning)],
        Start::Now,
    );
    let target = match kind.as_deref() {
        Some("stdout") => Some(Target::Stdout),
        Some("file") => file(section),
        Some("webhook") => webhook(section),
        Some("exec") => exec(section),
        other => {
            let is = other.map_or_else(|| "is missing".to_owned(), |other| format!("is {other:?}"));
            section.problem("type", format!("{is}; it must be {TYPES}"));
            section.forgive();
            None
        }
    };
    // Where there is none, a problem has been noted, and nobody will see this.
    SinkSettings {
        name,
        events,
        give_up_after,
        start,
        target: target.unwrap_or(Target::Stdout),
    }
}

fn file(section: &mut Reader<'_>) -> Option<Target> {
    let path = section.text("path").filter(|path| !path.is_empty());
    if path.is_none() {
        section.problem(
            "path",
            "is missing; name the file that events are appended to",
        );
    }
    Some(Target::File { path: path?.into() })
}

fn webhook(section: &mut Reader<'_>) -> Option<Target> {
    let url = section.secret("url").or_else(|| {
        section.problem(
            "url",
            "is missing; it is the address that events are posted to",
        );
        None
    });
    let url = url.and_then(|url| {
        check_url(&url)
            .map_err(|message| section.problem("url", message))
            .ok()
    });
    let headers = headers(section);
    if let Some(url) = &url
        && url.scheme() == "http"
        && !is_loopback(url)
        && !headers.is_empty()
    {
        section.problem(
            "url",
            "is plain http, so that the headers could be read on the way; use https",
        );
    }
    let secret = secret(section);
    let timeout = section.duration("timeout", Duration::from_millis(100)..=HOUR, 30 * SECOND);
    let concurrency = section.number("concurrency", 1..=256, 8) as usize;
    Some(Target::Webhook(WebhookSettings {
        url: url?,
        secret,
        headers,
        timeout,
        concurrency,
    }))
}

/// No message repeats an address: many hold a secret in their path.
fn check_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("is not an address ({error}); write \"https://...\""))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("must begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "has a user or a password in it; use `headers = { authorization = \"Basic ...\" }` instead".to_owned()
        );
    }
    Ok(url)
}

fn headers(section: &mut Reader<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in section.secret_table("headers") {
        let key = format!("headers.{name}");
        match (HeaderName::try_from(&name), HeaderValue::try_from(value)) {
            (Ok(name), _) if OWN_HEADERS.contains(&name.as_str()) => {
                section.problem(&key, "is set by apify-mirror itself; leave it out");
            }
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            (Err(_), _) => section.problem(&key, "is not the name of a header"),
            (_, Err(_)) => section.problem(
                &key,
                "has a value that no header can have, such as one with a line end",
            ),
        }
    }
    headers
}

fn secret(section: &mut Reader<'_>) -> SecretSource {
    let inline = section.secret("secret");
    let file = section
        .secret("secret_file")
        .filter(|path| !path.is_empty());
    let variable = section.secret("secret_env").filter(|name| !name.is_empty());
    // Neither must find its way into a message about a file or a variable that does not exist.
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if file
        .as_ref()
        .is_some_and(|path| path.trim_start().starts_with("whsec_"))
    {
        section.problem(
            "secret_file",
            "holds a secret itself, not where to find it; that is what `secret` is for",
        );
        return SecretSource::None;
    }
    if variable.as_ref().is_some_and(|name| !is_name(name)) {
        section.problem(
            "secret_env",
            "must be the name of an environment variable: letters, digits and `_`",
        );
        return SecretSource::None;
    }
    if [inline.is_some(), file.is_some(), variable.is_some()]
        .into_iter()
        .filter(|is| *is)
        .count()
        > 1
    {
        section.problem(
            "secret",
            "is given more than once; keep one of `secret`, `secret_file` and `secret_env`",
        );
    }
    match (inline, file, variable) {
        (Some(text), ..) => match SigningKeys::parse(&text) {
            Ok(keys) => SecretSource::Inline(keys),
            Err(invalid) => {
                section.problem("secret", invalid.to_string());
                SecretSource::None
            }
        },
        (None, Some(path), _) => SecretSource::File(path.into()),
        (None, None, Some(name)) => SecretSource::Variable(name),
        (None, None, None) => SecretSource::None,
    }
}

fn exec(section: &mut Reader<'_>) -> Option<Target> {
    let mut command = section.list("command").unwrap_or_default().into_iter();
    let timeout = section.duration("timeout", Duration::from_millis(100)..=HOUR, 60 * SECOND);
    let concurrency = section.number("concurrency", 1..=64, 1) as usize;
    let program = command.next().filter(|program| !program.is_empty());
    if program.is_none() {
        section.problem(
            "command",
            "is missing or empty; name a program and its arguments: [\"prog\", \"arg\"]",
        );
    }
    Some(Target::Exec(ExecSettings {
        program: program?,
        arguments: command.collect(),
        timeout,
        concurrency,
    }))
}

fn known_events() -> impl Iterator<Item = String> {
    let entered = RunStatus::ACTIVE
        .into_iter()
        .chain(RunStatus::TERMINAL)
        .map(EventType::Entered);
    [EventType::Created, EventType::Resurrected]
        .into_iter()
        .chain(entered)
        .map(|event| event.name())
}
