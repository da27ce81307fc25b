//! Reads the details of runs that have ended, beside everything else.
//!
//! Runs whose events wait are read at once. The others wait until the feeds have had their share: together they get a part
//! of the requests that may be made.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::context::Context;
use crate::api::{ApiError, Client, ErrorClass};
use crate::delivery::STORE_RETRY;
use crate::model::{DETAILS_WAIT, Details, Timestamp};
use crate::store::{DetailsAnswer, DetailsSaved, StoreError};

/// The most runs that are read at once; at most half of the attempts that may be in flight, as feeds need the others. Where there
/// is only one, feeds and details take turns.
const AT_ONCE: usize = 8;

/// How long a read may take, its turn included: nobody waits for longer.
const WITHIN: Duration = DETAILS_WAIT;

/// Details that nobody waits for get one of so many of the requests that may be made.
const SHARE: u32 = 4;

/// The longest wait before looking for something to do, in case that the clock was set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The pause after a read of which none came; doubled for each in a row, up to [`LONGEST_PAUSE`]. Events wait for longer.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The longest pause before details that nobody waits for.
const LONGEST_FOR_OTHERS: Duration = Duration::from_secs(30);

/// After so many in a row, a pass reads no more.
const MANY_FAILURES: u32 = 3;

/// How often it is told what was read, while there is more.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The longest that a pass reads details. The next goes on.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Reads details as long as the daemon runs, and lets events go that have waited for long enough, whatever becomes of the reads.
/// What goes wrong is logged, and stops nothing else.
pub(super) async fn keep_reading(context: Arc<Context>) -> Infallible {
    tokio::select! {
        never = keep_releasing(&context) => never,
        never = read_on(&context) => never,
    }
}

async fn keep_releasing(context: &Context) -> Infallible {
    let mut asked = context.details_asked.subscribe();
    loop {
        asked.mark_unchanged();
        let now = Timestamp::now();
        let wait = match context.store.release_overdue(now).await {
            Ok((_, next)) => next.map_or(LOOK_AGAIN, |next| next.since(now)),
            Err(error) => after(&error),
        };
        tokio::select! {
            () = sleep(wait.min(LOOK_AGAIN)) => {}
            _ = asked.changed() => {}
        }
    }
}

async fn read_on(context: &Context) -> Infallible {
    let pulse = context.liveness.enter("the loop that reads details");
    let (mut plans, mut asked) = (context.plan.subscribe(), context.details_asked.subscribe());
    let mut reading = Reading::new(context);
    loop {
        asked.mark_unchanged();
        let details = plans.borrow_and_update().sync.details;
        pulse.back_after(context.longest(AT_ONCE));
        let wait = match reading.step(details).await {
            Ok(Next::Due { after: wait } | Next::Later(Some(wait))) => wait.min(LOOK_AGAIN),
            Ok(Next::Later(None)) => LOOK_AGAIN,
            Err(error) => after(&error),
        };
        pulse.back_after(wait);
        tokio::select! {
            () = sleep(wait) => {}
            _ = asked.changed() => {}
            _ = plans.changed() => {}
        }
    }
}

/// Logs that the database failed; returns how long to wait then.
fn after(error: &StoreError) -> Duration {
    let seconds = STORE_RETRY.as_secs();
    tracing::error!("cannot store details of runs: {error}; trying again in {seconds} s");
    STORE_RETRY
}

/// Reads details for a pass until none are due, for [`READ_WITHIN`] at most; then lets all events go that wait for any.
///
/// # Errors
/// When the database fails.
pub(super) async fn read(context: &Context) -> Result<DetailsSaved, StoreError> {
    let details = context.plan().sync.details;
    let mut reading = Reading::new(context);
    let all_due = async {
        // What becomes due later is for the next pass.
        while let Next::Due { after } = reading.step(details).await? {
            sleep(after).await;
        }
        Ok::<(), StoreError>(())
    };
    // What is being read when the time is over is read by the next pass.
    timeout(READ_WITHIN, all_due).await.unwrap_or(Ok(()))?;
    context.store.release_events(Timestamp::now()).await?;
    Ok(reading.all)
}

/// When the next step comes.
enum Next {
    /// There is more to do, after a pause for the pace.
    Due { after: Duration },
    /// Nothing can be done until so much time has passed, or something happens.
    Later(Option<Duration>),
}

/// Reads details, and keeps the pace.
struct Reading<'a> {
    context: &'a Context,
    /// From when on any may be read, and from when on those that nobody waits for.
    from: Instant,
    others_from: Instant,
    /// How many reads in a row gave none: of those that events wait for, and of others.
    failed: u32,
    others_failed: u32,
    /// What was read, and what of it was not told yet.
    all: DetailsSaved,
    untold: DetailsSaved,
    error: Option<ApiError>,
    told_at: Instant,
}

impl<'a> Reading<'a> {
    fn new(context: &'a Context) -> Self {
        Self {
            context,
            from: Instant::now(),
            others_from: Instant::now(),
            failed: 0,
            others_failed: 0,
            all: DetailsSaved::default(),
            untold: DetailsSaved::default(),
            error: None,
            told_at: Instant::now(),
        }
    }

    /// Reads some of the details that are due.
    async fn step(&mut self, details: Details) -> Result<Next, StoreError> {
        let store = &self.context.store;
        let now = Timestamp::now();
        let left = |from: Instant| from.saturating_duration_since(Instant::now());
        let (rest, pause) = (left(self.from), left(self.others_from));
        if !rest.is_zero() {
            return Ok(Next::Due { after: rest });
        }
        let at_once = (self.context.client.concurrency() / 2).clamp(1, AT_ONCE);
        let others = if pause.is_zero() { at_once } else { 0 };
        let due = store.due_details(details, (at_once, others), now).await?;
        let is_urgent = !due.urgent.is_empty();
        let ids = if is_urgent { due.urgent } else { due.others };
        if ids.is_empty() {
            let next = due.next.map(|next| next.since(now));
            return Ok(match next {
                _ if !pause.is_zero() => Next::Due { after: pause },
                Some(Duration::ZERO) => Next::Due {
                    after: Duration::ZERO,
                },
                next => {
                    self.tell();
                    Next::Later(next)
                }
            });
        }
        let answers = self.read(ids).await;
        if !is_urgent {
            let requests = u32::try_from(answers.len()).unwrap_or(u32::MAX);
            let pace = Duration::from_secs(1) * SHARE * requests;
            self.others_from = Instant::now() + pace / self.context.client.requests_per_second();
        }
        let mut all = answers.iter();
        let none_came = all.all(|(_, answer)| *answer == DetailsAnswer::Unavailable);
        let saved = store.save_details(answers, Timestamp::now()).await?;
        self.all.add(saved);
        self.untold.add(saved);
        if self.told_at.elapsed() >= TELL_EVERY {
            self.tell();
        }
        Ok(self.pause(none_came, is_urgent))
    }

    /// Pauses after a read of which none came. One run that cannot be read is put off by itself: only where many in a row cannot,
    /// the server is in trouble.
    fn pause(&mut self, none_came: bool, is_urgent: bool) -> Next {
        let (failed, from, longest) = if is_urgent {
            (&mut self.failed, &mut self.from, LONGEST_PAUSE)
        } else {
            // Those that events wait for are others, and may come.
            (
                &mut self.others_failed,
                &mut self.others_from,
                LONGEST_FOR_OTHERS,
            )
        };
        *failed = if none_came { *failed + 1 } else { 0 };
        let Some(doubled) = failed.checked_sub(1) else {
            return Next::Due {
                after: Duration::ZERO,
            };
        };
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doubled));
        let pause = pause.min(longest);
        *from = (*from).max(Instant::now() + pause);
        match (*failed >= MANY_FAILURES, is_urgent) {
            (true, _) => Next::Later(Some(pause)),
            (false, true) => Next::Due { after: pause },
            (false, false) => Next::Due {
                after: Duration::ZERO,
            },
        }
    }

    /// Reads the runs `ids` at once.
    async fn read(&mut self, ids: Vec<String>) -> Vec<(String, DetailsAnswer)> {
        let mut reads = JoinSet::new();
        for id in ids {
            let client: Client = self.context.client.clone();
            reads.spawn(async move {
                let answer = timeout(WITHIN, client.run(&id)).await;
                (id, answer)
            });
        }
        let mut answers = Vec::with_capacity(reads.len());
        while let Some(ended) = reads.join_next().await {
            let (id, answer) = match ended {
                Ok(read) => read,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            };
            let answer = match answer {
                Err(_) => DetailsAnswer::Unavailable,
                Ok(Ok(Some(seen))) => DetailsAnswer::Found(Box::new(seen)),
                Ok(Ok(None)) => DetailsAnswer::Unreadable,
                Ok(Err(error)) => {
                    let class = error.class();
                    self.error = Some(error);
                    match class {
                        // Where another token is needed, there may be one soon.
                        ErrorClass::Temporary
                        | ErrorClass::Throttled
                        | ErrorClass::TokenRefused => DetailsAnswer::Unavailable,
                        _ => DetailsAnswer::Unreadable,
                    }
                }
            };
            answers.push((id, answer));
        }
        answers
    }

    /// Tells what was read, if there is anything to tell.
    fn tell(&mut self) {
        let DetailsSaved {
            read,
            put_off,
            given_up,
            ..
        } = self.untold;
        let later = put_off + given_up;
        if read + later == 0 {
            return;
        }
        let example = self.error.take();
        if later == 0 {
            tracing::debug!(read, "read details of runs");
        } else {
            let why = example.map_or_else(
                || "no answer in time, or another state than is stored".to_owned(),
                |example| example.to_string(),
            );
            tracing::warn!(
                read,
                put_off,
                given_up,
                "details of runs could not be read, such as: {why}"
            );
        }
        self.untold = DetailsSaved::default();
        self.told_at = Instant::now();
    }
}
