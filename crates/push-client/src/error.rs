//! Errors in the push client's settings. Once the client exists, every failure is reported as an
//! [`Outcome`](crate::Outcome).

/// Why a [`PushClient`](crate::PushClient) could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL of a relay or test server is invalid.
    #[error("{0} is not the URL of a server; use the form https://host or https://host:port")]
    Endpoint(String),
    /// The proxy address is invalid. The error omits the address, which may contain a password.
    #[error("expected the address of an HTTP proxy, such as http://proxy.example:3128")]
    Proxy,
    /// The additional certificate authorities can't be used.
    #[error(transparent)]
    Authorities(#[from] authorities::Error),
    /// The TLS library or the HTTP client rejected the TLS configuration.
    #[error("cannot create the TLS client: {0}")]
    Tls(Box<dyn std::error::Error + Send + Sync>),
}
