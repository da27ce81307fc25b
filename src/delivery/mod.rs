//! From the outbox to a sink: at least once, in order for each run.
//!
//! Nothing here does I/O, reads a clock or draws a random number; time and seeds come in as arguments. The daemon's
//! worker carries out the [`Command`]s of a [`Machine`], one machine for each sink, and feeds what happens back as
//! [`Input`]s:
//!
//! ```text
//!            fetch            attempt              judge            record
//!   outbox ────────▶ ready ────────────▶ in flight ───────▶ settled ────────▶ outbox
//!     ▲                │
//!     └────────────────┘ given back unread when the circuit breaker opens
//! ```
//!
//! Recording and fetching are one [`Exchange`](crate::model::Exchange) with the outbox, of which at most one is in
//! flight; attempts go on meanwhile. The parts of the machine's state are independent of one another:
//!
//! ```text
//!   phase      Running ──stop──▶ Draining ──all recorded, or out of time──▶ Finished
//!   breaker    Closed ──failures──▶ Open ──time, retry──▶ HalfOpen ──attempt──▶ Probing ──success──▶ Closed
//!                                    ▲                        ▲                    │ │
//!                                    │                        └────time, retry─────┘ │
//!                                    └───────────────────failure─────────────────────┘
//!   outbox     Idle ──exchange──▶ Busy ──answer──▶ Idle
//!                                  │ failure
//!                                  ▼
//!                              Unavailable ──time, exchange──▶ Retrying ──answer──▶ Idle
//!                                  ▲                              │ failure
//!                                  └──────────────────────────────┘
//!   supply     MayHaveMore ──fetch──▶ Asked ──nothing──▶ NothingDue ──time, notification──▶ MayHaveMore
//!   backlog    Copying ──live──▶ Done ──no longer live──▶ Copying
//! ```
//!
//! Invariants:
//!
//! 1. An event leaves the machine only by being recorded, or by being given back unread: a crash anywhere delivers
//!    again, under the same id and with the same bytes, but loses nothing.
//! 2. No event is ready or in flight twice. Every fetch excludes those that are; whatever else was read before is
//!    recorded by the same exchange, before it fetches.
//! 3. Events are attempted in the order in which the outbox gave them, those of one run one after the other. A stream
//!    has one attempt in flight, and after a failure everything read ahead is given back, a fetch in flight included.
//! 4. At most [`SinkLimits::concurrency`](crate::model::SinkLimits) attempts are in flight. While the breaker is
//!    half-open, one is begun; while it is open, while deliveries are set aside and while the outbox is unavailable, none.
//!    No attempt in flight is waited for, except by later events of its run and, for a minute, by the next probe.
//! 5. At most [`AHEAD`] batches for each of these are ready, and about [`MAX_READY_BYTES`] of bodies; as much can be in
//!    flight in a batch.
//! 6. What was read more than [`FRESH`] ago is read again before it is attempted, so that what was dropped by hand since
//!    then is not.
//! 7. A step that begins nothing waits for an answer or for at least a millisecond.
//!
//! What a sink does not accept is retried at growing intervals ([`judge`]), and set aside when that has gone on for too
//! long. A sink that accepts nothing at all is tested with one batch at a time ([`CircuitBreaker`]).

mod breaker;
mod machine;
#[cfg(test)]
mod machine_tests;
mod policy;
mod protocol;
mod state;
#[cfg(test)]
mod testing;

pub use breaker::{CircuitBreaker, MAX_OPEN};
pub use machine::{AHEAD, DRAIN, FALLBACK, FRESH, MAX_READY_BYTES, Machine};
pub use policy::{Attempt, MAX_REJECTIONS, MIN_WAIT, judge};
pub use protocol::{AttemptId, Command, Input, Mode, Next, Notice, STORE_RETRY, Settings, Step};
