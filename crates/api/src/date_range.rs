//! Date parameters in list queries.

use domain::Timestamp;
use domain::parameter::{Expected, Parameter};

/// A range of time: one second or one whole UTC day, depending on the precision of the query parameter.
pub(crate) struct DateRange {
    pub(crate) start: Timestamp,
    seconds: i64,
}

impl DateRange {
    /// Returns the end of the range. The end itself is not part of the range.
    pub(crate) const fn end(&self) -> Timestamp {
        self.start.plus_seconds(self.seconds)
    }
}

impl Parameter for DateRange {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        if let Ok(instant) = Timestamp::from_parameter(text) {
            return Ok(Self { start: instant.truncate_to_second(), seconds: 1 });
        }
        let start = Timestamp::from_parameter(&format!("{text}T00:00:00Z"))?;
        Ok(Self { start, seconds: 86_400 })
    }
}

/// The end of a range of time, which is not part of it. The times in responses are without fractions of a second, so an
/// end with a fraction includes its whole second.
pub(crate) struct UpperBound(pub(crate) Timestamp);

impl Parameter for UpperBound {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let range = DateRange::from_parameter(text)?;
        let has_fraction = Timestamp::from_parameter(text).is_ok_and(|instant| instant != range.start);
        Ok(Self(if has_fraction { range.end() } else { range.start }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_bound_with_a_fraction_includes_its_second() {
        for (text, expected) in [
            ("2026-12-01T09:00:00Z", "2026-12-01T09:00:00Z"),
            ("2026-12-01T09:00:00.000Z", "2026-12-01T09:00:00Z"),
            ("2026-12-01T09:00:00.001Z", "2026-12-01T09:00:01Z"),
            ("2026-12-01T10:00:00.9+01:00", "2026-12-01T09:00:01Z"),
            ("2026-12-01", "2026-12-01T00:00:00Z"),
        ] {
            let UpperBound(end) = UpperBound::from_parameter(text).unwrap();
            assert_eq!(end, Timestamp::from_parameter(expected).unwrap(), "{text}");
        }
        assert!(UpperBound::from_parameter("yesterday").is_err());
    }
}
