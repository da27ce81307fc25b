//! Errors that end a command, and the exit code of each.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::exit::ExitCode;
use super::output::Unwritable;
use crate::api::{ApiError, ErrorClass};
use crate::config::TokenError;
use crate::daemon::RunError;
use crate::http::BindError;
use crate::options::Problems;
use crate::sinks::BuildError;
use crate::store::{QueryError, StoreError};
use crate::text::{MAX_SHOWN, escape};

/// An error that ends a command.
#[derive(Debug, Error)]
pub enum CliError {
    /// The configuration is wrong.
    #[error("the configuration is not valid:\n{0}")]
    Configuration(#[from] Problems),
    /// A sink cannot be made.
    #[error(transparent)]
    Sink(#[from] BuildError),
    /// There is no token to use.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The API cannot be used.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address of `[http]` cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A flag cannot be used with this command.
    #[error("`{flag}` cannot be used with `{command}`: {why}")]
    Usage {
        /// The flag.
        flag: &'static str,
        /// The command.
        command: &'static str,
        /// The reason, and the remedy.
        why: &'static str,
    },
    /// The mirror does not have the task that was asked for.
    #[error("the mirror has no task {reference}; `apify-mirror status` shows those it has")]
    UnknownTask {
        /// What was asked for.
        reference: String,
    },
    /// The mirror has no subscription by the name that was given.
    #[error("the mirror has no sink {0}; `apify-mirror sinks list` shows those it has")]
    UnknownSink(String),
    /// The database has to be written anew, and another instance holds it.
    #[error(
        "database {0} is in use by another apify-mirror, and it was made by an earlier version: to compact it, it must be \
         written anew while nobody else writes it; stop the other first. Without `--compact`, `prune` works beside it"
    )]
    CannotRewrite(PathBuf),
    /// The daemon that was asked for an audit has ended.
    #[error(
        "the daemon that was asked for the audit ended before it was done; run `apify-mirror audit` again"
    )]
    DaemonEnded,
    /// A question in SQL has no answer.
    #[error("{0}")]
    Query(String),
    /// The results cannot be printed.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    /// The system refused something that the program needs.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CliError {
    /// The message for people. What others wrote in it is escaped; a list of problems keeps its lines.
    pub fn shown(&self) -> String {
        match self {
            Self::Configuration(_) => self.to_string(),
            _ => escape(self, MAX_SHOWN),
        }
    }

    /// The code to exit with.
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Configuration(_) => ExitCode::Configuration,
            Self::Sink(_) => ExitCode::Unexpected,
            Self::Usage { .. } => ExitCode::Usage,
            Self::Token(_) => ExitCode::Token,
            Self::Api(error) => code_of(error),
            Self::Bind(error) if error.is_temporary() => ExitCode::Temporary,
            Self::Bind(_) => ExitCode::Configuration,
            Self::Store(StoreError::Locked { .. }) | Self::CannotRewrite(_) => ExitCode::Locked,
            Self::Store(StoreError::Exists { .. }) => ExitCode::Usage,
            Self::Store(_) | Self::Unwritable(_) => ExitCode::Storage,
            Self::UnknownSink(_) | Self::Query(_) => ExitCode::Usage,
            Self::UnknownTask { .. } => ExitCode::SomeTasksFailed,
            Self::DaemonEnded => ExitCode::Temporary,
            Self::Io(_) => ExitCode::Unexpected,
        }
    }
}

impl From<QueryError> for CliError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Store(error) => Self::Store(error),
            QueryError::Sql(_) | QueryError::NotReading => Self::Query(error.to_string()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse};
    use crate::options::Environment;
    use insta::assert_snapshot;

    #[test]
    fn messages_name_the_thing_and_the_remedy() {
        let toml = "[sync]\npol_interval = \"1s\"\npage_size = 0\n";
        let none = Environment::new();
        let problems = parse(Some(toml), &none, Overrides::default(), String::new).unwrap_err();
        assert_snapshot!(CliError::from(problems), @r"
        the configuration is not valid:
        sync.page_size: is 0; it must be a whole number from 2 to 1000
        sync.pol_interval: is no known key; did you mean `sync.poll_interval`?
        ");
        assert_snapshot!(CliError::from(TokenError::Missing), @"there is no API token; set the environment variable APIFY_TOKEN, or `api.token_file`, or the systemd credential `apify-token` (Apify Console, Settings, API & Integrations)");
        let unknown = CliError::UnknownTask {
            reference: "~nothing".to_owned(),
        };
        assert_snapshot!(unknown, @"the mirror has no task ~nothing; `apify-mirror status` shows those it has");
        let missing = StoreError::Missing {
            path: "runs.db".into(),
        };
        assert_snapshot!(CliError::from(missing), @"there is no database at runs.db; create one with `apify-mirror sync`, or name another with `--db`");
    }

    #[test]
    fn what_others_wrote_is_escaped_and_our_lines_stay() {
        let toml = "[sync]\n\"a\\nb\" = 1\n\"\\u001b[2J\" = 1\n";
        let none = Environment::new();
        let problems = parse(Some(toml), &none, Overrides::default(), String::new).unwrap_err();
        let shown = CliError::from(problems).shown();
        assert_eq!(shown.lines().count(), 3, "{shown}");
        assert!(
            shown.contains(r"sync.a\nb:") && shown.contains(r"sync.\u{1b}[2J:"),
            "{shown}"
        );
        let unknown = CliError::UnknownSink("\u{9b}2J\n".to_owned());
        assert!(unknown.shown().contains(r"no sink \u{9b}2J\n;"));
    }

    #[test]
    fn every_error_has_its_code() {
        let locked = StoreError::Locked {
            path: "runs.db".into(),
        };
        for (error, code) in [
            (CliError::Token(TokenError::Missing), 77),
            (CliError::Store(locked), 69),
            (CliError::Store(StoreError::Closed), 74),
            (CliError::DaemonEnded, 75),
            (CliError::CannotRewrite("runs.db".into()), 69),
            (
                CliError::Store(StoreError::Exists {
                    path: "copy.db".into(),
                }),
                2,
            ),
            (CliError::Io(io::Error::other("unexpected")), 1),
            (
                CliError::UnknownTask {
                    reference: "~nothing".to_owned(),
                },
                65,
            ),
        ] {
            assert_eq!(error.code() as u8, code, "{error}");
        }
    }
}
