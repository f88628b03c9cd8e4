//! Verifications: a user proves the ownership of a phone number or a mail address with a one-time code
//! (docs/protocol/verifications.md).
//!
//! ```text
//!             create ──▶ pending ──right code, or by the backend──▶ approved
//!                       ▲   │   ├── by the backend ─────────────▶ canceled
//!      next send ───────┘───┘   ├── fifth wrong code ──────────▶ max_attempts_reached
//!      (the same code)          └── end of the validity ───────▶ expired
//! ```
//!
//! A verification is *open* from its creation until it is approved, canceled or expired. A recipient has at most one
//! open verification in a service. One whose checks are used up stays open until the end of its validity, so that a new
//! one does not permit further guesses.

mod attempts;
mod code;
mod events;
mod message;
mod rules;

pub use attempts::{
    Attempt, AttemptReference, AttemptStatus, AttemptSummary, ChannelFilter, Conversion, DeliveryProgress,
    DeliveryReport, DestinationPrefix, reported_since,
};
pub use code::{CustomCode, OneTimeCode};
pub use events::VerificationEvent;
pub use message::{
    AppHash, ChannelConfiguration, MailOptions, MessageOptions, SendDigits, Substitutions, Tags,
};
pub use rules::{PrefixTraffic, VerificationRules};

use crate::parameter::{Bounded, Expected, Parameter};
use crate::problem::{Code, Problem};
use crate::recipients::{Channel, Recipient};
use crate::secret::Sealed;
use crate::sids::{AccountSid, ServiceSid, VerificationSid};
use crate::text::Text;
use crate::time::Timestamp;

/// How many seconds a verification is valid: two minutes to a day.
pub type Validity = Bounded<120, 86_400>;

/// Maximum number of messages with the code of one verification.
pub const MAX_SENDS: u32 = 5;

/// Maximum number of wrong checks of one verification.
pub const MAX_CHECKS: usize = 5;

/// Amount of a payment that a user confirms.
pub type Amount = Text<1, 64>;

/// Payee of a payment that a user confirms.
pub type Payee = Text<1, 128>;

/// A payment that a user confirms with a code, as strong customer authentication (PSD2) requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Amount of the payment.
    pub amount: Amount,
    /// Payee of the payment.
    pub payee: Payee,
}

/// A verification as it is stored.
#[derive(Clone, Debug)]
pub struct Verification {
    /// SID of the verification (`VE…`).
    pub sid: VerificationSid,
    /// Account that owns the verification.
    pub account_sid: AccountSid,
    /// Service to which the verification belongs.
    pub service_sid: ServiceSid,
    /// Recipient of the code, as the backend spelled it first.
    pub to: Recipient,
    /// Channel of the last attempt.
    pub channel: Channel,
    /// State that is stored. [`status`](Self::status) also considers the time.
    pub stored_status: Status,
    /// Code that the user must enter; `None` once the verification is closed.
    pub code: Option<Sealed<OneTimeCode>>,
    /// Whether the backend chose the code.
    pub is_custom: bool,
    /// Payment that the user confirms; `None` if there is none, or once the verification is closed.
    pub payment: Option<Payment>,
    /// Number of attempts to send the code.
    pub sends: u32,
    /// Times of the wrong checks, oldest first.
    pub wrong_checks: Vec<Timestamp>,
    /// End of the validity.
    pub expires_at: Timestamp,
    /// When the verification was closed; `None` while it is open.
    pub closed_at: Option<Timestamp>,
    /// Creation time of the verification.
    pub created_at: Timestamp,
    /// Time of the last change to the verification.
    pub updated_at: Timestamp,
}

/// The state of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The user has not entered the code yet.
    Pending,
    /// The user entered the right code, or the backend approved the verification.
    Approved,
    /// The backend canceled the verification.
    Canceled,
    /// Five checks were wrong.
    MaxAttemptsReached,
    /// The validity ended.
    Expired,
}

impl Status {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Approved, Self::Canceled, Self::MaxAttemptsReached, Self::Expired];

    /// Returns the state's name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Canceled => "canceled",
            Self::MaxAttemptsReached => "max_attempts_reached",
            Self::Expired => "expired",
        }
    }

    /// Returns the state for a word from the database, or `None` if the word is unknown.
    pub fn from_stored(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// How a backend ends a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// The user proved the ownership of the recipient by other means.
    Approved,
    /// The verification is no longer needed.
    Canceled,
}

impl Conclusion {
    /// Returns the state of a verification that ends this way.
    pub const fn status(self) -> Status {
        match self {
            Self::Approved => Status::Approved,
            Self::Canceled => Status::Canceled,
        }
    }
}

impl Parameter for Conclusion {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "approved" => Ok(Self::Approved),
            "canceled" => Ok(Self::Canceled),
            _ => Err(Expected::new("must be approved or canceled")),
        }
    }
}

impl Verification {
    /// Returns the state at `now`. Expiry is never stored in time, so it is derived from the clock.
    pub fn status(&self, now: Timestamp) -> Status {
        match self.stored_status {
            Status::Pending if self.is_expired(now) => Status::Expired,
            status => status,
        }
    }

    /// Returns whether the validity has ended at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// Returns whether no other verification of the recipient can be created at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.closed_at.is_none() && !self.is_expired(now)
    }

    /// Returns whether the user can still enter the code at `now`.
    pub fn is_pending(&self, now: Timestamp) -> bool {
        self.closed_at.is_none() && self.status(now) == Status::Pending
    }

    /// Checks that the code can be sent once more at `now`.
    ///
    /// # Errors
    /// Returns error code 60202 if the checks are used up, and 60203 after five attempts. Both say when the validity
    /// ends.
    pub fn require_send(&self, now: Timestamp) -> Result<(), Problem> {
        if self.stored_status == Status::MaxAttemptsReached {
            return Err(Problem::new(Code::TooManyChecks).retry_at(self.expires_at, now));
        }
        if self.sends >= MAX_SENDS {
            return Err(Problem::new(Code::TooManySends).retry_at(self.expires_at, now));
        }
        Ok(())
    }

    /// Checks that a code can be checked at `now`. Only an open verification can be found at all.
    ///
    /// # Errors
    /// Returns error code 20404 if the verification is closed or expired, and 60202 if the checks are used up.
    pub fn require_check(&self, now: Timestamp) -> Result<(), Problem> {
        if !self.is_open(now) {
            return Err(Problem::not_found());
        }
        if self.stored_status == Status::MaxAttemptsReached {
            return Err(Problem::new(Code::TooManyChecks).retry_at(self.expires_at, now));
        }
        Ok(())
    }

    /// Counts a wrong check at `now`. The fifth one uses the checks up.
    pub fn count_wrong_check(&mut self, now: Timestamp) {
        self.wrong_checks.push(now);
        self.updated_at = now;
        if self.wrong_checks.len() >= MAX_CHECKS {
            self.stored_status = Status::MaxAttemptsReached;
            self.code = None;
        }
    }

    /// Closes the verification at `now`, and forgets its code and its payment.
    pub fn close(&mut self, status: Status, now: Timestamp) {
        self.stored_status = status;
        self.code = None;
        self.payment = None;
        self.closed_at = Some(now);
        self.updated_at = now;
    }
}

/// How a check or an update names a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerificationTarget {
    /// By its SID.
    Sid(VerificationSid),
    /// By its recipient.
    Recipient(Recipient),
}

impl VerificationTarget {
    /// Parses the last segment of a path: a SID, a phone number or a mail address. Returns `None` for anything else.
    pub fn from_path(segment: &str) -> Option<Self> {
        if let Ok(sid) = segment.parse() {
            return Some(Self::Sid(sid));
        }
        Recipient::from_parameter(segment).ok().map(Self::Recipient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Returns a pending verification that was created at [`NOW`] and is valid for ten minutes.
    pub(super) fn verification() -> Verification {
        Verification {
            sid: "VE019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            account_sid: "AC019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            service_sid: "VA019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            to: Recipient::from_parameter("+4366412345678").unwrap(),
            channel: Channel::Sms,
            stored_status: Status::Pending,
            code: Some(Sealed::from_bytes(vec![1])),
            is_custom: false,
            payment: None,
            sends: 1,
            wrong_checks: Vec::new(),
            expires_at: NOW.plus_seconds(600),
            closed_at: None,
            created_at: NOW,
            updated_at: NOW,
        }
    }

    #[test]
    fn fifth_wrong_check_uses_the_checks_up_until_the_validity_ends() {
        let mut verification = verification();
        for number in 1..=5 {
            assert_eq!(verification.require_check(NOW), Ok(()), "{number}");
            verification.count_wrong_check(NOW);
        }
        assert_eq!(verification.status(NOW), Status::MaxAttemptsReached);
        assert!(verification.code.is_none() && verification.is_open(NOW));
        let refused = verification.require_check(NOW.plus_seconds(599)).unwrap_err();
        assert_eq!((refused.code(), refused.retry_after()), (Code::TooManyChecks, Some(1)));
        assert_eq!(verification.require_send(NOW).unwrap_err().code(), Code::TooManyChecks);
        let late = verification.require_check(NOW.plus_seconds(600)).unwrap_err();
        assert_eq!(late.code(), Code::NotFound);
        assert!(!verification.is_open(NOW.plus_seconds(600)));
    }

    #[test]
    fn sixth_send_is_refused_until_the_validity_ends() {
        let mut verification = verification();
        verification.sends = 4;
        assert_eq!(verification.require_send(NOW), Ok(()));
        verification.sends = 5;
        let refused = verification.require_send(NOW).unwrap_err();
        assert_eq!((refused.code(), refused.retry_after()), (Code::TooManySends, Some(600)));
    }

    #[test]
    fn verification_expires_at_the_end_of_its_validity() {
        let verification = verification();
        let end = verification.expires_at;
        assert_eq!(verification.status(Timestamp::from_micros(end.micros() - 1)), Status::Pending);
        assert_eq!(verification.status(end), Status::Expired);
        assert_eq!(verification.require_check(end).unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn closed_verification_has_neither_code_nor_payment() {
        let mut verification = verification();
        let text = |text: &str| Text::from_stored(text.to_owned());
        verification.payment =
            Some(Payment { amount: Text::from_stored("€9".to_owned()), payee: text("Shop") });
        verification.close(Status::Approved, NOW);
        assert!(verification.code.is_none() && verification.payment.is_none());
        assert_eq!((verification.status(NOW), verification.is_open(NOW)), (Status::Approved, false));
        assert_eq!(verification.require_check(NOW).unwrap_err().code(), Code::NotFound);
    }

    #[test]
    fn path_names_a_verification_by_sid_number_or_address() {
        let sid = "VE019b76daa8007b6f0d0a5c3e91d2f4a8";
        assert_eq!(VerificationTarget::from_path(sid), Some(VerificationTarget::Sid(sid.parse().unwrap())));
        for recipient in ["+4366412345678", "ann@example.com"] {
            let expected = VerificationTarget::Recipient(Recipient::from_parameter(recipient).unwrap());
            assert_eq!(VerificationTarget::from_path(recipient), Some(expected));
        }
        for bad in ["", "VE1", "4366412345678", "ann"] {
            assert_eq!(VerificationTarget::from_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn states_have_the_names_used_by_the_api() {
        for status in Status::ALL {
            assert_eq!(Status::from_stored(status.as_str()), Some(status));
        }
        assert_eq!(Conclusion::from_parameter("canceled").map(Conclusion::status), Ok(Status::Canceled));
        assert_eq!(Conclusion::from_parameter("approved").map(Conclusion::status), Ok(Status::Approved));
        assert!(Conclusion::from_parameter("expired").is_err());
    }
}
