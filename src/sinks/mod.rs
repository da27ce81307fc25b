//! Where events go. A sink takes a batch of events and says what became of each; remembering what it is owed, and
//! retrying, is [`crate::delivery`]'s business.
//!
//! Everything about one type of sink stands in its file: the keys it is configured by, their validation, how it is made
//! from them, how it is checked, and how it delivers. A new type is a new file and a line in `settings`.

mod exec;
mod file;
mod options;
mod secret;
mod settings;
#[cfg(test)]
mod settings_tests;
mod signature;
mod sink;
mod stdout;
mod webhook;

pub use options::{BuildError, CheckError, Comparable, Place, SinkOptions};
pub use secret::SecretSource;
pub(crate) use settings::read;
pub use settings::{SinkSettings, Start};
pub use signature::{InvalidKey, SigningKeys};
pub use sink::Sink;
pub use webhook::WebhookOptions;
