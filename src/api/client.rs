//! The client: one method for each endpoint that the mirror uses.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, Url, redirect};
use tokio::sync::{Semaphore, watch};

use super::counts::{Endpoint, RequestCounts};
use super::error::{ApiError, ErrorClass};
use super::held::{Held, Pages};
use super::limits::{MAX_BODY, MAX_ERROR_BODY, MAX_HEADERS};
use super::retry::RetryPolicy;
use super::tasks::Tasks;
use super::token::{Token, TokenDigest, TokenSource};
use super::wire::{self, Unusable};
use crate::model::{RunStatus, Task, Timestamp, is_path_part};
use crate::sync::{Listing, Page, Seen, Window};
use crate::web::{is_loopback, parse_http_date, parse_retry_after};

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Tasks to request in a page: the API's maximum.
const TASKS_PER_PAGE: u64 = 1_000;

/// The most pages of tasks read, and the most entries on them, so that a server that repeats itself cannot keep the client
/// reading. Apify allows an account some thousand tasks.
const MAX_TASK_PAGES: usize = 1_000;
const MAX_TASK_ENTRIES: usize = 20_000;

/// How long after an answer was given, by its `Date`, a run in it can have started: clocks of servers differ.
const START_AFTER_DATE: Duration = Duration::from_secs(600);

/// The same by the local clock, where an answer has no `Date`: the local clock may be wrong by more.
const START_AFTER_NOW: Duration = Duration::from_secs(24 * 3_600);

/// The `Date` of no answer.
const NO_DATE: i64 = i64::MIN;

/// How to reach the API.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Its address: `https`, or `http` on loopback.
    pub base_url: Url,
    /// The time limit of one attempt, from connecting to the last byte.
    pub timeout: Duration,
    /// The most attempts started per second. Apify allows 60 for each resource.
    pub requests_per_second: NonZeroU32,
    /// The most attempts in flight.
    pub concurrency: NonZeroUsize,
}

/// A client of the API. Clones share the connections and the limits.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    /// The `Authorization` header.
    authorization: watch::Sender<HeaderValue>,
    /// Where the token is read again; `None` if it cannot change.
    source: Mutex<Option<TokenSource>>,
    /// Whether any answer was one that only an accepted token gets: success, or Apify's own 403 or 404.
    accepted: AtomicBool,
    base_url: Url,
    rate: DefaultDirectRateLimiter,
    /// The most attempts that `rate` lets begin in a second.
    per_second: NonZeroU32,
    /// The most attempts in flight.
    at_once: NonZeroUsize,
    in_flight: Semaphore,
    /// Who holds a page may wait for `in_flight`, never the other way round.
    pages: Pages,
    retry: RetryPolicy,
    /// The longest one attempt may take.
    timeout: Duration,
    /// The longest time from one attempt's beginning to the next one's, while any waits.
    turn: Duration,
    requests: AtomicU64,
    counts: RequestCounts,
    /// The error of the last attempt, if it failed in a way that may pass.
    trouble: Mutex<Option<String>>,
    /// The `Date` of the last answer that had one, in milliseconds, or [`NO_DATE`].
    server_time: AtomicI64,
}

impl Client {
    /// A client that sends `token` with every request.
    ///
    /// # Errors
    /// When the HTTP client cannot be built, e.g. because the system's certificates cannot be loaded.
    pub fn new(options: ClientOptions, token: &Token) -> Result<Self, ApiError> {
        Self::with_retry(options, token, RetryPolicy::default())
    }

    pub(super) fn with_retry(
        options: ClientOptions,
        token: &Token,
        retry: RetryPolicy,
    ) -> Result<Self, ApiError> {
        let ClientOptions {
            base_url,
            timeout,
            requests_per_second,
            concurrency,
        } = options;
        let unusable = |error: &dyn std::fmt::Display| {
            ApiError::new(ErrorClass::Other, &base_url, error.to_string())
        };
        let header = token
            .header()
            .map_err(|error| unusable(&format_args!("the API token {error}")))?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("apify-mirror/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .http2_max_header_list_size(MAX_HEADERS)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout);
        if is_loopback(&base_url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| unusable(&error))?;
        // A small burst, so that the limit holds in every second and not only on average.
        let burst = NonZeroU32::try_from(concurrency)
            .unwrap_or(NonZeroU32::MAX)
            .min(requests_per_second);
        let rate = RateLimiter::direct(Quota::per_second(requests_per_second).allow_burst(burst));
        let in_flight = Semaphore::new(concurrency.get());
        let inner = Inner {
            http,
            authorization: watch::Sender::new(header),
            source: Mutex::default(),
            accepted: AtomicBool::new(false),
            base_url,
            rate,
            per_second: requests_per_second,
            at_once: concurrency,
            in_flight,
            pages: Pages::new(concurrency.get()),
            retry,
            timeout,
            turn: (timeout / burst.get()).max(Duration::from_secs(1) / requests_per_second.get()),
            requests: AtomicU64::new(0),
            counts: RequestCounts::new(),
            trouble: Mutex::default(),
            server_time: AtomicI64::new(NO_DATE),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The rights to hold pages.
    pub fn pages(&self) -> &Pages {
        &self.inner.pages
    }

    /// How long `requests` may take that are made at once, with all their attempts. Each waits for its turn again, and no
    /// attempt begins after the time for retries, so three turns are the most.
    pub fn longest(&self, requests: u32) -> Duration {
        let Inner {
            retry,
            timeout,
            turn,
            ..
        } = &*self.inner;
        let retries = retry.within + retry.max_retry_after + *timeout;
        retries.saturating_add(turn.saturating_mul(requests).saturating_mul(3))
    }

    /// The most attempts that may begin in a second, at least 1.
    pub fn requests_per_second(&self) -> u32 {
        self.inner.per_second.get()
    }

    /// The most attempts in flight, at least 1.
    pub fn concurrency(&self) -> usize {
        self.inner.at_once.get()
    }

    /// How many attempts this client and its clones have made.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// What has become of the attempts of this client and its clones.
    pub fn counts(&self) -> &RequestCounts {
        &self.inner.counts
    }

    /// The digest of the token that is in use.
    pub fn token_digest(&self) -> TokenDigest {
        TokenDigest::of_header(&self.inner.authorization.borrow())
    }

    /// Why the last attempt failed, if it did, in a way for which it is repeated.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.inner.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the last answer was given, by its server's clock, to the end of the second; `None` before the first.
    pub fn server_time(&self) -> Option<Timestamp> {
        const REST_OF_THE_SECOND: Duration = Duration::from_millis(999);
        let millis = self.inner.server_time.load(Ordering::Relaxed);
        (millis != NO_DATE).then(|| Timestamp::from_millis(millis).plus(REST_OF_THE_SECOND))
    }

    /// From now on, reads the token again from `source` whenever it is refused.
    pub fn set_token_source(&self, source: TokenSource) {
        *self.source() = Some(source);
    }

    /// Reads the token from `source` now, and again whenever it is refused. Returns whether it is another one than
    /// before.
    ///
    /// # Errors
    /// When the source has no usable token; the one in use and its source stay.
    pub fn read_token_from(&self, source: TokenSource) -> Result<bool, String> {
        let changed = self.replace_token(&source.read()?)?;
        self.set_token_source(source);
        Ok(changed)
    }

    /// Whether Apify has accepted a token of this client.
    pub fn was_accepted(&self) -> bool {
        self.inner.accepted.load(Ordering::Relaxed)
    }

    /// Waits until the token that is in use at the time of this call is replaced by another.
    pub fn token_replaced(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut authorization = self.inner.authorization.subscribe();
        // An error means that the client is gone, and nobody waits.
        async move { drop(authorization.changed().await) }
    }

    fn source(&self) -> std::sync::MutexGuard<'_, Option<TokenSource>> {
        let source = &self.inner.source;
        source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace_token(&self, token: &Token) -> Result<bool, String> {
        let header = token
            .header()
            .map_err(|error| format!("the API token {error}"))?;
        Ok(self.inner.authorization.send_if_modified(|current| {
            let changed = *current != header;
            *current = header;
            changed
        }))
    }

    /// Whether there is another token than `refused` to try: one that was put in its place meanwhile, or one that its
    /// source has now.
    fn has_another_token(&self, refused: &HeaderValue) -> bool {
        if *self.inner.authorization.borrow() != *refused {
            return true;
        }
        let Some(source) = self.source().clone() else {
            return false;
        };
        match source.read().and_then(|token| self.replace_token(&token)) {
            Ok(true) => {
                tracing::info!("the API token was refused; using the new one that was found");
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::warn!("the API token was refused, and no other was found: {error}");
                false
            }
        }
    }

    /// One attempt at a page of the runs of the task `task_id` (`GET /v2/actor-tasks/:id/runs`), with the right to hold it: `held`
    /// or, if that is `None`, one that it waits for. Items that cannot be read are among the entries of the page.
    ///
    /// # Errors
    /// When it fails; [`Client::runs_again`] makes further attempts.
    pub async fn runs(
        &self,
        task_id: &str,
        window: &Window,
        held: Option<Held>,
    ) -> Result<(Page, Held), ApiError> {
        let held = match held {
            Some(held) => held,
            None => self.inner.pages.hold().await,
        };
        let url = self.runs_url(task_id, window)?;
        let page = self
            .with_current_token(Endpoint::Runs, &url, wire::run_page)
            .await?;
        Ok((page, held))
    }

    /// Further attempts at a page after one that `failed`, as far as a retry makes sense. The waits before them hold nothing.
    ///
    /// # Errors
    /// When no attempt succeeds.
    pub async fn runs_again(
        &self,
        task_id: &str,
        window: &Window,
        failed: ApiError,
    ) -> Result<(Page, Held), ApiError> {
        let attempt = || self.runs(task_id, window, None);
        self.inner.retry.run_after(Some(failed), attempt).await
    }

    fn runs_url(&self, task_id: &str, window: &Window) -> Result<Url, ApiError> {
        let mut query = vec![
            ("offset", window.offset.to_string()),
            ("limit", window.limit.to_string()),
        ];
        match window.listing {
            Listing::All => {}
            // The documentation also allows `1`, but the OpenAPI description says boolean, and validators reject `1`.
            Listing::Newest => query.push(("desc", "true".to_owned())),
            Listing::Active => query.push((
                "status",
                RunStatus::ACTIVE
                    .each_ref()
                    .map(RunStatus::as_str)
                    .join(","),
            )),
        }
        let mut url = self.url(&["v2", "actor-tasks", task_id, "runs"])?;
        url.query_pairs_mut().extend_pairs(query);
        Ok(url)
    }

    /// The run `run_id` (`GET /v2/actor-runs/:id`); `None` if Apify answers `record-not-found`. The mirror then marks
    /// the row as removed, so any other 404, e.g. a proxy's, is an error. Makes fewer attempts than other requests: many
    /// runs are read at once, and read again by the next poll.
    ///
    /// # Errors
    /// When no attempt succeeds, or the answer cannot be read or is about another run; at once, where the id cannot be part
    /// of an address.
    pub async fn run(&self, run_id: &str) -> Result<Option<Seen>, ApiError> {
        let url = self.url(&["v2", "actor-runs", run_id])?;
        let decode = |body: &[u8], latest| {
            let seen = wire::run(body, latest)?;
            if seen.run.id == run_id {
                Ok(seen)
            } else {
                let problem = format!("asked for the run {run_id}, got {}", seen.run.id);
                Err(Unusable::Malformed(problem))
            }
        };
        let retry = self.inner.retry.briefly();
        match self.get(Endpoint::Run, retry, url, decode).await {
            Ok(seen) => Ok(Some(seen)),
            Err(error) if error.is_record_not_found() => Ok(None),
            Err(error) if error.class() == ErrorClass::NotFound => Err(error.into_other()),
            Err(error) => Err(error),
        }
    }

    /// The task called `reference`: an id, `username~name` or `~name` (`GET /v2/actor-tasks/:id`).
    ///
    /// # Errors
    /// When no attempt succeeds; at once, where the reference cannot be part of an address.
    pub async fn task(&self, reference: &str) -> Result<Task, ApiError> {
        let url = self.url(&["v2", "actor-tasks", reference])?;
        let decode = |body: &[u8], _| wire::task(body);
        self.get(Endpoint::Task, self.inner.retry, url, decode)
            .await
    }

    /// Every task of the account (`GET /v2/actor-tasks`). One that cannot be read is left out, with a warning. A task
    /// deleted during the read shifts later ones to lower offsets, so pages overlap by one entry. If several are deleted, a
    /// task may be missing from this answer.
    ///
    /// # Errors
    /// When no attempt at one of the pages succeeds, or there are too many pages or tasks.
    pub async fn tasks(&self) -> Result<Vec<Task>, ApiError> {
        let list = self.url(&["v2", "actor-tasks"])?;
        let mut found = Tasks::default();
        let mut offset = 0;
        for _ in 0..MAX_TASK_PAGES {
            let mut url = list.clone();
            url.query_pairs_mut()
                .append_pair("offset", &offset.to_string())
                .append_pair("limit", &TASKS_PER_PAGE.to_string());
            let decode = |body: &[u8], _| wire::task_page(body);
            let page = self.get(Endpoint::Tasks, self.inner.retry, url, decode);
            let page = page.await?;
            let begin = page.offset.unwrap_or(offset);
            let end = begin.saturating_add(page.tasks.len() as u64);
            let has_new = found.add(begin, page.tasks);
            // A page without a new task is the end, or the server ignores the offset.
            if !has_new || page.total.is_some_and(|total| end >= total) {
                return Ok(found.finish());
            }
            if found.entries() > MAX_TASK_ENTRIES {
                break;
            }
            offset = end.saturating_sub(1);
        }
        let detail = format!(
            "the list does not end within {MAX_TASK_PAGES} pages and {MAX_TASK_ENTRIES} tasks; name the tasks to mirror, \
             without `discover_tasks`"
        );
        Err(ApiError::new(ErrorClass::TooLarge, &list, detail))
    }

    /// The URL of an endpoint.
    ///
    /// # Errors
    /// When one of the parts could lead to another endpoint.
    fn url(&self, parts: &[&str]) -> Result<Url, ApiError> {
        let mut url = self.inner.base_url.clone();
        if let Some(part) = parts.iter().find(|part| !is_path_part(part)) {
            let detail = format!(
                "{part:?} is no id or name that an address can be made of; it was not asked for"
            );
            return Err(ApiError::new(ErrorClass::Other, &url, detail));
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        Ok(url)
    }

    async fn get<T>(
        &self,
        endpoint: Endpoint,
        retry: RetryPolicy,
        url: Url,
        decode: impl Fn(&[u8], Timestamp) -> Result<T, Unusable>,
    ) -> Result<T, ApiError> {
        let attempt = || self.with_current_token(endpoint, &url, &decode);
        retry.run_after(None, attempt).await
    }

    /// An attempt and, where the token is refused and there is another by now, one more with that.
    async fn with_current_token<T>(
        &self,
        endpoint: Endpoint,
        url: &Url,
        decode: impl Fn(&[u8], Timestamp) -> Result<T, Unusable>,
    ) -> Result<T, ApiError> {
        let token = self.inner.authorization.borrow().clone();
        match self.limited(endpoint, url, &token, &decode).await {
            Err(error)
                if error.class() == ErrorClass::TokenRefused && self.has_another_token(&token) =>
            {
                let token = self.inner.authorization.borrow().clone();
                self.limited(endpoint, url, &token, &decode).await
            }
            result => result,
        }
    }

    /// One attempt, within the limits. It holds its permit only while in flight, not during the wait before a retry.
    async fn limited<T>(
        &self,
        endpoint: Endpoint,
        url: &Url,
        token: &HeaderValue,
        decode: impl Fn(&[u8], Timestamp) -> Result<T, Unusable>,
    ) -> Result<T, ApiError> {
        let _permit = self.inner.in_flight.acquire().await;
        self.inner.rate.until_ready().await;
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let result = self.attempt(url, token, decode).await;
        self.inner.counts.add(endpoint, &result, began.elapsed());
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

    async fn attempt<T>(
        &self,
        url: &Url,
        token: &HeaderValue,
        decode: impl Fn(&[u8], Timestamp) -> Result<T, Unusable>,
    ) -> Result<T, ApiError> {
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
        let most = if status.is_success() {
            MAX_BODY
        } else {
            MAX_ERROR_BODY
        };
        let body = read_body(response, most).await.map_err(transport)?;
        if !status.is_success() {
            // A longer one is not Apify's.
            let body = body.unwrap_or_default();
            return Err(ApiError::from_status(url, status, &body, retry_after));
        }
        let decoded = match body {
            Some(body) => decode(&body, latest),
            None => Err(Unusable::TooLarge(format!(
                "it is larger than {} MiB",
                MAX_BODY >> 20
            ))),
        };
        decoded.map_err(|problem| {
            let class = match problem {
                Unusable::Malformed(_) => ErrorClass::Malformed,
                Unusable::TooLarge(_) => ErrorClass::TooLarge,
            };
            let detail = format!("{} with an unusable body: {problem}", status.as_u16());
            ApiError::new(class, url, detail)
        })
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

/// The body of an answer, after decompression; `None` if it has more than `most` bytes. Never holds more than those.
async fn read_body(mut response: Response, most: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let said = response.content_length().unwrap_or_default();
    let mut body = Vec::with_capacity(usize::try_from(said).unwrap_or(most).min(most));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(value, jiff::Timestamp::now())
}
