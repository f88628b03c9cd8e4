//! The failures of use cases: problems that a caller can fix, and faults of the server.

use domain::audit::ChainPosition;
use domain::{Code, Problem};
use store::Conflict;

/// The reason why a use case failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A problem that the caller can fix.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// A fault of the server, which the caller cannot fix.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A fault of the server. Its causes are logged and never sent to a caller.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// The database is unreachable or overloaded: a retry may succeed.
    #[error("the database is unavailable")]
    Unavailable(#[source] store::Error),
    /// Another failure of the database, such as a bug or a broken file.
    #[error("the database failed")]
    Store(#[source] store::Error),
    /// A secret that cannot be opened: the master key is a different one, or the row was altered.
    #[error("a key or a sealed secret is unusable")]
    Crypto(#[source] std::sync::Arc<crypto::Error>),
    /// The stored audit chain was altered.
    #[error("the audit chain was altered; run `countersign audit verify`")]
    BrokenChain,
    /// The stored audit chain does not continue from the end that this process has seen.
    #[error(
        "the audit log was rolled back or rewritten: it ends with record {end}, but ended with {seen} before; run \
         `countersign audit verify --checkpoint {seen}`"
    )]
    RolledBackChain {
        /// The end that this process has seen.
        seen: ChainPosition,
        /// The number of the last record now.
        end: i64,
    },
    /// The checkpoint file cannot be used.
    #[error("{0}")]
    CheckpointFile(String),
}

impl Fault {
    /// Returns whether the cause is logged already, once for all requests that it affects.
    pub const fn is_logged(&self) -> bool {
        matches!(self, Self::Unavailable(store::Error::Unreachable { .. }))
    }
}

impl Error {
    /// Creates the problem of a request for a resource that does not exist for the caller.
    pub(crate) const fn not_found() -> Self {
        Self::Problem(Problem::not_found())
    }

    /// Formats the error and its causes for the log.
    pub(crate) fn report(&self) -> String {
        domain::error_report(self)
    }

    /// Creates the problem of a request with missing or wrong credentials.
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
            store::Error::Conflict(Conflict::FactorKey) => Code::FactorExists.into(),
            store::Error::ParentGone => Self::not_found(),
            // An old schema counts as unavailable: requests succeed once it is migrated.
            store::Error::Unavailable(_)
            | store::Error::Unreachable { .. }
            | store::Error::OutcomeUnknown(_)
            | store::Error::OldSchema(_) => Fault::Unavailable(error).into(),
            _ => Fault::Store(error).into(),
        }
    }
}

impl From<crypto::Error> for Error {
    fn from(error: crypto::Error) -> Self {
        Fault::Crypto(error.into()).into()
    }
}
