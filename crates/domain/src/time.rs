//! Time, which is passed as a parameter: instants, and the clock that provides them.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::parameter::{Expected, Parameter};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// An instant in UTC, in microseconds since the Unix epoch.
///
/// Its text form, in JSON too, is `2026-01-01T00:00:00Z`: whole seconds and a literal `Z`. This is the only form that
/// both device SDKs can parse (docs/protocol/device.md, section 8). Fractions of a second serve only for ordering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest instant.
    pub const MIN: Self = Self(i64::MIN);

    /// The latest instant.
    pub const MAX: Self = Self(i64::MAX);

    /// Creates the instant that is `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Creates the instant that is `seconds` seconds after the Unix epoch. The result saturates at the bounds of the
    /// type.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// Returns the number of microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the number of whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// Returns this instant truncated to a whole second, as clients see it.
    pub const fn truncate_to_second(self) -> Self {
        Self::from_seconds(self.seconds())
    }

    /// Returns the instant `seconds` seconds later, or earlier if `seconds` is negative. The result saturates at the
    /// bounds of the type.
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(MICROS_PER_SECOND)))
    }

    /// Returns the time from this instant to `later`; zero if `later` is not a later instant.
    pub const fn until(self, later: Self) -> Duration {
        let micros = later.0.saturating_sub(self.0);
        Duration::from_micros(if micros > 0 { micros.unsigned_abs() } else { 0 })
    }

    /// Returns the instant as the value of an HTTP `Date` header, such as `Tue, 14 Nov 2023 09:27:21 GMT` (RFC 9110,
    /// section 5.6.7).
    pub fn to_http_date(self) -> String {
        self.datetime().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// Returns the instant as Twilio's older APIs show it, such as `Tue, 14 Nov 2023 09:27:21 +0000` (RFC 2822, section
    /// 3.3).
    pub fn to_rfc2822(self) -> String {
        self.datetime().format("%a, %d %b %Y %H:%M:%S +0000").to_string()
    }

    /// Returns the instant in ISO 8601 with milliseconds, such as `2026-01-01T00:00:00.001Z`.
    pub fn to_millisecond_text(self) -> String {
        self.datetime().to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    /// Returns the instant in ISO 8601 with microseconds, such as `2026-01-01T00:00:00.000001Z`.
    pub fn to_precise_text(self) -> String {
        self.datetime().to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// Returns the instant in ISO 8601 with nanoseconds, as Twilio shows the dates of message templates, such as
    /// `2026-01-01T00:00:00.000001000Z`.
    pub fn to_nanosecond_text(self) -> String {
        self.datetime().to_rfc3339_opts(SecondsFormat::Nanos, true)
    }

    fn datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.datetime().to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_precise_text())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Parameter for Timestamp {
    /// Parses a date in the forms that Twilio's helper libraries send (docs/protocol/authentication.md, section 3): ISO
    /// 8601 with `Z` or an offset, with or without a fraction of a second. The zone name in brackets that Java appends
    /// is ignored. A text without an offset is interpreted as UTC.
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let text = text.split_once('[').map_or(text, |(instant, _)| instant);
        let parsed = DateTime::parse_from_rfc3339(text)
            .map(|date| date.with_timezone(&Utc))
            .or_else(|_| {
                DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%#z").map(|date| date.with_timezone(&Utc))
            })
            .or_else(|_| {
                NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").map(|date| date.and_utc())
            });
        match parsed {
            Ok(date) => Ok(Self(date.timestamp_micros())),
            Err(_) => {
                Err(Expected::new("must be a date and time in ISO 8601 form, such as 2026-01-01T00:05:00Z"))
            }
        }
    }
}

/// A source of the current time, which is passed as a parameter so that tests can control it.
pub trait Clock: Send + Sync {
    /// Returns the current instant.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed instant, measured by a clock that is never adjusted. The default implementation
    /// derives it from [`now`](Self::now), which is enough for the clocks of tests.
    fn monotonic(&self) -> Duration {
        Timestamp::from_micros(0).until(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instant_is_formatted_in_whole_seconds_of_utc() {
        assert_eq!(Timestamp::from_micros(1_767_225_600_999_999).to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_micros(-1).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn instant_is_formatted_for_the_date_header() {
        let instant = Timestamp::from_micros(1_699_954_041_999_999);
        assert_eq!(instant.to_http_date(), "Tue, 14 Nov 2023 09:27:21 GMT");
        assert_eq!(instant.to_precise_text(), "2023-11-14T09:27:21.999999Z");
        assert_eq!(instant.to_nanosecond_text(), "2023-11-14T09:27:21.999999000Z");
    }

    #[test]
    fn instant_is_formatted_for_older_apis() {
        assert_eq!(
            Timestamp::from_micros(1_438_286_400_999_999).to_rfc2822(),
            "Thu, 30 Jul 2015 20:00:00 +0000"
        );
        assert_eq!(Timestamp::from_seconds(1_767_225_600).to_rfc2822(), "Thu, 01 Jan 2026 00:00:00 +0000");
    }

    #[test]
    fn date_formats_of_the_helper_libraries_are_parsed() {
        let expected = Timestamp::from_seconds(1_767_225_600);
        for text in [
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000Z",
            "2026-01-01T02:00:00+02:00",
            "2025-12-31T19:00:00-05:00",
            "2026-01-01T00:00Z",
            "2026-01-01T01:00+01:00[Europe/Berlin]",
            "2026-01-01T00:00:00",
        ] {
            assert_eq!(Timestamp::from_parameter(text), Ok(expected), "{text}");
        }
        for text in ["", "tomorrow", "2026-01-01", "2026-13-01T00:00:00Z", "1767225600"] {
            assert!(Timestamp::from_parameter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn extreme_instants_do_not_panic() {
        for micros in [i64::MIN, i64::MAX] {
            let far = Timestamp::from_micros(micros);
            let _ = format!("{far} {far:?}");
            let _ = far.plus_seconds(i64::MAX).plus_seconds(i64::MIN);
        }
    }

    #[test]
    fn time_until_an_earlier_instant_is_zero() {
        let (early, late) = (Timestamp::from_micros(1_500_000), Timestamp::from_micros(4_000_000));
        assert_eq!(early.until(late), Duration::from_micros(2_500_000));
        assert_eq!((late.until(early), late.until(late)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn seconds_of_an_instant_are_rounded_down() {
        for (micros, seconds) in [(1_999_999, 1), (0, 0), (-1, -1), (-1_000_000, -1), (-1_000_001, -2)] {
            let instant = Timestamp::from_micros(micros);
            assert_eq!((instant.micros(), instant.seconds()), (micros, seconds));
            assert_eq!(instant.truncate_to_second(), Timestamp::from_seconds(seconds));
        }
        assert_eq!(Timestamp::from_seconds(3).plus_seconds(-5), Timestamp::from_micros(-2_000_000));
    }

    #[test]
    fn instant_beyond_the_calendar_is_formatted_as_its_bound() {
        assert!(Timestamp::from_micros(i64::MIN).to_string().starts_with('-'));
        assert!(Timestamp::from_micros(i64::MAX).to_string().starts_with('+'));
        let json = serde_json::to_string(&Timestamp::from_micros(1_500_000)).unwrap();
        assert_eq!(
            (json.as_str(), format!("{:?}", Timestamp::from_micros(1_500_000)).as_str()),
            (r#""1970-01-01T00:00:01Z""#, "1970-01-01T00:00:01.500000Z")
        );
    }
}
