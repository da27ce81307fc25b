//! apify-mirror keeps a local SQLite mirror of Apify task runs and tells others, reliably, when a run changes status.
//!
//! This library is what the `apify-mirror` program is made of. Data takes one way through it:
//!
//! ```text
//! api ──page──▶ sync (pure) ──commit──▶ store ──due──▶ delivery (pure) ──▶ sinks
//!                  ▲                      │ ▲              ▲
//!                  └──── daemon ◀─────────┘ └─ cli reads   └── daemon
//! ```
//!
//! What it promises:
//!
//! - *Complete*: every run that the account lists long enough to be polled ends up in the mirror, whatever is deleted,
//!   inserted or changed meanwhile, and whenever the process is killed. [`sync::Cursor::joins`] is the rule behind it.
//! - *Current*: after a successful poll the mirror holds the present status of every run that was not terminal and
//!   settled.
//! - *Atomic*: rows, their events, their deliveries and the cursor move in one transaction, [`store::Store::commit`].
//! - *At least once*: an event is delivered until acknowledged, always with one id and one body.
//! - *Kept*: rows of runs that the account deletes stay, marked; [`sync::Covered`] says what that takes.
//! - *Cheap*: a poll that finds nothing new is one request, and writes at most a heartbeat.

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod files;
mod http;
mod measure;
pub mod model;
pub mod options;
pub mod simulator;
pub mod sinks;
mod stdio;
pub mod store;
pub mod sync;
mod systemd;
pub mod text;
mod web;
