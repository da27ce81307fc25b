//! The command line: reads it and calls the command it names. Every command is a file in `commands/`; the other files
//! here are what several commands share, and import no command.

mod ask;
mod commands;
mod error;
mod event_line;
mod exit;
mod globals;
#[cfg(test)]
mod help_tests;
mod logging;
mod output;
mod pass;
mod settings;
mod setup;
mod table;

use clap::{Parser, Subcommand};

use commands::{audit, check, deliveries, demo, events, run, sinks, status, sync};
use error::CliError;
pub use exit::ExitCode;
use globals::Globals;

use crate::options::Environment;

/// Keeps a local SQLite mirror of Apify task runs, and delivers an event when a run changes status.
///
/// The API token comes from the configuration's `api.token_file`, else from the environment variable APIFY_TOKEN, else
/// from the systemd credential `apify-token`.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mirror until SIGTERM or SIGINT
    Run(run::Args),
    /// Mirror once: catch every task up, re-read open runs, deliver due events, print a summary
    Sync(sync::Args),
    /// Compare the whole mirror with the account: flag removed runs, repair any difference, print what was found
    Audit(audit::Args),
    /// Show the state of every task and sink
    Status(status::Args),
    /// Read the event log
    Events(events::Args),
    /// List, retry or drop events that could not be delivered
    Deliveries(deliveries::Args),
    /// List the sinks' subscriptions, or end one for good
    Sinks(sinks::Args),
    /// Validate the configuration
    Check(check::Args),
    /// Run the daemon on a built-in simulated account: no token, no network
    Demo(demo::Args),
}

/// Runs the program: reads arguments and environment, runs the command, and returns the code to exit with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // No name or value of ours is anything but Unicode.
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match execute(&arguments, &environment) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            error.code()
        }
    }
}

fn execute(arguments: &Arguments, environment: &Environment) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(dispatch(arguments, environment));
    // A write to a full pipe must not keep the process alive.
    runtime.shutdown_background();
    result
}

async fn dispatch(arguments: &Arguments, environment: &Environment) -> Result<ExitCode, CliError> {
    let globals = &arguments.globals;
    match &arguments.command {
        Command::Run(args) => run::execute(args, globals, environment).await,
        Command::Sync(args) => sync::execute(args, globals, environment).await,
        Command::Audit(args) => audit::execute(args, globals, environment).await,
        Command::Status(args) => status::execute(args, globals, environment).await,
        Command::Events(args) => events::execute(args, globals, environment).await,
        Command::Deliveries(args) => deliveries::execute(args, globals, environment).await,
        Command::Sinks(args) => sinks::execute(args, globals, environment).await,
        Command::Check(args) => check::execute(args, globals, environment).await,
        Command::Demo(args) => demo::execute(args, globals).await,
    }
}
