//! What a type of sink must offer.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;

use super::sink::Sink;
use crate::options::{Environment, Problem};

/// The validated keys of one sink. Nothing that is printed of them is a secret.
#[async_trait]
pub trait SinkOptions: Comparable + fmt::Debug + Send + Sync {
    /// The type's name, as the configuration has it.
    fn kind(&self) -> &'static str;

    /// What no other sink may share with it.
    fn place(&self) -> Option<Place> {
        None
    }

    /// The environment variable that holds its secret.
    fn secret_variable(&self) -> Option<&str> {
        None
    }

    /// Whether it runs programs, which then inherit the environment.
    fn runs_programs(&self) -> bool {
        false
    }

    /// The same options with every secret they point to, as it is now: a changed secret makes other options.
    ///
    /// # Errors
    /// The key, and what is wrong with the secret it leads to.
    fn resolve(self: Arc<Self>, environment: &Environment)
    -> Result<Arc<dyn SinkOptions>, Problem>;

    /// The sink. `hidden` are environment variables that hold secrets of sinks: a program that it runs must not see
    /// them. The options must be resolved.
    ///
    /// # Errors
    /// When the system refuses something that the sink needs.
    async fn build(&self, hidden: &[String]) -> Result<Arc<dyn Sink>, BuildError>;

    /// Looks whether the sink could be delivered to, without delivering anything; gives what was found.
    ///
    /// # Errors
    /// What stands in the way.
    async fn check(&self, environment: &Environment) -> Result<String, CheckError>;
}

/// Options that can be compared without knowing their type.
pub trait Comparable: Any {
    /// Whether these are the same options of the same type.
    fn equals(&self, other: &dyn SinkOptions) -> bool;
}

impl<T: Any + PartialEq> Comparable for T {
    fn equals(&self, other: &dyn SinkOptions) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref::<Self>() == Some(self)
    }
}

/// Where the lines of a sink go: those of two would mix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Standard output.
    StandardOutput,
    /// A file.
    File(PathBuf),
}

impl Place {
    /// The key that chooses it.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::StandardOutput => "type",
            Self::File(_) => "path",
        }
    }
}

/// A sink cannot be made. The message contains no secret.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct BuildError(pub String);

/// A sink could not be delivered to now. No message contains a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CheckError {
    /// The configuration names something that does not exist or cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The receiver does not answer, which may pass.
    #[error("{0}")]
    Unreachable(String),
}
