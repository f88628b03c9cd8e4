//! The classes of callers that a route may have, as values and as types.

use app::{Backend, BackendOrDevice, BackendOrEnrollee, Caller};
use domain::{AccountSid, Problem};

/// The callers that a route accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Everyone, without credentials.
    Anyone,
    /// A backend: the account or one of its API keys.
    Backend,
    /// A backend, or a phone with an access token.
    BackendOrEnrollee,
    /// A backend, or a device for its own factor.
    BackendOrDevice,
}

/// A class of authenticated callers, as the type that a handler gets: [`Backend`], [`BackendOrEnrollee`] or
/// [`BackendOrDevice`]. The conversion fails with 20403 for a caller outside the class.
pub trait CallerClass: TryFrom<Caller, Error = Problem> + 'static {
    /// Returns the account that the caller acts for.
    fn account_sid(&self) -> AccountSid;
}

impl CallerClass for Backend {
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
