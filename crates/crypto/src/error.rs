//! What can go wrong that is not the fault of whoever called over the network.

/// Why a secret could not be opened, or a token not be made. For the operator's log: it names no
/// secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The value is whole, as far as one can see, but another master key sealed it.
    #[error("sealed under master key {sealed_under}, but this server has {ours}")]
    OtherMasterKey {
        /// [`MasterKey::id`](crate::MasterKey::id) of the key that sealed the value.
        sealed_under: String,
        /// The same of the key that tried to open it.
        ours: String,
    },
    /// The bytes are not the ones that were sealed for this purpose and this owner, or a later
    /// version of this server sealed them.
    #[error("the sealed value was altered, or belongs to another owner")]
    Altered,
    /// An enrollment token could not be made.
    #[error("the enrollment token could not be made")]
    Issue(#[source] Box<dyn std::error::Error + Send + Sync>),
}
