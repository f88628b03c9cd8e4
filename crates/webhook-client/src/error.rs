//! Errors in the webhook client's settings. Once the client exists, every failure is reported as an
//! [`Outcome`](crate::Outcome).

/// Why a [`WebhookClient`](crate::WebhookClient) could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The additional certificate authorities are not PEM, or contain no certificate.
    #[error("cannot read the additional certificate authorities: {0}")]
    Authorities(String),
    /// An additional certificate cannot be used as a certificate authority.
    #[error("an additional certificate authority is not a valid CA certificate")]
    Trust(#[source] rustls::Error),
    /// The user agent contains characters that are not allowed in an HTTP header.
    #[error("the user agent is not a valid header value")]
    UserAgent,
}
