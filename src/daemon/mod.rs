//! Carries out what the core decides: reads, commits, waits; and knows when to stop.
//!
//! [`run()`] polls every feed until it is asked to stop, [`pass()`] brings every feed up to date once. Both drive each feed's
//! [`Machine`](crate::sync::Machine) through [`Feed`], one task of the runtime for each, so that a failing feed never
//! holds up another; and both deliver to each sink with a worker of its own, so that a slow sink holds up no
//! feed.

mod context;
mod error;
mod feed;
mod pass;
mod progress;
mod reload;
mod run;
mod signals;
mod sinks;
mod tasks;
mod worker;
#[cfg(test)]
mod worker_tests;

pub use context::{Context, Plan, SinkPlan};
pub use error::RunError;
pub use feed::{Feed, Poll};
pub use pass::{AuditReport, FeedReport, Report, Scope, pass};
pub use progress::Progress;
pub use reload::Reload;
pub use run::run;
pub use signals::on_signals;
pub use tasks::{Failure, Wanted, wanted};
