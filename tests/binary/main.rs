//! The built binary, against a simulated account over HTTP.

#![allow(clippy::unwrap_used)]

mod audit;
mod backup;
mod canned;
mod cases;
mod cli;
mod crashes;
mod cron;
mod daemon;
mod delivery;
mod details;
mod disk;
mod events;
mod faults;
mod hostile;
mod http;
mod metrics;
mod migration;
mod mirroring;
mod mistakes;
mod odd_answers;
mod processes;
mod query;
mod readers;
mod reload;
mod retention;
mod secrets;
mod sinks;
mod site;
mod status;
mod streams;
mod subscriptions;
mod support;
mod systemd;
mod terminal;
mod trust;
