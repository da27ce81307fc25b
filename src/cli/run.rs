//! `run`: the daemon.

use super::error::CliError;
use super::exit::ExitCode;
use super::setup::{Setup, close, plan};
use crate::config::Settings;
use crate::daemon::{self, Reload};

/// Mirrors until SIGTERM or SIGINT; `load` reads the settings again on SIGHUP.
///
/// # Errors
/// When the token is refused at the start, or the database fails.
pub async fn run(
    setup: Setup,
    settings: Settings,
    load: impl Fn() -> Result<Settings, CliError> + Send + 'static,
) -> Result<ExitCode, CliError> {
    let Setup { context, writer } = setup;
    let shutdown = daemon::on_signals()?;
    let seed = context.plan().sync.jitter_seed;
    let reload = Reload::new(move || {
        let new = load().map_err(|error| error.to_string().replace(":\n", ": ").replace('\n', "; "))?;
        if new.api != settings.api || new.database != settings.database {
            tracing::warn!("changes of [api] and [database] take effect when the daemon is restarted");
        }
        Ok(plan(&new, seed))
    })?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    let result = daemon::run(context, shutdown, Some(reload)).await;
    close(writer).await;
    tracing::info!("stopped");
    Ok(result.map(|()| ExitCode::Ok)?)
}
