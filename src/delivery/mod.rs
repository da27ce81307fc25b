//! From the outbox to the sinks: at least once, in order for each run.
//!
//! What a sink is owed is booked with the events themselves, in the commit that raised them. A [`Courier`] reads what is
//! due in a short transaction, hands it over outside of any, and only then takes it off the books: a crash between the
//! two delivers again, under the same id and with the same bytes.
//!
//! What is not accepted is tried again at growing intervals ([`judge`]), and set aside when that has gone on for too
//! long; a sink that accepts nothing at all is left alone for a while ([`Pause`]).

mod courier;
mod pause;
mod policy;
mod work;

pub use courier::Courier;
pub use pause::{Leave, MAX_PAUSE, Pause};
pub use policy::{Attempt, MAX_REJECTIONS, MIN_WAIT, judge};
