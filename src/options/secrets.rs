//! Files that hold a secret.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use thiserror::Error;

/// A file with a secret cannot be used. Messages never contain its content.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Every user of the system may write to the file.
    #[error(
        "{path} can be written by everyone (mode {mode:o}); restrict it with `chmod 600 {path}`"
    )]
    WritableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Reads a file that holds a secret, and refuses one that everyone can write to.
pub fn read_secret(path: &Path) -> Result<SecretString, SecretError> {
    let unreadable = |source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mode = std::fs::metadata(path)
        .map_err(unreadable)?
        .permissions()
        .mode()
        & 0o7777;
    if mode & 0o002 != 0 {
        return Err(SecretError::WritableByOthers {
            path: path.to_owned(),
            mode,
        });
    }
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        // Some editors and shells write UTF-16.
        ErrorKind::InvalidData => unreadable(std::io::Error::other(
            "is not UTF-8 text, but perhaps UTF-16; save it as plain text",
        )),
        _ => unreadable(error),
    })?;
    Ok(text.into())
}
