//! Settings: reads file, environment and flags, and validates them.
//!
//! The layers, each overriding the one before: defaults, a TOML file, environment variables
//! (`APIFY_MIRROR_SYNC__POLL_INTERVAL=5s`), flags. Everything is validated before anything starts, and all problems are
//! listed at once, by the paths of their keys.

mod http;
mod layers;
mod network;
mod settings;
#[cfg(test)]
mod settings_tests;
mod token;

pub use http::HttpSettings;
pub(crate) use http::{find_read_token, find_read_token_again};
pub use layers::{load, parse};
pub use settings::{ApiSettings, LogFormat, LogLevel, Overrides, Settings};
pub(crate) use settings::{check_database_path, check_reference};
pub(crate) use token::{TokenError, find_token, find_token_again};
