//! The inputs and commands of a machine.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{AttemptOutcome, Due, Exchange, Exchanged, Seed, SinkLimits, Timestamp};

/// How long after an exchange that failed the next one is made.
pub const STORE_RETRY: Duration = Duration::from_secs(5);

/// How one sink is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The sink's name.
    pub sink: String,
    /// How much it takes at once.
    pub limits: SinkLimits,
    /// How long an event waits for further attempts before it is set aside.
    pub give_up_after: Duration,
    /// Sets this sink's waits apart from others'.
    pub seed: Seed,
    /// When to finish.
    pub mode: Mode,
}

/// When a machine finishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Once [`Input::Stop`] asks for it.
    UntilStopped,
    /// Once nothing is due any more or the circuit breaker is open, but always by `grace` after `deadline`. Waits for no
    /// retry.
    UntilNothingIsDue {
        /// When to begin nothing more, in uptime.
        deadline: Duration,
        /// How long what is in flight then may take to end: as long as an attempt may take, or one that is slow would be
        /// begun and cut off by every pass.
        grace: Duration,
    },
}

/// Names an attempt of one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The machine begins, or the time to sleep is over. Right at any time.
    Wake,
    /// There may be deliveries that were not there before.
    Notified,
    /// The attempt `id` ended.
    Completed {
        /// Which one.
        id: AttemptId,
        /// What became of each of its events, in their order. A missing one counts as failed.
        outcomes: Vec<AttemptOutcome>,
    },
    /// The exchange in flight succeeded.
    Exchanged(Exchanged),
    /// The exchange in flight failed in a way that may pass; nothing, or nothing known, came of it.
    ExchangeFailed,
    /// Begin nothing more, and finish soon.
    Stop,
}

/// What the worker is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Deliver these events to the sink, beside whatever else is in flight; answered by [`Input::Completed`].
    Attempt {
        /// Names the attempt in its answer.
        id: AttemptId,
        /// At least one, in order.
        events: Arc<[Due]>,
    },
    /// Exchange with the outbox; answered by [`Input::Exchanged`] or [`Input::ExchangeFailed`]. The next one is asked
    /// for only then.
    Exchange(Exchange),
    /// Report this to the operator. There is no answer.
    Report(Notice),
}

/// The result of a step: commands to execute at once, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// To be begun now, in this order.
    pub commands: Vec<Command>,
    /// What comes when that has been begun.
    pub next: Next,
}

/// What follows on the commands of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for an answer or a notification, then wake the machine.
    Sleep {
        /// How long at most; at least a millisecond.
        wait: Duration,
    },
    /// Leave whatever is still in flight behind. The machine wants no further input.
    Finish,
}

/// A message for the operator. No text contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The circuit breaker opened.
    BreakerOpened {
        /// How long no attempt is made.
        wait: Duration,
        /// What the last failure was.
        error: String,
    },
    /// The circuit breaker closed again.
    BreakerClosed,
    /// The sink will never accept anything any more; everything it is owed is going to be set aside.
    SinkGone {
        /// What the receiver said.
        error: String,
    },
    /// Events that the sink did not get yet are no longer in the event log.
    Missed {
        /// How many.
        events: u64,
    },
    /// Events were set aside without an attempt for each.
    GaveUp {
        /// How many.
        events: usize,
        /// Why.
        error: String,
    },
    /// An event was set aside after an attempt.
    SetAside {
        /// The event's id.
        event: String,
        /// Attempts made.
        attempts: u32,
        /// Why the last one failed.
        error: String,
    },
    /// An event will be retried.
    Retry {
        /// The event's id.
        event: String,
        /// Attempts made.
        attempts: u32,
        /// Not before this.
        at: Timestamp,
        /// Why the last attempt failed.
        error: String,
    },
}
