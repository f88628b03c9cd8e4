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

    /// Returns the type whose SIDs begin with this byte, or `None` if there is none.
    pub fn from_sid_byte(byte: u8) -> Option<Self> {
        [Self::Push, Self::Totp, Self::Passkeys]
            .into_iter()
            .find(|factor_type| factor_type.sid_byte() == byte)
    }

    /// Returns the maximum number of factors of this type per entity, verified or not (docs/protocol/decisions.md,
    /// No. 7).
    pub const fn max_per_entity(self) -> i64 {
        match self {
            Self::Push => 20,
            Self::Totp | Self::Passkeys => 100,
        }
    }

    /// Returns error 60315, which refuses a new factor of an entity that has as many factors of this type as it may
    /// have.
    pub fn too_many(self) -> Problem {
        let (most, name) = (self.max_per_entity(), self.as_str());
        let message = format!("Reached max limit of {most} {name} Factors associated per Entity");
        Problem::with_message(Code::TooManyFactors, message)
    }

    /// Returns this type if phones enroll factors of it with access tokens, as they do only for push.
    ///
    /// # Errors
    /// Returns error 60369 for the other types.
    pub fn require_access_tokens(self) -> Result<Self, Problem> {
        let advice = "access tokens enroll only push factors";
        match self {
            Self::Push => Ok(self),
            Self::Totp | Self::Passkeys => Err(Problem::with_advice(Code::FactorTypeNotServed, advice)),
        }
    }

    /// Returns error 60369, which refuses a request for a factor of this type.
    pub fn not_served(self) -> Problem {
        let advice = match self {
            Self::Passkeys => "passkeys have their own routes, /v2/Services/{ServiceSid}/Passkeys".to_owned(),
            Self::Push | Self::Totp => format!("this route does not serve {} factors", self.as_str()),
        };
        Problem::with_advice(Code::FactorTypeNotServed, advice)
    }
}

/// A kind of factor or challenge, which determines its factor type.
pub trait HasFactorType {
    /// Returns the factor type.
    fn factor_type(&self) -> FactorType;
}

impl HasFactorType for FactorType {
    fn factor_type(&self) -> FactorType {
        *self
    }
}

impl Parameter for FactorType {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "push" => Ok(Self::Push),
            "totp" => Ok(Self::Totp),
            "passkeys" => Ok(Self::Passkeys),
            _ => Err(Expected::new("must be push, totp or passkeys")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factor_types_have_the_names_and_sid_bytes_of_the_api() {
        let types = [
            ("push", 3, FactorType::Push),
            ("totp", 2, FactorType::Totp),
            ("passkeys", 4, FactorType::Passkeys),
        ];
        for (word, byte, factor_type) in types {
            assert_eq!((factor_type.as_str(), FactorType::from_parameter(word)), (word, Ok(factor_type)));
            assert_eq!(factor_type.sid_byte(), byte);
            assert_eq!(FactorType::from_sid_byte(byte), Some(factor_type));
        }
        assert!(FactorType::from_parameter("sms").is_err());
        assert_eq!(FactorType::from_sid_byte(1), None);
    }

    #[test]
    fn entity_can_have_20_push_factors_and_100_of_each_other_type() {
        let limits =
            [FactorType::Push, FactorType::Totp, FactorType::Passkeys].map(FactorType::max_per_entity);
        assert_eq!(limits, [20, 100, 100]);
        assert_eq!(FactorType::Push.too_many(), Problem::new(Code::TooManyFactors));
        let message = "Reached max limit of 100 totp Factors associated per Entity";
        assert_eq!(FactorType::Totp.too_many().message(), message);
    }

    #[test]
    fn only_push_factors_are_enrolled_with_access_tokens() {
        assert_eq!(FactorType::Push.require_access_tokens(), Ok(FactorType::Push));
        for factor_type in [FactorType::Totp, FactorType::Passkeys] {
            let problem = factor_type.require_access_tokens().unwrap_err();
            assert_eq!(problem.code(), Code::FactorTypeNotServed);
        }
    }
}
