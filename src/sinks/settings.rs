//! The `[[sinks]]` sections: the keys common to all sinks, and the table of types.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::options::{Place, SinkOptions};
use super::stdout::StdoutOptions;
use super::{exec, file, stdout, webhook};
use crate::model::{EventType, Registration, Subscription, TEMPORARY_SINK};
use crate::options::{
    Environment, HOUR, LOOKS_LIKE_A_TOKEN, Problem, Reader, SECOND, looks_like_token,
};

/// About as long as Apify retries its own webhooks.
const GIVE_UP_AFTER: Duration = Duration::from_secs(32 * 3_600);

/// Reads the keys of one type of sink; `None` when there was a problem.
type ReadOptions = fn(&mut Reader<'_>) -> Option<Arc<dyn SinkOptions>>;

/// The types of sinks, by their names in the configuration. A new type is a file of its own and a line here.
const TYPES: [(&str, ReadOptions); 4] = [
    ("stdout", stdout::read),
    ("file", file::read),
    ("webhook", webhook::read),
    ("exec", exec::read),
];

/// The configuration of one sink.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// The name, which identifies its deliveries in the outbox.
    pub name: String,
    /// The types of events to deliver; `None` for all.
    pub events: Option<Vec<String>>,
    /// How long an event waits for further attempts before it is set aside.
    pub give_up_after: Duration,
    /// Where it starts if it is added to a mirror that has events already.
    pub start: Start,
    /// Its type, and the configuration of that type.
    pub options: Arc<dyn SinkOptions>,
    /// Whether no configuration names it: it is there because nothing else was asked for. Says nothing about how it
    /// delivers, so two are equal whatever this is.
    pub implied: bool,
}

/// Where a sink starts that is added to a mirror which has events already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With events from then on; where it was before, it goes on where it stopped.
    Now,
    /// With all events in the log.
    Beginning,
}

impl PartialEq for SinkSettings {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            name,
            events,
            give_up_after,
            start,
            options,
            implied: _,
        } = self;
        (name, events, give_up_after, start)
            == (
                &other.name,
                &other.events,
                &other.give_up_after,
                &other.start,
            )
            && options.equals(other.options.as_ref())
    }
}

impl SinkSettings {
    /// Returns the same settings with the current value of every secret; `n` is the index of the section, for messages.
    pub(crate) fn resolve(&self, n: usize, environment: &Environment) -> Result<Self, Problem> {
        let options = Arc::clone(&self.options).resolve(environment);
        let options = options.map_err(|Problem { path, message }| {
            Problem::new(format!("sinks[{n}].{path}"), message)
        })?;
        Ok(Self {
            options,
            ..self.clone()
        })
    }

    /// The events to deliver.
    pub fn subscription(&self) -> Subscription {
        Subscription {
            sink: self.name.clone(),
            types: self.events.clone(),
        }
    }

    /// The sink as the store registers it.
    pub fn registration(&self) -> Registration {
        Registration {
            subscription: self.subscription(),
            kind: self.options.kind(),
            from_beginning: self.start == Start::Beginning,
        }
    }
}

/// Reads every section. Without the key `sinks`, events go to standard output; an empty list means no sinks.
pub(crate) fn read(root: &mut Reader<'_>, database: &Path) -> Vec<SinkSettings> {
    let Some(sinks) = root.tables("sinks", sink) else {
        return vec![stdout_named("stdout")];
    };
    check_environments(root, &sinks);
    let (mut names, mut places) = (HashSet::new(), HashSet::new());
    for (n, sink) in sinks.iter().enumerate() {
        let Some(sink) = sink else { continue };
        if !names.insert(&sink.name) {
            let message = format!(
                "is {:?}, as another sink's; give it one of its own",
                sink.name
            );
            root.problem(&format!("sinks[{n}].name"), message);
        }
        let Some(place) = sink.options.place() else {
            continue;
        };
        let key = format!("sinks[{n}].{}", place.key());
        if place == Place::File(database.to_owned()) {
            root.problem(&key, "is the database; name another file");
        }
        if !places.insert(place) {
            root.problem(
                &key,
                "is another sink's too, and their lines would mix; give it its own",
            );
        }
    }
    sinks.into_iter().flatten().collect()
}

/// Checks that no program gets the secret of another sink from the environment. Names are not repeated: one may be a
/// secret in the wrong place.
fn check_environments(root: &mut Reader<'_>, sinks: &[Option<SinkSettings>]) {
    let secrets: HashSet<&str> = sinks
        .iter()
        .flatten()
        .filter_map(|sink| sink.options.secret_variable())
        .collect();
    for (n, sink) in sinks.iter().enumerate() {
        let passed = sink.iter().flat_map(|sink| sink.options.passed_variables());
        for (i, _) in passed
            .enumerate()
            .filter(|(_, name)| secrets.contains(name.as_str()))
        {
            root.problem(
                &format!("sinks[{n}].environment[{i}]"),
                "holds the secret of a sink (its `secret_env`), which no program gets; leave it out",
            );
        }
    }
}

/// The sink of a command without a configuration file: standard output, for that command alone.
pub(crate) fn temporary() -> SinkSettings {
    stdout_named(TEMPORARY_SINK)
}

fn stdout_named(name: &str) -> SinkSettings {
    SinkSettings {
        name: name.to_owned(),
        events: None,
        give_up_after: GIVE_UP_AFTER,
        start: Start::Now,
        options: Arc::new(StdoutOptions),
        implied: true,
    }
}

/// Reads a section; `None` when a problem with its type or the keys of its type was noted.
fn sink(section: &mut Reader<'_>) -> Option<SinkSettings> {
    let name = section.text("name").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        let message = format!("is {name:?}; a sink needs a name of letters, digits, `-` and `_`");
        section.problem("name", message);
    }
    let kind = section.text("type");
    let events = events(section);
    let give_up_after = section.duration("give_up_after", SECOND..=8_760 * HOUR, GIVE_UP_AFTER);
    let starts = [("now", Start::Now), ("beginning", Start::Beginning)];
    let start = section.choice("start", &starts, Start::Now);
    let found = TYPES
        .iter()
        .find(|(name, _)| Some(*name) == kind.as_deref());
    let options = match found {
        Some((_, read)) => read(section),
        None => {
            let is = kind.map_or_else(|| "is missing".to_owned(), |kind| format!("is {kind:?}"));
            let names = TYPES.map(|(name, _)| format!("`{name}`"));
            section.problem("type", format!("{is}; it must be {}", one_of(&names)));
            section.ignore_rest();
            None
        }
    };
    Some(SinkSettings {
        name,
        events,
        give_up_after,
        start,
        options: options?,
        implied: false,
    })
}

fn events(section: &mut Reader<'_>) -> Option<Vec<String>> {
    let events = section.texts("events")?;
    for event in &events {
        if looks_like_token(event) {
            section.problem("events", LOOKS_LIKE_A_TOKEN);
        } else if !known_events().any(|known| known == *event) {
            let known: Vec<_> = known_events().collect();
            section.problem(
                "events",
                format!("has {event:?}; known are {}", known.join(", ")),
            );
        }
    }
    if events.is_empty() {
        section.problem(
            "events",
            "is empty, so the sink would get nothing; leave it out for all events",
        );
    }
    Some(events)
}

/// `a, b or c`.
fn one_of(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    }
}

fn known_events() -> impl Iterator<Item = String> {
    EventType::known().map(|event| event.name())
}
