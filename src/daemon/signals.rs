//! SIGTERM and SIGINT: the first stops the daemon in an orderly way, the second exits at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::sinks::kill_programs;

/// Returns a token that the first SIGTERM or SIGINT cancels. The second kills the programs that sinks run, and exits
/// at once, with the shell's code for a signal; the database survives this like any crash.
///
/// # Errors
/// When signals cannot be caught.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        loop {
            let (name, number) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 15),
                _ = interrupt.recv() => ("SIGINT", 2),
            };
            if token.is_cancelled() {
                kill_programs();
                std::process::exit(128 + number);
            }
            tracing::info!("{name}: stopping; a second signal stops at once");
            token.cancel();
        }
    });
    Ok(shutdown)
}
