//! Errors in the webhook client's settings. Once the client exists, every failure is reported as an
//! [`Outcome`](crate::Outcome).

/// Why a [`WebhookClient`](crate::WebhookClient) could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The additional certificate authorities can't be used.
    #[error(transparent)]
    Authorities(#[from] authorities::Error),
    /// The TLS library rejected the TLS configuration.
    #[error("cannot create the TLS client: {0}")]
    Tls(rustls::Error),
    /// The user agent contains characters that are not allowed in an HTTP header.
    #[error("the user agent is not a valid header value")]
    UserAgent,
}
