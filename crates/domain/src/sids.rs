//! The registry of string identifiers: two capital letters and 32 hexadecimal digits
//! (docs/protocol/authentication.md, section 5).
//!
//! Inside, a SID is sixteen bytes: six of the creation time in milliseconds, then random ones, so
//! that SIDs sort by creation and inserts stay local. SIDs of factors and challenges carry the
//! factor type in their first two digits (`YF03…` is a push factor), then the time.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::entropy::Entropy;
use crate::factors::FactorType;
use crate::time::Timestamp;

/// What all identifiers have in common.
pub trait Sid: Copy + fmt::Display + FromStr<Err = NotASid> {
    /// The two letters in front.
    const PREFIX: &'static str;

    /// The sixteen bytes behind the prefix.
    fn to_bytes(self) -> [u8; 16];

    /// The identifier with these sixteen bytes.
    fn from_bytes(bytes: [u8; 16]) -> Self;
}

/// A text that is not the SID that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotASid;

impl fmt::Display for NotASid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected two capital letters and 32 hexadecimal digits")
    }
}

impl std::error::Error for NotASid {}

/// Time first, then randomness: 48 bits of milliseconds and 80 random ones.
fn time_ordered(now: Timestamp, entropy: &dyn Entropy) -> [u8; 16] {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes[6..]);
    bytes[..6].copy_from_slice(&milliseconds(now));
    bytes
}

/// The type's digits, then time, then 72 random bits.
fn typed(factor_type: FactorType, now: Timestamp, entropy: &dyn Entropy) -> [u8; 16] {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes[7..]);
    bytes[0] = factor_type.digits();
    bytes[1..7].copy_from_slice(&milliseconds(now));
    bytes
}

fn milliseconds(now: Timestamp) -> [u8; 6] {
    let [.., a, b, c, d, e, f] = now.micros().div_euclid(1000).to_be_bytes();
    [a, b, c, d, e, f]
}

fn parse(prefix: &str, text: &str) -> Result<[u8; 16], NotASid> {
    let digits = text.strip_prefix(prefix).filter(|digits| digits.len() == 32).ok_or(NotASid)?;
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16).ok_or(NotASid);
        *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
    }
    Ok(bytes)
}

macro_rules! registry {
    ($($(#[$doc:meta])* $name:ident $prefix:literal $kind:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name([u8; 16]);

            registry!(@generate $kind $name);

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
                    f.write_str($prefix)?;
                    self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Display::fmt(self, f)
                }
            }

            impl FromStr for $name {
                type Err = NotASid;

                fn from_str(text: &str) -> Result<Self, NotASid> {
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
            /// A new identifier, made at `now`.
            pub fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
                Self(time_ordered(now, entropy))
            }
        }
    };
    (@generate typed $name:ident) => {
        impl $name {
            /// A new identifier of this factor type, made at `now`.
            pub fn generate(factor_type: FactorType, now: Timestamp, entropy: &dyn Entropy) -> Self {
                Self(typed(factor_type, now, entropy))
            }
        }
    };
}

registry! {
    /// An account: who pays, who signs in with an auth token.
    AccountSid "AC" timed;
    /// An API key of an account.
    ApiKeySid "SK" timed;
    /// A Verify service.
    ServiceSid "VA" timed;
    /// An entity: one user within a service.
    EntitySid "YE" timed;
    /// A factor: one registered device.
    FactorSid "YF" typed;
    /// A challenge: one question to one factor.
    ChallengeSid "YC" typed;
    /// An access token: the permission to enroll one factor.
    AccessTokenSid "YK" timed;
    /// A push credential; also the `kid` of a factor's device tokens.
    CredentialSid "CR" timed;
    /// A webhook.
    WebhookSid "YW" timed;
    /// A notification: a push that was asked for once more.
    NotificationSid "NT" timed;
    /// An alert: a debugger event.
    AlertSid "NO" timed;
    /// An event: a line of the audit log.
    EventSid "AE" timed;
    /// A verification template, stored and echoed only.
    TemplateSid "HJ" timed;
    /// A messaging service, stored and echoed only.
    MessagingServiceSid "MG" timed;
    /// One request, as told to the caller in `Twilio-Request-Id` and to the log.
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
    fn prefixes_are_unique() {
        let mut seen = PREFIXES.to_vec();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), PREFIXES.len());
    }

    #[test]
    fn factor_and_challenge_sids_begin_with_the_type() {
        let now = Timestamp::from_seconds(1_767_225_600);
        assert_eq!(
            FactorSid::generate(FactorType::Push, now, &Ones).to_string(),
            "YF03019b76daa800ffffffffffffffffff"
        );
        assert!(ChallengeSid::generate(FactorType::Totp, now, &Ones).to_string().starts_with("YC02"));
        assert!(ServiceSid::generate(now, &Ones).to_string().starts_with("VA019b76daa800"));
    }

    #[test]
    fn refuses_what_is_not_a_sid() {
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
            assert_eq!(bad.parse::<ServiceSid>(), Err(NotASid), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_and_bytes_agree(bytes: [u8; 16]) {
            let sid = ServiceSid::from_bytes(bytes);
            prop_assert_eq!(sid.to_string().parse::<ServiceSid>(), Ok(sid));
            prop_assert_eq!(sid.to_string().len(), 34);
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
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
