//! Types of factors.

use crate::parameter::{Expected, Parameter};
use crate::problem::{Code, Problem};

/// The kind of proof that a factor provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorType {
    /// Answers signed with a key of the device.
    Push,
    /// One-time codes from a shared secret.
    Totp,
    /// WebAuthn credentials.
    Passkeys,
}

impl FactorType {
    /// Returns the name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Totp => "totp",
            Self::Passkeys => "passkeys",
        }
    }

    /// Returns the first byte of the SIDs of this type's factors and challenges (docs/protocol/authentication.md,
    /// section 5).
    pub const fn sid_byte(self) -> u8 {
        match self {
            Self::Totp => 0x02,
            Self::Push => 0x03,
            Self::Passkeys => 0x04,
        }
    }

    /// Returns the type if this server serves it.
    ///
    /// # Errors
    /// Returns 60369 for the types that Twilio has and this server does not serve.
    pub fn require_served(self) -> Result<Self, Problem> {
        match self {
            Self::Push => Ok(self),
            Self::Totp | Self::Passkeys => Err(Problem::with_advice(
                Code::FactorTypeNotServed,
                format_args!("this server does not serve {} factors; use push", self.as_str()),
            )),
        }
    }
}

impl Parameter for FactorType {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "push" => Ok(Self::Push),
            "totp" => Ok(Self::Totp),
            "passkeys" => Ok(Self::Passkeys),
            _ => Err(Expected::new("must be push")),
        }
    }
}
