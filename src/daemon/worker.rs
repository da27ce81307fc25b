//! Drives the delivery machine of one sink: executes its commands and feeds results back.

use std::future::pending;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::counters::SinkCounters;
use super::liveness::Pulse;
use crate::delivery::{
    AttemptId, Command, DRAIN, Input, Machine, Mode, Next, Notice, STORE_RETRY, Settings, Step,
};
use crate::model::{AttemptOutcome, Exchanged, Moment, Registration, Seed, Timestamp};
use crate::sinks::Sink;
use crate::store::{Store, StoreError};

/// Delivers the events that one sink is owed. A sink must not have two workers at once: each would deliver everything.
pub struct Worker {
    store: Arc<dyn Store>,
    sink: Arc<dyn Sink>,
    registration: Registration,
    give_up_after: Duration,
    seed: Seed,
    pulse: Pulse,
    counters: Arc<SinkCounters>,
}

type Exchanging = Pin<Box<dyn Future<Output = Result<Exchanged, StoreError>> + Send>>;

/// Attempts and the exchange in flight. Dropping this cancels them.
struct InFlight {
    attempts: JoinSet<(AttemptId, Vec<AttemptOutcome>)>,
    exchange: Option<Exchanging>,
}

/// Reads both clocks; uptime counts from the instant inside.
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Moment {
        Moment {
            wall: Timestamp::now(),
            uptime: self.0.elapsed(),
        }
    }
}

impl Worker {
    /// Creates a worker that delivers to `sink` the events that its registration asks for. An event is set aside when it has
    /// waited for `give_up_after`; `seed` is for the jitter of waits, `pulse` shows that the worker goes on. What becomes of
    /// attempts is counted in `counters`.
    pub fn new(
        store: Arc<dyn Store>,
        sink: Arc<dyn Sink>,
        registration: Registration,
        give_up_after: Duration,
        seed: Seed,
        pulse: Pulse,
        counters: Arc<SinkCounters>,
    ) -> Self {
        Self {
            store,
            sink,
            registration,
            give_up_after,
            seed,
            pulse,
            counters,
        }
    }

    /// Delivers until `stop`, whenever the store notifies of events or a delivery becomes due; then gives attempts in
    /// flight a short time to end.
    ///
    /// # Errors
    /// When the database fails permanently. Temporary failures, such as a full disk, are retried.
    pub async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        self.drive(Mode::UntilStopped, Clock(Instant::now()), &stop)
            .await
    }

    /// Delivers due events, for at most `within` plus the time that the sink lets an attempt take. Does not wait for
    /// retries.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drain(self, within: Duration) -> Result<(), StoreError> {
        let mode = Mode::UntilNothingIsDue {
            deadline: within,
            grace: self.sink.attempt_limit().max(DRAIN),
        };
        self.drive(mode, Clock(Instant::now()), &CancellationToken::new())
            .await
    }

    async fn drive(
        &self,
        mode: Mode,
        clock: Clock,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut notifications = self.store.notifications();
        let mut machine = Machine::new(self.settings(mode));
        let mut in_flight = InFlight {
            attempts: JoinSet::new(),
            exchange: None,
        };
        let mut stopping = false;
        let mut input = Input::Wake;
        loop {
            let Step { commands, next } = machine.step(input, clock.now());
            for command in commands {
                self.execute(command, &mut in_flight);
            }
            let Next::Sleep { wait } = next else {
                return Ok(());
            };
            // Attempts have a time limit of their own.
            let is_exchanging = in_flight.exchange.is_some();
            self.pulse
                .back_after(if is_exchanging { Duration::ZERO } else { wait });
            input = tokio::select! {
                Some(ended) = in_flight.attempts.join_next() => match ended {
                    Ok((id, outcomes)) => Input::Completed { id, outcomes },
                    Err(panicked) => resume_unwind(panicked.into_panic()),
                },
                answer = answer(&mut in_flight.exchange) => {
                    in_flight.exchange = None;
                    self.answered(answer, mode)?
                }
                Ok(()) = notifications.changed() => Input::Notified,
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    Input::Stop
                }
                () = sleep(wait) => Input::Wake,
            };
        }
    }

    fn name(&self) -> &str {
        &self.registration.subscription.sink
    }

    fn settings(&self, mode: Mode) -> Settings {
        Settings {
            sink: self.name().to_owned(),
            limits: self.sink.limits(),
            give_up_after: self.give_up_after,
            seed: self.seed,
            mode,
        }
    }

    fn execute(&self, command: Command, in_flight: &mut InFlight) {
        match command {
            Command::Attempt { id, events } => {
                let (sink, counters) = (Arc::clone(&self.sink), Arc::clone(&self.counters));
                in_flight.attempts.spawn(async move {
                    let outcomes = sink.deliver(&events).await;
                    counters.attempted(&events, &outcomes, Timestamp::now());
                    (id, outcomes)
                });
            }
            Command::Exchange(exchange) => {
                let (store, sink) = (Arc::clone(&self.store), self.registration.clone());
                in_flight.exchange = Some(Box::pin(async move {
                    let exchanged = store.exchange(exchange, Timestamp::now()).await?;
                    if exchanged.unknown && store.restore(&sink, Timestamp::now()).await? {
                        tracing::warn!(
                            sink = sink.subscription.sink,
                            "the row of the sink was deleted; wrote it again, and the sink gets events from now on"
                        );
                    }
                    Ok(exchanged)
                }));
            }
            Command::Report(notice) => report(self.name(), &notice),
        }
    }

    fn answered(
        &self,
        answer: Result<Exchanged, StoreError>,
        mode: Mode,
    ) -> Result<Input, StoreError> {
        match answer {
            Ok(exchanged) => Ok(Input::Exchanged(exchanged)),
            Err(error) if error.is_temporary() && mode == Mode::UntilStopped => {
                let (sink, seconds) = (self.name(), STORE_RETRY.as_secs());
                tracing::error!(sink, "{error}; trying again in {seconds} s");
                Ok(Input::ExchangeFailed)
            }
            Err(error) => Err(error),
        }
    }
}

/// Waits for the answer of `exchange`, or forever if there is none in flight.
async fn answer(exchange: &mut Option<Exchanging>) -> Result<Exchanged, StoreError> {
    match exchange {
        Some(exchange) => exchange.await,
        None => pending().await,
    }
}

/// Logs a notice about `sink`.
fn report(sink: &str, notice: &Notice) {
    match notice {
        Notice::BreakerOpened { wait, error } => tracing::warn!(
            sink,
            "the sink accepts nothing; trying one batch at a time, the next in {:.1} s: {error}",
            wait.as_secs_f64()
        ),
        Notice::BreakerClosed => tracing::info!(sink, "the sink accepts events again"),
        Notice::SinkGone { error } => tracing::error!(
            sink,
            "the sink reports that it is gone for good; setting aside everything it is owed, see `apify-mirror \
             deliveries list`: {error}"
        ),
        Notice::Missed { events } => tracing::warn!(
            sink,
            events,
            "the sink does not get some events, which are no longer in the event log"
        ),
        Notice::GaveUp { events, error } => {
            tracing::error!(sink, events, "set events aside: {error}");
        }
        Notice::SetAside {
            event,
            attempts,
            error,
        } => tracing::warn!(sink, event, attempts, "set an event aside: {error}"),
        Notice::Retry {
            event,
            attempts,
            at,
            error,
        } => tracing::debug!(sink, event, attempts, %at, "will be retried: {error}"),
    }
}
