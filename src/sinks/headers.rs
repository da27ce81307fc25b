//! The additional headers of a webhook, from the configuration and from a file. No message contains a value.

use std::path::Path;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use super::secret::read_file;
use crate::options::{Environment, Problem, Reader};

/// Headers that the configuration must not set.
const OWN_HEADERS: [&str; 7] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "content-type",
    "content-length",
    "transfer-encoding",
    "host",
];

/// What the names of headers contain that hold a secret.
const SECRET_NAMES: [&str; 9] = [
    "auth",
    "cookie",
    "credential",
    "key",
    "pass",
    "secret",
    "session",
    "signature",
    "token",
];

/// Reads the configuration key `headers`.
pub(super) fn read(section: &mut Reader<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in section.secret_table("headers") {
        if let Err(message) = add(&mut headers, &name, &value) {
            section.problem(&format!("headers.{name}"), message);
        }
    }
    headers
}

/// Adds the headers in the file `path`, which has a line `Name: value` for each. Messages show neither.
///
/// # Errors
/// When the file cannot be used, or a line is no such header.
pub(super) fn add_file(
    headers: &mut HeaderMap,
    path: &Path,
    environment: &Environment,
) -> Result<(), Problem> {
    let problem = |message: String| Problem::new("headers_file", message);
    let text = read_file(path, environment).map_err(|error| problem(error.to_string()))?;
    for (n, line) in text.expose_secret().lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| problem(format!("line {} is no header; write `Name: value`", n + 1)))?;
        add(headers, name.trim(), value.trim())
            .map_err(|message| problem(format!("line {} {message}", n + 1)))?;
    }
    Ok(())
}

/// Whether a header of this name usually holds a secret.
pub(super) fn is_secret(name: &HeaderName) -> bool {
    SECRET_NAMES.iter().any(|part| name.as_str().contains(part))
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "is not the name of a header")?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err("is set by apify-mirror itself; leave it out");
    }
    if headers.contains_key(&name) {
        return Err("is given twice; leave one out");
    }
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| "has a value that no header can have, such as one with a line end")?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}
