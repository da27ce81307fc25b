//! Errors that end the daemon.

use crate::api::ApiError;
use crate::store::StoreError;

/// An error that ends the daemon.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API refused the token when the daemon started.
    #[error(transparent)]
    Token(ApiError),
    /// The database failed permanently.
    #[error(transparent)]
    Store(#[from] StoreError),
}
