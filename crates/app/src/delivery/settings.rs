//! What an operator can configure about deliveries.

use std::time::Duration;

use domain::deliveries::Schedule;
use domain::housekeeping::Retention;

/// Settings of the delivery worker and of housekeeping, which runs on its thread.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// Seconds until the deliveries of a dead process are due again; at least 1.
    pub lease_seconds: i64,
    /// Backoff between attempts.
    pub schedule: Schedule,
    /// Maximum number of concurrent attempts.
    pub concurrency: usize,
    /// Maximum number of concurrent webhook attempts to one host.
    pub concurrency_per_host: usize,
    /// Maximum number of concurrent push attempts for one service and provider.
    pub concurrency_per_service_and_provider: usize,
    /// Longest time between two searches for due deliveries.
    pub poll_interval: Duration,
    /// How long finished data is kept.
    pub retention: Retention,
    /// Settings of the webhook client.
    pub webhooks: webhook_client::Settings,
    /// Settings of the push client.
    pub push: push_client::Settings,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            lease_seconds: 30,
            schedule: Schedule::default(),
            concurrency: 512,
            concurrency_per_host: 16,
            concurrency_per_service_and_provider: 256,
            poll_interval: Duration::from_secs(1),
            retention: Retention::default(),
            webhooks: webhook_client::Settings::default(),
            push: push_client::Settings::default(),
        }
    }
}

/// The reason why the delivery worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The settings of the webhook client are invalid.
    #[error("invalid webhook settings")]
    Webhooks(#[from] webhook_client::Error),
    /// The settings of the push client are invalid.
    #[error("invalid push settings")]
    Push(#[from] push_client::Error),
    /// The operating system could not create the thread or its event queue.
    #[error("could not start the thread of the delivery worker")]
    Thread(#[from] std::io::Error),
}
