//! The interface of a type of sink.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;

use super::sink::Sink;
use crate::options::{Environment, Problem};

/// The validated configuration of one sink. Its `Debug` output contains no secret.
#[async_trait]
pub trait SinkOptions: Comparable + fmt::Debug + Send + Sync {
    /// The type's name in the configuration.
    fn kind(&self) -> &'static str;

    /// Where the sink writes, if no other sink may write there.
    fn place(&self) -> Option<Place> {
        None
    }

    /// The environment variable that holds the sink's secret, if it has one.
    fn secret_variable(&self) -> Option<&str> {
        None
    }

    /// The key with a secret that is written in the configuration itself, such as `secret`, in options that have not been
    /// resolved. Others must not be able to read such a configuration.
    fn inline_secret(&self) -> Option<&'static str> {
        None
    }

    /// What is unsafe about it and yet allowed, for the user; known of options that are resolved.
    fn warning(&self) -> Option<String> {
        None
    }

    /// Whether it runs programs, which then get a part of the environment.
    fn runs_programs(&self) -> bool {
        false
    }

    /// The environment variables that its programs get by their names.
    fn passed_variables(&self) -> &[String] {
        &[]
    }

    /// Returns the same options with the current value of every secret they point to, so that options with a changed secret
    /// compare unequal.
    ///
    /// # Errors
    /// When a secret is missing or not valid; names the key.
    fn resolve(self: Arc<Self>, environment: &Environment)
    -> Result<Arc<dyn SinkOptions>, Problem>;

    /// Builds the sink. The options must be resolved. `hidden` names environment variables that hold secrets of sinks;
    /// programs that the sink runs must not get them.
    ///
    /// # Errors
    /// When the system denies a resource that the sink needs.
    async fn build(&self, hidden: &[String]) -> Result<Arc<dyn Sink>, BuildError>;

    /// Checks whether the sink can be delivered to, without delivering anything; returns a description for the user.
    ///
    /// # Errors
    /// Why it cannot be delivered to.
    async fn check(&self, environment: &Environment) -> Result<String, CheckError>;
}

/// Comparison of options of unknown types.
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

/// Where the lines of a sink go. Two sinks must not share a place, as their lines would mix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Standard output.
    StandardOutput,
    /// A file.
    File(PathBuf),
}

impl Place {
    /// The configuration key that chooses it.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::StandardOutput => "type",
            Self::File(_) => "path",
        }
    }
}

/// A sink cannot be built. The message contains no secret.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct BuildError(pub String);

/// A sink cannot be delivered to now. Messages contain no secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CheckError {
    /// The configuration names something that does not exist or cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The receiver does not answer; it may later.
    #[error("{0}")]
    Unreachable(String),
}
