//! One POST for each event, signed as Standard Webhooks defines it.

use std::fmt;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use async_trait::async_trait;

use super::Sink;
use super::signature::SigningKeys;
use crate::model::{AttemptOutcome, Due, Order, SinkLimits, Timestamp};
use crate::web;

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer's body is read, in bytes: nobody looks at it, but a connection can only be used again when it is
/// read to its end.
const MAX_BODY: usize = 64 << 10;

/// How long that may take.
const BODY_WITHIN: Duration = Duration::from_millis(500);

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Headers that are the program's own to set.
pub const OWN_HEADERS: [&str; 7] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "content-type",
    "content-length",
    "transfer-encoding",
    "host",
];

/// Where events are posted, and how.
#[derive(Clone)]
pub struct WebhookOptions {
    /// The address. It may hold secrets, so that messages name its host only.
    pub url: Url,
    /// More headers.
    pub headers: HeaderMap,
    /// The longest one attempt may take.
    pub timeout: Duration,
    /// The most attempts at once.
    pub concurrency: usize,
    /// What signs the events; without keys they are not signed.
    pub keys: SigningKeys,
}

/// Posts events to an address.
pub struct Webhook {
    options: WebhookOptions,
    /// The address as far as it may be told.
    origin: String,
    client: Result<Client, String>,
}

impl Webhook {
    /// Posts events as `options` say.
    pub fn new(options: WebhookOptions) -> Self {
        let mut builder = Client::builder()
            .user_agent(concat!("apify-mirror/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(options.timeout))
            .timeout(options.timeout)
            .pool_max_idle_per_host(options.concurrency);
        if web::is_loopback(&options.url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| web::describe(&error));
        Self {
            origin: options.url.origin().ascii_serialization(),
            client,
            options,
        }
    }

    async fn post(&self, event: &Due) -> AttemptOutcome {
        let request = self
            .client
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|client| {
                let headers = self
                    .headers(event, Timestamp::now())
                    .map_err(|error| error.to_string())?;
                Ok(client
                    .post(self.options.url.clone())
                    .headers(headers)
                    .body(event.payload.clone()))
            });
        let answer = match request {
            Ok(request) => request.send().await.map_err(|error| web::describe(&error)),
            Err(error) => Err(error),
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
        if let Some(signature) =
            self.options
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

    /// The answer's body decides nothing, and is repeated nowhere: it may echo what it was sent.
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
        // In vain is no harm: the next event gets a connection of its own.
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
        SinkLimits {
            order: Order::Run,
            batch: 1,
            concurrency: self.options.concurrency,
        }
    }

    async fn deliver(&self, events: &[Due]) -> Vec<AttemptOutcome> {
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            outcomes.push(self.post(event).await);
        }
        outcomes
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// What an answer's status says.
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
    use super::super::testing::due;
    use super::*;

    #[test]
    fn classes_by_status() {
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
            url: Url::parse("https://hooks.example:8443/secret/path?key=hunter2").unwrap(),
            headers,
            timeout: Duration::from_secs(1),
            concurrency: 4,
            keys: SigningKeys::parse(keys).unwrap_or_default(),
        })
    }

    #[test]
    fn an_event_is_named_and_signed() {
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
    fn nothing_prints_the_path_or_the_headers() {
        assert_eq!(
            format!("{:?}", webhook("")),
            "Webhook { origin: \"https://hooks.example:8443\", .. }"
        );
    }
}
