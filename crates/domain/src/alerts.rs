//! Alerts: records of failed deliveries and of expected failures, for the people who run a backend
//! (docs/protocol/push.md, sections 3 and 4).

use serde_json::Value;

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::sids::{AccountSid, AlertSid, ServiceSid};
use crate::time::Timestamp;

/// Severity of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A delivery has failed.
    Error,
    /// Deliveries will fail unless an operator acts.
    Warning,
}

impl Level {
    /// Returns the name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A level by which a list of alerts is filtered. The API knows two levels that this server never raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelFilter {
    /// A level that this server raises.
    Is(Level),
    /// `notice` or `debug`, which match no alert.
    Never,
}

impl Parameter for LevelFilter {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "error" => Ok(Self::Is(Level::Error)),
            "warning" => Ok(Self::Is(Level::Warning)),
            "notice" | "debug" => Ok(Self::Never),
            _ => Err(Expected::new("must be error, warning, notice or debug")),
        }
    }
}

/// A webhook request that failed, with its response.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailedCall {
    /// URL of the request.
    pub url: String,
    /// Parameters of the request, without personal data.
    pub variables: Vec<(String, String)>,
    /// Response, if there was one.
    pub response: Option<FailedResponse>,
}

/// The response to a failed webhook request.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailedResponse {
    /// HTTP status.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// Beginning of the body, as text.
    pub body: String,
}

/// A record of something that failed, or will fail, on the way to a receiver or a push provider.
#[derive(Clone, Debug)]
pub struct Alert {
    /// `NO…`
    pub sid: AlertSid,
    /// Owning account.
    pub account_sid: AccountSid,
    /// Service concerned, if any.
    pub service_sid: Option<ServiceSid>,
    /// SID of the challenge, factor, webhook or credential concerned.
    pub resource_sid: String,
    /// One of the codes of docs/protocol/errors.md, section 6.
    pub error_code: u32,
    /// Severity.
    pub level: Level,
    /// Description, one sentence.
    pub text: String,
    /// Event-specific facts, in the form that the debugger webhook carries.
    pub more_info: Value,
    /// Request that failed; present for webhooks only.
    pub call: Option<FailedCall>,
    /// Creation time.
    pub created_at: Timestamp,
}

impl Listed for Alert {
    fn position(&self) -> Position {
        position(self.sid, self.created_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_filter_accepts_exactly_the_levels_of_the_api() {
        for level in [Level::Error, Level::Warning] {
            assert_eq!(LevelFilter::from_parameter(level.as_str()), Ok(LevelFilter::Is(level)));
        }
        let word = |text| LevelFilter::from_parameter(text);
        assert_eq!(word("error"), Ok(LevelFilter::Is(Level::Error)));
        assert_eq!(word("warning"), Ok(LevelFilter::Is(Level::Warning)));
        assert_eq!(word("notice"), Ok(LevelFilter::Never));
        assert_eq!(word("debug"), Ok(LevelFilter::Never));
        for bad in ["", "Error", "info"] {
            assert!(word(bad).is_err(), "{bad}");
        }
    }
}
