//! Errors of the push client's configuration. After construction every failure is a
//! [`Outcome`](crate::Outcome).

/// Why a [`PushClient`](crate::PushClient) could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An endpoint is not a valid URL of a server.
    #[error("{0} is not the address of a server: write it as https://host or https://host:port")]
    Endpoint(String),
    /// The proxy address is invalid. It may contain a password, so the text is not included.
    #[error("expected the address of an HTTP proxy, such as http://proxy.example:3128")]
    Proxy,
    /// The extra certificate authorities cannot be parsed.
    #[error("the additional certificate authorities are not certificates in PEM")]
    ExtraCa,
    /// The TLS configuration was rejected.
    #[error("could not create the TLS client: {0}")]
    Tls(Box<dyn std::error::Error + Send + Sync>),
}
