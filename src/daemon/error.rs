//! Why the daemon ended by itself.

use crate::api::ApiError;
use crate::store::StoreError;

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API refused the token when the daemon started.
    #[error(transparent)]
    Token(ApiError),
    /// The database failed in a way that does not pass.
    #[error(transparent)]
    Store(#[from] StoreError),
}
