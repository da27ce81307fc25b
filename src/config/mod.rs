//! Settings: from file, environment and flags to values that the rest can rely on.
//!
//! The layers, each overriding the one before: defaults, a TOML file, environment variables
//! (`APIFY_MIRROR_SYNC__POLL_INTERVAL=5s`), flags. Everything is checked before anything starts, and every problem is
//! listed at once, by the path of its key.

mod layers;
mod settings;
#[cfg(test)]
mod settings_tests;
mod token;

pub use layers::{load, parse};
pub use settings::{ApiSettings, LogFormat, LogLevel, Overrides, Settings};
pub use token::{TokenError, find_token};
