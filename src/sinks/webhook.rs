//! `type = "webhook"`: one POST for each event, signed according to Standard Webhooks.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::net::TcpStream;

use super::address::{Address, is_plain};
use super::headers;
use super::options::{BuildError, CheckError, SinkOptions};
use super::secret::SecretSource;
use super::signature::SigningKeys;
use super::sink::Sink;
use crate::model::{AttemptOutcome, Due, SinkLimits, Timestamp};
use crate::options::{Environment, HOUR, Problem, Reader, SECOND};
use crate::web;

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most of an answer's body that is read, in bytes. Its content is ignored, but a connection can only be reused after
/// the body was read to its end.
const MAX_BODY: usize = 64 << 10;

/// The longest time to read an answer's body.
const BODY_WITHIN: Duration = Duration::from_millis(500);

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The configuration of a webhook.
#[derive(Clone, PartialEq)]
pub struct WebhookOptions {
    /// The address that events are posted to.
    pub address: Address,
    /// The source of the secrets that sign events.
    pub secret: SecretSource,
    /// Additional headers, sent with every event.
    pub headers: HeaderMap,
    /// A file with more of them, a line each.
    pub headers_file: Option<PathBuf>,
    /// The longest one attempt may take.
    pub timeout: Duration,
    /// The most attempts in flight.
    pub concurrency: usize,
}

/// Reads the keys of this type.
pub(super) fn read(section: &mut Reader<'_>) -> Option<Arc<dyn SinkOptions>> {
    let address = Address::read(section);
    let headers = headers::read(section);
    let headers_file = section.secret("headers_file");
    let secret = SecretSource::read(section);
    let timeout = section.duration("timeout", Duration::from_millis(100)..=HOUR, 30 * SECOND);
    let concurrency = section.number("concurrency", 1..=256, 8) as usize;
    let options = WebhookOptions {
        address: address?,
        secret,
        headers,
        headers_file: headers_file
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        timeout,
        concurrency,
    };
    if let Err(message) = options.check_transport() {
        section.problem("url", message);
    }
    Some(Arc::new(options))
}

impl WebhookOptions {
    /// Checks that nothing secret is sent where others can read it; nothing is known of an address in a file that was not
    /// read yet.
    fn check_transport(&self) -> Result<(), String> {
        let is_signed = self.secret != SecretSource::None;
        let has_headers = !self.headers.is_empty() || self.headers_file.is_some();
        let exposed = match (is_signed, has_headers) {
            (true, _) => "signed events",
            (false, true) => "the headers",
            (false, false) => return Ok(()),
        };
        if self.address.url().is_some_and(is_plain) {
            return Err(format!(
                "is plain http, which would expose {exposed} to everyone on the way; use https (http is for loopback only)"
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl SinkOptions for WebhookOptions {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn secret_variable(&self) -> Option<&str> {
        match &self.secret {
            SecretSource::Variable(name) => Some(name),
            _ => None,
        }
    }

    fn inline_secret(&self) -> Option<&'static str> {
        if matches!(self.secret, SecretSource::Keys(_)) {
            return Some("secret");
        }
        self.headers
            .keys()
            .any(headers::is_secret)
            .then_some("headers")
    }

    fn warning(&self) -> Option<String> {
        let url = self.address.url().filter(|url| is_plain(url))?;
        Some(format!(
            "{} is plain http: everyone on the way can read the events, and change them; use https",
            url.origin().ascii_serialization()
        ))
    }

    fn resolve(
        self: Arc<Self>,
        environment: &Environment,
    ) -> Result<Arc<dyn SinkOptions>, Problem> {
        let mut headers = self.headers.clone();
        if let Some(path) = &self.headers_file {
            headers::add_file(&mut headers, path, environment)?;
        }
        let resolved = Self {
            address: self.address.resolve(environment)?,
            secret: self.secret.resolve(environment)?,
            headers,
            headers_file: None,
            ..self.as_ref().clone()
        };
        // That of an address in the configuration was found when it was read.
        resolved
            .check_transport()
            .map_err(|message| Problem::new("url_file", message))?;
        Ok(Arc::new(resolved))
    }

    async fn build(&self, _: &[String]) -> Result<Arc<dyn Sink>, BuildError> {
        Ok(Arc::new(Webhook::new(self.clone())?))
    }

    async fn check(&self, _: &Environment) -> Result<String, CheckError> {
        let unread = || CheckError::Configuration(UNREAD.to_owned());
        let url = self.address.url().ok_or_else(unread)?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        connect(host, port).await.map_err(CheckError::Unreachable)
    }
}

/// Shows only the host: addresses and headers may hold secrets.
impl fmt::Debug for WebhookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookOptions")
            .field("host", &self.address.url().and_then(Url::host_str))
            .finish_non_exhaustive()
    }
}

async fn connect(host: &str, port: u16) -> Result<String, String> {
    // A URL has IPv6 addresses in brackets; `connect` takes them without.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((bare, port))).await {
        Ok(Ok(_)) => Ok(format!("{host}:{port} can be reached")),
        Ok(Err(error)) => Err(format!("cannot connect to {host}:{port}: {error}")),
        Err(_) => Err(format!(
            "cannot connect to {host}:{port}: no answer in time"
        )),
    }
}

/// What is wrong with options that were not resolved.
const UNREAD: &str = "its secrets have not been read";

/// Posts events to a URL.
struct Webhook {
    options: WebhookOptions,
    url: Url,
    keys: SigningKeys,
    /// The URL without its path, which may hold a secret.
    origin: String,
    client: Client,
}

impl Webhook {
    fn new(options: WebhookOptions) -> Result<Self, BuildError> {
        let unread = || BuildError(UNREAD.to_owned());
        let keys = options.secret.keys().ok_or_else(unread)?;
        let url = options.address.url().cloned().ok_or_else(unread)?;
        if options.headers_file.is_some() {
            return Err(unread());
        }
        let mut builder = Client::builder()
            .user_agent(concat!("apify-mirror/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(options.timeout))
            .timeout(options.timeout)
            .pool_max_idle_per_host(options.concurrency);
        if web::is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| BuildError(web::describe(&error)))?;
        let origin = url.origin().ascii_serialization();
        Ok(Self {
            options,
            url,
            keys,
            origin,
            client,
        })
    }

    async fn post(&self, event: &Due) -> AttemptOutcome {
        let answer = match self.headers(event, Timestamp::now()) {
            Ok(headers) => {
                let url = self.url.clone();
                let request = self
                    .client
                    .post(url)
                    .headers(headers)
                    .body(event.payload.clone());
                request.send().await.map_err(|error| web::describe(&error))
            }
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(answer) => self.judge(answer).await,
            Err(error) => AttemptOutcome::Failed {
                error: format!("{}: {error}", self.origin),
                retry_after: None,
            },
        }
    }

    fn headers(
        &self,
        event: &Due,
        now: Timestamp,
    ) -> Result<HeaderMap, reqwest::header::InvalidHeaderValue> {
        let mut headers = self.options.headers.clone();
        let seconds = (now.as_millis() / 1_000).to_string();
        if let Some(signature) = self
            .keys
            .sign(&event.id, &seconds, event.payload.as_bytes())
        {
            headers.insert(WEBHOOK_SIGNATURE, HeaderValue::try_from(signature)?);
        }
        headers.insert(WEBHOOK_ID, HeaderValue::try_from(&event.id)?);
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::try_from(seconds)?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(headers)
    }

    /// Derives the outcome from status and headers. The body is ignored and never logged: it may echo the request.
    async fn judge(&self, mut answer: Response) -> AttemptOutcome {
        let status = answer.status();
        let retry_after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| web::parse_retry_after(value.to_str().ok()?, jiff::Timestamp::now()));
        let drain = async {
            let mut read = 0;
            while let Ok(Some(chunk)) = answer.chunk().await {
                read += chunk.len();
                if read > MAX_BODY {
                    break;
                }
            }
        };
        // If this times out, the connection is closed, and the next event opens a new one.
        let _ = tokio::time::timeout(BODY_WITHIN, drain).await;
        let error = || format!("{}: {status}", self.origin);
        match class(status) {
            Class::Accepted => AttemptOutcome::Delivered,
            Class::Gone => AttemptOutcome::Gone { error: error() },
            Class::Refused => AttemptOutcome::Refused { error: error() },
            Class::Redirected => AttemptOutcome::Failed {
                error: format!(
                    "{}; redirects are not followed, name the address it leads to",
                    error()
                ),
                retry_after,
            },
            Class::Temporary => AttemptOutcome::Failed {
                error: error(),
                retry_after,
            },
        }
    }
}

#[async_trait]
impl Sink for Webhook {
    fn limits(&self) -> SinkLimits {
        SinkLimits::independent_runs(self.options.concurrency)
    }

    fn attempt_limit(&self) -> Duration {
        self.options.timeout.saturating_add(BODY_WITHIN)
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            outcomes.push(self.post(event).await);
        }
        outcomes
    }
}

/// Classes of answers, by status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Accepted,
    Gone,
    Refused,
    Redirected,
    Temporary,
}

fn class(status: StatusCode) -> Class {
    match status.as_u16() {
        200..=299 => Class::Accepted,
        300..=399 => Class::Redirected,
        410 => Class::Gone,
        408 | 425 | 429 => Class::Temporary,
        400..=499 => Class::Refused,
        _ => Class::Temporary,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sink::testing::due;
    use super::*;

    #[test]
    fn answers_are_classified_by_status() {
        for (statuses, expected) in [
            (&[200, 201, 202, 204, 299][..], Class::Accepted),
            (&[301, 302, 307, 308], Class::Redirected),
            (&[408, 425, 429, 500, 502, 503, 504, 599], Class::Temporary),
            (
                &[400, 401, 403, 404, 405, 409, 413, 422, 451],
                Class::Refused,
            ),
            (&[410], Class::Gone),
        ] {
            for status in statuses {
                assert_eq!(
                    class(StatusCode::from_u16(*status).unwrap()),
                    expected,
                    "{status}"
                );
            }
        }
    }

    fn webhook(keys: &str) -> Webhook {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer hunter2"));
        Webhook::new(WebhookOptions {
            address: Address::Url(
                Url::parse("https://hooks.example:8443/secret/path?key=hunter2").unwrap(),
            ),
            headers,
            headers_file: None,
            timeout: Duration::from_secs(1),
            concurrency: 4,
            secret: SigningKeys::parse(keys).map_or(SecretSource::None, SecretSource::Keys),
        })
        .unwrap()
    }

    #[test]
    fn requests_carry_id_timestamp_and_signature() {
        let headers = webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .headers(
                &due(1, "a", "{}"),
                Timestamp::from_millis(1_614_265_330_999),
            )
            .unwrap();
        assert_eq!(headers["webhook-id"], "evt_a_1");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert!(
            headers["webhook-signature"]
                .to_str()
                .unwrap()
                .starts_with("v1,")
        );
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["authorization"], "Bearer hunter2");
        let unsigned = webhook("")
            .headers(&due(1, "a", "{}"), Timestamp::from_millis(0))
            .unwrap();
        assert!(!unsigned.contains_key("webhook-signature"));
    }

    #[test]
    fn debug_output_hides_the_path_and_the_headers() {
        assert_eq!(
            format!("{:?}", webhook("").options),
            "WebhookOptions { host: Some(\"hooks.example\"), .. }"
        );
    }
}
