//! Executes the core's decisions (reads, commits, waits), and stops on request.
//!
//! [`run()`] polls every feed until it is stopped, `pass` brings every feed up to date once. Both drive each feed's
//! [`Machine`](crate::sync::Machine) through [`Feed`] in a runtime task of its own, so that a failing feed delays no
//! other. Both deliver to each sink with a worker of its own, so that a slow sink delays no feed.

mod audits;
mod context;
mod counters;
mod details;
mod error;
mod feed;
#[cfg(test)]
mod feed_tests;
mod freshness;
mod liveness;
mod pass;
mod progress;
mod read_ahead;
mod reload;
mod retention;
mod run;
mod signals;
mod sinks;
mod tasks;
mod worker;
#[cfg(test)]
mod worker_tests;

#[cfg(test)]
pub(crate) use audits::AuditReport;
pub(crate) use audits::{AuditAnswer, AuditEnd, UNFINISHED};
pub use context::{Context, Plan, SinkPlan, Subscriptions};
pub use counters::{Counters, SinkCounters};
pub use error::RunError;
pub use feed::{Feed, Poll};
pub use freshness::Freshness;
pub use liveness::{Liveness, Pulse};
pub(crate) use pass::{FeedReport, Report, Scope, pass};
pub use progress::Progress;
pub use reload::Reload;
pub(crate) use retention::{Pace, prune};
pub use run::run;
pub(crate) use signals::on_signals;
