//! HTTP for machines: health, readiness and metrics, read from the mirror and from what the daemon counts.
//!
//! ```text
//! Listener ─connection─▶ Server ─request─▶ Site ─▶ Hosts, Tokens (who may ask) ─▶ Probes, Metrics ─▶ Reader, daemon::Context
//! ```
//!
//! A [`Server`] accepts connections within limits and hands each request to the site, which answers it by its path.
//! Everything is read-only. Nothing that an answer needs waits for a commit or delays one.

mod connections;
mod exposition;
mod families;
mod hosts;
mod listener;
mod metrics;
mod probes;
mod process;
mod refusal;
mod server;
mod site;
mod sparing;
mod tokens;

pub use hosts::Hosts;
pub use listener::{BindError, Listener};
pub use server::Server;
pub use site::Site;
pub use tokens::{ReadToken, Tokens};
