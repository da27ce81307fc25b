//! The state machine of one feed: `state × input × now → state, command`.
//!
//! [`step`] dispatches on state and input, and calls the phases of a poll ([`forward`], [`active`], [`behind`]) or of
//! an [`audit`]. Each phase calls only those after it, then [`sleep`], which decides how long to wait. [`base`] holds
//! the fields and what every phase needs.

mod active;
#[cfg(test)]
mod ahead_tests;
mod audit;
#[cfg(test)]
mod audit_tests;
mod base;
mod baseline;
mod behind;
#[cfg(test)]
mod behind_tests;
mod forward;
#[cfg(test)]
mod poll_tests;
mod sleep;
mod state;
mod step;

pub use base::Machine;
