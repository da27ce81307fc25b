//! The command line: arguments, and one file for each command.

mod args;
mod audit;
mod check;
mod deliveries;
mod demo;
mod error;
mod event_line;
mod events;
mod exit;
mod logging;
mod output;
mod pass;
mod probe;
mod run;
mod setup;
mod status;
mod sync;
mod table;

use std::path::PathBuf;

use clap::Parser;
use tokio::runtime::Runtime;

pub use args::{Arguments, Command};
pub use error::CliError;
pub use exit::ExitCode;

use crate::config::{self, Environment, Settings};
use crate::daemon::Progress;

/// Runs the program: reads arguments and environment, does what they say, and gives the code to exit with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Names and values that are not Unicode cannot be ours.
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match dispatch(&arguments, &environment) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            error.code()
        }
    }
}

fn dispatch(arguments: &Arguments, environment: &Environment) -> Result<ExitCode, CliError> {
    let globals = &arguments.globals;
    let load = || -> Result<(Settings, Option<PathBuf>), CliError> {
        Ok(config::load(
            globals.config.as_deref(),
            environment,
            globals.overrides(),
        )?)
    };
    match &arguments.command {
        Command::Check { online } => {
            let (settings, file) = load()?;
            check::check(
                &settings,
                file.as_deref(),
                environment,
                online.then(runtime).transpose()?.as_ref(),
            )
        }
        Command::Events {
            follow,
            since,
            limit,
            json,
        } => {
            let wanted = events::Wanted {
                follow: *follow,
                since: *since,
                limit: *limit,
                tasks: globals.tasks.clone(),
                json: *json,
            };
            runtime()?.block_on(events::events(&load()?.0.database, &wanted))
        }
        Command::Deliveries { action } => {
            runtime()?.block_on(deliveries::deliveries(&load()?.0.database, action))
        }
        Command::Status { json } => runtime()?.block_on(status::status(&load()?.0.database, *json)),
        Command::Demo { seconds } => {
            let settings = demo::settings(globals.database.as_deref())?;
            let bars = globals.progress_bars();
            logging::start(globals, &settings, bars.clone());
            runtime()?.block_on(demo::demo(settings, *seconds, Progress::new(bars)))
        }
        command @ (Command::Run | Command::Sync | Command::Audit { .. }) => {
            let (settings, _) = load()?;
            settings.require_tasks()?;
            let bars = globals.progress_bars();
            logging::start(globals, &settings, bars.clone());
            let token = config::find_token(settings.api.token_file.as_deref(), environment)?;
            let plan = setup::plan(&settings, environment, setup::seed())?;
            let runtime = runtime()?;
            let result = runtime.block_on(async {
                let setup =
                    setup::Setup::new(&settings, &token, plan, Progress::new(bars), setup::sink)
                        .await?;
                match command {
                    Command::Run => {
                        let (globals, variables) = (globals.clone(), environment.clone());
                        let reload = move || {
                            let (settings, _) = config::load(
                                globals.config.as_deref(),
                                &variables,
                                globals.overrides(),
                            )?;
                            settings.require_tasks()?;
                            Ok(settings)
                        };
                        run::run(setup, settings, environment.clone(), reload).await
                    }
                    Command::Audit { json } => audit::audit(setup, *json).await,
                    _ => sync::sync(setup).await,
                }
            });
            // Standard output that nobody reads must not keep the process alive.
            runtime.shutdown_background();
            result
        }
    }
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}
