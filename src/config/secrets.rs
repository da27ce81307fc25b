//! Secrets that the configuration points to.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use super::layers::Environment;
use crate::sinks::{InvalidKey, SigningKeys};

/// A secret cannot be had from where the configuration points. No message repeats any of it.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Everyone could put another secret there.
    #[error(
        "{path} can be written by everyone (mode {mode:o}); take that away with `chmod 600 {path}`"
    )]
    WritableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The environment variable is not set. It is named if it looks like one, not like a secret in the wrong place.
    #[error("the environment variable{0} is not set")]
    Unset(String),
    /// What was found is no signing secret.
    #[error("{origin} {invalid}")]
    Invalid {
        /// Where it was found.
        origin: String,
        /// What is wrong with it.
        invalid: InvalidKey,
    },
}

/// Where the secrets are that a webhook is signed with.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    /// Nowhere: it is not signed.
    None,
    /// In the configuration itself.
    Inline(SigningKeys),
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

impl SecretSource {
    /// The keys, as they are there now.
    ///
    /// # Errors
    /// When there are none where they should be.
    pub fn keys(&self, environment: &Environment) -> Result<SigningKeys, SecretError> {
        let parse = |origin: String, text: &str| {
            SigningKeys::parse(text).map_err(|invalid| SecretError::Invalid { origin, invalid })
        };
        match self {
            Self::None => Ok(SigningKeys::default()),
            Self::Inline(keys) => Ok(keys.clone()),
            Self::File(path) => parse(path.display().to_string(), read_file(path)?.expose_secret()),
            Self::Variable(name) => {
                let is_usual = name
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
                let named = if is_usual {
                    format!(" {name}")
                } else {
                    String::new()
                };
                let text = environment.get(name).ok_or(SecretError::Unset(named))?;
                parse(format!("the environment variable {name}"), text)
            }
        }
    }
}

/// Reads a file that holds a secret.
pub(super) fn read_file(path: &Path) -> Result<SecretString, SecretError> {
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
    Ok(std::fs::read_to_string(path).map_err(unreadable)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn keys_come_from_where_they_are_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\nwhsec_YWFh\n")).unwrap();
        let environment = Environment::from([("HOOK_SECRET".to_owned(), SECRET.to_owned())]);
        let keys = |source: SecretSource| source.keys(&environment).unwrap();
        assert_eq!(
            keys(SecretSource::Variable("HOOK_SECRET".into())),
            SigningKeys::parse(SECRET).unwrap()
        );
        assert_eq!(
            keys(SecretSource::File(file)),
            SigningKeys::parse(&format!("{SECRET} whsec_YWFh")).unwrap()
        );
        assert_eq!(keys(SecretSource::None), SigningKeys::default());
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let environment = Environment::from([("HOOK_SECRET".to_owned(), "hunter2".to_owned())]);
        let error = |source: SecretSource| source.keys(&environment).unwrap_err().to_string();
        assert!(error(SecretSource::File(file.clone())).starts_with(&file.display().to_string()));
        std::fs::write(&file, "hunter2").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(error(SecretSource::File(file.clone())).contains("chmod 600"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        for told in [
            error(SecretSource::File(file)),
            error(SecretSource::Variable("HOOK_SECRET".into())),
        ] {
            assert!(
                told.contains("must begin with `whsec_`") && !told.contains("hunter2"),
                "{told}"
            );
        }
        assert_eq!(
            error(SecretSource::Variable("NONE".into())),
            "the environment variable NONE is not set"
        );
    }
}
