//! How a use case ends when it does not succeed: the caller's problem, or our fault.

use domain::audit::Mark;
use domain::{Code, Problem};
use store::Conflict;

/// Why a use case did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The caller can mend it.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The caller can't.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Something broke on our side. The cause is for the log, never for the caller.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// The database is out of reach or overloaded: trying again may help.
    #[error("unavailable")]
    Unavailable(#[source] store::Error),
    /// A bug, a broken file.
    #[error("the database failed")]
    Store(#[source] store::Error),
    /// A secret can't be opened: the wrong master key, or an altered row.
    #[error("a key or a sealed secret is not usable")]
    Crypto(#[source] std::sync::Arc<crypto::Error>),
    /// Somebody altered the audit log's chain, or what is remembered of it.
    #[error("the chain of the audit log was changed; see `countersign audit verify`")]
    BrokenChain,
    /// The audit log's chain does not go on from the end that this process has seen.
    #[error(
        "the audit log was put back or rewritten: it ends with line {end}, and {seen} was its end before; see \
         `countersign audit verify --since {seen}`"
    )]
    RewoundChain {
        /// The end that was seen.
        seen: Mark,
        /// The number of the last line now.
        end: i64,
    },
    /// The file of checkpoints can't be used.
    #[error("{0}")]
    CheckpointFile(String),
}

impl Fault {
    /// Whether the log has the cause already, once for all requests that it concerns.
    pub const fn is_logged(&self) -> bool {
        matches!(self, Self::Unavailable(store::Error::Unreachable { .. }))
    }
}

impl Error {
    /// The request names nothing that the caller may see.
    pub(crate) const fn not_found() -> Self {
        Self::Problem(Problem::not_found())
    }

    /// The error and its causes, for the log.
    pub(crate) fn chain(&self) -> String {
        domain::causes(self)
    }

    /// No credentials, or bad ones.
    pub(crate) const fn unauthenticated() -> Self {
        Self::Problem(Problem::new(Code::Authenticate))
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
            // An old schema too: somebody migrates it, and then it is there.
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
