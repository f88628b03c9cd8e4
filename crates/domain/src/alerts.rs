//! Alerts: records of failed deliveries, of expected failures and of suspicious sign-ins, for the people who run a
//! backend (docs/protocol/push.md, sections 3 and 4).

use serde_json::Value;

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::sids::{AccountSid, AlertSid, ServiceSid};
use crate::time::Timestamp;

/// The severity of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The alert reports a failed delivery.
    Error,
    /// The alert reports that deliveries will fail unless an operator acts, or that a passkey may have been copied.
    Warning,
}

impl Level {
    /// Returns the level's name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A filter that selects alerts by level. The API defines two further levels, which this server never raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelFilter {
    /// Selects the alerts of a level that this server raises.
    Is(Level),
    /// The levels `notice` and `debug`, which select no alert.
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

/// A failed webhook request, with its response.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailedCall {
    /// URL of the request.
    pub url: String,
    /// Names and values of the request's parameters, without personal data.
    pub variables: Vec<(String, String)>,
    /// Response of the receiver; `None` if there was none.
    pub response: Option<FailedResponse>,
}

/// The response to a failed webhook request.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailedResponse {
    /// HTTP status code of the response.
    pub status: u16,
    /// Names and values of the response headers.
    pub headers: Vec<(String, String)>,
    /// Beginning of the response body, as text.
    pub body: String,
}

/// A record of a failed delivery to a receiver or push provider, of a failure to be expected, or of a refused sign-in
/// that suggests a copied passkey.
#[derive(Clone, Debug)]
pub struct Alert {
    /// SID of the alert (`NO…`).
    pub sid: AlertSid,
    /// Account that owns the alert.
    pub account_sid: AccountSid,
    /// Service concerned; `None` if the alert does not concern a service.
    pub service_sid: Option<ServiceSid>,
    /// SID of the challenge, factor, webhook or credential concerned.
    pub resource_sid: String,
    /// Error code, one of those in docs/protocol/errors.md, section 6, or 60379.
    pub error_code: u32,
    /// Severity of the alert.
    pub level: Level,
    /// Description of the failure, one sentence.
    pub text: String,
    /// Further facts about the failure, in the form that the debugger webhook sends.
    pub more_info: Value,
    /// Webhook request that failed; `None` for failures of other kinds.
    pub call: Option<FailedCall>,
    /// Creation time of the alert.
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
