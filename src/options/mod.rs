//! Reading options: typed values out of a tree of settings, with every problem reported by the path of its key, and the
//! files and variables that options point to.
//!
//! The configuration and the sinks both read with this; it knows neither of them.

mod environment;
mod misplaced;
mod reader;
mod secrets;
mod tokens;
mod units;

pub use environment::Environment;
pub use misplaced::NoFile;
pub(crate) use misplaced::check_path;
pub use reader::{Problem, Problems};
pub(crate) use reader::{Reader, parse_duration};
pub use secrets::SecretError;
pub(crate) use secrets::read_secret;
pub(crate) use tokens::{LOOKS_LIKE_A_TOKEN, looks_like_token, without_tokens};
pub(crate) use units::{DAY, HOUR, SECOND};
