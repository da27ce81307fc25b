//! Failed requests, by class.

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::limits::refuse;
use crate::text::{CUT, escape};
use crate::web::{describe, excerpt};

/// The most characters of what a message says beside the URL.
const MAX_DETAIL: usize = 1_000;

/// The class of a failure, which decides how to handle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// 401 by Apify: the token is wrong or missing.
    TokenRefused,
    /// 403 by Apify: the token may not read this.
    Forbidden,
    /// 404 by Apify: it does not exist, or the token may not know of it.
    NotFound,
    /// 429: too many requests.
    Throttled,
    /// 408, 5xx, no connection, no answer in time, a truncated answer, or a 401, 403 or 404 without an error of Apify's:
    /// something between here and Apify answered. A retry may succeed.
    Temporary,
    /// A successful status with a body that is not the expected one.
    Malformed,
    /// An answer over one of the limits of its size.
    TooLarge,
    /// 3xx. The API does not redirect, so something else does, and must not get the token: redirects are not followed.
    Redirected,
    /// Any other status, e.g. 400, and any other failure.
    Other,
}

impl ErrorClass {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::TokenRefused,
        Self::Forbidden,
        Self::NotFound,
        Self::Throttled,
        Self::Temporary,
        Self::Malformed,
        Self::TooLarge,
        Self::Redirected,
        Self::Other,
    ];

    /// Its name in metrics, e.g. `not found`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenRefused => "token refused",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not found",
            Self::Throttled => "throttled",
            Self::Temporary => "temporary",
            Self::Malformed => "malformed",
            Self::TooLarge => "too large",
            Self::Redirected => "redirected",
            Self::Other => "other",
        }
    }
}

/// A failed request. The message names the URL, the status, Apify's error and, where there is one, a remedy. It never
/// contains the token, which is not part of a URL, and what others wrote in it is escaped and cut.
#[derive(Clone, Debug)]
pub struct ApiError {
    class: ErrorClass,
    url: String,
    detail: String,
    retry_after: Option<Duration>,
    never_connected: bool,
    is_record_not_found: bool,
}

/// What stands for a token in an error.
const HIDDEN: &str = "[token]";

/// The error body's `type` when the requested record does not exist.
const RECORD_NOT_FOUND: &str = "record-not-found";

/// What some servers write before JSON.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Apify's error body: `{"error": {"type": "...", "message": "..."}}`.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    message: Value,
}

impl ErrorDetail {
    /// Reads an error body; `None` for anything that Apify does not write, such as a proxy's page.
    fn read(body: &[u8]) -> Option<Self> {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        if refuse(body).is_some() {
            return None;
        }
        let ErrorBody { error } = serde_json::from_slice(body).ok()?;
        (!error.kind.trim().is_empty()).then_some(error)
    }
}

/// `text` without `token`, also where the text was cut within it.
fn hide(text: &str, token: &str) -> String {
    // Fewer characters of a token tell nothing.
    const LEAST: usize = 4;
    let mut text = text.replace(token, HIDDEN);
    for end in (LEAST..token.len()).rev() {
        let Some(part) = token.get(..end) else {
            continue;
        };
        text = text.replace(&format!("{part}{CUT}"), &format!("{HIDDEN}{CUT}"));
        if let Some(rest) = text.strip_suffix(part) {
            text = rest.to_owned() + HIDDEN;
        }
    }
    text
}

impl ApiError {
    /// The same without the token in the header `authorization`, which a server may repeat in its message.
    pub(super) fn without_token(mut self, authorization: &HeaderValue) -> Self {
        let value = authorization.to_str().unwrap_or_default();
        let token = value.strip_prefix("Bearer ").unwrap_or(value);
        // One as short as that may be any part of the text, and is no token of Apify's.
        if token.len() >= 8 {
            self.detail = hide(&self.detail, token);
        }
        self
    }

    pub(super) fn new(class: ErrorClass, url: &Url, detail: impl fmt::Display) -> Self {
        Self {
            class,
            url: printable(url),
            detail: escape(detail, MAX_DETAIL),
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
        let error = ErrorDetail::read(body);
        let is_apifys = error.is_some();
        let class = match status.as_u16() {
            401 | 403 | 404 if !is_apifys => ErrorClass::Temporary,
            401 => ErrorClass::TokenRefused,
            403 => ErrorClass::Forbidden,
            404 => ErrorClass::NotFound,
            429 => ErrorClass::Throttled,
            408 | 500..=599 => ErrorClass::Temporary,
            300..=399 => ErrorClass::Redirected,
            _ => ErrorClass::Other,
        };
        let is_record_not_found = class == ErrorClass::NotFound
            && error
                .as_ref()
                .is_some_and(|error| error.kind == RECORD_NOT_FOUND);
        let reason = match &error {
            Some(ErrorDetail { kind, message }) => {
                let parts = std::iter::once(kind.as_str()).chain(message.as_str());
                parts.map(excerpt).collect::<Vec<_>>().join(": ")
            }
            // Most likely a proxy's HTML, which would not help in a message.
            None => status
                .canonical_reason()
                .unwrap_or("no reason given")
                .to_owned(),
        };
        let by = match status.as_u16() {
            401 | 403 | 404 if !is_apifys => {
                ", which is not Apify's answer but a proxy's or a gateway's"
            }
            _ => "",
        };
        Self {
            retry_after,
            is_record_not_found,
            ..Self::new(class, url, format!("{} {reason}{by}", status.as_u16()))
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

    fn answer(status: u16, body: &[u8]) -> ApiError {
        ApiError::from_status(&url(), StatusCode::from_u16(status).unwrap(), body, None)
    }

    #[test]
    fn classes_by_status() {
        for (status, class, retryable) in [
            (400, ErrorClass::Other, false),
            (401, ErrorClass::TokenRefused, false),
            (402, ErrorClass::Other, false),
            (403, ErrorClass::Forbidden, false),
            (404, ErrorClass::NotFound, false),
            (405, ErrorClass::Other, false),
            (408, ErrorClass::Temporary, true),
            (429, ErrorClass::Throttled, true),
            (302, ErrorClass::Redirected, false),
            (500, ErrorClass::Temporary, true),
            (503, ErrorClass::Temporary, true),
        ] {
            let error = answer(status, br#"{"error": {"type": "some-type"}}"#);
            assert_eq!(
                (error.class(), error.is_retryable()),
                (class, retryable),
                "{status}"
            );
        }
    }

    #[test]
    fn only_apifys_own_errors_are_verdicts() {
        let not_apifys: [&[u8]; 9] = [
            b"",
            include_bytes!("../../tests/fixtures/cases/proxy-404.html"),
            include_bytes!("../../tests/fixtures/cases/proxy-403.html"),
            b"{}",
            b"[]",
            br#"{"error": "not found"}"#,
            br#"{"error": {"message": "not found"}}"#,
            br#"{"error": {"type": "", "message": "not found"}}"#,
            br#"{"error": {"type": 404}}"#,
        ];
        for status in [401, 403, 404] {
            for body in not_apifys {
                let error = answer(status, body);
                let text = String::from_utf8_lossy(body);
                assert_eq!(error.class(), ErrorClass::Temporary, "{status} {text}");
                assert!(error.is_retryable() && !error.is_record_not_found());
                assert!(error.to_string().contains("a proxy's"), "{error}");
            }
        }
        for body in [
            "{\"error\": {\"type\": \"record-not-found\", \"message\": null}}",
            "\u{feff}{\"error\": {\"type\": \"record-not-found\", \"message\": [1]}}",
        ] {
            assert!(answer(404, body.as_bytes()).is_record_not_found(), "{body}");
        }
    }

    #[test]
    fn a_token_is_hidden_also_where_the_text_was_cut_within_it() {
        let token = "apify_api_0123456789abcdef";
        let header = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        for before in 0..260 {
            let message = format!("{}{token}zz", "m".repeat(before));
            let body = format!(r#"{{"error": {{"type": "{message}", "message": "{message}"}}}}"#);
            let error = answer(400, body.as_bytes()).without_token(&header);
            let shown = error.to_string();
            assert!(!shown.contains("apif"), "{before}: {shown}");
            assert!(shown.contains("mmm") || before < 3, "{shown}");
        }
    }

    #[test]
    fn messages_name_the_url_the_status_and_apifys_error() {
        let body =
            br#"{"error": {"type": "record-not-found", "message": "Actor task\nwas not found"}}"#;
        let error = ApiError::from_status(&url(), StatusCode::NOT_FOUND, body, None);
        assert_eq!(
            error.to_string(),
            "https://api.example/v2/actor-tasks/x: 404 record-not-found: Actor task\\nwas not found; \
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
        let body = format!(
            r#"{{"error": {{"type": "t", "message": "{}"}}}}"#,
            "x".repeat(100_000)
        );
        let error = ApiError::from_status(&url(), StatusCode::BAD_REQUEST, body.as_bytes(), None);
        assert!(error.to_string().chars().count() < 300);
    }
}
