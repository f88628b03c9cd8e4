//! SIGHUP, which either asks the server to reload files or reports that its terminal was closed.

use std::fs::{self, File};
use std::time::Duration;

use terminal::CliError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Maximum time between SIGHUP and the closing of the terminal. A shell that exits forwards SIGHUP shortly before its
/// terminal is closed, so the server waits this long before it treats SIGHUP as a reload request.
const TERMINAL_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A receiver of SIGHUP that distinguishes a reload request from a closed terminal.
pub(crate) struct Hangup {
    signals: Signal,
    /// Whether the server stops when its terminal is closed: true if it was started from a terminal without `nohup`.
    stops_with_terminal: bool,
}

impl Hangup {
    /// Installs the SIGHUP handler. From then on, SIGHUP no longer kills the process.
    ///
    /// # Errors
    /// Returns an error if the handler can't be installed.
    pub(crate) fn install() -> Result<Self, CliError> {
        // Read how SIGHUP was handled before the handler below replaces that.
        let stops_with_terminal = has_terminal() && !is_ignored();
        Ok(Self { signals: signal(SignalKind::hangup())?, stops_with_terminal })
    }

    /// Waits for the next SIGHUP. Returns `true` if it requests a reload of files, or `false` if the terminal was
    /// closed.
    pub(crate) async fn is_reload_request(&mut self) -> bool {
        if self.signals.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        !(self.stops_with_terminal && is_terminal_closed().await)
    }
}

/// Returns whether the terminal is closed now or within [`TERMINAL_CLOSE_TIMEOUT`].
async fn is_terminal_closed() -> bool {
    let closed = async {
        while has_terminal() {
            tokio::time::sleep(TERMINAL_CLOSE_TIMEOUT / 10).await;
        }
    };
    tokio::time::timeout(TERMINAL_CLOSE_TIMEOUT, closed).await.is_ok()
}

/// Returns whether this process has a controlling terminal. System services have none.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Returns whether SIGHUP was ignored when the process started, for example because of `nohup`. Linux reports this as
/// the lowest bit of `SigIgn` in `/proc/self/status`. Returns `false` if that file can't be read.
fn is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
