//! Settings: from file, environment and flags to values that the rest can rely on.
//!
//! The layers, each overriding the one before: defaults, a TOML file, environment variables
//! (`APIFY_MIRROR_SYNC__POLL_INTERVAL=5s`), flags. Everything is checked before anything starts, and every problem is
//! told at once, by the path of its key.

mod layers;
mod reader;
mod secrets;
mod settings;
#[cfg(test)]
mod settings_tests;
mod sinks;
#[cfg(test)]
mod sinks_tests;
mod token;

pub use layers::{Environment, load, parse};
pub use reader::{Problem, Problems};
pub use secrets::{SecretError, SecretSource};
pub use settings::{ApiSettings, LogFormat, LogLevel, Overrides, Settings};
pub use sinks::{ExecSettings, SinkSettings, Start, Target, WebhookSettings};
pub use token::{TokenError, find_token};
