//! The client's methods: one for each endpoint that the mirror uses.

use std::time::Instant;

use reqwest::Url;

use super::client::Client;
use super::counts::Endpoint;
use super::error::{ApiError, ErrorClass};
use super::fetch::Request;
use super::memory::{BodyRight, Held};
use super::retry::RetryPolicy;
use super::tasks::Tasks;
use super::wire::{self, Unusable};
use crate::model::{RunStatus, Task, Timestamp, is_path_part};
use crate::sync::{Listing, Page, Seen, Window};

/// Tasks to request in a page: the API's maximum.
const TASKS_PER_PAGE: u64 = 1_000;

/// The most pages of tasks read, and the most entries on them, so that a server that repeats itself cannot keep the client
/// reading. Apify allows an account some thousand tasks.
const MAX_TASK_PAGES: usize = 1_000;
const MAX_TASK_ENTRIES: usize = 20_000;

/// A page that was read.
#[derive(Debug)]
pub struct Read {
    /// The page.
    pub page: Page,
    /// The right to hold it.
    pub held: Held,
    /// How large its body was, in bytes after decompression.
    pub bytes: usize,
}

impl Client {
    /// One attempt at a page of the runs of the task `task_id` (`GET /v2/actor-tasks/:id/runs`), which waits for its turn by
    /// `right` before it becomes a page; `None` if there was no room for its body before that. Returns also the right to hold the
    /// page, and the size of the body. Items that cannot be read are among the entries of the page.
    ///
    /// # Errors
    /// When it fails; [`Client::runs_again`] makes further attempts.
    pub async fn runs(
        &self,
        task_id: &str,
        window: &Window,
        right: BodyRight,
    ) -> Result<Option<Read>, ApiError> {
        let url = self.runs_url(task_id, window)?;
        let request = Request {
            endpoint: Endpoint::Runs,
            url: &url,
            list: Some(task_id),
        };
        let answer = self.fetch(&request, Some(right)).await?;
        if answer.found_no_room() {
            return Ok(None);
        }
        let bytes = answer.len();
        answer.turn().await;
        let held = self.inner.memory.page().await;
        let page = self.decode_apart(answer, wire::run_page).await?;
        Ok(Some(Read { page, held, bytes }))
    }

    /// Attempts at a page whose turn it is, with a body of `expected` bytes: as far as a retry makes sense after one that `failed`, if
    /// there was one, and when. The waits before them hold nothing.
    ///
    /// # Errors
    /// When no attempt succeeds.
    pub async fn runs_again(
        &self,
        task_id: &str,
        window: &Window,
        expected: usize,
        failed: Option<(ApiError, Instant)>,
    ) -> Result<Read, ApiError> {
        let attempt = || async move {
            let right = self.inner.memory.body(expected).await;
            let read = self.runs(task_id, window, right).await?;
            let no_room = || {
                ApiError::new(
                    ErrorClass::Other,
                    &self.inner.base_url,
                    "no room for its body",
                )
            };
            read.ok_or_else(no_room)
        };
        self.inner.retry.run_after(failed, attempt).await
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
        let request = Request {
            endpoint,
            url: &url,
            list: None,
        };
        let attempt = || async {
            let answer = self.fetch(&request, None).await?;
            self.decode(answer, &decode)
        };
        retry.run_after(None, attempt).await
    }
}
