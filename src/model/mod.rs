//! Plain data that all other modules use: runs, tasks, statuses, events, the outbox, times and seeds.
//!
//! Nothing here does I/O, and nothing here imports another module.

mod details;
mod event;
mod id;
mod in_flight;
mod jitter;
mod mark;
mod members;
mod outbox;
mod retention;
mod run;
mod status;
mod task;
mod time;

pub use details::{DETAILS_WAIT, Details, MAX_DETAILS_ATTEMPTS, RunDetails, details_retry};
pub use event::EventType;
pub use id::{MAX_ID, is_path_part, is_usable_id};
pub use in_flight::{FIRST_IN_FLIGHT, InFlight, MOST_IN_FLIGHT};
pub use jitter::Seed;
pub(crate) use mark::Mark;
pub use outbox::{
    AttemptOutcome, Due, EXCHANGE_CHUNK, Exchange, Exchanged, FetchLimits, Fetched, MAX_RETRY_WAIT,
    Order, Overdue, Registration, Settled, SinkLimits, Subscription, TEMPORARY_SINK, Verdict,
};
pub use retention::Retention;
pub(crate) use run::FieldValue;
pub use run::{InvalidRun, Run};
pub use status::{MAX_STATUS, RunStatus};
pub use task::Task;
pub use time::{Moment, Timestamp};
