//! Errors in opening sealed values and in issuing access tokens.

/// The reason why a sealed value could not be opened or an access token could not be issued. The text of the error
/// contains no secret and may be logged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The value was sealed under a different master key.
    #[error(
        "value is sealed under master key {sealed_under}, but this server has {ours}; use the key that sealed it"
    )]
    OtherMasterKey {
        /// ID of the master key that sealed the value.
        sealed_under: String,
        /// ID of the master key with which this server tried to open the value.
        ours: String,
    },
    /// The value was altered, was sealed for another purpose or owner, or was sealed by a later version of this server.
    #[error("the sealed value was altered, or belongs to another owner")]
    Altered,
    /// An access token could not be issued.
    #[error("could not issue the access token")]
    Issue(#[source] Box<dyn std::error::Error + Send + Sync>),
}
