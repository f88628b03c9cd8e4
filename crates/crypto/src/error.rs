//! Errors that are not the caller's.

/// The reason why a sealed value could not be opened or an access token not be issued. Its text contains no secret and
/// may be logged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The value names another master key as the one that sealed it.
    #[error("sealed under master key {sealed_under}, but this server has {ours}; use the key that sealed it")]
    OtherMasterKey {
        /// ID of the master key that sealed the value.
        sealed_under: String,
        /// ID of the master key that tried to open it.
        ours: String,
    },
    /// The bytes were not sealed for this purpose and owner, or a later version of this server sealed them.
    #[error("the sealed value was altered, or belongs to another owner")]
    Altered,
    /// An access token could not be issued.
    #[error("could not issue the access token")]
    Issue(#[source] Box<dyn std::error::Error + Send + Sync>),
}
