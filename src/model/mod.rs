//! Plain data: what a run is, which statuses it passes through, and what an observed transition is called.
//!
//! Nothing here does I/O or decides anything; every other module speaks in these types.

mod event;
mod jitter;
mod outbox;
mod run;
mod status;
mod task;
mod time;

pub use event::EventType;
pub use jitter::Seed;
pub use outbox::{
    AttemptOutcome, Due, EXCHANGE_CHUNK, Exchange, Exchanged, FetchLimits, Fetched, MAX_RETRY_WAIT,
    Order, Overdue, Registration, Settled, SinkLimits, Subscription, Verdict,
};
pub use run::{FieldValue, InvalidRun, Run};
pub use status::RunStatus;
pub use task::Task;
pub use time::{Moment, Timestamp};
