//! Timeouts of one delivery attempt and its steps.

use std::time::{Duration, Instant};

use domain::webhooks::Overrides;
use tokio::time::timeout;

use crate::outcome::{Failure, Outcome};
use crate::settings::Settings;

/// The timeouts of one delivery attempt, which starts when this value is created (docs/protocol/webhooks.md,
/// section 3).
pub(crate) struct Deadlines {
    started_at: Instant,
    connect: Duration,
    read: Duration,
    total: Duration,
}

impl Deadlines {
    /// Starts an attempt. The timeouts that the URL's fragment sets (`overrides`) take precedence over
    /// those in `settings`.
    pub(crate) fn new(settings: &Settings, overrides: &Overrides) -> Self {
        Self {
            started_at: Instant::now(),
            connect: overrides.connect.unwrap_or(settings.connect_timeout),
            read: overrides.read.unwrap_or(settings.read_timeout),
            total: overrides.total.unwrap_or(settings.total_timeout),
        }
    }

    /// Returns the time since the attempt started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// Waits for `connecting` until the connect timeout or the total timeout expires, and returns its output.
    ///
    /// # Errors
    /// Returns [`Outcome::ConnectTimedOut`] if a timeout expires first.
    pub(crate) async fn connect<T>(&self, connecting: impl Future<Output = T>) -> Result<T, Failure> {
        let limit = self.connect.min(self.remaining());
        timeout(limit, connecting).await.map_err(|_| Failure::from(Outcome::ConnectTimedOut))
    }

    /// Waits for `reading` until the read timeout or the total timeout expires, and returns its output.
    ///
    /// # Errors
    /// Returns [`Outcome::ReadTimedOut`] if a timeout expires first.
    pub(crate) async fn read<T>(&self, reading: impl Future<Output = T>) -> Result<T, Failure> {
        let limit = self.read.min(self.remaining());
        timeout(limit, reading).await.map_err(|_| Failure::from(Outcome::ReadTimedOut))
    }

    /// Returns the time left until the total timeout expires.
    fn remaining(&self) -> Duration {
        self.total.saturating_sub(self.elapsed())
    }
}
