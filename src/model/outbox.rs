//! The outbox: deliveries, the outcomes of attempts, and the exchange between a sink's worker and the store.
//!
//! A delivery is one event that one sink has yet to receive. The store keeps deliveries, [`delivery`](crate::delivery)
//! schedules attempts and [`sinks`](crate::sinks) make them. All three use these types.

use std::collections::HashSet;
use std::time::Duration;

use super::time::Timestamp;

/// The longest wait before a retry, and the longest `Retry-After` that is honoured.
///
/// A delivery due later than this from now was scheduled before the clock was set back.
pub const MAX_RETRY_WAIT: Duration = Duration::from_secs(3_600);

/// The most deliveries that one [`Exchange`] copies from the event log or sets aside, so that other writers need not
/// wait long.
pub const EXCHANGE_CHUNK: usize = 5_000;

/// The name of the subscription that commands without a configuration file have for their standard output. No configured
/// sink can have it.
pub const TEMPORARY_SINK: &str = "stdout.once";

/// Which events a sink receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The sink's name, which identifies its deliveries.
    pub sink: String,
    /// The event types it receives; `None` for all.
    pub types: Option<Vec<String>>,
}

impl Subscription {
    /// Whether the sink receives events of the type `name`.
    pub fn wants(&self, name: &str) -> bool {
        self.types
            .as_ref()
            .is_none_or(|types| types.iter().any(|wanted| wanted == name))
    }
}

/// A configured sink, as the store registers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its name, and which events it receives.
    pub subscription: Subscription,
    /// Its type, e.g. `webhook`.
    pub kind: &'static str,
    /// Whether a new sink also receives the events from before it was added.
    pub from_beginning: bool,
}

/// In which order a sink receives events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All events by sequence number. One that cannot be delivered blocks the rest.
    Stream,
    /// The events of each run in order. Runs are independent of each other.
    Run,
}

/// How much a sink receives at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkLimits {
    /// The order of events.
    pub order: Order,
    /// The most events in a batch, at least 1.
    pub batch: usize,
    /// The most batches in flight, at least 1.
    pub concurrency: usize,
}

/// The most events in a batch of a stream.
const STREAM_BATCH: usize = 500;

impl SinkLimits {
    /// All events in order, one batch at a time.
    pub const STREAM: Self = Self {
        order: Order::Stream,
        batch: STREAM_BATCH,
        concurrency: 1,
    };

    /// Runs independent of one another, one event at a time, at most `concurrency` in flight.
    pub const fn independent_runs(concurrency: usize) -> Self {
        Self {
            order: Order::Run,
            batch: 1,
            concurrency,
        }
    }
}

/// An event that is due for a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The event's sequence number.
    pub seq: i64,
    /// The event's id.
    pub id: String,
    /// The run that the event is about.
    pub run_id: String,
    /// The event's body: one JSON object, the same bytes on every attempt.
    pub payload: String,
    /// When the change that it tells of was observed.
    pub observed_at: Timestamp,
    /// How many attempts have been made.
    pub attempts: u32,
    /// How long it has waited for another one since the first: the gaps between them, of each at most the wait that was
    /// scheduled.
    pub waited: Duration,
}

/// The outcome of one attempt to deliver one event. No error message contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The sink received it.
    Delivered,
    /// The sink may not have received it. A retry may succeed.
    Failed {
        /// What happened.
        error: String,
        /// How long the receiver asked to wait.
        retry_after: Option<Duration>,
    },
    /// The sink rejected it, perhaps not permanently: it is retried a few times.
    Rejected {
        /// What happened.
        error: String,
    },
    /// The sink rejected it permanently.
    Refused {
        /// What the receiver answered.
        error: String,
    },
    /// The sink no longer exists and rejects everything.
    Gone {
        /// What the receiver answered.
        error: String,
    },
}

impl AttemptOutcome {
    /// Why the event was not delivered; `None` if it was.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Delivered => None,
            Self::Failed { error, .. }
            | Self::Rejected { error }
            | Self::Refused { error }
            | Self::Gone { error } => Some(error),
        }
    }
}

/// What happens to a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done, and leaves the outbox.
    Delivered,
    /// It is retried.
    Retry {
        /// The earliest time of the next attempt.
        at: Timestamp,
    },
    /// It becomes a dead letter: kept, without further attempts, until an operator retries or drops it.
    SetAside,
}

/// A delivery that was attempted, with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The event's sequence number.
    pub seq: i64,
    /// The run that the event is about.
    pub run_id: String,
    /// How many attempts had been made before, as the event was read. A failure does not count if the outbox says
    /// otherwise by now: then the delivery was retried by hand, and that counts as a new beginning.
    pub attempts: u32,
    /// What happens to it.
    pub verdict: Verdict,
    /// Why it was not delivered.
    pub error: Option<String>,
    /// How long it had waited, see [`Due::waited`].
    pub waited: Duration,
}

/// Which of a sink's pending deliveries to set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// All of them.
    All,
    /// Those owed for at least this long while the sink was given pauses, but only if it has received nothing for as long.
    /// Of the time between two failures, at most the pause that was scheduled counts.
    OwedFor(Duration),
}

/// Which due deliveries to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// The order of events.
    pub order: Order,
    /// The most events to read.
    pub events: usize,
    /// The most bytes of their bodies together. The first event is read however large it is.
    pub bytes: usize,
    /// Sequence numbers of events to skip, because they were read before and are not settled yet.
    pub except: HashSet<i64>,
}

/// The deliveries that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Events to deliver now.
    pub events: Vec<Due>,
    /// When the next delivery becomes due; only set if `events` contains all that are due.
    pub next_due: Option<Timestamp>,
}

/// One exchange between a sink's worker and the outbox: one transaction, with its parts in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The sink's name.
    pub sink: String,
    /// Copy events from behind the sink's position from the event log, at most [`EXCHANGE_CHUNK`].
    pub backlog: bool,
    /// Record the verdicts on these.
    pub settled: Vec<Settled>,
    /// How long nothing is attempted from now on, as the sink accepts nothing.
    pub pause: Duration,
    /// Set these aside, with this reason, at most [`EXCHANGE_CHUNK`]; none that the fetch excepts, as an attempt in flight
    /// may yet deliver those.
    pub set_aside: Option<(Overdue, String)>,
    /// Then read due deliveries, within these limits.
    pub fetch: FetchLimits,
}

/// The outbox's answer to an [`Exchange`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Whether commits write the sink's deliveries. While it is configured and they do not, events from the log are still
    /// to be copied. A sink can cease to be live at any time, by leaving the configuration and coming back.
    pub live: bool,
    /// How many events between the sink's position and those copied are no longer in the log.
    pub missed: u64,
    /// Whether the sink has no row, as somebody deleted it: commits owe it nothing until it is restored.
    pub unknown: bool,
    /// How many deliveries to the sink were ever retried by hand.
    pub retries: u64,
    /// How many deliveries were set aside; [`EXCHANGE_CHUNK`] if more may remain.
    pub set_aside: usize,
    /// The due deliveries.
    pub fetched: Fetched,
}
