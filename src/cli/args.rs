//! What can be said on the command line.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use indicatif::MultiProgress;

use crate::config::{LogFormat, Overrides};
use crate::daemon::Progress;

/// Keeps a local SQLite mirror of Apify task runs, and tells when a run changes status.
///
/// The API token comes from the configuration's `api.token_file`, else from the environment variable APIFY_TOKEN, else
/// from the systemd credential `apify-token`.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// The configuration file; else $APIFY_MIRROR_CONFIG, ./apify-mirror.toml, the user's or the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A task to mirror: its ID, `username~name` or `~name`; can be repeated, replaces the configured ones
    #[arg(long = "task", global = true, value_name = "REF")]
    pub tasks: Vec<String>,
    /// The database file
    #[arg(long = "db", global = true, value_name = "PATH")]
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
    /// Whether to colour what is printed; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,
}

/// Whether to colour what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mirror until SIGTERM or SIGINT
    Run,
    /// Mirror once: catch every task up, re-read open runs, deliver due events, print a summary
    Sync,
    /// Compare the whole mirror with the account: flag removed runs, repair any difference, tell what was found
    Audit {
        /// Tell it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show where every task and sink stands
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read the event log
    Events {
        /// Go on with events as they are raised; waits for a database that does not exist yet
        #[arg(long)]
        follow: bool,
        /// Begin after the event with this number
        #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(i64).range(0..))]
        since: Option<i64>,
        /// The last N events only; with --since, the first N
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// As delivered: one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Look after events that could not be delivered
    Deliveries {
        /// What to do.
        #[command(subcommand)]
        action: DeliveriesAction,
    },
    /// Validate the configuration
    Check {
        /// Try the token, the tasks and the sinks' addresses too
        #[arg(long)]
        online: bool,
    },
    /// The whole thing on a built-in simulated account: no token, no network
    Demo {
        /// How long to go on
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
}

/// What to do about deliveries.
#[derive(Debug, Subcommand)]
pub enum DeliveriesAction {
    /// Show events that were set aside, or that failed and will be tried again
    List {
        /// Of this sink only
        #[arg(long, value_name = "NAME")]
        sink: Option<String>,
        /// Those too that have not been tried yet
        #[arg(long)]
        all: bool,
        /// At most so many, oldest first
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        limit: u64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try events again at once that were set aside or wait for another attempt
    Retry {
        /// Which ones
        #[command(flatten)]
        which: Chosen,
    },
    /// Give events up for good that were set aside; they stay in the event log
    Drop {
        /// Which ones
        #[command(flatten)]
        which: Chosen,
        /// With --all: those too that were not set aside, as those of a sink that is no longer configured
        #[arg(long, requires = "all")]
        pending: bool,
    },
}

/// Some deliveries.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Chosen {
    /// The numbers of the events
    #[arg(
        value_name = "SEQ",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub seqs: Vec<i64>,
    /// Not some, but all
    #[arg(long)]
    pub all: bool,
    /// Of this sink only
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,
}

impl Globals {
    /// What these flags put in the place of configured values.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            tasks: self.tasks.clone(),
            database: self.database.clone(),
            log_format: self.log_format,
        }
    }

    /// Whether standard error should be coloured.
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

    /// Bars for progress, where there is a terminal to show them and somebody who wants to see them.
    pub fn progress_bars(&self) -> Option<MultiProgress> {
        (std::io::stderr().is_terminal() && self.quiet == 0).then(Progress::bars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_flag_takes_the_token() {
        let help = Arguments::command().render_long_help().to_string();
        assert!(!help.contains("--token"), "{help}");
    }

    #[test]
    fn flags_may_stand_behind_the_command() {
        let arguments = Arguments::parse_from([
            "apify-mirror",
            "sync",
            "--task",
            "a~b",
            "--task",
            "c",
            "--db",
            "x.db",
        ]);
        assert_eq!(arguments.globals.overrides().tasks, ["a~b", "c"]);
        assert_eq!(arguments.globals.database, Some("x.db".into()));
    }
}
