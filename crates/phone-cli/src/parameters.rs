//! Parses the values of command-line options.

use std::io::IsTerminal as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use domain::{Parameter, Secret};
use terminal::{CliError, ask};

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

/// Parses an argument that is a secret, which must not be empty.
pub(crate) fn parse_secret(text: &str) -> Result<Secret<String>, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        text => Ok(Secret::new(text.to_owned())),
    }
}

/// Returns `secret`, or a line of standard input if `secret` is `-`. `name` says what to enter.
pub(crate) fn read_secret(secret: Secret<String>, name: &str) -> Result<Secret<String>, CliError> {
    if secret.expose() != "-" {
        return Ok(secret);
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        ask(&format!("Enter the {name}:"));
    }
    let mut line = String::new();
    stdin.read_line(&mut line)?;
    match line.trim() {
        "" => Err(CliError::new(format!("there is no {name} on standard input"))),
        line => Ok(Secret::new(line.to_owned())),
    }
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
