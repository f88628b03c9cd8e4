//! The settings of the delivery worker, and the errors if it cannot start.

use std::time::Duration;

use domain::deliveries::Schedule;
use domain::housekeeping::Retention;

/// Settings of the delivery worker, and of housekeeping, which runs on the worker's thread.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// Duration of a delivery lease, in seconds; at least 1. If a process dies, its deliveries are due again after this
    /// time.
    pub lease_seconds: i64,
    /// Delays between the attempts of a delivery.
    pub schedule: Schedule,
    /// Maximum number of concurrent delivery attempts of this process, webhooks and pushes together.
    pub concurrency: usize,
    /// Maximum number of concurrent webhook attempts to one host.
    pub concurrency_per_host: usize,
    /// Maximum number of concurrent push attempts for each combination of service and provider.
    pub concurrency_per_service_and_provider: usize,
    /// Maximum number of concurrent messages through one outlet.
    pub concurrency_per_outlet: usize,
    /// Maximum time between two searches for due deliveries.
    pub poll_interval: Duration,
    /// How long completed records (challenges, deliveries, audit records and so on) are kept.
    pub retention: Retention,
    /// Settings of the webhook client.
    pub webhooks: webhook_client::Settings,
    /// Settings of the push client.
    pub push: push_client::Settings,
    /// Settings of the client of outlets.
    pub outlets: outlet_client::ClientSettings,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            lease_seconds: 30,
            schedule: Schedule::default(),
            concurrency: 512,
            concurrency_per_host: 16,
            concurrency_per_service_and_provider: 256,
            concurrency_per_outlet: 16,
            poll_interval: Duration::from_secs(1),
            retention: Retention::default(),
            webhooks: webhook_client::Settings::default(),
            push: push_client::Settings::default(),
            outlets: outlet_client::ClientSettings::default(),
        }
    }
}

/// The reason the delivery worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The settings of the webhook client are invalid.
    #[error("invalid webhook settings")]
    Webhooks(#[from] webhook_client::Error),
    /// The settings of the push client are invalid.
    #[error("invalid push settings")]
    Push(#[from] push_client::Error),
    /// The settings of the client of outlets are invalid.
    #[error("invalid settings of outlets")]
    Outlets(#[from] outlet_client::Error),
    /// The operating system could not create the worker's thread or the event queue of that thread.
    #[error("could not start the delivery worker's thread")]
    Thread(#[from] std::io::Error),
}
