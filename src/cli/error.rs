//! What ends a command early, and the code that tells scripts so.

use std::io;

use thiserror::Error;

use super::exit::ExitCode;
use crate::api::{ApiError, ErrorClass};
use crate::config::{Problems, TokenError};
use crate::daemon::RunError;
use crate::store::StoreError;

/// What ends a command early.
#[derive(Debug, Error)]
pub enum CliError {
    /// The configuration is wrong.
    #[error("the configuration needs mending:\n{0}")]
    Configuration(#[from] Problems),
    /// There is no token to use.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The API cannot be used.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task is asked about that the mirror has never heard of.
    #[error("the mirror has no task {reference}; `apify-mirror status` shows those it has")]
    UnknownTask {
        /// What was asked for.
        reference: String,
    },
    /// The system refuses something the program needs.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CliError {
    /// The code to exit with.
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::Configuration,
            Self::Token(_) => ExitCode::Token,
            Self::Api(error) => code_of(error),
            Self::Store(StoreError::Locked { .. }) => ExitCode::Locked,
            Self::Store(_) => ExitCode::Storage,
            Self::UnknownTask { .. } => ExitCode::SomeTasksFailed,
            Self::Io(_) => ExitCode::Unexpected,
        }
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Token(error) => Self::Api(error),
            RunError::Store(error) => Self::Store(error),
        }
    }
}

/// The code for an error of the API.
pub fn code_of(error: &ApiError) -> ExitCode {
    match error.class() {
        ErrorClass::TokenRefused => ExitCode::Token,
        ErrorClass::NotFound | ErrorClass::Forbidden => ExitCode::SomeTasksFailed,
        ErrorClass::Throttled | ErrorClass::Temporary => ExitCode::Temporary,
        ErrorClass::Malformed
        | ErrorClass::TooLarge
        | ErrorClass::Redirected
        | ErrorClass::Other => ExitCode::Unexpected,
    }
}
