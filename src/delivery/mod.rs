//! From the outbox to the sinks: at least once, in order for each run.
//!
//! What a sink is owed is booked with the events themselves, in the commit that raised them. A [`Courier`] reads what is
//! due in a short transaction, hands it over outside of any, and only then takes it off the books: a crash between the
//! two delivers again, under the same id and with the same bytes.
//!
//! What is not accepted is tried again at growing intervals ([`judge`]), and set aside when that has gone on for too
//! long; a sink that accepts nothing at all is left alone for a while ([`Pause`]).

mod courier;
#[cfg(test)]
mod courier_tests;
mod errand;
mod pause;
mod policy;
mod work;

pub use courier::Courier;
pub use pause::{Leave, MAX_PAUSE, Pause};
pub use policy::{Attempt, MAX_REJECTIONS, MAX_WAIT, MIN_WAIT, Verdict, judge};

pub use crate::sinks::Order;

/// Which events a sink wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The sink's name, under which its deliveries are booked.
    pub sink: String,
    /// The types it wants; `None` for all.
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

/// A configured sink, as the books know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enlisted {
    /// Its name.
    pub name: String,
    /// Its type, e.g. `webhook`.
    pub kind: &'static str,
    /// Whether it gets, if it is new, the events from before it was added too.
    pub from_beginning: bool,
}

/// A delivery that was attempted, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The event's number.
    pub seq: i64,
    /// The run it is about.
    pub run_id: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it was not delivered.
    pub error: Option<String>,
}
