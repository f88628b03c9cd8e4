//! How long one attempt may take, and each of its stages.

use std::time::{Duration, Instant};

use domain::webhooks::Overrides;
use tokio::time::timeout;

use crate::outcome::{Failure, Outcome};
use crate::sender::Settings;

/// The limits of one attempt, which begins when they are made (docs/protocol/webhooks.md, section 3).
pub(crate) struct Limits {
    began: Instant,
    connect: Duration,
    read: Duration,
    total: Duration,
}

impl Limits {
    /// What the settings say, unless the URL's fragment says something else.
    pub(crate) fn new(settings: &Settings, overrides: &Overrides) -> Self {
        Self {
            began: Instant::now(),
            connect: overrides.connect.unwrap_or(settings.connect_timeout),
            read: overrides.read.unwrap_or(settings.read_timeout),
            total: overrides.total.unwrap_or(settings.total_timeout),
        }
    }

    /// How long the attempt has been going on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits for a connection.
    pub(crate) async fn connect<T>(&self, connected: impl Future<Output = T>) -> Result<T, Failure> {
        let limit = self.connect.min(self.left());
        timeout(limit, connected).await.map_err(|_| Failure::from(Outcome::ConnectTimedOut))
    }

    /// Waits for the receiver's next words.
    pub(crate) async fn read<T>(&self, answered: impl Future<Output = T>) -> Result<T, Failure> {
        let limit = self.read.min(self.left());
        timeout(limit, answered).await.map_err(|_| Failure::from(Outcome::ReadTimedOut))
    }

    fn left(&self) -> Duration {
        self.total.saturating_sub(self.elapsed())
    }
}
