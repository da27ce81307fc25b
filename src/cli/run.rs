//! `run`: the daemon.

use super::error::CliError;
use super::exit::ExitCode;
use super::setup::{Setup, close};
use crate::daemon;

/// Mirrors until SIGTERM or SIGINT.
///
/// # Errors
/// When the token is refused at the start, or the database fails.
pub async fn run(setup: Setup) -> Result<ExitCode, CliError> {
    let Setup { context, couriers, writer } = setup;
    let shutdown = daemon::on_signals()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    let result = daemon::run(context, couriers, shutdown).await;
    close(writer).await;
    tracing::info!("stopped");
    Ok(result.map(|()| ExitCode::Ok)?)
}
