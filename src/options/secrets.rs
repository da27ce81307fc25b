//! Files that hold a secret.

use std::io::{self, ErrorKind};
use std::path::Path;

use secrecy::SecretString;
use thiserror::Error;

use super::environment::Environment;
use crate::files::{Purpose, Untrusted, read_to_string};

/// A file with a secret cannot be used. Messages never contain its content.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct SecretError(#[from] Untrusted);

/// Reads a file that holds a secret, and refuses one that others can read, write or replace. Those of systemd's folder
/// `$CREDENTIALS_DIRECTORY` are systemd's business.
///
/// # Errors
/// When it cannot be read, or not be trusted.
pub fn read_secret(path: &Path, environment: &Environment) -> Result<SecretString, SecretError> {
    let credentials = environment.get("CREDENTIALS_DIRECTORY");
    let is_credential =
        credentials.is_some_and(|folder| !folder.is_empty() && path.starts_with(folder));
    let purpose = if is_credential {
        Purpose::Credential
    } else {
        Purpose::Secret
    };
    let text = read_to_string(path, purpose).map_err(explain)?;
    Ok(text.into())
}

/// Some editors and shells write UTF-16.
fn explain(error: Untrusted) -> Untrusted {
    match error {
        Untrusted::Io { path, source } if source.kind() == ErrorKind::InvalidData => {
            let message = "is not UTF-8 text, but perhaps UTF-16; save it as plain text";
            Untrusted::Io {
                path,
                source: io::Error::other(message),
            }
        }
        other => other,
    }
}
