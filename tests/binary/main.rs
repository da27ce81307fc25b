//! The built binary, against a simulated account over HTTP.

#![allow(clippy::unwrap_used)]

mod canned;
mod cli;
mod crashes;
mod daemon;
mod faults;
mod mirroring;
mod support;
