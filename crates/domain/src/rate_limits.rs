//! Rate limits on verifications: how many may be created for a value that the backend names, such as the address of a
//! user (docs/protocol/verifications.md).
//!
//! A rate limit has buckets, each with an interval of its own. A verification whose parameter `RateLimits` names the
//! rate limit counts in all of them, separately for each value.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use serde_json::{Map, Number, Value};

use crate::limits::Window;
use crate::paging::{Listed, Position, position};
use crate::parameter::{Bounded, Expected, Parameter};
use crate::problem::{Code, Problem};
use crate::sids::{AccountSid, BucketSid, RateLimitSid, ServiceSid};
use crate::text::{Text, UniqueName};
use crate::time::Timestamp;

/// Maximum number of rate limits of a service.
pub const MAX_RATE_LIMITS: i64 = 20;

/// Maximum number of buckets of a rate limit.
pub const MAX_BUCKETS: i64 = 10;

/// Description of a rate limit.
pub type Description = Text<1, 256>;

/// Length of the interval of a bucket, in seconds: at most a day.
pub type Interval = Bounded<1, 86_400>;

/// A rate limit of a service, as it is stored.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// SID of the rate limit (`RK…`).
    pub sid: RateLimitSid,
    /// Account that owns the rate limit.
    pub account_sid: AccountSid,
    /// Service whose verifications are limited.
    pub service_sid: ServiceSid,
    /// Name of the rate limit, unique in the service.
    pub unique_name: UniqueName,
    /// Description of the rate limit; `None` if it has none.
    pub description: Option<Description>,
    /// Creation time of the rate limit.
    pub created_at: Timestamp,
    /// Time of the last change to the rate limit.
    pub updated_at: Timestamp,
}

impl Listed for RateLimit {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

/// Checks that a service with `rate_limits` existing rate limits may add one more.
///
/// # Errors
/// Returns error code 60207 if the service already has [`MAX_RATE_LIMITS`] rate limits.
pub fn require_rate_limit_capacity(rate_limits: i64) -> Result<(), Problem> {
    require_capacity(rate_limits, MAX_RATE_LIMITS, Code::TooManyRateLimits)
}

/// Checks that a rate limit with `buckets` existing buckets may add one more.
///
/// # Errors
/// Returns error code 60210 if the rate limit already has [`MAX_BUCKETS`] buckets.
pub fn require_bucket_capacity(buckets: i64) -> Result<(), Problem> {
    require_capacity(buckets, MAX_BUCKETS, Code::TooManyBuckets)
}

fn require_capacity(count: i64, most: i64, code: Code) -> Result<(), Problem> {
    if count < most { Ok(()) } else { Err(Problem::with_advice(code, format_args!("at most {most}"))) }
}

/// How a path names a rate limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateLimitKey {
    /// By its SID.
    Sid(RateLimitSid),
    /// By its unique name.
    Name(UniqueName),
}

impl RateLimitKey {
    /// Parses a segment of a path: a SID or a unique name. Returns `None` for anything else.
    pub fn from_path(segment: &str) -> Option<Self> {
        if let Ok(sid) = segment.parse() {
            return Some(Self::Sid(sid));
        }
        UniqueName::from_parameter(segment).ok().map(Self::Name)
    }
}

/// A bucket of a rate limit, as it is stored: how many verifications may be created for a value within an interval.
#[derive(Clone, Debug)]
pub struct RateLimitBucket {
    /// SID of the bucket (`BL…`).
    pub sid: BucketSid,
    /// Account that owns the bucket.
    pub account_sid: AccountSid,
    /// Service whose verifications are limited.
    pub service_sid: ServiceSid,
    /// Rate limit to which the bucket belongs.
    pub rate_limit_sid: RateLimitSid,
    /// Maximum number of verifications for a value within the interval.
    pub max: MaxRequests,
    /// Length of the interval, unique in the rate limit.
    pub interval: Interval,
    /// Creation time of the bucket.
    pub created_at: Timestamp,
    /// Time of the last change to the bucket.
    pub updated_at: Timestamp,
}

impl Listed for RateLimitBucket {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

impl RateLimitBucket {
    /// Returns the sliding window in which the bucket counts verifications.
    pub const fn window(&self) -> Window {
        Window::new(self.max.get(), self.interval.get())
    }

    /// Returns the names of the fields that differ from `before`, as API responses spell them.
    pub fn changed_fields(&self, before: &Self) -> Vec<&'static str> {
        let names = [("max", self.max != before.max), ("interval", self.interval != before.interval)];
        names.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// Maximum number of verifications in the interval of a bucket: 1 to a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxRequests(NonZeroU32);

impl MaxRequests {
    /// The largest number that a bucket permits.
    const MOST: u32 = 1_000_000;

    /// Returns `number` as the maximum of a bucket, or `None` if it is out of bounds.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).filter(|number| number.get() <= Self::MOST).map(Self)
    }

    /// Returns the number.
    pub const fn get(self) -> NonZeroU32 {
        self.0
    }
}

impl Parameter for MaxRequests {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = || Expected::new(format!("must be a whole number from 1 to {}", Self::MOST));
        text.parse().ok().and_then(Self::new).ok_or_else(expected)
    }
}

/// The values with which a verification counts: a JSON object with at most 10 members, whose names are those of rate
/// limits. A value is a string or a number of at most 256 characters.
///
/// Members that no rate limit can have as its name are left out. They would be ignored anyway, and PostgreSQL cannot
/// store every text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RateLimitValues(BTreeMap<UniqueName, String>);

impl RateLimitValues {
    /// Maximum number of members.
    const MOST: usize = 10;

    /// Maximum length of a value, in characters.
    const MAX_CHARACTERS: usize = 256;

    /// Iterates over the names of rate limits and the values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&UniqueName, &str)> {
        self.0.iter().map(|(name, value)| (name, value.as_str()))
    }
}

impl Parameter for RateLimitValues {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let expected = || {
            Expected::new(
                "must be a JSON object with at most 10 members, each a string or a number of at most 256 characters",
            )
        };
        let members: Map<String, Value> = serde_json::from_str(text).map_err(|_| expected())?;
        if members.len() > Self::MOST {
            return Err(expected());
        }
        let mut values = BTreeMap::new();
        for (name, value) in members {
            let value = match value {
                Value::String(text) if text.chars().count() <= Self::MAX_CHARACTERS => text,
                Value::Number(number) if is_exact(&number) => number.to_string(),
                _ => return Err(expected()),
            };
            if let Ok(name) = UniqueName::from_parameter(&name) {
                values.insert(name, value);
            }
        }
        Ok(Self(values))
    }

    fn is_absent(text: &str) -> bool {
        matches!(text.trim(), "" | "null")
    }
}

/// Returns whether a number was parsed without the loss of digits before its decimal point. Different numbers would
/// count as one otherwise.
fn is_exact(number: &Number) -> bool {
    const FIRST_INEXACT_INTEGER: f64 = 9_007_199_254_740_992.0;
    !number.is_f64() || number.as_f64().is_some_and(|value| value.abs() < FIRST_INEXACT_INTEGER)
}

impl fmt::Debug for RateLimitValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RateLimitValues({} members)", self.0.len())
    }
}

/// The SHA-256 digest of a value for which a bucket counts. The value itself is often an address of a user and is not
/// stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueDigest(pub [u8; 32]);

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Result<Vec<(String, String)>, Expected> {
        let values = RateLimitValues::from_parameter(text)?;
        Ok(values.iter().map(|(name, value)| (name.to_string(), value.to_owned())).collect())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn path_names_a_rate_limit_by_sid_or_unique_name() {
        let sid = "RK019b76daa8007b6f0d0a5c3e91d2f4a8";
        assert_eq!(RateLimitKey::from_path(sid), Some(RateLimitKey::Sid(sid.parse().unwrap())));
        for name in ["end_user_ip", "RK1", "VA019b76daa8007b6f0d0a5c3e91d2f4a8"] {
            let expected = RateLimitKey::Name(UniqueName::from_stored(name.to_owned()));
            assert_eq!(RateLimitKey::from_path(name), Some(expected), "{name}");
        }
        for bad in ["", "%zz", "end user"] {
            assert_eq!(RateLimitKey::from_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn maximum_and_interval_of_a_bucket_are_bounded() {
        for (text, number) in [
            ("0", None),
            ("1", Some(1)),
            ("1000000", Some(1_000_000)),
            ("1000001", None),
            ("-1", None),
            ("x", None),
        ] {
            let parsed = MaxRequests::from_parameter(text);
            assert_eq!(parsed.ok().map(|max| max.get().get()), number, "{text}");
        }
        for (text, is_interval) in [("0", false), ("1", true), ("86400", true), ("86401", false)] {
            assert_eq!(Interval::from_parameter(text).is_ok(), is_interval, "{text}");
        }
    }

    #[test]
    fn values_are_strings_and_numbers_under_names_of_rate_limits() {
        assert_eq!(
            values(r#"{"ip":"192.0.2.1","account":42,"a b":"ignored","nul":""}"#),
            Ok(vec![pair("account", "42"), pair("ip", "192.0.2.1"), pair("nul", "")])
        );
        assert_eq!(values("{}"), Ok(Vec::new()));
        assert_eq!(values(r#"{"a":18446744073709551615}"#), Ok(vec![pair("a", "18446744073709551615")]));
        let longest = "ü".repeat(256);
        assert_eq!(values(&format!(r#"{{"a":"{longest}"}}"#)), Ok(vec![pair("a", &longest)]));
        let with_members = |count: usize| {
            let members: Vec<_> = (0..count).map(|number| format!(r#""n{number}":1"#)).collect();
            values(&format!("{{{}}}", members.join(","))).map(|values| values.len())
        };
        assert_eq!(with_members(10), Ok(10));
        assert!(with_members(11).is_err());
        for bad in [
            "",
            "[]",
            "x",
            r#"{"a":true}"#,
            r#"{"a":null}"#,
            r#"{"a":{}}"#,
            r#"{"a b":[]}"#,
            r#"{"a":123456789012345678901}"#,
            r#"{"a":1e300}"#,
            &format!(r#"{{"a":"{longest}x"}}"#),
        ] {
            assert!(values(bad).is_err(), "{bad}");
        }
        assert!(RateLimitValues::is_absent("null") && RateLimitValues::is_absent(" "));
        assert!(!RateLimitValues::is_absent("{}"));
    }

    #[test]
    fn debug_output_of_values_hides_them() {
        let values = RateLimitValues::from_parameter(r#"{"ip":"192.0.2.1"}"#).unwrap();
        assert_eq!(format!("{values:?}"), "RateLimitValues(1 members)");
    }

    #[test]
    fn numbers_of_rate_limits_and_buckets_are_limited() {
        assert_eq!(require_rate_limit_capacity(19), Ok(()));
        assert_eq!(require_rate_limit_capacity(20).unwrap_err().code(), Code::TooManyRateLimits);
        assert_eq!(require_bucket_capacity(9), Ok(()));
        assert_eq!(require_bucket_capacity(10).unwrap_err().code(), Code::TooManyBuckets);
    }

    #[test]
    fn window_of_a_bucket_has_its_maximum_and_interval() {
        let now = Timestamp::from_seconds(1_767_225_600);
        let bucket = RateLimitBucket {
            sid: "BL019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            account_sid: "AC019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            service_sid: "VA019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            rate_limit_sid: "RK019b76daa8007b6f0d0a5c3e91d2f4a8".parse().unwrap(),
            max: MaxRequests::new(4).unwrap(),
            interval: Interval::new(60).unwrap(),
            created_at: now,
            updated_at: now,
        };
        assert_eq!(bucket.window(), Window::new(NonZeroU32::new(4).unwrap(), 60));
        let changed = RateLimitBucket { interval: Interval::new(61).unwrap(), ..bucket.clone() };
        assert_eq!(changed.changed_fields(&bucket), ["interval"]);
        let changed = RateLimitBucket { max: MaxRequests::new(5).unwrap(), ..bucket.clone() };
        assert_eq!(changed.changed_fields(&bucket), ["max"]);
        assert_eq!(bucket.changed_fields(&bucket), [""; 0]);
    }
}
