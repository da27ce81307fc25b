//! The flags that every command takes.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{ArgAction, Args, ValueEnum};
use indicatif::MultiProgress;

use crate::config::{LogFormat, Overrides, check_database_path, check_reference};
use crate::daemon::Progress;
use crate::options::{LOOKS_LIKE_A_TOKEN, looks_like_token};

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
    /// Whether to colour log lines; `auto` does on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,
}

/// Whether to colour log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

/// The flag of those commands that work on some tasks.
#[derive(Clone, Debug, Default, Args)]
pub struct TaskArgs {
    /// A task: its ID, `username~name` or `~name`; can be repeated, replaces the configured ones
    #[arg(long = "task", value_name = "REF", value_parser = task)]
    pub tasks: Vec<String>,
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

/// The path of a file, for flags and arguments.
pub fn path(text: OsString) -> Result<PathBuf, String> {
    check(&text.to_string_lossy()).map(|()| text.into())
}

fn database(text: OsString) -> Result<PathBuf, String> {
    let path = path(text)?;
    check_database_path(&path.to_string_lossy()).map(|()| path)
}

impl Globals {
    /// The values that replace configured ones: those of these flags, and `tasks` unless it is empty.
    pub fn overrides(&self, tasks: &[String]) -> Overrides {
        Overrides {
            tasks: tasks.to_vec(),
            database: self.database.clone(),
            log_format: self.log_format,
        }
    }

    /// How many levels more (or, if negative, less) than configured is logged.
    pub fn verbosity(&self) -> i16 {
        i16::from(self.verbose) - i16::from(self.quiet)
    }

    /// Whether standard error is coloured.
    pub fn colored(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && std::io::stderr().is_terminal()
            }
        }
    }

    /// Progress bars, where standard error is a terminal and `-q` was not given.
    pub fn progress_bars(&self) -> Option<MultiProgress> {
        (std::io::stderr().is_terminal() && self.quiet == 0).then(Progress::bars)
    }
}
