//! The ways in which a request can fail.

use std::error::Error;
use std::fmt;

use domain::error_report;
use serde::Deserialize;
use terminal::CliError;

/// Why a request failed. Failures of the same kind are equal, so that a report can count them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The server refused the request.
    Refused {
        /// HTTP status code of the response.
        status: u16,
        /// Twilio's error code, or `None` if the response is not from Countersign, such as that of a proxy.
        code: Option<i64>,
    },
    /// No complete response was received, for this reason.
    NoResponse(String),
    /// The response is a success, but not the expected one.
    Unexpected(String),
}

/// The members of an error response that are read.
#[derive(Deserialize)]
struct Refusal {
    code: i64,
}

impl Failure {
    /// Creates the failure for a response with an error status.
    pub(crate) fn refused(status: u16, body: &[u8]) -> Self {
        let refusal = serde_json::from_slice::<Refusal>(body).ok();
        Self::Refused { status, code: refusal.map(|refusal| refusal.code) }
    }

    /// Creates the failure for a request that got no complete response.
    pub(crate) fn no_response(error: &dyn Error) -> Self {
        Self::NoResponse(error_report(error))
    }

    /// Creates the failure for a response that could not be used.
    pub(crate) fn unexpected(error: &dyn Error) -> Self {
        Self::Unexpected(error_report(error))
    }
}

impl From<device::Error> for Failure {
    fn from(error: device::Error) -> Self {
        match error {
            device::Error::Api { status, code, .. } => Self::Refused { status, code: Some(code) },
            error => Self::unexpected(&error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, code: Some(code) } => write!(f, "HTTP status {status}, code {code}"),
            Self::Refused { status, code: None } => write!(f, "HTTP status {status} without a code"),
            Self::NoResponse(reason) => write!(f, "no response: {reason}"),
            Self::Unexpected(reason) => write!(f, "unexpected response: {reason}"),
        }
    }
}

impl Failure {
    /// Converts the failure of the request `purpose`, made while preparing, into the error of the command.
    pub(crate) fn explain(&self, purpose: &str) -> CliError {
        match self {
            Self::Refused { status: 401, .. } => CliError::new(format!(
                "cannot {purpose}: the server refused the credentials; check the account SID and the auth token \
                 (COUNTERSIGN_ACCOUNT_SID, COUNTERSIGN_AUTH_TOKEN), and that the clock of this machine is right"
            )),
            failure => CliError::new(format!("cannot {purpose}: {failure}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_has_the_code_of_its_body_if_there_is_one() {
        let body = br#"{"code":60306,"message":"Invalid parameter","more_info":"x","status":400}"#;
        assert_eq!(Failure::refused(400, body), Failure::Refused { status: 400, code: Some(60306) });
        let failure = Failure::refused(502, b"<html>");
        assert_eq!(failure, Failure::Refused { status: 502, code: None });
        assert_eq!(failure.to_string(), "HTTP status 502 without a code");
    }

    #[test]
    fn refused_credentials_are_explained() {
        let explanation = Failure::refused(401, b"").explain("create a service").to_string();
        assert!(explanation.contains("COUNTERSIGN_AUTH_TOKEN"), "{explanation}");
        let explanation = Failure::refused(404, b"").explain("read the service").to_string();
        assert_eq!(explanation, "cannot read the service: HTTP status 404 without a code");
    }
}
