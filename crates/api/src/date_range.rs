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
