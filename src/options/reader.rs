//! Taking typed values out of a table of options, and reporting everything that is wrong with it.
//!
//! Written by hand, because no library does all of this: every problem is found at once, by the path of its key; an
//! unknown key comes with the nearest known one; a value from an environment variable, which is text, may stand for a
//! number or a list; and no message repeats what may be a secret. Serde stops at the first problem.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use config::{Map, Value, ValueKind};

use super::tokens::{LOOKS_LIKE_A_TOKEN, looks_like_token};
use super::units::DAY;
use crate::text::{MAX_SHOWN, escape};

/// The least similarity (Jaro-Winkler) at which a known key is suggested for an unknown one.
const ALIKE: f64 = 0.8;

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key's path, e.g. `sync.page_size`.
    pub path: String,
    /// The mistake, and its remedy.
    pub message: String,
}

/// All mistakes in the configuration, at least one. `Display` gives each a line; what others wrote in it is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problem {
    /// A mistake at the key `path`.
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Problem { path, message }) in self.0.iter().enumerate() {
            let line = if n == 0 { "" } else { "\n" };
            let problem = escape(format_args!("{path}: {message}"), MAX_SHOWN);
            write!(f, "{line}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A value as messages show it: without the content of tables and lists, which may hold secrets, and without anything that
/// looks like one.
fn shown(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::String(text) if text.contains("whsec_") => "a secret".to_owned(),
        ValueKind::String(text) if looks_like_token(text) => {
            "what looks like an API token".to_owned()
        }
        ValueKind::String(text) if text.is_empty() => "empty".to_owned(),
        other => other.to_string(),
    }
}

fn shown_in_quotes(text: &str) -> String {
    if text.is_empty() {
        "empty".to_owned()
    } else {
        format!("{text:?}")
    }
}

/// A table of options, read key by key; keys that were never asked for are unknown. A value that is absent or wrong gives
/// `None` or the default; one that is wrong is a problem, too.
pub struct Reader<'a> {
    prefix: String,
    table: Map<String, Value>,
    known: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Reads `table`; the paths of its keys begin with `prefix`, e.g. `sync.`.
    pub fn new(
        prefix: impl Into<String>,
        table: Map<String, Value>,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        Self {
            prefix: prefix.into(),
            table,
            known: Vec::new(),
            problems,
        }
    }

    /// Reports that `key` is wrong; `message` says how, and how to repair it.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        let problem = Problem::new(format!("{}{key}", self.prefix), message);
        // A token has been taken away, and whoever asked for the value finds none.
        let is_token =
            |noted: &Problem| noted.path == problem.path && noted.message == LOOKS_LIKE_A_TOKEN;
        if !self.problems.iter().any(is_token) {
            self.problems.push(problem);
        }
    }

    /// `text`, or a problem and nothing if it looks like an API token.
    fn unless_token(&mut self, key: &str, text: String) -> Option<String> {
        if looks_like_token(&text) {
            self.problem(key, LOOKS_LIKE_A_TOKEN);
            return None;
        }
        Some(text)
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// Reads the table `key` with `read`; an absent one is empty.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        let prefix = format!("{}{key}.", self.prefix);
        let table = match self.take(key).map(|value| value.kind) {
            None => Map::new(),
            Some(ValueKind::Table(table)) => table,
            Some(other) => {
                self.problem(
                    key,
                    format!("is {}; it must be a section, `[{key}]`", shown(&other)),
                );
                Map::new()
            }
        };
        let mut reader = Reader::new(prefix, table, self.problems);
        let value = read(&mut reader);
        reader.finish();
        value
    }

    /// Reads each table of the array `key` with `read`; `None` when there is no such key.
    pub fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Reader<'_>) -> T,
    ) -> Option<Vec<T>> {
        let values = match self.take(key)?.kind {
            ValueKind::Array(values) => values,
            _ => {
                let message = format!(
                    "must be sections of their own in the file, each beginning with `[[{key}]]`; an environment \
                     variable cannot set them"
                );
                self.problem(key, message);
                return Some(Vec::new());
            }
        };
        let mut read_all = Vec::new();
        for (n, value) in values.into_iter().enumerate() {
            let ValueKind::Table(table) = value.kind else {
                self.problem(
                    &format!("{key}[{n}]"),
                    format!("must be a section, `[[{key}]]`"),
                );
                continue;
            };
            let mut reader =
                Reader::new(format!("{}{key}[{n}].", self.prefix), table, self.problems);
            read_all.push(read(&mut reader));
            reader.finish();
        }
        Some(read_all)
    }

    /// Text that is no API token; `None` when absent.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)?.kind {
            ValueKind::String(text) => self.unless_token(key, text),
            other => {
                self.problem(
                    key,
                    format!("is {}; it must be text in quotes", shown(&other)),
                );
                None
            }
        }
    }

    /// Text that must not appear in messages; `None` when absent.
    pub fn secret(&mut self, key: &'static str) -> Option<String> {
        let ValueKind::String(text) = self.take(key)?.kind else {
            self.problem(key, "must be text in quotes");
            return None;
        };
        Some(text)
    }

    /// A table of texts that must not appear in messages, sorted by name; empty when absent.
    pub fn secret_table(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let ValueKind::Table(table) = value.kind else {
            self.problem(key, "must be a table: { name = \"value\" }");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (name, value) in table {
            match value.kind {
                ValueKind::String(text) => texts.push((name, text)),
                _ => self.problem(&format!("{key}.{name}"), "must be text in quotes"),
            }
        }
        texts.sort_unstable();
        texts
    }

    /// A list of texts; `None` when absent.
    pub fn list(&mut self, key: &'static str) -> Option<Vec<String>> {
        let values = match self.take(key)?.kind {
            ValueKind::Array(values) => values,
            other => {
                let is = if matches!(other, ValueKind::String(_)) {
                    "text".to_owned()
                } else {
                    shown(&other)
                };
                self.problem(
                    key,
                    format!("is {is}; it must be a list of texts, e.g. [\"a\", \"b\"]"),
                );
                return None;
            }
        };
        let mut texts = Vec::new();
        for (n, value) in values.into_iter().enumerate() {
            match value.kind {
                ValueKind::String(text) => texts.push(text),
                other => self.problem(
                    &format!("{key}[{n}]"),
                    format!("is {}; it must be text in quotes", shown(&other)),
                ),
            }
        }
        Some(texts)
    }

    /// Drops all keys that have not been read, so that none of them is reported as unknown.
    pub fn ignore_rest(&mut self) {
        self.table.clear();
    }

    /// A list of text, or comma-separated text from an environment variable; `None` when absent.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        if let Some(ValueKind::String(text)) = self.table.get(key).map(|value| &value.kind) {
            let parts = text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect();
            self.take(key);
            return Some(parts);
        }
        self.list(key)
    }

    /// One of a few words; `default` when absent or wrong.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(key) else {
            return default;
        };
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return *value;
        }
        let names: Vec<_> = choices
            .iter()
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        self.problem(
            key,
            format!(
                "is {}; it must be one of {}",
                shown_in_quotes(&text),
                names.join(", ")
            ),
        );
        default
    }

    /// `true` or `false`; `default` when absent or wrong.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.take(key) else {
            return default;
        };
        match &value.kind {
            ValueKind::Boolean(flag) => *flag,
            ValueKind::String(text) if text == "true" => true,
            ValueKind::String(text) if text == "false" => false,
            other => {
                self.problem(
                    key,
                    format!("is {}; it must be true or false", shown(other)),
                );
                default
            }
        }
    }

    /// A whole number within `range`; `default` when absent or wrong.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
        match self.take(key) {
            Some(value) => self.whole(key, &value.kind, "", range).unwrap_or(default),
            None => default,
        }
    }

    /// `"auto"`, which is `None` and the default, or a whole number within `range`.
    pub fn number_or_auto(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.take(key)?;
        match &value.kind {
            ValueKind::String(text) if text == "auto" => None,
            kind => self.whole(key, kind, "\"auto\" or ", range),
        }
    }

    /// A whole number within `range`; a problem if it is none, which names `otherwise` as well.
    fn whole(
        &mut self,
        key: &str,
        value: &ValueKind,
        otherwise: &str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = match value {
            ValueKind::I64(number) => u32::try_from(*number).ok(),
            ValueKind::String(text) => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = range.into_inner();
            let message = format!(
                "is {}; it must be {otherwise}a whole number from {least} to {most}",
                shown(value)
            );
            self.problem(key, message);
        }
        number
    }

    /// A length of time such as `"15s"` within `range`; `default` when absent or wrong.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let Some(value) = self.take(key) else {
            return default;
        };
        let duration = match &value.kind {
            ValueKind::String(text) => parse_duration(text),
            _ => None,
        };
        if let Some(duration) = duration.filter(|duration| range.contains(duration)) {
            return duration;
        }
        let (least, most) = range.into_inner();
        let least = if least.is_zero() {
            "0s".to_owned()
        } else {
            format!("{least:?}")
        };
        let most = format!("{}h", most.as_secs() / 3_600);
        let message = format!(
            "is {}; it must be a time from {least} to {most}, with its unit: \"15s\", \"6h\"",
            shown(&value.kind)
        );
        self.problem(key, message);
        default
    }

    /// `"forever"`, which is `None` and the default, or a length of time within `range`.
    pub fn duration_or_forever(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let value = self.take(key)?;
        let text = match &value.kind {
            ValueKind::String(text) if text == "forever" => return None,
            ValueKind::String(text) => Some(text),
            _ => None,
        };
        let duration = text.and_then(|text| parse_duration(text));
        let duration = duration.filter(|duration| range.contains(duration));
        if duration.is_none() {
            let (least, most) = range.into_inner();
            let most = most.as_secs() / DAY.as_secs();
            let message = format!(
                "is {}; it must be \"forever\" or a time from {least:?} to {most}d, with its unit: \"12h\", \"90d\"",
                shown(&value.kind)
            );
            self.problem(key, message);
        }
        duration
    }

    /// Reports the keys that were not asked for.
    pub fn finish(self) {
        let mut unknown: Vec<_> = self.table.into_keys().collect();
        unknown.sort_unstable();
        for key in unknown {
            let alike = |known: &&str| strsim::jaro_winkler(known, &key);
            let nearest = self
                .known
                .iter()
                .max_by(|a, b| alike(a).total_cmp(&alike(b)))
                .filter(|known| alike(known) >= ALIKE);
            let hint = match nearest {
                Some(known) => format!("did you mean `{}{known}`?", self.prefix),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.problems.push(Problem::new(
                format!("{}{key}", self.prefix),
                format!("is no known key; {hint}"),
            ));
        }
    }
}

/// Reads a length of time with its unit; zero may be written `"0s"`. A day is 24 hours.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if let Some(days) = text.trim().strip_suffix('d') {
        let days: u32 = days.trim_end().parse().ok()?;
        return DAY.checked_mul(days);
    }
    let parsed: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(parsed).ok()
}
