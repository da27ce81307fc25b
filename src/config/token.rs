//! Finding the API token.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use thiserror::Error;

use crate::api::{InvalidToken, Token};
use crate::options::{Environment, NoFile, SecretError, check_path, read_secret};

/// The systemd credential that holds the token.
const CREDENTIAL: &str = "apify-token";

/// The token is not available. Messages never contain any of it.
#[derive(Debug, Error)]
pub enum TokenError {
    /// There is no token.
    #[error(
        "there is no API token; set the environment variable APIFY_TOKEN, or `api.token_file`, or the systemd credential `apify-token` (Apify Console, Settings, API & Integrations)"
    )]
    Missing,
    /// The variable for it is set, and empty.
    #[error(
        "there is no API token: the environment variable APIFY_TOKEN is empty; set it to your token, or give that in `api.token_file` or the systemd credential `apify-token` (Apify Console, Settings, API & Integrations)"
    )]
    Empty,
    /// The file that should hold it cannot be used.
    #[error("token file {0}")]
    File(#[from] SecretError),
    /// There is no file that should hold it.
    #[error("the token file (`api.token_file`) {0}")]
    NoFile(#[from] NoFile),
    /// The place where it is can be read only once.
    #[error("{} is not a regular file, so the token in it is read only once", .0.display())]
    ReadOnce(PathBuf),
    /// The value found is no token.
    #[error("the API token {invalid} (from {origin})")]
    Invalid {
        /// Where it was found.
        origin: String,
        /// Why it is not valid.
        invalid: InvalidToken,
    },
}

/// Where the token is.
enum Place<'a> {
    File(Cow<'a, Path>),
    Variable(&'a str),
}

/// Finds the token: in `token_file`, else in `APIFY_TOKEN`, else in the systemd credential.
///
/// # Errors
/// When there is none, or the first of these places that is set has no valid token.
pub fn find_token(
    token_file: Option<&Path>,
    environment: &Environment,
) -> Result<Token, TokenError> {
    let missing = || match environment.contains_key("APIFY_TOKEN") {
        true => TokenError::Empty,
        false => TokenError::Missing,
    };
    match place(token_file, environment).ok_or_else(missing)? {
        Place::File(path) => from_file(&path, environment),
        Place::Variable(text) => Token::new(text).map_err(|invalid| TokenError::Invalid {
            origin: "the environment variable APIFY_TOKEN".to_owned(),
            invalid,
        }),
    }
}

/// Finds the token again, to see whether it was replaced. What is not a regular file is not read again: a pipe would wait
/// for whoever writes to it.
///
/// # Errors
/// As [`find_token`], and [`TokenError::ReadOnce`].
pub fn find_token_again(
    token_file: Option<&Path>,
    environment: &Environment,
) -> Result<Token, TokenError> {
    match place(token_file, environment) {
        Some(Place::File(path)) if path.exists() && !path.is_file() => {
            Err(TokenError::ReadOnce(path.into_owned()))
        }
        _ => find_token(token_file, environment),
    }
}

fn place<'a>(token_file: Option<&'a Path>, environment: &'a Environment) -> Option<Place<'a>> {
    let file = token_file.map(|path| Place::File(Cow::Borrowed(path)));
    let variable = || {
        let text = environment.get("APIFY_TOKEN")?;
        (!text.trim().is_empty()).then_some(Place::Variable(text))
    };
    let credential = || {
        let folder = environment.get("CREDENTIALS_DIRECTORY")?;
        let path = Path::new(folder).join(CREDENTIAL);
        path.exists().then_some(Place::File(Cow::Owned(path)))
    };
    file.or_else(variable).or_else(credential)
}

fn from_file(path: &Path, environment: &Environment) -> Result<Token, TokenError> {
    let invalid = |invalid| TokenError::Invalid {
        origin: path.display().to_string(),
        invalid,
    };
    check_path(path)?;
    Token::new(read_secret(path, environment)?.expose_secret()).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_token_is_found_in_file_variable_or_credential() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "from_file\n").unwrap();
        std::fs::write(dir.path().join(CREDENTIAL), "from_credential\n").unwrap();
        let folder = dir.path().to_str().unwrap();
        let found = |file: Option<&Path>, pairs: &[(&str, &str)]| {
            let token = find_token(file, &environment(pairs)).unwrap();
            token
                .header_for_tests()
                .trim_start_matches("Bearer ")
                .to_owned()
        };
        let all = [
            ("APIFY_TOKEN", "from_variable"),
            ("CREDENTIALS_DIRECTORY", folder),
        ];
        assert_eq!(found(Some(&file), &all), "from_file");
        assert_eq!(found(None, &all), "from_variable");
        assert_eq!(found(None, &all[1..]), "from_credential");
        let error = find_token(None, &Environment::new()).unwrap_err();
        assert!(error.to_string().contains("APIFY_TOKEN"), "{error}");
    }

    #[test]
    fn a_token_file_must_exist_be_protected_and_hold_a_token() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let error = || find_token(Some(&file), &Environment::new()).unwrap_err();
        assert!(matches!(error(), TokenError::File(_)));
        std::fs::write(&file, "two secrets").unwrap();
        assert!(!error().to_string().contains("secrets"), "{}", error());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(error().to_string().contains("chmod 600"), "{}", error());
    }

    #[test]
    fn a_token_in_the_place_of_its_file_is_not_repeated() {
        for text in ["hunter2", "hun/ter2", "/hunter2"] {
            let error = find_token(Some(Path::new(text)), &Environment::new()).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains("api.token_file") && !message.contains(text),
                "{message}"
            );
        }
    }

    #[test]
    fn a_pipe_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join(CREDENTIAL);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let environment = environment(&[("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())]);
        for file in [Some(pipe.as_path()), None] {
            let error = find_token_again(file, &environment).unwrap_err();
            assert!(matches!(error, TokenError::ReadOnce(_)), "{error}");
        }
        let file = dir.path().join("token");
        std::fs::write(&file, "token").unwrap();
        find_token_again(Some(&file), &environment).unwrap();
        let missing = find_token_again(Some(&dir.path().join("none")), &environment);
        assert!(matches!(missing.unwrap_err(), TokenError::File(_)));
    }
}
