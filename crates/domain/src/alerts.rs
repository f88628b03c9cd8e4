//! Alerts: what went wrong on the way out, for the people who run the backend (docs/protocol/push.md, sections 3 and 4).

use serde_json::Value;

use crate::paging::{Listed, Position, position};
use crate::parameter::{Expected, Parameter};
use crate::sids::{AccountSid, AlertSid, ServiceSid};
use crate::time::Timestamp;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something was not delivered.
    Error,
    /// Something will go wrong.
    Warning,
}

impl Level {
    /// The word in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A level as a list is filtered by: there are two that this server never raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelFilter {
    /// One that is raised.
    Is(Level),
    /// `notice` or `debug`: never.
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

/// The request that failed, and what came back; only of webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailedCall {
    /// Where to.
    pub url: String,
    /// What was sent, without what is personal.
    pub variables: Vec<(String, String)>,
    /// Status, headers and body, if something came back.
    pub response: Option<FailedResponse>,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailedResponse {
    /// HTTP status.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// Its beginning, as text.
    pub body: String,
}

/// Something that went wrong.
#[derive(Clone, Debug)]
pub struct Alert {
    /// `NO…`
    pub sid: AlertSid,
    /// Whose it is.
    pub account_sid: AccountSid,
    /// Of which service.
    pub service_sid: Option<ServiceSid>,
    /// What it is about: a challenge, a factor, a webhook, a credential.
    pub resource_sid: String,
    /// One of the codes of docs/protocol/errors.md, section 6.
    pub error_code: u32,
    /// How bad it is.
    pub level: Level,
    /// What happened, in a sentence.
    pub text: String,
    /// Event-specific facts, as the debugger webhook carries them.
    pub more_info: Value,
    /// The call that failed.
    pub call: Option<FailedCall>,
    /// When it happened.
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
    fn lists_are_filtered_by_the_levels_of_the_api() {
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
