//! String identifiers (SIDs): two capital letters and 32 hexadecimal digits (docs/protocol/authentication.md, section
//! 5).
//!
//! The digits of a SID encode 16 bytes: first the creation time in milliseconds in six bytes, then random bytes. SIDs
//! therefore sort by creation time, and database inserts stay local. SIDs of factors and challenges start with a byte
//! for the factor type (`YF03…` is a push factor), followed by the time.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::entropy::Entropy;
use crate::factor_type::FactorType;
use crate::time::Timestamp;

/// The SID of one kind of resource.
pub trait Sid: Copy + fmt::Display + FromStr<Err = ParseSidError> {
    /// The two capital letters at the start of the SID.
    const PREFIX: &'static str;

    /// Returns the 16 bytes that the digits after the prefix encode.
    fn to_bytes(self) -> [u8; 16];

    /// Creates the SID with these 16 bytes.
    fn from_bytes(bytes: [u8; 16]) -> Self;
}

/// The error for a text that is not a SID of the requested kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseSidError;

impl fmt::Display for ParseSidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected two capital letters and 32 hexadecimal digits")
    }
}

impl std::error::Error for ParseSidError {}

/// Returns the bytes of a new SID: 48 bits of the time `now` in milliseconds, then 80 random bits.
fn time_ordered(now: Timestamp, entropy: &dyn Entropy) -> [u8; 16] {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes[6..]);
    bytes[..6].copy_from_slice(&milliseconds(now));
    bytes
}

/// Returns the bytes of a new SID of a factor or challenge: the byte of the factor type, 48 bits of the time `now` in
/// milliseconds, then 72 random bits.
fn typed(factor_type: FactorType, now: Timestamp, entropy: &dyn Entropy) -> [u8; 16] {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes[7..]);
    bytes[0] = factor_type.sid_byte();
    bytes[1..7].copy_from_slice(&milliseconds(now));
    bytes
}

fn milliseconds(now: Timestamp) -> [u8; 6] {
    let [.., a, b, c, d, e, f] = now.micros().div_euclid(1000).to_be_bytes();
    [a, b, c, d, e, f]
}

fn parse(prefix: &str, text: &str) -> Result<[u8; 16], ParseSidError> {
    let digits = text.strip_prefix(prefix).ok_or(ParseSidError)?;
    let mut bytes = [0; 16];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseSidError)?;
    Ok(bytes)
}

macro_rules! sids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal $kind:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name([u8; 16]);

            sids!(@generate $kind $name);

            impl Sid for $name {
                const PREFIX: &'static str = $prefix;

                fn to_bytes(self) -> [u8; 16] {
                    self.0
                }

                fn from_bytes(bytes: [u8; 16]) -> Self {
                    Self(bytes)
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "{}{:032x}", $prefix, u128::from_be_bytes(self.0))
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Display::fmt(self, f)
                }
            }

            impl FromStr for $name {
                type Err = ParseSidError;

                fn from_str(text: &str) -> Result<Self, ParseSidError> {
                    parse($prefix, text).map(Self)
                }
            }

            impl crate::parameter::Parameter for $name {
                fn from_parameter(text: &str) -> Result<Self, crate::parameter::Expected> {
                    text.parse().map_err(|_| crate::parameter::Expected::new(concat!(
                        "must be ", $prefix, " followed by 32 hexadecimal digits"
                    )))
                }
            }

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                }
            }
        )*

        #[cfg(test)]
        const PREFIXES: &[&str] = &[$($prefix),*];
    };
    (@generate timed $name:ident) => {
        impl $name {
            /// Generates a random SID with the creation time `now`.
            pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
                Self(time_ordered(now, entropy))
            }
        }
    };
    (@generate typed $name:ident) => {
        impl $name {
            /// Generates a random SID for this factor type, with the creation time `now`.
            pub fn generate(factor_type: FactorType, now: Timestamp, entropy: &dyn Entropy) -> Self {
                Self(typed(factor_type, now, entropy))
            }

            /// Returns the factor type for which the SID was generated, or `None` if it was not generated by this
            /// server.
            pub fn factor_type(self) -> Option<FactorType> {
                FactorType::from_sid_byte(self.0[0])
            }
        }
    };
}

sids! {
    /// SID of an account.
    AccountSid "AC" timed;
    /// SID of an API key.
    ApiKeySid "SK" timed;
    /// SID of a Verify service.
    ServiceSid "VA" timed;
    /// SID of an entity, a user of a service.
    EntitySid "YE" timed;
    /// SID of a factor.
    FactorSid "YF" typed;
    /// SID of a challenge.
    ChallengeSid "YC" typed;
    /// SID of an access token.
    AccessTokenSid "YK" timed;
    /// SID of a push credential. It is also used as the `kid` of a factor's device tokens.
    CredentialSid "CR" timed;
    /// SID of a webhook.
    WebhookSid "YW" timed;
    /// SID of a notification, an additional push about a challenge.
    NotificationSid "NT" timed;
    /// SID of an alert.
    AlertSid "NO" timed;
    /// SID of an audit record.
    EventSid "AE" timed;
    /// SID of a message template.
    TemplateSid "HJ" timed;
    /// SID of a messaging service: an outlet for text messages and calls.
    MessagingServiceSid "MG" timed;
    /// SID of a mailer: an outlet for mail.
    MailerSid "MD" timed;
    /// SID of a verification, whose user proves the ownership of a phone number or a mail address by a one-time code.
    VerificationSid "VE" timed;
    /// SID of an attempt to deliver the code of a verification.
    AttemptSid "VL" timed;
    /// SID of a rate limit on verifications.
    RateLimitSid "RK" timed;
    /// SID of a bucket of a rate limit.
    BucketSid "BL" timed;
    /// Internal SID of a messaging configuration, which the API names by its country. No response contains it.
    MessagingConfigurationSid "MC" timed;
    /// SID of a phone number on the safe list.
    SafeNumberSid "GN" timed;
    /// SID of a request. It appears in the header `Twilio-Request-Id` and in the log.
    RequestSid "RQ" timed;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Ones;

    impl Entropy for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }

    #[test]
    fn sid_prefixes_are_unique() {
        let mut seen = PREFIXES.to_vec();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), PREFIXES.len());
    }

    #[test]
    fn factor_and_challenge_sids_start_with_the_factor_type() {
        let now = Timestamp::from_seconds(1_767_225_600);
        assert_eq!(
            FactorSid::generate(FactorType::Push, now, &Ones).to_string(),
            "YF03019b76daa800ffffffffffffffffff"
        );
        assert!(ChallengeSid::generate(FactorType::Totp, now, &Ones).to_string().starts_with("YC02"));
        assert!(ServiceSid::generate(now, &Ones).to_string().starts_with("VA019b76daa800"));
        assert_eq!(
            FactorSid::generate(FactorType::Passkeys, now, &Ones).factor_type(),
            Some(FactorType::Passkeys)
        );
        assert_eq!(ChallengeSid::from_bytes([0xff; 16]).factor_type(), None);
    }

    #[test]
    fn text_that_is_not_a_sid_is_refused() {
        for bad in [
            "",
            "VA",
            "VA0123",
            "AC00000000000000000000000000000000",
            "va00000000000000000000000000000000",
            "VA0000000000000000000000000000000g",
            "VA000000000000000000000000000000000",
            "VAäääääääääääääääää",
            "VA+0000000000000000000000000000000",
        ] {
            assert_eq!(bad.parse::<ServiceSid>(), Err(ParseSidError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn formatted_sid_parses_back_to_the_same_sid(bytes: [u8; 16]) {
            let sid = ServiceSid::from_bytes(bytes);
            prop_assert_eq!(sid.to_string().parse::<ServiceSid>(), Ok(sid));
            prop_assert_eq!(sid.to_string().len(), 34);
        }

        #[test]
        fn parsing_a_sid_never_panics(text in ".*") {
            let _ = text.parse::<FactorSid>();
        }

        #[test]
        fn later_sids_sort_later(a in 0_i64..4_000_000_000, b in 0_i64..4_000_000_000) {
            let (early, late) = (a.min(b), a.max(b) + 1);
            let sid = |seconds| ServiceSid::generate(Timestamp::from_seconds(seconds), &Ones);
            prop_assert!(sid(early) < sid(late));
            prop_assert!(sid(early).to_string() < sid(late).to_string());
        }
    }
}
