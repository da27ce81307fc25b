//! A courier at work: deliveries on their way through.
//!
//! ```text
//! books ──read──▶ ready ──launch──▶ under way ──judge──▶ settled ──write down──▶ books
//! ```
//!
//! Reading and writing are one [`Exchange`] in the database, and there is at most one at a time; meanwhile deliveries go on.

use std::collections::{HashSet, VecDeque};
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::courier::{Courier, STORE_RETRY, told};
use super::pause::{Leave, Pause};
use super::policy::{Attempt, judge};
use crate::model::{
    AttemptOutcome, Due, EXCHANGE_CHUNK as CHUNK, Exchange, Exchanged, FetchLimits, Order, Overdue,
    Seed, Settled, SinkLimits, Timestamp, Verdict,
};
use crate::store::{Store, StoreError};

/// How often a courier looks for something to do when nothing rings: deliveries can be changed by another process.
const FALLBACK: Duration = Duration::from_secs(5);

/// How long what is under way may take to end when the courier is told to stop.
const DRAIN: Duration = Duration::from_millis(700);

/// Batches read ahead for each that may be under way: hands must not be idle while the books are being written.
const AHEAD: usize = 8;

/// The least number of different runs whose events must fail in a row for a sink to be left alone.
const ILL_AFTER: usize = 8;

/// Until when a courier goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// It is told to stop.
    Stopped,
    /// Nothing is due any more, the sink takes nothing any more, or it has taken this long.
    NothingIsDue {
        /// When it has.
        deadline: Instant,
    },
}

type Call = Pin<Box<dyn Future<Output = Result<Exchanged, StoreError>> + Send>>;

/// An errand that is being done.
struct Doing {
    call: Call,
    errand: Exchange,
    /// Which reading of the books it belongs to.
    reading: u64,
}

/// Deliveries of one courier on their way through.
pub(super) struct Work {
    courier: Courier,
    store: Arc<dyn Store>,
    until: Until,
    limits: SinkLimits,
    /// Read, not yet under way.
    ready: VecDeque<Due>,
    under_way: JoinSet<(Vec<Due>, AttemptOutcome)>,
    /// Judged, not yet written down.
    settled: Vec<Settled>,
    /// The numbers of all of these: the books still show them as due.
    held: HashSet<i64>,
    doing: Option<Doing>,
    /// Counts how often what was ready was given back unread.
    reading: u64,
    pause: Pause,
    /// Whether all that happened before the sink was added is booked.
    live: bool,
    /// There may be more that is due than was read.
    hungry: bool,
    next_due: Option<Timestamp>,
    /// Set while some of what the sink is owed must be set aside.
    clearing: Option<Overdue>,
    cleared: usize,
    last_error: String,
    /// Set while the books cannot be written; when to try again. Meanwhile nothing more is delivered: it would be
    /// delivered again and again.
    unwritable: Option<Instant>,
    stopping: bool,
    /// When to leave what is under way behind.
    leave_at: Option<Instant>,
}

impl Work {
    pub fn new(courier: Courier, store: Arc<dyn Store>, until: Until) -> Self {
        let limits = courier.sink.limits();
        // In a stream one failure holds up everything, so there is no need to wait for others.
        let threshold = match limits.order {
            Order::Stream => 1,
            Order::Run => limits.concurrency.max(ILL_AFTER),
        };
        let pause = Pause::new(threshold, Seed::default().of(&courier.subscription.sink));
        Self {
            courier,
            store,
            until,
            limits,
            ready: VecDeque::new(),
            under_way: JoinSet::new(),
            settled: Vec::new(),
            held: HashSet::new(),
            doing: None,
            reading: 0,
            pause,
            live: false,
            hungry: true,
            next_due: None,
            clearing: None,
            cleared: 0,
            last_error: String::new(),
            unwritable: None,
            stopping: false,
            leave_at: None,
        }
    }

    pub async fn go_on(
        mut self,
        bell: &mut watch::Receiver<u64>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), StoreError> {
        loop {
            self.launch();
            self.send_errand();
            if self.is_over() {
                let leave_at = *self
                    .leave_at
                    .get_or_insert(Instant::now() + self.patience());
                let idle =
                    self.doing.is_none() && self.under_way.is_empty() && self.settled.is_empty();
                if idle || Instant::now() >= leave_at {
                    return Ok(());
                }
            }
            let wake = self.wake();
            let Self {
                under_way,
                doing,
                stopping,
                ..
            } = &mut self;
            tokio::select! {
                Some(ended) = under_way.join_next() => match ended {
                    Ok((events, outcome)) => self.judge(events, outcome),
                    Err(panicked) if panicked.is_panic() => std::panic::resume_unwind(panicked.into_panic()),
                    Err(_) => {}
                },
                answer = async { match doing { Some(doing) => (&mut doing.call).await, None => pending().await } } => {
                    self.answered(answer)?;
                }
                Ok(()) = bell.changed() => self.hungry = true,
                () = told(stop), if !*stopping => self.stopping = true,
                () = sleep_until(wake) => (self.hungry, self.next_due) = (true, None),
            }
        }
    }

    fn name(&self) -> &str {
        &self.courier.subscription.sink
    }

    /// Whether nothing more is begun, and all that was is to end.
    fn is_over(&self) -> bool {
        match self.until {
            Until::Stopped => self.stopping,
            Until::NothingIsDue { deadline } => {
                let nothing_is_due =
                    self.ready.is_empty() && !self.hungry && self.live && self.clearing.is_none();
                nothing_is_due || self.pause.is_paused() || Instant::now() >= deadline
            }
        }
    }

    /// How long what is under way may take, when nothing more is begun.
    fn patience(&self) -> Duration {
        match self.until {
            Until::Stopped => DRAIN,
            Until::NothingIsDue { deadline } => {
                deadline.saturating_duration_since(Instant::now()) + DRAIN
            }
        }
    }

    fn capacity(&self) -> usize {
        self.limits.batch * self.limits.concurrency
    }

    fn may_launch(&self) -> bool {
        if self.is_over() || self.clearing.is_some() || self.unwritable.is_some() {
            return false;
        }
        match self.pause.leave(Timestamp::now()) {
            Leave::Free => true,
            Leave::Probe => self.under_way.is_empty() && self.settled.is_empty(),
            Leave::Wait(_) => false,
        }
    }

    /// Gets as much under way as the sink takes.
    fn launch(&mut self) {
        while self.under_way.len() < self.limits.concurrency
            && !self.ready.is_empty()
            && self.may_launch()
        {
            let size = self.limits.batch.min(self.ready.len());
            let events: Vec<Due> = self.ready.drain(..size).collect();
            let sink = Arc::clone(&self.courier.sink);
            self.under_way.spawn(async move {
                // One outcome speaks for the batch.
                let outcomes = sink.deliver(&events).await;
                let failed = outcomes
                    .into_iter()
                    .find(|outcome| *outcome != AttemptOutcome::Delivered);
                (events, failed.unwrap_or(AttemptOutcome::Delivered))
            });
        }
    }

    /// Has done in the database what there is to do, unless something is being done.
    fn send_errand(&mut self) {
        if self.doing.is_some() || self.unwritable.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let begins = !self.is_over();
        let book = begins && !self.live;
        let clear = !self.stopping && self.clearing.is_some() && self.under_way.is_empty();
        let read = self.hungry && self.ready.len() < self.capacity() && self.may_launch();
        if self.settled.is_empty() && !book && !clear && !read {
            return;
        }
        // An ill sink is tried a batch at a time, and what is ready for long grows old.
        let ahead = if self.pause.is_paused() {
            self.limits.batch
        } else {
            self.capacity() * AHEAD
        };
        let events = if begins && self.clearing.is_none() {
            ahead.saturating_sub(self.ready.len())
        } else {
            0
        };
        let settled = std::mem::take(&mut self.settled);
        let mut except = self.held.clone();
        for Settled { seq, .. } in &settled {
            except.remove(seq);
        }
        let errand = Exchange {
            sink: self.name().to_owned(),
            backlog: book.then(|| self.courier.subscription.clone()),
            settled,
            set_aside: self
                .clearing
                .filter(|_| clear)
                .map(|which| (which, self.last_error.clone())),
            fetch: FetchLimits {
                order: self.limits.order,
                events,
                except,
            },
        };
        self.hungry &= events == 0;
        let (store, work) = (Arc::clone(&self.store), errand.clone());
        let call: Call = Box::pin(async move { store.exchange(work, Timestamp::now()).await });
        self.doing = Some(Doing {
            call,
            errand,
            reading: self.reading,
        });
    }

    fn answered(&mut self, answer: Result<Exchanged, StoreError>) -> Result<(), StoreError> {
        let Some(Doing {
            errand, reading, ..
        }) = self.doing.take()
        else {
            return Ok(());
        };
        let Exchanged {
            live,
            set_aside,
            fetched,
        } = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_temporary() && self.until == Until::Stopped => {
                tracing::error!(
                    sink = self.name(),
                    "{error}; trying again in {} s",
                    STORE_RETRY.as_secs()
                );
                self.settled.splice(0..0, errand.settled);
                self.unwritable = Some(Instant::now() + STORE_RETRY);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.unwritable = None;
        self.live |= live && errand.backlog.is_some();
        for Settled { seq, .. } in &errand.settled {
            self.held.remove(seq);
        }
        if errand.set_aside.is_some() {
            self.set_aside(set_aside);
        }
        self.next_due = fetched.next_due;
        // Where there was something there may be more.
        self.hungry |= !fetched.events.is_empty();
        if reading == self.reading {
            for due in fetched.events {
                self.held.insert(due.seq);
                self.ready.push_back(due);
            }
        }
        Ok(())
    }

    /// Some deliveries were set aside; there are more if that was all that fits into an errand.
    fn set_aside(&mut self, some: usize) {
        self.cleared += some;
        if some == CHUNK {
            return;
        }
        self.clearing = None;
        self.hungry = true;
        match std::mem::take(&mut self.cleared) {
            0 => {}
            events => {
                tracing::error!(
                    sink = self.name(),
                    events,
                    "gave up on events, and set them aside: {}",
                    self.last_error
                );
            }
        }
    }

    /// Gives back what is ready: it has to be read again, in its order, when it may go.
    fn give_back(&mut self) {
        for due in self.ready.drain(..) {
            self.held.remove(&due.seq);
        }
        self.reading += 1;
        self.hungry = true;
    }

    fn judge(&mut self, events: Vec<Due>, outcome: AttemptOutcome) {
        let now = Timestamp::now();
        let error = match &outcome {
            AttemptOutcome::Delivered => None,
            AttemptOutcome::Failed { error, .. }
            | AttemptOutcome::Rejected { error }
            | AttemptOutcome::Refused { error }
            | AttemptOutcome::Gone { error } => Some(error.clone()),
        };
        // What is settled may clear the way for the next event of its run.
        self.hungry = true;
        if let Some(error) = &error {
            self.last_error.clone_from(error);
        }
        self.judge_sink(&events, &outcome, now);
        for due in events {
            let attempt = Attempt {
                attempts: due.attempts.saturating_add(1),
                first: due.first_attempt_at.unwrap_or(now),
                now,
                seed: Seed::default().of(self.name()).of(&due.id),
            };
            let verdict = judge(&outcome, attempt, self.courier.give_up_after);
            if let Some(error) = &error {
                self.tell(&due, verdict, attempt.attempts, error);
            }
            self.settled.push(Settled {
                seq: due.seq,
                run_id: due.run_id,
                verdict,
                error: error.clone(),
            });
        }
    }

    /// What an outcome says of the sink as a whole.
    fn judge_sink(&mut self, events: &[Due], outcome: &AttemptOutcome, now: Timestamp) {
        let was_paused = self.pause.is_paused();
        let asked = match outcome {
            // A refusal is an answer, if not the one that was hoped for.
            AttemptOutcome::Delivered
            | AttemptOutcome::Refused { .. }
            | AttemptOutcome::Gone { .. } => {
                self.pause.succeeded();
                if was_paused {
                    tracing::info!(sink = self.name(), "the sink answers again");
                }
                if matches!(outcome, AttemptOutcome::Gone { .. }) {
                    tracing::error!(
                        sink = self.name(),
                        "the sink says that it is gone for good: everything it is owed is set aside, see \
                         `apify-mirror deliveries list`: {}",
                        self.last_error
                    );
                    self.clearing = Some(Overdue::All);
                    self.give_back();
                }
                return;
            }
            AttemptOutcome::Rejected { .. } => None,
            AttemptOutcome::Failed { retry_after, .. } => *retry_after,
        };
        for event in events {
            self.pause.failed(&event.run_id, asked, now);
        }
        if !self.pause.is_paused() {
            return;
        }
        if !was_paused {
            tracing::warn!(
                sink = self.name(),
                "the sink takes nothing; leaving it alone for a while: {}",
                self.last_error
            );
        }
        self.give_back();
        // What a sink has been owed for too long, while it was ill, there is no hope for.
        let overdue = Overdue::OwedSince(now.minus(self.courier.give_up_after));
        self.clearing.get_or_insert(overdue);
    }

    fn tell(&self, due: &Due, verdict: Verdict, attempts: u32, error: &str) {
        let (sink, event) = (self.name(), due.id.as_str());
        match verdict {
            Verdict::Delivered => {}
            Verdict::Retry { at } => {
                tracing::debug!(sink, event, attempts, %at, "will be tried again: {error}")
            }
            Verdict::SetAside => {
                tracing::warn!(
                    sink,
                    event,
                    attempts,
                    "gave up on an event, and set it aside: {error}"
                )
            }
        }
    }

    /// When to look again if nothing happens.
    fn wake(&self) -> Instant {
        let (now, wall) = (Instant::now(), Timestamp::now());
        let after = |at: Timestamp| now + at.since(wall);
        let paused = match self.pause.leave(wall) {
            Leave::Wait(until) => Some(after(until)),
            Leave::Free | Leave::Probe => None,
        };
        // What is due during a pause has to wait for its end.
        let due = if paused.is_some() {
            None
        } else {
            self.next_due.map(after)
        };
        let deadline = match self.until {
            Until::NothingIsDue { deadline } => Some(deadline).filter(|at| *at > now),
            Until::Stopped => None,
        };
        let writable = self.unwritable.filter(|at| *at > now);
        [paused, due, deadline, writable, self.leave_at]
            .into_iter()
            .flatten()
            .fold(now + FALLBACK, Instant::min)
    }
}
