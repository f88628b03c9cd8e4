//! The classes of callers that a route may accept, as values and as types.

use app::{AccountOwner, Backend, BackendOrDevice, BackendOrEnrollee, Caller};
use domain::{AccountSid, Problem};
use web::{BodyMemory, Requester};

/// The callers that a route accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Any caller, even without credentials.
    Anyone,
    /// A backend, authenticated as the account itself or with one of its API keys.
    Backend,
    /// A backend, authenticated as the account itself and not with an API key.
    AccountOwner,
    /// A backend, or an enrollee: a phone that authenticates with an access token.
    BackendOrEnrollee,
    /// A backend, or a device that accesses its own factor.
    BackendOrDevice,
}

/// A class of authenticated callers, as the type that a handler receives: [`Backend`], [`AccountOwner`],
/// [`BackendOrEnrollee`] or [`BackendOrDevice`]. Converting a caller outside the class fails with error code 20403.
pub trait CallerClass: TryFrom<Caller, Error = Problem> + 'static {
    /// Returns the SID of the account on whose behalf the caller acts.
    fn account_sid(&self) -> AccountSid;

    /// Checks that a request that names an account names the caller's own.
    ///
    /// # Errors
    /// Returns error code 20404 for any other account.
    fn require_account(&self, named: AccountSid) -> Result<(), Problem> {
        if named == self.account_sid() { Ok(()) } else { Err(Problem::not_found()) }
    }
}

impl CallerClass for Backend {
    fn account_sid(&self) -> AccountSid {
        Self::account_sid(*self)
    }
}

impl CallerClass for AccountOwner {
    fn account_sid(&self) -> AccountSid {
        Self::account_sid(*self)
    }
}

impl CallerClass for BackendOrEnrollee {
    fn account_sid(&self) -> AccountSid {
        self.account_sid()
    }
}

impl CallerClass for BackendOrDevice {
    fn account_sid(&self) -> AccountSid {
        self.account_sid()
    }
}

/// Returns the memory that large request bodies of `caller` may occupy.
pub(crate) const fn body_memory(caller: &Caller) -> BodyMemory {
    match caller {
        Caller::Account(_) | Caller::ApiKey { .. } => BodyMemory::Backends,
        Caller::Enrollee(_) | Caller::Device(_) => BodyMemory::Phones,
    }
}

/// Returns the sender of a request of `caller`, for the rate limits.
pub(crate) fn requester(caller: &Caller) -> Requester {
    match caller {
        Caller::Account(_) | Caller::ApiKey { .. } => Requester::Backend(caller.account_sid()),
        Caller::Enrollee(_) => Requester::Enrollee(caller.account_sid()),
        Caller::Device(factor) => Requester::Device(factor.account_sid, factor.sid),
    }
}
