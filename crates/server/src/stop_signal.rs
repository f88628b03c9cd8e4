//! SIGTERM and SIGINT, which stop the server.

use terminal::CliError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A receiver of SIGTERM and SIGINT.
pub(crate) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    /// Installs the handlers for both signals. From then on, these signals no longer kill the process.
    ///
    /// # Errors
    /// Returns an error if a handler can't be installed.
    pub(crate) fn install() -> Result<Self, CliError> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next SIGTERM or SIGINT.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
