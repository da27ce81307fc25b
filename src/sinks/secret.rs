//! Finds the secrets that sign a webhook.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use super::signature::{InvalidKey, SigningKeys};
use crate::options::{Environment, NoFile, Problem, Reader, SecretError, check_path, read_secret};

/// Where the secrets that sign a webhook are.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    /// There are none: the webhook is not signed.
    None,
    /// The keys themselves, from the configuration or already resolved.
    Keys(SigningKeys),
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// The secret that the configuration points to is not available. Messages never contain any of it.
#[derive(Debug, Error)]
enum Unavailable {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The environment variable is not set. It is named unless it may be a secret in the wrong place.
    #[error("the environment variable{0} is not set")]
    Unset(String),
    /// The value found is no signing secret.
    #[error("{origin} {invalid}")]
    Invalid {
        /// Where it was found.
        origin: String,
        /// Why it is not valid.
        invalid: InvalidKey,
    },
}

/// A file that holds a secret of a sink cannot be used. Messages contain neither its content nor what may be the secret
/// in the place of its path.
#[derive(Debug, Error)]
pub(super) enum FileError {
    /// There is none.
    #[error(transparent)]
    None(#[from] NoFile),
    /// It cannot be read, or others can change it.
    #[error(transparent)]
    Unusable(#[from] SecretError),
}

/// Reads the file `path`, which a key of a sink names.
pub(super) fn read_file(path: &Path, environment: &Environment) -> Result<SecretString, FileError> {
    check_path(path)?;
    Ok(read_secret(path, environment)?)
}

impl SecretSource {
    /// Returns the same source with its keys read.
    ///
    /// # Errors
    /// When the file or variable has no valid keys.
    pub(super) fn resolve(&self, environment: &Environment) -> Result<Self, Problem> {
        let key = match self {
            Self::File(_) => "secret_file",
            Self::Variable(_) => "secret_env",
            Self::None | Self::Keys(_) => return Ok(self.clone()),
        };
        let keys = self.find(environment);
        keys.map(Self::Keys)
            .map_err(|error| Problem::new(key, error.to_string()))
    }

    /// The keys; empty for a webhook that is not signed, `None` if not resolved.
    pub(super) fn keys(&self) -> Option<SigningKeys> {
        match self {
            Self::None => Some(SigningKeys::default()),
            Self::Keys(keys) => Some(keys.clone()),
            Self::File(_) | Self::Variable(_) => None,
        }
    }

    fn find(&self, environment: &Environment) -> Result<SigningKeys, Unavailable> {
        let parse = |origin: String, text: &str| {
            SigningKeys::parse(text).map_err(|invalid| Unavailable::Invalid { origin, invalid })
        };
        match self {
            Self::None => Ok(SigningKeys::default()),
            Self::Keys(keys) => Ok(keys.clone()),
            Self::File(path) => parse(
                path.display().to_string(),
                read_file(path, environment)?.expose_secret(),
            ),
            Self::Variable(name) => {
                let named = if is_usual_name(name) {
                    format!(" {name}")
                } else {
                    String::new()
                };
                let text = environment.get(name).ok_or(Unavailable::Unset(named))?;
                parse(format!("the environment variable {name}"), text)
            }
        }
    }

    /// Reads the configuration keys `secret`, `secret_file` and `secret_env`.
    pub(super) fn read(section: &mut Reader<'_>) -> Self {
        let inline = section.secret("secret");
        let file = section
            .secret("secret_file")
            .filter(|path| !path.is_empty());
        let variable = section.secret("secret_env").filter(|name| !name.is_empty());
        // A secret in the wrong key must not appear in the message about a missing file or variable.
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if file
            .as_ref()
            .is_some_and(|path| path.trim_start().starts_with("whsec_"))
        {
            section.problem(
                "secret_file",
                "holds a secret itself instead of a path; use `secret` for that",
            );
            return Self::None;
        }
        if variable.as_ref().is_some_and(|name| !is_name(name)) {
            section.problem(
                "secret_env",
                "must be the name of an environment variable: letters, digits and `_`",
            );
            return Self::None;
        }
        if [inline.is_some(), file.is_some(), variable.is_some()]
            .into_iter()
            .filter(|is| *is)
            .count()
            > 1
        {
            section.problem(
                "secret",
                "is given more than once; keep one of `secret`, `secret_file` and `secret_env`",
            );
        }
        match (inline, file, variable) {
            (Some(text), ..) => match SigningKeys::parse(&text) {
                Ok(keys) => Self::Keys(keys),
                Err(invalid) => {
                    section.problem("secret", invalid.to_string());
                    Self::None
                }
            },
            (None, Some(path), _) => Self::File(path.into()),
            (None, None, Some(name)) => Self::Variable(name),
            (None, None, None) => Self::None,
        }
    }
}

/// Whether `name` has the form that variables usually have and secrets do not: words in capitals, as `HOOK_SECRET`.
fn is_usual_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.contains('_') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SECOND: &str = "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh";

    #[test]
    fn keys_are_read_from_their_source() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\n{SECOND}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let environment = Environment::from([("HOOK_SECRET".to_owned(), SECRET.to_owned())]);
        let keys = |source: SecretSource| source.find(&environment).unwrap();
        assert_eq!(
            keys(SecretSource::Variable("HOOK_SECRET".into())),
            SigningKeys::parse(SECRET).unwrap()
        );
        assert_eq!(
            keys(SecretSource::File(file)),
            SigningKeys::parse(&format!("{SECRET} {SECOND}")).unwrap()
        );
        assert_eq!(keys(SecretSource::None), SigningKeys::default());
    }

    #[test]
    fn what_may_be_the_secret_itself_is_not_repeated() {
        for text in ["hunter2", "hun/ter+2==", "/hunter2", "HUNTER2", "hunter_2"] {
            for source in [
                SecretSource::File(text.into()),
                SecretSource::Variable(text.to_owned()),
            ] {
                let error = source.find(&Environment::new()).unwrap_err().to_string();
                assert!(!error.contains(text), "{error}");
            }
        }
    }

    #[test]
    fn errors_do_not_repeat_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let environment = Environment::from([("HOOK_SECRET".to_owned(), "hunter2".to_owned())]);
        let error = |source: SecretSource| source.find(&environment).unwrap_err().to_string();
        assert!(error(SecretSource::File(file.clone())).starts_with(&file.display().to_string()));
        std::fs::write(&file, "hunter2").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(error(SecretSource::File(file.clone())).contains("chmod 600"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        for message in [
            error(SecretSource::File(file)),
            error(SecretSource::Variable("HOOK_SECRET".into())),
        ] {
            assert!(
                message.contains("must begin with `whsec_`") && !message.contains("hunter2"),
                "{message}"
            );
        }
        assert_eq!(
            error(SecretSource::Variable("NOT_SET".into())),
            "the environment variable NOT_SET is not set"
        );
    }
}
