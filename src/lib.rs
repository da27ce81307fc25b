//! map
#![allow(missing_docs)]
pub mod delivery;
pub mod model;
pub mod sinks;
pub mod store;
pub mod sync;
