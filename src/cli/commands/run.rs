//! `run`: the daemon.

use std::io;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::api::Client;
use crate::cli::error::CliError;
use crate::cli::exit::ExitCode;
use crate::cli::globals::{Globals, TaskArgs};
use crate::cli::serving::Serving;
use crate::cli::setup::{Setup, close, plan, token_source};
use crate::cli::{help, service, settings};
use crate::config::{ApiSettings, Settings};
use crate::daemon::{self, Plan, Reload};
use crate::http::Tokens;
use crate::model::Seed;
use crate::options::Environment;
use crate::systemd;

/// The end of the help.
pub fn after_help() -> String {
    help::after(
        &[
            (
                "mirror a task, and print events as they happen",
                "apify-mirror run --task janedoe~my-task --db runs.db",
            ),
            (
                "with everything in a configuration file, as a service",
                "apify-mirror run --config /etc/apify-mirror/config.toml",
            ),
        ],
        &[
            (ExitCode::Locked, None),
            (ExitCode::Storage, None),
            (ExitCode::Token, None),
            (ExitCode::Configuration, None),
        ],
    )
}

/// The flags of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    tasks: TaskArgs,
}

/// Mirrors until SIGTERM or SIGINT; SIGHUP reads the settings again.
///
/// # Errors
/// When the settings are not valid, the token is refused at the start, or the database fails.
pub async fn execute(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    // First of all: without a handler, a signal to reload ends the process. One to stop should, until there is
    // something to stop.
    let hangup = Reload::hangups()?;
    let (Setup { context, writer }, settings) =
        Setup::from_flags(globals, environment, &args.tasks).await?;
    let serving = Serving::begin(&settings, environment, &context).await?;
    let shutdown = daemon::on_signals()?;
    let (server, tokens) = serving
        .map(|serving| (serving.server, serving.tokens))
        .unzip();
    let client = context.client.clone();
    let seed = context.plan().sync.seed;
    let (args, globals, environment) = (args.clone(), globals.clone(), environment.clone());
    let reload = Reload::new(hangup, move || {
        let (args, globals, client) = (args.clone(), globals.clone(), client.clone());
        let (environment, settings, tokens) =
            (environment.clone(), settings.clone(), tokens.clone());
        async move {
            if let Some(tokens) = tokens {
                read_token_again(&tokens);
            }
            let plan = read_again(&args, &globals, &environment, &settings, &client, seed).await;
            plan.map_err(|error| one_line(&error))
        }
    });
    // Configuration, database and listener stand. From here on the daemon may have to wait for Apify, but nothing that the
    // operator would have to change ends it.
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    service::tell(systemd::ready());
    let report = service::report(Arc::clone(&context), shutdown.clone());
    let serving =
        server.map(|server| AbortOnDropHandle::new(tokio::spawn(server.run(shutdown.clone()))));
    let result = tokio::select! {
        result = daemon::run(context, shutdown.clone(), Some(reload)) => result,
        never = report => match never {},
    };
    // The server holds the database too. It ends with the daemon, however that has ended.
    shutdown.cancel();
    if let Some(serving) = serving {
        serving.await.map_err(io::Error::other)?;
    }
    close(writer).await;
    tracing::info!("stopped");
    Ok(result.map(|()| ExitCode::Ok)?)
}

/// What the settings now say of tasks and sinks; also reads the token again. `running` are those that the
/// daemon was started with.
async fn read_again(
    args: &Args,
    globals: &Globals,
    environment: &Environment,
    running: &Settings,
    client: &Client,
    seed: Seed,
) -> Result<Plan, CliError> {
    let (new, _) = settings::read(globals, environment, &args.tasks)?;
    new.require_tasks()?;
    let api = ApiSettings {
        token_file: running.api.token_file.clone(),
        ..new.api.clone()
    };
    if api != running.api || new.database != running.database || new.http != running.http {
        tracing::warn!(
            "changes of [api], [database] and [http] take effect when the daemon is restarted"
        );
    }
    let plan = plan(&new, environment, seed).await?;
    match client.read_token_from(token_source(&new, environment)) {
        Ok(true) => tracing::info!("SIGHUP: using the new API token"),
        Ok(false) => {}
        Err(error) => tracing::error!("SIGHUP: the previous API token stays in use: {error}"),
    }
    Ok(plan)
}

/// Reads the read token again.
fn read_token_again(tokens: &Tokens) {
    match tokens.read_again() {
        Ok(true) => tracing::info!("SIGHUP: using the new read token"),
        Ok(false) => {}
        Err(error) => tracing::error!("SIGHUP: the previous read token stays in use: {error}"),
    }
}

/// The message of `error` as one line, for the log.
fn one_line(error: &CliError) -> String {
    error.to_string().replace(":\n", ": ").replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse};

    #[test]
    fn all_problems_of_a_configuration_make_one_line_of_the_log() {
        let toml = "[sync]\npol_interval = \"1s\"\npage_size = 0\n";
        let problems = parse(
            Some(toml),
            &Environment::new(),
            Overrides::default(),
            String::new,
        )
        .unwrap_err();
        let line = one_line(&problems.into());
        insta::assert_snapshot!(line, @"the configuration is not valid: sync.page_size: is 0; it must be a whole number from 2 to 1000; sync.pol_interval: is no known key; did you mean `sync.poll_interval`?");
    }
}
