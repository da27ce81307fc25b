//! Carries out what the core decides: reads, commits, waits; and knows when to stop.
//!
//! [`run()`] polls every feed until it is told to stop, [`pass()`] brings every feed up to date once. Both drive each feed's
//! [`Machine`](crate::sync::Machine) through [`Feed`], one task of the runtime for each, so that a failing feed never
//! holds up another; and both bring sinks what they are owed through couriers, so that a slow sink holds up no feed.

mod context;
mod feed;
mod pass;
mod progress;
mod reload;
mod run;
mod signals;
mod sinks;
mod tasks;

pub use context::{Context, Plan, SinkPlan};
pub use feed::{Feed, Poll};
pub use pass::{AuditReport, FeedReport, Report, Scope, pass};
pub use progress::Progress;
pub use reload::Reload;
pub use run::{RunError, run};
pub use signals::{Shutdown, on_signals};
pub use tasks::{Failure, Wanted, wanted};
