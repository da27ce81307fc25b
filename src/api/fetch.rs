//! One attempt at a request: within the limits, with the current token, and with a bounded body.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use super::client::Client;
use super::counts::Endpoint;
use super::error::{ApiError, ErrorClass};
use super::limits::{MAX_BODY, MAX_ERROR_BODY};
use super::memory::BodyRight;
use super::wire::Unusable;
use crate::model::Timestamp;
use crate::web::{parse_http_date, parse_retry_after};

/// How long after an answer was given, by its `Date`, a run in it can have started: clocks of servers differ.
const START_AFTER_DATE: Duration = Duration::from_secs(600);

/// The same by the local clock, where an answer has no `Date`: the local clock may be wrong by more.
const START_AFTER_NOW: Duration = Duration::from_secs(24 * 3_600);

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub endpoint: Endpoint,
    pub url: &'a Url,
    /// The task whose list this is a part of.
    pub list: Option<&'a str>,
}

/// What was read of a body.
#[derive(Debug)]
enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// Not all: it has more bytes than any may have.
    TooLarge,
    /// Not all: it was asked for ahead, and there was no room for so many bytes.
    NoRoom,
}

/// A successful answer whose body is not decoded yet.
#[derive(Debug)]
pub(super) struct Answer {
    endpoint: Endpoint,
    url: Url,
    status: StatusCode,
    body: Body,
    right: Option<BodyRight>,
    /// The latest start that is believed of a run in it.
    latest: Timestamp,
    token: HeaderValue,
    took: Duration,
}

impl Answer {
    /// How many bytes its body has.
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Whole(body) => body.len(),
            Body::TooLarge | Body::NoRoom => 0,
        }
    }

    /// Whether it was dropped because there was no room for it, and is to be asked for again when it is its turn.
    pub fn found_no_room(&self) -> bool {
        matches!(self.body, Body::NoRoom)
    }

    /// Waits until it may be decoded, where it was asked for ahead.
    pub async fn turn(&self) {
        if let Some(right) = &self.right {
            right.turn().await;
        }
    }
}

impl Client {
    /// An attempt and, where the token is refused and there is another by now, one more with that. `right` is for the body, if
    /// that is one of those that are counted.
    pub(super) async fn fetch(
        &self,
        request: &Request<'_>,
        mut right: Option<BodyRight>,
    ) -> Result<Answer, ApiError> {
        let token = self.inner.authorization.borrow().clone();
        let result = match self.limited(request, &token, &mut right).await {
            Err(error)
                if error.class() == ErrorClass::TokenRefused && self.has_another_token(&token) =>
            {
                let token = self.inner.authorization.borrow().clone();
                self.limited(request, &token, &mut right).await
            }
            result => result,
        };
        result.map(|answer| Answer { right, ..answer })
    }

    /// One attempt, within the limits. It holds its permit only while in flight, not during the wait before a retry.
    async fn limited(
        &self,
        request: &Request<'_>,
        token: &HeaderValue,
        right: &mut Option<BodyRight>,
    ) -> Result<Answer, ApiError> {
        let inner = &self.inner;
        // Before it may hold up others, and until it is sent: what waits to be sent must not be sent all at once.
        let turn = match request.list {
            Some(list) => Some(inner.lists.turn(list).await),
            None => None,
        };
        let permit = inner.in_flight.begin().await;
        inner.rate.until_ready().await;
        if let Some(turn) = turn {
            turn.sent();
        }
        inner.requests.fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        let result = self.attempt(request, token, right).await;
        let is_refused = |error: &ApiError| error.class() == ErrorClass::Throttled;
        let refused = result.as_ref().is_err_and(is_refused);
        if let (true, Some(list)) = (refused, request.list) {
            inner.lists.refused(list, sent);
        }
        if let Some(permit) = permit {
            inner.in_flight.end(permit, sent, refused);
        }
        let took = sent.elapsed();
        match result {
            Ok(answer) => Ok(Answer { took, ..answer }),
            Err(error) => self.settle(request.endpoint, Err(error), took, token),
        }
    }

    /// Counts an attempt that ended so.
    fn settle<T>(
        &self,
        endpoint: Endpoint,
        result: Result<T, ApiError>,
        took: Duration,
        token: &HeaderValue,
    ) -> Result<T, ApiError> {
        self.inner.counts.add(endpoint, &result, took);
        let result = result.map_err(|error| error.without_token(token));
        self.note_trouble(result.as_ref().err());
        let class = result.as_ref().err().map(ApiError::class);
        if matches!(
            class,
            None | Some(ErrorClass::Forbidden | ErrorClass::NotFound)
        ) {
            self.inner.accepted.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Notes how an attempt failed, if it did and is to be repeated.
    fn note_trouble(&self, error: Option<&ApiError>) {
        let error = error.filter(|error| error.is_retryable());
        let trouble = self.inner.trouble.lock();
        *trouble.unwrap_or_else(PoisonError::into_inner) = error.map(ToString::to_string);
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        token: &HeaderValue,
        right: &mut Option<BodyRight>,
    ) -> Result<Answer, ApiError> {
        let url = request.url;
        let transport = |error: reqwest::Error| ApiError::from_transport(url, &error);
        let response = self
            .inner
            .http
            .get(url.clone())
            .header(AUTHORIZATION, token)
            .send()
            .await
            .map_err(transport)?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let latest = self.latest_start(response.headers());
        if !status.is_success() {
            // A longer one is not Apify's.
            let body = match read_body(response, MAX_ERROR_BODY, None).await {
                Ok(Body::Whole(body)) => body,
                Ok(Body::TooLarge | Body::NoRoom) => Vec::new(),
                Err(error) => return Err(transport(error)),
            };
            return Err(ApiError::from_status(url, status, &body, retry_after));
        }
        let body = read_body(response, MAX_BODY, right.as_mut()).await;
        Ok(Answer {
            endpoint: request.endpoint,
            url: url.clone(),
            status,
            body: body.map_err(transport)?,
            right: None,
            latest,
            token: token.clone(),
            took: Duration::ZERO,
        })
    }

    /// What an answer says.
    pub(super) fn decode<T>(
        &self,
        answer: Answer,
        decode: impl FnOnce(&[u8], Timestamp) -> Result<T, Unusable>,
    ) -> Result<T, ApiError> {
        let decoded = match &answer.body {
            Body::Whole(body) => decode(body, answer.latest),
            Body::TooLarge | Body::NoRoom => Err(Unusable::TooLarge(format!(
                "it is larger than {} MiB",
                MAX_BODY >> 20
            ))),
        };
        let decoded = decoded.map_err(|problem| {
            let class = match problem {
                Unusable::Malformed(_) => ErrorClass::Malformed,
                Unusable::TooLarge(_) => ErrorClass::TooLarge,
            };
            let status = answer.status.as_u16();
            let detail = format!("{status} with an unusable body: {problem}");
            ApiError::new(class, &answer.url, detail)
        });
        self.settle(answer.endpoint, decoded, answer.took, &answer.token)
    }

    /// The same for what takes long: on a thread of its own, so that no other request waits for it.
    pub(super) async fn decode_apart<T: Send + 'static>(
        &self,
        answer: Answer,
        decode: impl FnOnce(&[u8], Timestamp) -> Result<T, Unusable> + Send + 'static,
    ) -> Result<T, ApiError> {
        let client = self.clone();
        let decoding = tokio::task::spawn_blocking(move || client.decode(answer, decode));
        match decoding.await {
            Ok(decoded) => decoded,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }

    /// The latest start that is believed of a run in an answer with these headers, whose `Date` it notes.
    fn latest_start(&self, headers: &HeaderMap) -> Timestamp {
        let date = headers.get(DATE).and_then(|value| value.to_str().ok());
        let Some(date) = date.and_then(parse_http_date) else {
            return Timestamp::now().plus(START_AFTER_NOW);
        };
        let millis = date.as_millisecond();
        self.inner.server_time.store(millis, Ordering::Relaxed);
        Timestamp::from_millis(millis).plus(START_AFTER_DATE)
    }
}

/// The body of an answer, after decompression, if it has at most `most` bytes. Never holds more than those, nor more than there is
/// a right to.
async fn read_body(
    mut response: Response,
    most: usize,
    mut right: Option<&mut BodyRight>,
) -> Result<Body, reqwest::Error> {
    let said = response.content_length().unwrap_or_default();
    let said = usize::try_from(said).unwrap_or(most).min(most);
    if let Some(right) = &mut right
        && !right.grow(said).await
    {
        return Ok(Body::NoRoom);
    }
    let mut body = Vec::with_capacity(said);
    while let Some(chunk) = response.chunk().await? {
        let size = body.len() + chunk.len();
        if size > most {
            return Ok(Body::TooLarge);
        }
        if let Some(right) = &mut right
            && !right.grow(size).await
        {
            return Ok(Body::NoRoom);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Body::Whole(body))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(value, jiff::Timestamp::now())
}
