//! The environment of programs: a harmless part of this process's own, what the configuration names, and the event.

use std::ffi::OsString;

use serde_json::Value;

use crate::options::{LOOKS_LIKE_A_TOKEN, Reader, looks_like_token};

/// The longest value of an environment variable, in bytes, well below the system's limit.
const MAX_VARIABLE: usize = 4 << 10;

/// Variables that hold this program's own secrets, or lead to them.
const OUR_SECRETS: [&str; 2] = ["APIFY_TOKEN", "CREDENTIALS_DIRECTORY"];

/// The variables of this process's environment that every program gets. Those of proxies, which may hold a password, are
/// not among them.
const PASSED: [&str; 11] = [
    "HOME",
    "LANG",
    "LOGNAME",
    "PATH",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
];

/// How the names of more of them begin.
const PASSED_BEGINNINGS: [&str; 2] = ["LC_", "XDG_"];

/// The parts of an event's body that are passed in the environment.
const VARIABLES: [(&str, &str); 8] = [
    ("APIFY_EVENT_ID", "/id"),
    ("APIFY_EVENT_SEQUENCE", "/sequence"),
    ("APIFY_EVENT_TYPE", "/eventType"),
    ("APIFY_ACTOR_ID", "/eventData/actorId"),
    ("APIFY_TASK_ID", "/eventData/actorTaskId"),
    ("APIFY_RUN_ID", "/eventData/actorRunId"),
    ("APIFY_STATUS", "/status"),
    ("APIFY_PREVIOUS_STATUS", "/previousStatus"),
];

/// Reads the names of the variables that the program gets by its configuration. A name is not repeated: it may be a
/// secret in the wrong place.
pub(super) fn read(section: &mut Reader<'_>) -> Vec<String> {
    let names = section.list("environment").unwrap_or_default();
    for (n, name) in names.iter().enumerate() {
        if let Err(message) = check_name(name) {
            section.problem(&format!("environment[{n}]"), message);
        }
    }
    names
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(
            "is no name of a variable: letters, digits and `_`; its value comes from the environment of apify-mirror",
        );
    }
    if looks_like_token(name) {
        return Err(LOOKS_LIKE_A_TOKEN);
    }
    if OUR_SECRETS.contains(&name) {
        return Err("holds the API token, or leads to it, which no program gets; leave it out");
    }
    if VARIABLES.iter().any(|(variable, _)| *variable == name) {
        return Err("is set by apify-mirror itself, from the event; leave it out");
    }
    Ok(())
}

/// The part of this process's environment that a program gets: what is harmless, and what `named` adds, except for what
/// `hidden` names.
pub(super) fn passed(named: &[String], hidden: &[String]) -> Vec<(OsString, OsString)> {
    let is_passed = |name: &str| {
        let is_harmless = PASSED.contains(&name)
            || PASSED_BEGINNINGS
                .iter()
                .any(|beginning| name.starts_with(beginning));
        let is = |other: &String| other == name;
        (is_harmless || named.iter().any(is)) && !hidden.iter().any(is)
    };
    std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(is_passed))
        .collect()
}

/// The variables that describe an event, from its body.
pub(super) fn of_event(body: &str) -> impl Iterator<Item = (&'static str, String)> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    VARIABLES.into_iter().filter_map(move |(name, path)| {
        let text = match body.pointer(path)? {
            Value::String(text) if text.len() <= MAX_VARIABLE && !text.contains('\0') => {
                text.clone()
            }
            number @ Value::Number(_) => number.to_string(),
            _ => return None,
        };
        Some((name, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_what_is_harmless_and_what_is_named() {
        // Cargo sets many variables for tests, and no test can set one.
        let names = |named: &[&str], hidden: &[&str]| -> Vec<String> {
            let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
            passed(&owned(named), &owned(hidden))
                .into_iter()
                .map(|(name, _)| name.into_string().unwrap())
                .collect()
        };
        let is_cargos = |name: &String| name.starts_with("CARGO");
        let harmless = names(&[], &[]);
        assert!(harmless.contains(&"PATH".to_owned()) && !harmless.iter().any(is_cargos));
        let named = names(&["CARGO_PKG_NAME", "CARGO_NO_SUCH"], &[]);
        assert_eq!(named.iter().filter(|name| is_cargos(name)).count(), 1);
        assert!(
            !names(&["CARGO_PKG_NAME"], &["CARGO_PKG_NAME"])
                .iter()
                .any(is_cargos)
        );
        assert!(!names(&[], &["PATH"]).contains(&"PATH".to_owned()));
    }
}
