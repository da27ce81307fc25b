//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use std::io;

use tokio::sync::watch;

/// Tells everyone that it is time to stop.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A shutdown and what triggers it: sending `true`.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (trigger, asked) = watch::channel(false);
        (trigger, Self(asked))
    }

    /// Waits until a stop is asked for. If it no longer can be, waits forever.
    pub async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A shutdown that the first SIGTERM or SIGINT triggers. The second ends the process at once, with the shell's code for
/// a signal; the database stands that as it stands any crash.
///
/// # Errors
/// When signals cannot be caught.
pub fn on_signals() -> io::Result<Shutdown> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (trigger, shutdown) = Shutdown::new();
    tokio::spawn(async move {
        for stopping in [false, true] {
            let (name, number) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 15),
                _ = interrupt.recv() => ("SIGINT", 2),
            };
            if stopping {
                std::process::exit(128 + number);
            }
            tracing::info!("{name}: stopping; a second signal stops at once");
            // Nobody listens when the work is already done.
            let _ = trigger.send(true);
        }
    });
    Ok(shutdown)
}
