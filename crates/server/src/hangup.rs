//! SIGHUP: a request to read files again, or the end of the terminal that the server was started at.

use std::fs::{self, File};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// How long after the signal the terminal may go: a shell that ends passes the signal on before its terminal has
/// gone.
const GRACE: Duration = Duration::from_secs(1);

/// The process's hang-ups.
pub(crate) struct Hangup {
    signals: Signal,
    /// Whether the end of the terminal ends the server: it was started at one, and not with `nohup`.
    is_bound: bool,
}

impl Hangup {
    /// From now on the signal does not kill the process.
    ///
    /// # Errors
    /// When the signal can't be handled.
    pub(crate) fn expect() -> Result<Self, Failure> {
        let is_bound = has_terminal() && !is_ignored();
        Ok(Self { signals: signal(SignalKind::hangup())?, is_bound })
    }

    /// Waits for the next hang-up. Whether it asks to read files again; else the terminal has gone.
    pub(crate) async fn is_request(&mut self) -> bool {
        if self.signals.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        !(self.is_bound && terminal_goes().await)
    }
}

/// Whether the terminal has gone, or goes within [`GRACE`].
async fn terminal_goes() -> bool {
    let has_gone = async {
        while has_terminal() {
            tokio::time::sleep(GRACE / 10).await;
        }
    };
    tokio::time::timeout(GRACE, has_gone).await.is_ok()
}

/// Whether this process has a controlling terminal, which a service has not.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether the process was started with SIGHUP ignored, as `nohup` does. Linux shows that as the lowest bit of
/// `SigIgn`.
fn is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
