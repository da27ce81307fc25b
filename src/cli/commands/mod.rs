//! The commands: one file for each, with its flags beside its code.

pub mod audit;
pub mod backup;
pub mod check;
pub mod completions;
pub mod deliveries;
pub mod demo;
pub mod events;
pub mod man;
pub mod prune;
pub mod query;
pub mod run;
pub mod sinks;
pub mod status;
pub mod sync;
