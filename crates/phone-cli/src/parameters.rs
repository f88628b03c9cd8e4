//! Parses the values of command-line options.

use std::ops::RangeInclusive;
use std::time::Duration;

use domain::Parameter;

/// Allowed range of the interval between two requests of `watch`.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(24);

/// Parses an argument by the rules of the API, so that an invalid value is rejected before a request is sent.
/// The error says what the value must be.
pub(crate) fn parameter<T: Parameter>(text: &str) -> Result<T, String> {
    T::from_parameter(text).map_err(|expected| expected.to_string())
}

/// Parses the interval of `watch`, such as `500ms`, `2s`, or `1m`. A number without a unit is in seconds.
/// Returns an error if the interval is not between 100 ms and 24 hours.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let duration = match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    duration
        .filter(|duration| INTERVALS.contains(duration))
        .ok_or_else(|| "must be a duration from 100ms to one day, such as 500ms, 2s, or 1m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_with_a_unit_or_in_seconds_is_parsed() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("2s", 2000),
            ("2", 2000),
            ("1m", 60_000),
            ("1m 30s", 90_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn interval_that_is_malformed_or_out_of_bounds_is_rejected() {
        for bad in ["", "s", "0", "99ms", "-1s", "two", "2x", "25h", "1441m", "99999999999999999999s"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
