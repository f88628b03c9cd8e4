//! The types of factors.

use crate::parameter::{Expected, Parameter};
use crate::problem::{Code, Problem};

/// The type of a factor: the kind of proof that it provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorType {
    /// Answers that are signed with a private key on the device.
    Push,
    /// One-time codes that are derived from a shared secret.
    Totp,
    /// WebAuthn credentials.
    Passkeys,
}

impl FactorType {
    /// Returns the type's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Totp => "totp",
            Self::Passkeys => "passkeys",
        }
    }

    /// Returns the first byte of the SIDs of factors and challenges of this type (docs/protocol/authentication.md,
    /// section 5).
    pub const fn sid_byte(self) -> u8 {
        match self {
            Self::Totp => 0x02,
            Self::Push => 0x03,
            Self::Passkeys => 0x04,
        }
    }

    /// Returns this type if the server supports it.
    ///
    /// # Errors
    /// Returns error 60369 for types that Twilio supports and this server does not.
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
