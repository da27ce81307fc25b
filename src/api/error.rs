//! Failed requests, by class.

use std::fmt;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::web::{describe, excerpt};

/// The class of a failure, which decides how to handle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// 401: the token is wrong or missing.
    TokenRefused,
    /// 403: the token may not read this.
    Forbidden,
    /// 404: it does not exist, or the token may not know of it.
    NotFound,
    /// 429: too many requests.
    Throttled,
    /// 408, 5xx, no connection, no answer in time, a truncated answer. A retry may succeed.
    Temporary,
    /// A successful status with a body that is not the expected one.
    Malformed,
    /// A body over the size limit.
    TooLarge,
    /// 3xx. The API does not redirect, so something else does, and must not get the token: redirects are not followed.
    Redirected,
    /// Any other status, e.g. 400, and any other failure.
    Other,
}

/// A failed request. The message names the URL, the status, Apify's error and, where there is one, a remedy. It never
/// contains the token, which is not part of a URL.
#[derive(Clone, Debug)]
pub struct ApiError {
    class: ErrorClass,
    url: String,
    detail: String,
    retry_after: Option<Duration>,
    never_connected: bool,
    is_record_not_found: bool,
}

/// The error body's `type` when the requested record does not exist.
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
            is_record_not_found: false,
        }
    }

    /// An answer with an unsuccessful status.
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
        let mut is_record_not_found = false;
        let reason = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody {
                error: ErrorDetail { kind, message },
            }) => {
                is_record_not_found =
                    class == ErrorClass::NotFound && kind.as_deref() == Some(RECORD_NOT_FOUND);
                let parts = [kind, message]
                    .into_iter()
                    .flatten()
                    .map(|part| excerpt(&part));
                parts.collect::<Vec<_>>().join(": ")
            }
            // Most likely a proxy's HTML, which would not help in a message.
            Err(_) => String::new(),
        };
        let reason = if reason.is_empty() {
            status
                .canonical_reason()
                .unwrap_or("no reason given")
                .to_owned()
        } else {
            reason
        };
        Self {
            retry_after,
            is_record_not_found,
            ..Self::new(class, url, format!("{} {reason}", status.as_u16()))
        }
    }

    /// A request without an answer, or with a truncated one.
    pub(super) fn from_transport(url: &Url, error: &reqwest::Error) -> Self {
        Self {
            never_connected: error.is_connect(),
            ..Self::new(ErrorClass::Temporary, url, describe(error))
        }
    }

    /// The class of the failure.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// Whether Apify itself, and not for example a proxy, answered that the record does not exist.
    pub(super) fn is_record_not_found(&self) -> bool {
        self.is_record_not_found
    }

    /// The same failure as [`ErrorClass::Other`], so that a 404 for a run does not count as one for its task.
    pub(super) fn into_other(self) -> Self {
        Self {
            class: ErrorClass::Other,
            ..self
        }
    }

    /// Whether a retry of the same request may succeed.
    pub(super) fn is_retryable(&self) -> bool {
        matches!(
            self.class,
            ErrorClass::Throttled | ErrorClass::Temporary | ErrorClass::Malformed
        )
    }

    /// Whether the connection failed.
    pub(super) fn never_connected(&self) -> bool {
        self.never_connected
    }

    /// How long the server asks the client to wait.
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

/// The URL without user and password.
fn printable(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that cannot have them.
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
    fn messages_name_the_url_the_status_and_apifys_error() {
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
    fn a_long_message_is_truncated() {
        let body = format!(r#"{{"error": {{"message": "{}"}}}}"#, "x".repeat(100_000));
        let error = ApiError::from_status(&url(), StatusCode::BAD_REQUEST, body.as_bytes(), None);
        assert!(error.to_string().chars().count() < 300);
    }
}
