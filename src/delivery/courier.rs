//! Brings one sink what it is owed.

use std::collections::{HashSet, VecDeque};
use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::pause::{Leave, Pause};
use super::policy::{Attempt, Verdict, judge};
use super::{Settled, Subscription};
use crate::model::Timestamp;
use crate::sinks::{Intake, Order, Outcome, Sink};
use crate::store::{Due, Fetched, Overdue, Room, Store, StoreError};

/// How often a courier looks for something to do when nothing rings: deliveries can be changed by another process.
const FALLBACK: Duration = Duration::from_secs(5);

/// How long what is under way may take to end when the courier is told to stop.
const DRAIN: Duration = Duration::from_millis(700);

/// How long to leave a database alone that cannot be written to.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// Batches read ahead for each that may be under way: hands must not be idle while the books are being written.
const AHEAD: usize = 8;

/// The most deliveries booked, or set aside, in one transaction.
const CHUNK: usize = 5_000;

/// The least number of different runs whose events must fail in a row for a sink to be left alone.
const ILL_AFTER: usize = 8;

/// Brings one sink what it is owed.
#[derive(Clone)]
pub struct Courier {
    subscription: Subscription,
    sink: Arc<dyn Sink>,
    give_up_after: Duration,
}

/// Until when a courier goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Stopped,
    NothingIsDue { deadline: Instant },
}

type Call = Pin<Box<dyn Future<Output = Result<Fetched, StoreError>> + Send>>;

impl Courier {
    /// A courier for `sink`, whose deliveries are booked as `subscription` says, and given up on `give_up_after` their
    /// first attempt.
    pub fn new(subscription: Subscription, sink: Arc<dyn Sink>, give_up_after: Duration) -> Self {
        Self { subscription, sink, give_up_after }
    }

    /// Delivers until `stop` says so, whenever `bell` rings or something becomes due; then lets what is under way end.
    ///
    /// # Errors
    /// When the database fails in a way that does not pass.
    pub async fn run(
        self,
        store: Store,
        mut bell: watch::Receiver<u64>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), StoreError> {
        loop {
            match Work::new(self.clone(), store.clone(), Until::Stopped).go_on(&mut bell, &mut stop).await {
                Err(error) if error.is_passing() => {
                    tracing::error!(
                        sink = self.subscription.sink,
                        "{error}; trying again in {} s",
                        STORE_RETRY.as_secs()
                    );
                    tokio::select! {
                        () = sleep(STORE_RETRY) => {}
                        () = told(&mut stop) => return Ok(()),
                    }
                }
                result => return result,
            }
        }
    }

    /// Delivers what is due, for at most `within`. Does not wait for what failed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drain(self, store: Store, within: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + within;
        let (_bell, mut silent) = watch::channel(0);
        let (_stop, mut never) = watch::channel(false);
        Work::new(self, store, Until::NothingIsDue { deadline }).go_on(&mut silent, &mut never).await
    }
}

/// Deliveries of one courier on their way through: read, under way, judged, written down.
struct Work {
    courier: Courier,
    store: Store,
    until: Until,
    intake: Intake,
    /// Read, not yet under way.
    ready: VecDeque<Due>,
    under_way: JoinSet<(Vec<Due>, Outcome)>,
    /// Judged, not yet written down.
    settled: Vec<Settled>,
    /// The numbers of all of these: the books still show them as due.
    held: HashSet<i64>,
    pause: Pause,
    /// There may be more that is due than was read.
    hungry: bool,
    next_due: Option<Timestamp>,
    /// Set when the sink wants nothing any more: the reason, until all it is owed has been set aside.
    gone: Option<String>,
    last_error: String,
    stopping: bool,
}

impl Work {
    fn new(courier: Courier, store: Store, until: Until) -> Self {
        let intake = courier.sink.intake();
        // In a stream one failure holds up everything, so there is no need to wait for others.
        let threshold = match intake.order {
            Order::Sink => 1,
            Order::Run => intake.concurrency.max(ILL_AFTER),
        };
        let pause = Pause::new(threshold, seed(&courier.subscription.sink));
        Self {
            courier,
            store,
            until,
            intake,
            ready: VecDeque::new(),
            under_way: JoinSet::new(),
            settled: Vec::new(),
            held: HashSet::new(),
            pause,
            hungry: true,
            next_due: None,
            gone: None,
            last_error: String::new(),
            stopping: false,
        }
    }

    async fn go_on(
        mut self,
        bell: &mut watch::Receiver<u64>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), StoreError> {
        self.book_backlog().await?;
        let mut call: Option<Call> = None;
        let mut writing: Vec<Settled> = Vec::new();
        // While the books cannot be written, nothing more is delivered: it would be delivered again and again.
        let mut stuck_until: Option<Instant> = None;
        let mut drain_until: Option<Instant> = None;
        loop {
            if stuck_until.is_none() {
                self.launch();
            }
            if call.is_none() && stuck_until.is_none() && (!self.settled.is_empty() || self.wants_more()) {
                writing = std::mem::take(&mut self.settled);
                call = Some(self.call(writing.clone()));
            }
            let idle = call.is_none() && self.under_way.is_empty() && self.settled.is_empty();
            let out_of_time = drain_until.is_some_and(|at| Instant::now() >= at);
            if (idle || out_of_time) && self.is_over() {
                return Ok(());
            }
            let wake = self.wake(stuck_until, drain_until);
            tokio::select! {
                Some(ended) = self.under_way.join_next() => match ended {
                    Ok((events, outcome)) => self.judge(events, outcome),
                    Err(panicked) if panicked.is_panic() => std::panic::resume_unwind(panicked.into_panic()),
                    Err(_) => {}
                },
                answer = async { match call.as_mut() { Some(call) => call.await, None => pending().await } } => {
                    call = None;
                    match answer {
                        Ok(fetched) => self.take(fetched, &std::mem::take(&mut writing)),
                        Err(error) if error.is_passing() && self.until == Until::Stopped => {
                            tracing::error!(sink = self.name(), "{error}; trying again in {} s", STORE_RETRY.as_secs());
                            self.settled.splice(0..0, std::mem::take(&mut writing));
                            stuck_until = Some(Instant::now() + STORE_RETRY);
                        }
                        Err(error) => return Err(error),
                    }
                    self.clear_out().await?;
                }
                Ok(()) = bell.changed() => self.hungry = true,
                () = told(stop), if !self.stopping => {
                    self.stopping = true;
                    drain_until = Some(Instant::now() + DRAIN);
                }
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    stuck_until = stuck_until.filter(|at| now < *at);
                    self.next_due = None;
                    self.hungry = true;
                    if let Until::NothingIsDue { deadline } = self.until && now >= deadline {
                        drain_until.get_or_insert(now + DRAIN);
                    }
                }
            }
        }
    }

    fn name(&self) -> &str {
        &self.courier.subscription.sink
    }

    /// Books what happened before the sink was added, if it is owed that.
    async fn book_backlog(&self) -> Result<(), StoreError> {
        loop {
            let subscription = self.courier.subscription.clone();
            let call = self.store.call(move |db| db.book_backlog(&subscription, CHUNK, Timestamp::now()));
            if call.await? {
                return Ok(());
            }
        }
    }

    /// Whether nothing more is begun, and all that was is to end.
    fn is_over(&self) -> bool {
        match self.until {
            Until::Stopped => self.stopping,
            Until::NothingIsDue { deadline } => {
                self.pause.is_paused() || Instant::now() >= deadline || (self.ready.is_empty() && !self.hungry)
            }
        }
    }

    fn capacity(&self) -> usize {
        self.intake.batch * self.intake.concurrency
    }

    fn wants_more(&self) -> bool {
        self.hungry && !self.is_over() && self.ready.len() < self.capacity() && self.may_launch()
    }

    fn may_launch(&self) -> bool {
        match self.pause.leave(Timestamp::now()) {
            Leave::Free => true,
            Leave::Probe => self.under_way.is_empty() && self.settled.is_empty(),
            Leave::Wait(_) => false,
        }
    }

    /// Gets as much under way as the sink takes.
    fn launch(&mut self) {
        if self.stopping || self.gone.is_some() {
            return;
        }
        if let Until::NothingIsDue { deadline } = self.until
            && (Instant::now() >= deadline || self.pause.is_paused())
        {
            return;
        }
        while self.under_way.len() < self.intake.concurrency && !self.ready.is_empty() && self.may_launch() {
            let probe = self.pause.is_paused() && self.intake.order == Order::Run;
            let size = if probe { 1 } else { self.intake.batch.min(self.ready.len()) };
            let events: Vec<Due> = self.ready.drain(..size).collect();
            let sink = Arc::clone(&self.courier.sink);
            self.under_way.spawn(async move {
                let outcome = sink.deliver(&events).await;
                (events, outcome)
            });
        }
    }

    /// Writes down what became of deliveries, and reads what is due then.
    fn call(&mut self, settled: Vec<Settled>) -> Call {
        let (store, name) = (self.store.clone(), self.name().to_owned());
        let ahead = if self.pause.is_paused() { 1 } else { AHEAD };
        let events = (self.capacity() * ahead).saturating_sub(self.ready.len());
        let room = Room {
            order: self.intake.order,
            events: if self.is_over() || self.gone.is_some() { 0 } else { events },
            except: settled.iter().fold(self.held.clone(), |mut held, settled| {
                held.remove(&settled.seq);
                held
            }),
        };
        self.hungry &= room.events == 0;
        Box::pin(async move {
            let work = move |db: &mut crate::store::Db| {
                let now = Timestamp::now();
                db.record(&name, &settled, now)?;
                db.due(&name, &room, now)
            };
            store.call(work).await
        })
    }

    fn take(&mut self, fetched: Fetched, written: &[Settled]) {
        for Settled { seq, .. } in written {
            self.held.remove(seq);
        }
        self.next_due = fetched.next_due;
        // Where there was something there may be more.
        self.hungry |= !fetched.events.is_empty();
        for due in fetched.events {
            self.held.insert(due.seq);
            self.ready.push_back(due);
        }
    }

    fn judge(&mut self, events: Vec<Due>, outcome: Outcome) {
        let now = Timestamp::now();
        let error = match &outcome {
            Outcome::Delivered => None,
            Outcome::Failed { error, .. }
            | Outcome::Rejected { error }
            | Outcome::Refused { error }
            | Outcome::Gone { error } => Some(error.clone()),
        };
        // What is settled may clear the way for the next event of its run.
        self.hungry = true;
        let was_paused = self.pause.is_paused();
        match &outcome {
            // A refusal is an answer, if not the one that was hoped for.
            Outcome::Delivered | Outcome::Refused { .. } | Outcome::Gone { .. } => self.pause.succeeded(),
            Outcome::Rejected { .. } => self.note_failures(&events, None, now),
            Outcome::Failed { retry_after, .. } => self.note_failures(&events, *retry_after, now),
        }
        if let Some(error) = &error {
            self.last_error.clone_from(error);
            if self.pause.is_paused() && !was_paused {
                tracing::warn!(sink = self.name(), "the sink takes nothing; leaving it alone for a while: {error}");
            }
        }
        if was_paused && !self.pause.is_paused() {
            tracing::info!(sink = self.name(), "the sink takes events again");
        }
        if let Outcome::Gone { error } = &outcome {
            tracing::error!(
                sink = self.name(),
                "the sink says that it is gone for good: everything it is owed is set aside, see `apify-mirror deliveries list`: {error}"
            );
            self.gone = Some(error.clone());
        }
        for due in events {
            let attempt = Attempt {
                attempts: due.attempts.saturating_add(1),
                first: due.first_attempt_at.unwrap_or(now),
                now,
                seed: seed(&(&due.id, self.name())),
            };
            let verdict = judge(&outcome, attempt, self.courier.give_up_after);
            if let Some(error) = &error {
                self.tell(&due, verdict, attempt.attempts, error);
            }
            self.settled.push(Settled { seq: due.seq, run_id: due.run_id, verdict, error: error.clone() });
        }
    }

    fn note_failures(&mut self, events: &[Due], asked: Option<Duration>, now: Timestamp) {
        for run in events.iter().map(|event| &event.run_id) {
            self.pause.failed(run, asked, now);
        }
    }

    fn tell(&self, due: &Due, verdict: Verdict, attempts: u32, error: &str) {
        let (sink, event) = (self.name(), due.id.as_str());
        match verdict {
            Verdict::Delivered => {}
            Verdict::Retry { at } => tracing::debug!(sink, event, attempts, %at, "will be tried again: {error}"),
            Verdict::SetAside => {
                tracing::warn!(sink, event, attempts, "gave up on an event, and set it aside: {error}")
            }
        }
    }

    /// Sets aside what there is no hope for: all of it when the sink is gone; when it has been ill for too long, what it
    /// has been owed for that long.
    async fn clear_out(&mut self) -> Result<(), StoreError> {
        let gone = self.gone.is_some();
        if self.stopping || !(gone || self.pause.is_paused()) || !self.under_way.is_empty() || !self.settled.is_empty()
        {
            return Ok(());
        }
        let now = Timestamp::now();
        let which = if gone { Overdue::All } else { Overdue::OwedSince(now.minus(self.courier.give_up_after)) };
        let mut set_aside = 0;
        loop {
            let (name, error) = (self.name().to_owned(), self.last_error.clone());
            let some = self.store.call(move |db| db.set_aside(&name, which, &error, CHUNK, now)).await?;
            set_aside += some;
            if some < CHUNK {
                break;
            }
        }
        if set_aside > 0 {
            tracing::error!(
                sink = self.name(),
                events = set_aside,
                "gave up on events, and set them aside: {}",
                self.last_error
            );
        }
        if gone || set_aside > 0 {
            // What was read ahead is among them.
            self.ready.clear();
            self.held.clear();
            self.gone = None;
            self.hungry = true;
        }
        Ok(())
    }

    /// When to look again if nothing happens.
    fn wake(&self, stuck_until: Option<Instant>, drain_until: Option<Instant>) -> Instant {
        let (now, wall) = (Instant::now(), Timestamp::now());
        let after = |at: Timestamp| now + at.since(wall);
        let paused = match self.pause.leave(wall) {
            Leave::Wait(until) => Some(after(until)),
            Leave::Free | Leave::Probe => None,
        };
        let deadline = match self.until {
            Until::NothingIsDue { deadline } => Some(deadline).filter(|at| *at > now),
            Until::Stopped => None,
        };
        // What is due during a pause has to wait for its end.
        let due = if paused.is_some() { None } else { self.next_due.map(after) };
        [paused, due, stuck_until, drain_until, deadline].into_iter().flatten().fold(now + FALLBACK, Instant::min)
    }
}

/// Waits until it is time to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        pending::<()>().await;
    }
}

fn seed(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}
