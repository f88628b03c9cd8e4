//! The errors of use cases: problems that the caller can fix, and faults of the server.

use crypto::passkeys::Rejection;
use domain::audit::ChainPosition;
use domain::{Code, Problem};
use store::Conflict;

/// The reason a use case failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A problem with the request, which the caller can fix.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// A fault of the server, which the caller cannot fix.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A fault of the server, which the caller cannot fix. Its cause is logged and never sent to the caller.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// The database is unreachable or overloaded, or has an outdated schema. A retry may succeed.
    #[error("the database is unavailable")]
    Unavailable(#[source] store::Error),
    /// The database failed for a reason other than [`Self::Unavailable`], for example due to a bug or a corrupt file.
    #[error("the database failed")]
    Store(#[source] store::Error),
    /// A stored key or secret cannot be used, for example because it was sealed under another master key or its row was
    /// altered.
    #[error("a stored key or secret cannot be used")]
    Crypto(#[source] std::sync::Arc<crypto::Error>),
    /// The stored audit chain was altered outside of the server.
    #[error("the audit chain was altered; run `countersign audit verify`")]
    BrokenChain,
    /// The stored audit chain was rolled back or rewritten: it does not continue from the head that this process has
    /// seen.
    #[error(
        "the audit log was rolled back or rewritten: it ends with record {end}, but previously ended with {seen}; run \
         `countersign audit verify --checkpoint {seen}`"
    )]
    RolledBackChain {
        /// The newest chain head that this process has seen.
        seen: ChainPosition,
        /// The number of the last record that is stored now.
        end: i64,
    },
    /// The checkpoint file cannot be used; the text says why.
    #[error("{0}")]
    CheckpointFile(String),
}

impl Fault {
    /// Returns whether the cause has been logged already. An unreachable database is logged once for all requests that
    /// it affects.
    pub const fn is_logged(&self) -> bool {
        matches!(self, Self::Unavailable(store::Error::Unreachable { .. }))
    }
}

impl Error {
    /// Creates the error 20404: the requested resource does not exist, or the caller may not access it.
    pub(crate) const fn not_found() -> Self {
        Self::Problem(Problem::not_found())
    }

    /// Formats the error and its chain of causes for the log.
    pub(crate) fn report(&self) -> String {
        domain::error_report(self)
    }

    /// Creates the error 20003: the credentials are missing or wrong.
    pub(crate) const fn unauthenticated() -> Self {
        Self::Problem(Problem::new(Code::Unauthenticated))
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::Problem(code.into())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Conflict(Conflict::FactorKey | Conflict::PasskeyCredential) => {
                Code::FactorExists.into()
            }
            store::Error::Conflict(Conflict::RateLimitName) => Code::RateLimitExists.into(),
            store::Error::Conflict(Conflict::BucketInterval) => Code::BucketExists.into(),
            store::Error::Conflict(Conflict::MessagingCountry) => Code::MessagingConfigurationExists.into(),
            store::Error::Conflict(Conflict::SafeNumber) => Code::SafeNumberExists.into(),
            store::Error::ParentGone => Self::not_found(),
            // An old schema counts as unavailable, because requests succeed once it is migrated.
            store::Error::Unavailable(_)
            | store::Error::Unreachable { .. }
            | store::Error::OutcomeUnknown(_)
            | store::Error::OldSchema(_) => Fault::Unavailable(error).into(),
            _ => Fault::Store(error).into(),
        }
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Problem(Problem::with_advice(rejection_code(rejection), rejection))
    }
}

/// Returns the error code for a response of an authenticator that is rejected.
const fn rejection_code(rejection: Rejection) -> Code {
    match rejection {
        Rejection::Response | Rejection::Type | Rejection::MissingUserHandle | Rejection::UserHandle => {
            Code::InvalidAuthenticatorResponse
        }
        Rejection::Id => Code::InvalidCredentialId,
        Rejection::RawId => Code::InvalidRawId,
        Rejection::Attachment => Code::InvalidAttachment,
        Rejection::ClientData
        | Rejection::Ceremony
        | Rejection::Challenge
        | Rejection::Origin
        | Rejection::CrossOrigin
        | Rejection::TopOrigin => Code::InvalidClientData,
        Rejection::AttestationObject => Code::InvalidAttestation,
        Rejection::AuthenticatorData
        | Rejection::UserPresence
        | Rejection::UserVerification
        | Rejection::BackupState
        | Rejection::BackupEligibility
        | Rejection::Counter => Code::InvalidAuthenticatorData,
        Rejection::RelyingParty => Code::OtherRelyingParty,
        Rejection::AttestedCredential | Rejection::CredentialIdLength => Code::InvalidAttestedCredential,
        Rejection::Algorithm | Rejection::PublicKey | Rejection::TrailingData => Code::InvalidPublicKey,
        Rejection::Signature => Code::InvalidPasskeySignature,
    }
}

impl From<crypto::Error> for Error {
    fn from(error: crypto::Error) -> Self {
        Fault::Crypto(error.into()).into()
    }
}
