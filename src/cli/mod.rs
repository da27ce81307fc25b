//! The command line: reads it and calls the command it names. Every command is a file in `commands/`; the other files
//! here are what several commands share, and import no command.

mod answer;
mod ask;
mod commands;
mod error;
mod exit;
mod globals;
mod health;
mod help;
#[cfg(test)]
mod help_tests;
mod log_lines;
mod logging;
mod output;
mod pass;
mod service;
mod serving;
mod settings;
mod setup;
mod styles;
mod table;

use std::io;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

use commands::{
    audit, backup, check, completions, deliveries, demo, events, man, prune, query, run, sinks,
    status, sync,
};
use error::CliError;
pub use exit::ExitCode;
use globals::{Color, Globals};
use output::{find_journal, is_colored, line, print, print_error, show_error};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::files::hide_memory;
use crate::options::Environment;
use crate::sinks::kill_programs;

/// Keeps a local SQLite mirror of Apify task runs, and delivers an event when a run changes status.
///
/// The API token comes from the configuration's `api.token_file`, else from the environment variable APIFY_TOKEN, else
/// from the systemd credential `apify-token`.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = after_help())]
struct Arguments {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mirror until SIGTERM or SIGINT
    #[command(after_help = run::after_help())]
    Run(run::Args),
    /// Mirror once: catch every task up, re-read open runs, deliver due events, print a summary
    #[command(after_help = sync::after_help())]
    Sync(sync::Args),
    /// Compare the whole mirror with the account: flag removed runs, repair any difference, print what was found
    #[command(after_help = audit::after_help())]
    Audit(audit::Args),
    /// Show the state of every task and sink
    #[command(after_help = status::after_help())]
    Status(status::Args),
    /// Read the event log
    #[command(after_help = events::after_help())]
    Events(events::Args),
    /// List, retry or drop events that could not be delivered
    #[command(after_help = deliveries::after_help())]
    Deliveries(deliveries::Args),
    /// List the sinks' subscriptions, or end one for good
    #[command(after_help = sinks::after_help())]
    Sinks(sinks::Args),
    /// Ask a question in SQL, or list the views to ask
    #[command(after_help = query::after_help())]
    Query(query::Args),
    /// Copy the whole mirror to a file, consistently, also while a daemon writes it
    #[command(after_help = backup::after_help())]
    Backup(backup::Args),
    /// Remove what `[retention]` no longer keeps, and say what that was
    #[command(after_help = prune::after_help())]
    Prune(prune::Args),
    /// Validate the configuration
    #[command(after_help = check::after_help())]
    Check(check::Args),
    /// Run the daemon on a built-in simulated account: no token, no network
    #[command(after_help = demo::after_help())]
    Demo(demo::Args),
    /// Print a script that completes commands and flags in a shell
    #[command(after_help = completions::after_help())]
    Completions(completions::Args),
    /// Print the manual page
    #[command(after_help = man::after_help())]
    Man(man::Args),
}

/// The end of the program's own help.
fn after_help() -> String {
    help::after(
        &[
            ("see it work, without a token", "apify-mirror demo"),
            (
                "mirror a task",
                "APIFY_TOKEN=... apify-mirror sync --task janedoe~my-task --db runs.db",
            ),
            (
                "ask a question",
                "apify-mirror query --db runs.db \"SELECT * FROM task_health\"",
            ),
        ],
        &ExitCode::ALL.map(|code| (code, None)),
    )
}

/// Runs the program: reads arguments and environment, runs the command, and returns the code to exit with.
pub fn main() -> ExitCode {
    if let Err(error) = hide_memory() {
        print_error(&format!("error: {error}\n"));
        return ExitCode::Unexpected;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(shown) => {
            Color::in_arguments(std::env::args_os().skip(1)).apply();
            return not_a_command(hide_value(shown));
        }
    };
    arguments.globals.color.apply();
    // No name or value of ours is anything but Unicode.
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    find_journal(&environment);
    match execute(&arguments, &environment) {
        Ok(code) => code,
        Err(error) => {
            show_error(&error.shown());
            error.code()
        }
    }
}

/// `error` without the value that was refused, unless it is plain: it may be a secret in the wrong place.
fn hide_value(mut error: clap::Error) -> clap::Error {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./~ ".contains(c);
    let is_plain = |value: &ContextValue| matches!(value, ContextValue::String(text) if text.chars().all(plain));
    if error
        .get(ContextKind::InvalidValue)
        .is_some_and(|value| !is_plain(value))
    {
        let hidden = ContextValue::String("…".to_owned());
        error.insert(ContextKind::InvalidValue, hidden);
    }
    error
}

/// Prints the help or the version that was asked for, or what is wrong with the arguments.
fn not_a_command(shown: clap::Error) -> ExitCode {
    let text = shown.render();
    let plain = text.to_string();
    let inert: String = plain.lines().map(line).collect();
    // Colours are active characters themselves: they are only for text that has no others.
    let text = |colored: bool| match colored && inert == plain {
        true => text.ansi().to_string(),
        false => inert.clone(),
    };
    if shown.use_stderr() {
        print_error(&text(is_colored(&io::stderr())));
        return ExitCode::Usage;
    }
    match print(&text(is_colored(&io::stdout()))) {
        Ok(()) => ExitCode::Ok,
        Err(error) => {
            let error = CliError::from(error);
            show_error(&error.shown());
            error.code()
        }
    }
}

fn execute(arguments: &Arguments, environment: &Environment) -> Result<ExitCode, CliError> {
    allow_open_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let result = runtime.block_on(dispatch(arguments, environment));
    // A write to a full pipe must not keep the process alive.
    runtime.shutdown_background();
    // Their sinks may not have come to it.
    kill_programs();
    result
}

/// Threads that wait for servers and read their answers. More would not be faster, and each keeps the memory of the largest
/// answer that it has read.
const WORKERS: usize = 2;

/// Raises the limit on open files as far as that is allowed and needed.
///
/// # Errors
/// When it stays too low to run at all.
fn allow_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= WANTED_FILES) {
        return Ok(());
    }
    let most = limit
        .maximum
        .map_or(WANTED_FILES, |most| most.min(WANTED_FILES));
    let raised = Rlimit {
        current: Some(most),
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, raised);
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if allowed < LEAST_FILES => Err(io::Error::other(format!(
            "this process may have no more than {allowed} open files, and needs {LEAST_FILES}; raise the limit (`ulimit -n \
             {WANTED_FILES}`, or LimitNOFILE= of the service)"
        ))),
        _ => Ok(()),
    }
}

/// Open files with which the program can run.
const LEAST_FILES: u64 = 64;

/// Open files that the program asks for: enough for every connection that can be configured.
const WANTED_FILES: u64 = 1_024;

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
        Command::Query(args) => query::execute(args, globals, environment).await,
        Command::Backup(args) => backup::execute(args, globals, environment).await,
        Command::Prune(args) => prune::execute(args, globals, environment).await,
        Command::Check(args) => check::execute(args, globals, environment).await,
        Command::Demo(args) => demo::execute(args, globals).await,
        Command::Completions(args) => completions::execute(args, Arguments::command()),
        Command::Man(args) => man::execute(args, Arguments::command()),
    }
}
