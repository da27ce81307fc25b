//! What can go wrong with a request, by class.

use std::fmt;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::web::{describe, excerpt};

/// What kind of trouble it is, which decides what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// 401: the token is wrong, or none was sent.
    TokenRefused,
    /// 403: the token may not see this.
    Forbidden,
    /// 404: there is no such thing, or the token may not know of it.
    NotFound,
    /// 429: too many requests.
    Throttled,
    /// 408, 5xx, no connection, no answer in time, an answer cut short: the next attempt may well succeed.
    Temporary,
    /// An answer that claims success and is not what was asked for.
    Malformed,
    /// An answer larger than any the API gives.
    TooLarge,
    /// 3xx: the API does not redirect, so somebody else did. The redirect was not followed: the token is not theirs.
    Redirected,
    /// Any other refusal, e.g. 400.
    Other,
}

/// A request that failed. Its message names the address, the status and what Apify says, and what to do where there is
/// something to do; it never contains the token, which is not part of an address.
#[derive(Clone, Debug)]
pub struct ApiError {
    class: ErrorClass,
    url: String,
    detail: String,
    retry_after: Option<Duration>,
    never_connected: bool,
    is_apifys_not_found: bool,
}

/// What Apify says, in the error body's `type`, when there is no such thing.
const RECORD_NOT_FOUND: &str = "record-not-found";

/// Apify's error body: `{"error": {"type": "...", "message": "..."}}`.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    #[serde(rename = "type")]
    kind: Option<String>,
    message: Option<String>,
}

impl ApiError {
    pub(super) fn new(class: ErrorClass, url: &Url, detail: impl Into<String>) -> Self {
        Self {
            class,
            url: printable(url),
            detail: detail.into(),
            retry_after: None,
            never_connected: false,
            is_apifys_not_found: false,
        }
    }

    /// An answer that is no success.
    pub(super) fn from_status(
        url: &Url,
        status: StatusCode,
        body: &[u8],
        retry_after: Option<Duration>,
    ) -> Self {
        let class = match status.as_u16() {
            401 => ErrorClass::TokenRefused,
            403 => ErrorClass::Forbidden,
            404 => ErrorClass::NotFound,
            429 => ErrorClass::Throttled,
            408 | 500..=599 => ErrorClass::Temporary,
            300..=399 => ErrorClass::Redirected,
            _ => ErrorClass::Other,
        };
        let mut is_apifys_not_found = false;
        let said = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody {
                error: ErrorDetail { kind, message },
            }) => {
                is_apifys_not_found =
                    class == ErrorClass::NotFound && kind.as_deref() == Some(RECORD_NOT_FOUND);
                let parts = [kind, message]
                    .into_iter()
                    .flatten()
                    .map(|part| excerpt(&part));
                parts.collect::<Vec<_>>().join(": ")
            }
            // A proxy's HTML, most likely: its text helps nobody.
            Err(_) => String::new(),
        };
        let said = if said.is_empty() {
            status
                .canonical_reason()
                .unwrap_or("no reason given")
                .to_owned()
        } else {
            said
        };
        Self {
            retry_after,
            is_apifys_not_found,
            ..Self::new(class, url, format!("{} {said}", status.as_u16()))
        }
    }

    /// A request that got no answer, or not all of it.
    pub(super) fn from_transport(url: &Url, error: &reqwest::Error) -> Self {
        Self {
            never_connected: error.is_connect(),
            ..Self::new(ErrorClass::Temporary, url, describe(error))
        }
    }

    /// What kind of trouble it is.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// Whether Apify itself says that there is no such thing, and not something between it and us.
    pub(super) fn is_apifys_not_found(&self) -> bool {
        self.is_apifys_not_found
    }

    /// The same trouble, as one that says nothing about the task.
    pub(super) fn unclassed(self) -> Self {
        Self {
            class: ErrorClass::Other,
            ..self
        }
    }

    /// Whether the same request may well succeed later.
    pub(super) fn is_retryable(&self) -> bool {
        matches!(
            self.class,
            ErrorClass::Throttled | ErrorClass::Temporary | ErrorClass::Malformed
        )
    }

    /// Whether not even a connection was made.
    pub(super) fn never_connected(&self) -> bool {
        self.never_connected
    }

    /// How long the server asks to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedy = match self.class {
            ErrorClass::TokenRefused => "; check the API token",
            ErrorClass::Forbidden => "; give the token permission to read this, or use another",
            ErrorClass::NotFound => "; check the name, and that the token may see it",
            ErrorClass::Redirected => "; the redirect was not followed, check `api.base_url`",
            ErrorClass::Throttled => "; lower `api.requests_per_second` if this goes on",
            ErrorClass::Temporary
            | ErrorClass::Malformed
            | ErrorClass::TooLarge
            | ErrorClass::Other => "",
        };
        write!(f, "{}: {}{remedy}", self.url, self.detail)
    }
}

impl std::error::Error for ApiError {}

/// The address without what could be secret in it.
fn printable(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for addresses that cannot have such parts.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> Url {
        Url::parse("https://user:secret@api.example/v2/actor-tasks/x").unwrap()
    }

    #[test]
    fn classes_by_status() {
        for (status, class, retryable) in [
            (400, ErrorClass::Other, false),
            (401, ErrorClass::TokenRefused, false),
            (403, ErrorClass::Forbidden, false),
            (404, ErrorClass::NotFound, false),
            (405, ErrorClass::Other, false),
            (408, ErrorClass::Temporary, true),
            (429, ErrorClass::Throttled, true),
            (302, ErrorClass::Redirected, false),
            (500, ErrorClass::Temporary, true),
            (503, ErrorClass::Temporary, true),
        ] {
            let error =
                ApiError::from_status(&url(), StatusCode::from_u16(status).unwrap(), b"", None);
            assert_eq!(
                (error.class(), error.is_retryable()),
                (class, retryable),
                "{status}"
            );
        }
    }

    #[test]
    fn messages_name_the_address_the_status_and_what_apify_says() {
        let body =
            br#"{"error": {"type": "record-not-found", "message": "Actor task\nwas not found"}}"#;
        let error = ApiError::from_status(&url(), StatusCode::NOT_FOUND, body, None);
        assert_eq!(
            error.to_string(),
            "https://api.example/v2/actor-tasks/x: 404 record-not-found: Actor task was not found; \
             check the name, and that the token may see it"
        );
        let html =
            ApiError::from_status(&url(), StatusCode::BAD_GATEWAY, b"<html>oops</html>", None);
        assert_eq!(
            html.to_string(),
            "https://api.example/v2/actor-tasks/x: 502 Bad Gateway"
        );
    }

    #[test]
    fn a_long_message_is_cut() {
        let body = format!(r#"{{"error": {{"message": "{}"}}}}"#, "x".repeat(100_000));
        let error = ApiError::from_status(&url(), StatusCode::BAD_REQUEST, body.as_bytes(), None);
        assert!(error.to_string().chars().count() < 300);
    }
}
