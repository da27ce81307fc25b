//! The flags that every command takes.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anstream::ColorChoice;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{ArgAction, Args, ValueEnum};
use indicatif::MultiProgress;

use super::error::CliError;
use crate::config::{LogFormat, Overrides, check_database_path, check_reference};
use crate::daemon::Progress;
use crate::options::{DAY, LOOKS_LIKE_A_TOKEN, SECOND, looks_like_token, parse_duration};
use crate::stdio::share_terminal;

/// The largest number of rows that a flag can ask for: the database counts no further.
pub const MAX_LIMIT: u64 = i64::MAX as u64;

/// The flags that every command takes, before its name or after it. `demo` takes no `--config`; it refuses the flag
/// itself.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The configuration file; else $APIFY_MIRROR_CONFIG, ./apify-mirror.toml, the user's or the system's
    #[arg(long, global = true, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(path))]
    pub config: Option<PathBuf>,
    /// The database file
    #[arg(long = "db", global = true, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(database))]
    pub database: Option<PathBuf>,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log less; twice for errors only
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "verbose")]
    pub quiet: u8,
    /// The form of log lines
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Whether to use colours; `auto` does on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Makes this the choice for everything that the program writes.
    pub fn apply(self) {
        let choice = match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::AlwaysAnsi,
            Self::Never => ColorChoice::Never,
        };
        choice.write_global();
    }

    /// What `arguments` that cannot be parsed as a whole say.
    pub fn in_arguments(mut arguments: impl Iterator<Item = OsString>) -> Self {
        let mut color = Self::Auto;
        while let Some(argument) = arguments.next() {
            let value = match argument.to_str() {
                Some("--") => return color,
                Some("--color") => arguments.next().and_then(|value| value.into_string().ok()),
                Some(argument) => argument.strip_prefix("--color=").map(str::to_owned),
                None => None,
            };
            let named = value.and_then(|value| Self::from_str(&value, false).ok());
            color = named.unwrap_or(color);
        }
        color
    }
}

/// The flag of those commands that work on some tasks.
#[derive(Clone, Debug, Default, Args)]
pub struct TaskArgs {
    /// A task: its ID, `username~name` or `~name`; can be repeated, replaces the configured ones
    #[arg(long = "task", value_name = "REF", value_parser = task)]
    pub tasks: Vec<String>,
    /// Every task of the account, as with `discover_tasks = true`
    #[arg(long, conflicts_with = "tasks")]
    pub all_tasks: bool,
}

/// Takes the place of the global flags, given before a command or after it, to hide them from the help of one that needs
/// none, and to refuse them.
#[derive(Clone, Debug, Args)]
pub struct NoGlobals {
    #[arg(long, hide = true)]
    config: Option<PathBuf>,
    #[arg(long = "db", hide = true)]
    database: Option<PathBuf>,
    #[arg(short, long, hide = true, action = ArgAction::Count)]
    verbose: u8,
    #[arg(short, long, hide = true, action = ArgAction::Count)]
    quiet: u8,
    #[arg(long, hide = true, value_enum)]
    log_format: Option<LogFormat>,
    #[arg(long, hide = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

impl NoGlobals {
    /// Refuses whatever was given.
    ///
    /// # Errors
    /// When anything was.
    pub fn refuse(&self, command: &'static str) -> Result<(), CliError> {
        let given = [
            ("--config", self.config.is_some()),
            ("--db", self.database.is_some()),
            ("--verbose", self.verbose > 0),
            ("--quiet", self.quiet > 0),
            ("--log-format", self.log_format.is_some()),
            ("--color", self.color != Color::Auto),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((flag, _)) => Err(CliError::Usage {
                flag,
                command,
                why: "what it prints is built in; leave the flag out",
            }),
        }
    }
}

/// Text that is not empty and no API token, which would end up in addresses, logs and the database.
fn check(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty; give a value, or leave the flag out".to_owned());
    }
    if looks_like_token(text) {
        return Err(LOOKS_LIKE_A_TOKEN.to_owned());
    }
    Ok(())
}

/// A reference to a task, for flags.
pub fn task(text: &str) -> Result<String, String> {
    check(text)?;
    check_reference(text)?;
    Ok(text.to_owned())
}

/// The name of a sink, for arguments.
pub fn sink(text: &str) -> Result<String, String> {
    check(text).map(|()| text.to_owned())
}

/// A length of time, for flags: from a second to a year, with its unit.
pub fn time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).filter(|time| (SECOND..=365 * DAY).contains(time));
    time.ok_or_else(|| {
        "is not a time from 1s to 8760h with its unit, such as 90s, 10m or 6h".to_owned()
    })
}

/// The path of a file, for flags and arguments.
pub fn path(text: OsString) -> Result<PathBuf, String> {
    check(&text.to_string_lossy()).map(|()| text.into())
}

fn database(text: OsString) -> Result<PathBuf, String> {
    let path = path(text)?;
    check_database_path(&path.to_string_lossy()).map(|()| path)
}

impl Globals {
    /// The values that replace configured ones: those of these flags, and of `tasks`.
    pub fn overrides(&self, tasks: &TaskArgs) -> Overrides {
        Overrides {
            tasks: tasks.tasks.clone(),
            all_tasks: tasks.all_tasks,
            database: self.database.clone(),
            log_format: self.log_format,
        }
    }

    /// How many levels more (or, if negative, less) than configured is logged.
    pub fn verbosity(&self) -> i16 {
        i16::from(self.verbose) - i16::from(self.quiet)
    }

    /// Progress, as a bar as [`Globals::bars`] allows.
    pub fn progress(&self) -> Progress {
        Progress::new(self.bars())
    }

    /// Progress bars, where standard error is a terminal and `-q` was not given; lines are then written above them.
    pub fn bars(&self) -> Option<MultiProgress> {
        let bars = (std::io::stderr().is_terminal() && self.quiet == 0).then(Progress::bars);
        bars.iter().for_each(share_terminal);
        bars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_of_colours_is_found_in_arguments_that_are_wrong() {
        for (line, color) in [
            ("bogus", Color::Auto),
            ("bogus --color never", Color::Never),
            ("--color=always --bogus", Color::Always),
            ("--color", Color::Auto),
            ("--color sometimes", Color::Auto),
            ("--color always --color never", Color::Never),
            ("query -- --color=always", Color::Auto),
        ] {
            let arguments = line.split(' ').map(OsString::from);
            assert_eq!(Color::in_arguments(arguments), color, "{line}");
        }
    }
}
