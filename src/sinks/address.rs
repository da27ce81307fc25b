//! The address of a webhook. It is often a secret itself, so that no message contains more than its origin.

use std::path::PathBuf;

use reqwest::Url;
use secrecy::ExposeSecret;

use super::secret::read_file;
use crate::options::{Environment, LOOKS_LIKE_A_TOKEN, Problem, Reader, looks_like_token};
use crate::web::is_loopback;

/// Where the address of a webhook is.
#[derive(Clone, PartialEq)]
pub enum Address {
    /// The address itself, from the configuration or already resolved.
    Url(Url),
    /// In a file that holds nothing else.
    File(PathBuf),
}

impl Address {
    /// Reads the configuration keys `url` and `url_file`; `None` when there was a problem.
    pub(super) fn read(section: &mut Reader<'_>) -> Option<Self> {
        let (url, file) = (section.secret("url"), section.secret("url_file"));
        match (url, file.filter(|path| !path.is_empty())) {
            (Some(url), None) => parse(&url)
                .map(Self::Url)
                .map_err(|message| section.problem("url", message))
                .ok(),
            (None, Some(path)) => Some(Self::File(path.into())),
            (Some(_), Some(_)) => {
                section.problem("url", "is given twice; keep one of `url` and `url_file`");
                None
            }
            (None, None) => {
                let message = "is missing; it is the address that events are posted to, or `url_file` names the file that \
                               holds it";
                section.problem("url", message);
                None
            }
        }
    }

    /// Returns the same address, read from its file.
    ///
    /// # Errors
    /// When the file holds no valid address.
    pub(super) fn resolve(&self, environment: &Environment) -> Result<Self, Problem> {
        let Self::File(path) = self else {
            return Ok(self.clone());
        };
        let read = read_file(path, environment).map_err(|error| error.to_string());
        read.and_then(|text| parse(text.expose_secret().trim()))
            .map(Self::Url)
            .map_err(|message| Problem::new("url_file", message))
    }

    /// The address, unless it has to be read from its file first.
    pub(super) fn url(&self) -> Option<&Url> {
        match self {
            Self::Url(url) => Some(url),
            Self::File(_) => None,
        }
    }
}

/// Whether what is sent to `url` can be read on the way.
pub(super) fn is_plain(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

fn parse(text: &str) -> Result<Url, String> {
    // `Url::parse` drops line ends and tabs.
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("is not an address alone: it contains white space".to_owned());
    }
    let url = Url::parse(text)
        .map_err(|error| format!("is not an address ({error}); write \"https://...\""))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("must begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "has a user or a password in it; use the header `authorization` for that: `headers_file`".to_owned(),
        );
    }
    // The host is shown, in errors of the sink.
    if url.host_str().is_some_and(looks_like_token) {
        return Err(LOOKS_LIKE_A_TOKEN.to_owned());
    }
    Ok(url)
}
