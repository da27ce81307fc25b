//! The outbox in plain data: what sinks are owed, what an attempt came to, and what is exchanged with the store.
//!
//! A delivery is one event that one sink is owed. The store holds deliveries, [`delivery`](crate::delivery) decides
//! what to do about them, [`sinks`](crate::sinks) carry them out; these are the words in which the three speak.

use std::collections::HashSet;
use std::time::Duration;

use super::Timestamp;

/// The longest wait before another attempt, and the longest `Retry-After` that is honoured.
///
/// A delivery that is due later than this from now was scheduled before the clock was set back.
pub const MAX_RETRY_WAIT: Duration = Duration::from_secs(3_600);

/// The most deliveries that one [`Exchange`] copies from the event log or sets aside: other writers wait for their turn.
pub const EXCHANGE_CHUNK: usize = 5_000;

/// Which events a sink wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The sink's name, under which its deliveries are kept.
    pub sink: String,
    /// The event types it wants; `None` for all.
    pub types: Option<Vec<String>>,
}

impl Subscription {
    /// Whether the sink wants events of the type `name`.
    pub fn wants(&self, name: &str) -> bool {
        self.types
            .as_ref()
            .is_none_or(|types| types.iter().any(|wanted| wanted == name))
    }
}

/// A configured sink, as the store registers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// Its type, e.g. `webhook`.
    pub kind: &'static str,
    /// Whether a sink that is new also gets the events from before it was added.
    pub from_beginning: bool,
}

/// In which order a sink takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All of them by sequence number; one that cannot be delivered holds up the rest.
    Stream,
    /// Those of each run in order, runs independent of each other.
    Run,
}

/// How much a sink takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkLimits {
    /// In which order.
    pub order: Order,
    /// The most events in a batch, at least 1.
    pub batch: usize,
    /// The most batches in flight, at least 1.
    pub concurrency: usize,
}

/// The most events in a batch for a sink that takes a stream.
const STREAM_BATCH: usize = 500;

impl SinkLimits {
    /// One batch after the other, in order.
    pub const STREAM: Self = Self {
        order: Order::Stream,
        batch: STREAM_BATCH,
        concurrency: 1,
    };
}

/// An event that is due for a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The event's sequence number.
    pub seq: i64,
    /// The event's id.
    pub id: String,
    /// The run it is about.
    pub run_id: String,
    /// Its body: one JSON object, the same bytes on every attempt.
    pub payload: String,
    /// Attempts made before.
    pub attempts: u32,
    /// When the first of them ended.
    pub first_attempt_at: Option<Timestamp>,
}

/// What an attempt to deliver one event came to. No message contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The sink has it.
    Delivered,
    /// The sink may not have it, but may well take it later.
    Failed {
        /// What happened.
        error: String,
        /// How long the receiver asks to wait.
        retry_after: Option<Duration>,
    },
    /// The sink did not accept it; a few more attempts will show whether that is for good.
    Rejected {
        /// What happened.
        error: String,
    },
    /// The sink will never accept it.
    Refused {
        /// What the receiver said.
        error: String,
    },
    /// The sink will never accept anything any more.
    Gone {
        /// What the receiver said.
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

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves the outbox.
    Delivered,
    /// It is retried.
    Retry {
        /// Not before this.
        at: Timestamp,
    },
    /// It becomes a dead letter: no further attempts, kept until somebody retries or drops it.
    SetAside,
}

/// A delivery that was attempted, with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The event's sequence number.
    pub seq: i64,
    /// The run it is about.
    pub run_id: String,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why it was not delivered.
    pub error: Option<String>,
}

/// Which of a sink's pending deliveries to set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// All of them.
    All,
    /// Those of events observed up to this instant, and only if nothing has been delivered since then.
    OwedSince(Timestamp),
}

/// What to read of the deliveries that are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// In which order.
    pub order: Order,
    /// At most so many events.
    pub events: usize,
    /// But none of these: they have been read before and are not settled yet.
    pub except: HashSet<i64>,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Events to deliver now.
    pub events: Vec<Due>,
    /// When the next one becomes due, where none is left that is.
    pub next_due: Option<Timestamp>,
}

/// One exchange between the worker of a sink and the outbox: a single transaction, its parts in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The sink.
    pub sink: String,
    /// Copy some events from before the sink was added out of the event log, at most [`EXCHANGE_CHUNK`].
    pub backlog: Option<Subscription>,
    /// Record what became of these.
    pub settled: Vec<Settled>,
    /// Set some of these aside for this reason, at most [`EXCHANGE_CHUNK`].
    pub set_aside: Option<(Overdue, String)>,
    /// Then read what is due.
    pub fetch: FetchLimits,
}

/// The outbox's answer to an [`Exchange`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Whether the sink has everything from before it was added, so that commits write its deliveries from here on.
    /// Means nothing unless the exchange asked for backlog.
    pub live: bool,
    /// How many deliveries were set aside; [`EXCHANGE_CHUNK`] if there are more.
    pub set_aside: usize,
    /// What is due.
    pub fetched: Fetched,
}
