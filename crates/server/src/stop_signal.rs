//! SIGTERM and SIGINT, which ask the server to stop.

use terminal::CliError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives the signals that ask the server to stop.
pub(crate) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    /// Installs the handlers. From then on these signals no longer kill the process.
    ///
    /// # Errors
    /// Returns an error if a signal can't be handled.
    pub(crate) fn install() -> Result<Self, CliError> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
