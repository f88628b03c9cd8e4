//! Durations in bodies: seconds as a number, or a duration of ISO 8601.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// Longest accepted duration: ten years.
const MAX_DURATION: Duration = Duration::from_secs(10 * 366 * 86_400);

/// A duration in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parsed = match Value::deserialize(deserializer)? {
            Value::Number(seconds) => seconds.as_f64().and_then(|it| Duration::try_from_secs_f64(it).ok()),
            Value::String(text) => parse_iso_8601(&text),
            _ => None,
        };
        parsed.filter(|duration| *duration <= MAX_DURATION).map(Self).ok_or_else(|| {
            de::Error::custom(
                "expected a duration of at most ten years: seconds, or ISO 8601 such as \"PT1M30S\"",
            )
        })
    }
}

/// Parses days, hours, minutes and seconds, such as `P1DT2H3M4.5S`. Returns `None` for any other text.
fn parse_iso_8601(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('P')?;
    let (date, time) = match text.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None if text.is_empty() => return None,
        None => (text, ""),
    };
    let days = parse_units(date, &[('D', 86_400.0)])?;
    let rest = parse_units(time, &[('H', 3600.0), ('M', 60.0), ('S', 1.0)])?;
    Duration::try_from_secs_f64(days + rest).ok()
}

/// Parses numbers that are followed by these units, each at most once and in this order. Returns seconds.
fn parse_units(mut text: &str, units: &[(char, f64)]) -> Option<f64> {
    let mut seconds = 0.0;
    for (unit, factor) in units {
        let Some((number, rest)) = text.split_once(*unit) else { continue };
        let may_have_fraction = *unit == 'S';
        let is_number = !number.is_empty()
            && number.starts_with(|it: char| it.is_ascii_digit())
            && number.ends_with(|it: char| it.is_ascii_digit())
            && number.chars().all(|it| it.is_ascii_digit() || may_have_fraction && it == '.');
        if !is_number {
            return None;
        }
        seconds += number.parse::<f64>().ok()? * factor;
        text = rest;
    }
    text.is_empty().then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Option<Duration> {
        serde_json::from_str::<Span>(json).ok().map(|span| span.0)
    }

    #[test]
    fn seconds_and_iso_8601_are_parsed() {
        for (json, milliseconds) in [
            ("300", 300_000),
            ("0.25", 250),
            ("\"PT5M\"", 300_000),
            ("\"PT0.3S\"", 300),
            ("\"P1D\"", 86_400_000),
            ("\"P1DT2H3M4.5S\"", 93_784_500),
        ] {
            assert_eq!(parse(json), Some(Duration::from_millis(milliseconds)), "{json}");
        }
    }

    #[test]
    fn other_texts_and_negative_or_excessive_durations_are_refused() {
        for json in [
            "-1",
            "\"\"",
            "\"P\"",
            "\"PT\"",
            "\"5M\"",
            "\"PT5\"",
            "\"PT5M3H\"",
            "\"PT.5S\"",
            "\"PT1.5M\"",
            "\"P1Y\"",
            "\"PT-1S\"",
            "1e300",
            "true",
            "null",
            "\"P9999999D\"",
        ] {
            assert_eq!(parse(json), None, "{json}");
        }
    }
}
