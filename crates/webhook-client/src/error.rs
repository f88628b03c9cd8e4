//! Errors of the webhook client's configuration. After construction every failure is an
//! [`Outcome`](crate::Outcome).

/// Why a [`WebhookClient`](crate::WebhookClient) could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The extra certificate authorities are not PEM, or contain no certificate.
    #[error("could not read the extra certificate authorities: {0}")]
    Authorities(String),
    /// An extra certificate cannot be used as a certificate authority.
    #[error("an extra certificate authority is not a valid CA certificate")]
    Trust(#[source] rustls::Error),
    /// The user agent contains characters that are not allowed in a header.
    #[error("the user agent is not a valid header value")]
    UserAgent,
}
