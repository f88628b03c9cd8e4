//! Errors in the settings of the client. Once it exists, every failure is reported as an [`Outcome`](crate::Outcome).

/// Why an [`OutletClient`](crate::OutletClient) could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The additional certificate authorities can't be used.
    #[error(transparent)]
    Authorities(#[from] authorities::Error),
    /// The TLS library or the HTTP client rejected the TLS configuration.
    #[error("cannot create the TLS client: {0}")]
    Tls(Box<dyn std::error::Error + Send + Sync>),
}
