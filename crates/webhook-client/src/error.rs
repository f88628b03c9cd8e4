//! What can be wrong with the settings. Once there is a sender, what goes wrong is an outcome.

/// Why there can be no sender. For the operator, at the start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The extra certificate authorities are not PEM, or none is among them.
    #[error("the extra certificate authorities can't be read: {0}")]
    Authorities(String),
    /// One of the extra authorities is no certificate of an authority.
    #[error("the extra certificate authorities can't be used")]
    Trust(#[source] rustls::Error),
    /// The user agent has characters that a header can't have.
    #[error("the user agent is not a valid header value")]
    UserAgent,
}
