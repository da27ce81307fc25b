//! The client: its connections, limits and token, which all clones share.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::header::HeaderValue;
use reqwest::{Url, redirect};
use tokio::sync::watch;

use super::concurrency::Concurrency;
use super::counts::RequestCounts;
use super::error::{ApiError, ErrorClass};
use super::limits::MAX_HEADERS;
use super::memory::Memory;
use super::rate::Rates;
use super::retry::RetryPolicy;
use super::token::{Token, TokenDigest, TokenSource};
use crate::model::{InFlight, Timestamp};
use crate::web::is_loopback;

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The `Date` of no answer.
pub(super) const NO_DATE: i64 = i64::MIN;

/// How to reach the API.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Its address: `https`, or `http` on loopback.
    pub base_url: Url,
    /// The time limit of one attempt, from connecting to the last byte.
    pub timeout: Duration,
    /// The most attempts started per second, all together.
    pub requests_per_second: NonZeroU32,
    /// The most attempts in flight.
    pub concurrency: InFlight,
}

/// A client of the API. Clones share the connections and the limits.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) http: reqwest::Client,
    /// The `Authorization` header.
    pub(super) authorization: watch::Sender<HeaderValue>,
    /// Where the token is read again; `None` if it cannot change.
    source: Mutex<Option<TokenSource>>,
    /// Whether any answer was one that only an accepted token gets: success, or Apify's own 403 or 404.
    pub(super) accepted: AtomicBool,
    pub(super) base_url: Url,
    /// For all requests together.
    pub(super) rate: DefaultDirectRateLimiter,
    /// For the list of each task.
    pub(super) lists: Rates,
    /// The most attempts that `rate` lets begin in a second.
    per_second: NonZeroU32,
    /// The most attempts in flight.
    most_in_flight: InFlight,
    /// Who holds a right to memory may wait for this, never the other way round.
    pub(super) in_flight: Concurrency,
    pub(super) memory: Arc<Memory>,
    pub(super) retry: RetryPolicy,
    /// The longest one attempt may take.
    timeout: Duration,
    /// The longest time from one attempt's beginning to the next one's, while any waits.
    turn: Duration,
    pub(super) requests: AtomicU64,
    pub(super) counts: RequestCounts,
    /// The error of the last attempt, if it failed in a way that may pass.
    pub(super) trouble: Mutex<Option<String>>,
    /// The `Date` of the last answer that had one, in milliseconds, or [`NO_DATE`].
    pub(super) server_time: AtomicI64,
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
        let burst = u32::try_from(concurrency.first()).unwrap_or(u32::MAX);
        let burst =
            NonZeroU32::new(burst).map_or(NonZeroU32::MIN, |burst| burst.min(requests_per_second));
        let rate = RateLimiter::direct(Quota::per_second(requests_per_second).allow_burst(burst));
        let inner = Inner {
            http,
            authorization: watch::Sender::new(header),
            source: Mutex::default(),
            accepted: AtomicBool::new(false),
            base_url,
            rate,
            lists: Rates::default(),
            per_second: requests_per_second,
            most_in_flight: concurrency,
            in_flight: Concurrency::new(concurrency),
            memory: Arc::default(),
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

    /// The rights to hold bodies and pages.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.inner.memory
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

    /// How many attempts may be in flight at least, while the server is well; at least 1.
    pub fn concurrency(&self) -> usize {
        self.inner.most_in_flight.first()
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
    pub(super) fn has_another_token(&self, refused: &HeaderValue) -> bool {
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
}
