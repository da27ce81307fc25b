//! `run`: the daemon.

use super::error::CliError;
use super::exit::ExitCode;
use super::setup::{Setup, close, plan};
use crate::config::{Environment, Settings};
use crate::daemon::{self, Reload};

/// Mirrors until SIGTERM or SIGINT; `load` reads the settings again on SIGHUP.
///
/// # Errors
/// When the token is refused at the start, or the database fails.
pub async fn run(
    setup: Setup,
    settings: Settings,
    environment: Environment,
    load: impl Fn() -> Result<Settings, CliError> + Send + 'static,
) -> Result<ExitCode, CliError> {
    let Setup { context, writer } = setup;
    let shutdown = daemon::on_signals()?;
    let seed = context.plan().sync.seed;
    let reload = Reload::new(move || {
        let one_line = |error: CliError| error.to_string().replace(":\n", ": ").replace('\n', "; ");
        let new = load().map_err(one_line)?;
        if new.api != settings.api || new.database != settings.database {
            tracing::warn!(
                "changes of [api] and [database] take effect when the daemon is restarted"
            );
        }
        plan(&new, &environment, seed).map_err(|problems| one_line(problems.into()))
    })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    let result = daemon::run(context, shutdown, Some(reload)).await;
    close(writer).await;
    tracing::info!("stopped");
    Ok(result.map(|()| ExitCode::Ok)?)
}
