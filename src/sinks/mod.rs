//! Sinks deliver events. A sink takes a batch of events and returns an outcome for each; [`crate::delivery`] decides about
//! retries, and the outbox stores what is owed.
//!
//! One file has everything about one type of sink: its configuration keys and their validation, how to build, check and
//! deliver to it. A new type is a new file and a line in `settings`. What a type needs for that and nobody else does has a
//! file of its own where it is a subject of its own, such as signatures, or the environment of programs.

mod address;
mod discard;
mod environment;
mod event_line;
mod exec;
mod file;
mod headers;
mod options;
mod places;
mod secret;
mod settings;
#[cfg(test)]
mod settings_tests;
mod signature;
mod sink;
mod stdout;
mod webhook;

pub use address::Address;
pub(crate) use discard::Discard;
pub(crate) use event_line::EventLine;
pub(crate) use exec::kill_programs;
pub use options::{BuildError, CheckError, Comparable, Place, SinkOptions};
pub(crate) use places::check_places;
pub use secret::SecretSource;
pub use settings::{SinkSettings, Start};
pub(crate) use settings::{read, temporary};
pub use signature::{InvalidKey, SigningKeys};
pub use sink::Sink;
pub(crate) use stdout::for_people;
pub use webhook::WebhookOptions;
