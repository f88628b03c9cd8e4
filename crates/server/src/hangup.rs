//! SIGHUP: either a request to reload files, or the end of the terminal from which the server was started.

use std::fs::{self, File};
use std::time::Duration;

use terminal::CliError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Longest time between the signal and the disappearance of the terminal. A shell that exits forwards SIGHUP before
/// its terminal is closed.
const TERMINAL_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Receives SIGHUP.
pub(crate) struct Hangup {
    signals: Signal,
    /// Whether the server stops with its terminal: it was started from one, and without `nohup`.
    stops_with_terminal: bool,
}

impl Hangup {
    /// Installs the handler. From then on SIGHUP no longer kills the process.
    ///
    /// # Errors
    /// Returns an error if the signal can't be handled.
    pub(crate) fn install() -> Result<Self, CliError> {
        // Read the previous handling before the handler below replaces it.
        let stops_with_terminal = has_terminal() && !is_ignored();
        Ok(Self { signals: signal(SignalKind::hangup())?, stops_with_terminal })
    }

    /// Waits for the next SIGHUP. Returns `true` if it asks to reload files, `false` if the terminal was closed.
    pub(crate) async fn is_reload_request(&mut self) -> bool {
        if self.signals.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        !(self.stops_with_terminal && is_terminal_closed().await)
    }
}

/// Returns whether the terminal is closed, or is closed within [`TERMINAL_CLOSE_TIMEOUT`].
async fn is_terminal_closed() -> bool {
    let closed = async {
        while has_terminal() {
            tokio::time::sleep(TERMINAL_CLOSE_TIMEOUT / 10).await;
        }
    };
    tokio::time::timeout(TERMINAL_CLOSE_TIMEOUT, closed).await.is_ok()
}

/// Returns whether this process has a controlling terminal. A service has none.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Returns whether SIGHUP was ignored when the process started, as `nohup` arranges. On Linux that is the lowest bit
/// of `SigIgn` in `/proc/self/status`.
fn is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
