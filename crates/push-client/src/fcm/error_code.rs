//! The error codes with which FCM rejects a push, and how each of them is handled.

use std::time::Duration;

use domain::Timestamp;
use serde_json::Value;

use crate::outcome::{FailureKind, Outcome};
use crate::transport::{Response, excerpt};

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident $text:literal $status:literal $kind:ident $code:literal;)*) => {
        /// An FCM error code (firebase.google.com, "ErrorCode"), or the status of a general Google API error
        /// if the response has no FCM error code.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// Any other error code, shortened to 200 characters. The text is empty if the response has no
            /// error code.
            Other(String),
        }

        impl ErrorCode {
            /// Every known error code.
            pub const KNOWN: &[Self] = &[$(Self::$name),*];

            /// Returns Google's name for the error code.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(name) => name,
                }
            }

            /// Returns the error's usual HTTP status, its failure kind, and its debugger code. Returns `None`
            /// for an unknown error code.
            pub const fn definition(&self) -> Option<(u16, FailureKind, u32)> {
                match self {
                    $(Self::$name => Some(($status, FailureKind::$kind, $code)),)*
                    Self::Other(_) => None,
                }
            }
        }
    };
}

errors! {
    /// A field of the push request is invalid.
    InvalidArgument "INVALID_ARGUMENT" 400 Refused 52118;
    /// The device token is invalid. The error has the same name as [`Self::InvalidArgument`].
    InvalidToken "INVALID_ARGUMENT" 400 DeadToken 52102;
    /// The app was removed from the device.
    Unregistered "UNREGISTERED" 404 DeadToken 52103;
    /// The device token belongs to another Firebase project.
    SenderIdMismatch "SENDER_ID_MISMATCH" 403 DeadToken 52104;
    /// Too many pushes were sent by this sender or to this device.
    QuotaExceeded "QUOTA_EXCEEDED" 429 Retry 52108;
    /// FCM is temporarily unavailable.
    Unavailable "UNAVAILABLE" 503 Retry 52110;
    /// FCM had an internal error.
    Internal "INTERNAL" 500 Retry 52111;
    /// The device token belongs to an iPhone or a browser, and the Firebase project has no credentials for
    /// pushing to it.
    ThirdPartyAuthError "THIRD_PARTY_AUTH_ERROR" 401 Refused 52109;
    /// The access token is missing or invalid.
    Unauthenticated "UNAUTHENTICATED" 401 Refused 52109;
    /// The service account is not permitted to push in this project, or the API is disabled there.
    PermissionDenied "PERMISSION_DENIED" 403 Refused 52101;
    /// The device token does not exist: Google's general error for an unknown resource.
    NotFound "NOT_FOUND" 404 DeadToken 52103;
    /// Too many pushes were sent: Google's general quota error.
    ResourceExhausted "RESOURCE_EXHAUSTED" 429 Retry 52108;
    /// The Firebase project is not in a state in which it can push.
    FailedPrecondition "FAILED_PRECONDITION" 400 Refused 52118;
    /// FCM did not respond in time.
    DeadlineExceeded "DEADLINE_EXCEEDED" 504 Retry 52110;
}

impl ErrorCode {
    /// Returns the error code with the name `name`, or [`Self::Other`] if the name is unknown.
    /// `INVALID_ARGUMENT` returns [`Self::InvalidArgument`].
    pub fn from_name(name: &str) -> Self {
        // `InvalidArgument` precedes `InvalidToken`, which has the same name.
        Self::KNOWN
            .iter()
            .find(|code| code.name() == name)
            .cloned()
            .unwrap_or_else(|| Self::Other(excerpt(name)))
    }

    /// Returns the error code in a response body (cloud.google.com/apis/design/errors). The FCM error code
    /// takes precedence over the general status. `INVALID_ARGUMENT` becomes [`Self::InvalidToken`] if the
    /// details or the message blame the device token.
    fn from_body(body: &Value) -> Self {
        let error = &body["error"];
        let details = || error["details"].as_array().into_iter().flatten();
        let name = details().find_map(|detail| detail["errorCode"].as_str()).or(error["status"].as_str());
        let code = Self::from_name(name.unwrap_or_default());
        let is_token = || {
            details()
                .filter_map(|detail| detail["fieldViolations"].as_array())
                .flatten()
                .any(|violation| violation["field"] == "message.token")
                || error["message"].as_str().is_some_and(|text| text.contains("registration token"))
        };
        if code == Self::InvalidArgument && is_token() { Self::InvalidToken } else { code }
    }

    /// Returns the failure kind and the debugger code of this error. An unknown error is classified by the
    /// HTTP `status` of the response. A 404 without an error code means a wrong URL and says nothing about
    /// the device.
    pub const fn classify(&self, status: u16) -> (FailureKind, u32) {
        match (self.definition(), status) {
            (Some((_, kind, code)), _) => (kind, code),
            (None, 400) => (FailureKind::Refused, 52118),
            (None, 401) => (FailureKind::Refused, 52109),
            (None, 403) => (FailureKind::Refused, 52101),
            (None, 429) => (FailureKind::Retry, 52108),
            (None, 408 | 502..=504) => (FailureKind::Retry, 52110),
            (None, 500..) => (FailureKind::Retry, 52111),
            (None, _) => (FailureKind::Refused, 52111),
        }
    }
}

/// A response with which FCM rejected a push.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) status: u16,
    pub(super) code: ErrorCode,
    /// Google's human-readable error message, shortened to 200 characters. May be empty.
    pub(super) message: String,
    /// The delay that FCM requested with the `Retry-After` header, if any.
    pub(super) after: Option<Duration>,
}

impl Rejection {
    /// Parses a response whose status is not 200.
    pub(super) fn from_response(response: &Response, now: Timestamp) -> Self {
        let body = response.json();
        Self {
            status: response.status,
            code: ErrorCode::from_body(&body),
            message: excerpt(body["error"]["message"].as_str().unwrap_or_default()),
            after: response.retry_after(now),
        }
    }
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        let (kind, code) = rejection.code.classify(rejection.status);
        let text = format!("{} {} {}", rejection.status, rejection.code.name(), rejection.message);
        kind.outcome(code, text.trim_end(), rejection.after)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
    use serde_json::json;

    use super::*;

    const AFTER: Option<Duration> = Some(Duration::from_secs(7));

    fn outcome(status: u16, body: impl ToString) -> Outcome {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        let response = Response { status, headers, body: body.to_string().into_bytes() };
        Rejection::from_response(&response, Timestamp::from_seconds(0)).into()
    }

    fn fcm_error(code: &str) -> Value {
        json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
    }

    /// Repeats the table, so that an accidental change to an entry fails the test.
    #[test]
    fn fcm_error_codes_have_the_expected_outcome_and_error_code() {
        use FailureKind::{DeadToken, Refused, Retry};
        let expected = [
            (ErrorCode::InvalidArgument, "INVALID_ARGUMENT", 400, Refused, 52118),
            (ErrorCode::InvalidToken, "INVALID_ARGUMENT", 400, DeadToken, 52102),
            (ErrorCode::Unregistered, "UNREGISTERED", 404, DeadToken, 52103),
            (ErrorCode::SenderIdMismatch, "SENDER_ID_MISMATCH", 403, DeadToken, 52104),
            (ErrorCode::QuotaExceeded, "QUOTA_EXCEEDED", 429, Retry, 52108),
            (ErrorCode::Unavailable, "UNAVAILABLE", 503, Retry, 52110),
            (ErrorCode::Internal, "INTERNAL", 500, Retry, 52111),
            (ErrorCode::ThirdPartyAuthError, "THIRD_PARTY_AUTH_ERROR", 401, Refused, 52109),
            (ErrorCode::Unauthenticated, "UNAUTHENTICATED", 401, Refused, 52109),
            (ErrorCode::PermissionDenied, "PERMISSION_DENIED", 403, Refused, 52101),
            (ErrorCode::NotFound, "NOT_FOUND", 404, DeadToken, 52103),
            (ErrorCode::ResourceExhausted, "RESOURCE_EXHAUSTED", 429, Retry, 52108),
            (ErrorCode::FailedPrecondition, "FAILED_PRECONDITION", 400, Refused, 52118),
            (ErrorCode::DeadlineExceeded, "DEADLINE_EXCEEDED", 504, Retry, 52110),
        ];
        assert_eq!(expected.clone().map(|(code, ..)| code), ErrorCode::KNOWN);
        for (error, name, status, kind, code) in expected {
            assert_eq!((error.name(), error.definition()), (name, Some((status, kind, code))));
            if error == ErrorCode::InvalidToken {
                continue;
            }
            assert_eq!(ErrorCode::from_name(name), error);
            let expected = kind.outcome(code, format!("{status} {name} words"), AFTER);
            let general = json!({"error": {"code": status, "message": "words", "status": name}});
            assert_eq!(outcome(status, general), expected);
            let particular = json!({
                "error": {"message": "words", "status": "NOT_FOUND", "details": [{"x": []}, fcm_error(name)]}
            });
            assert_eq!(outcome(status, particular), expected);
        }
    }

    #[test]
    fn invalid_device_token_is_distinguished_from_other_invalid_arguments() {
        let violation = |field| {
            let violations = json!([{"field": "x"}, {"field": field, "description": "Invalid"}]);
            let bad_request =
                json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations});
            json!({"error": {"status": "INVALID_ARGUMENT", "details": [fcm_error("INVALID_ARGUMENT"), bad_request]}})
        };
        let dead_token = |message: &str| Outcome::DeadToken {
            code: 52102,
            reason: format!("400 INVALID_ARGUMENT {message}").trim_end().to_owned(),
        };
        assert_eq!(outcome(400, violation("message.token")), dead_token(""));
        let message = "The registration token is not a valid FCM registration token";
        let error = json!({"error": {"status": "INVALID_ARGUMENT", "message": message}});
        assert_eq!(outcome(400, error), dead_token(message));
        assert_eq!(
            outcome(400, violation("message.data")),
            Outcome::Refused { code: 52118, reason: "400 INVALID_ARGUMENT".to_owned() }
        );
    }

    #[test]
    fn unknown_fcm_error_is_classified_by_the_http_status() {
        for (status, kind, code) in [
            (204, FailureKind::Refused, 52111),
            (301, FailureKind::Refused, 52111),
            (400, FailureKind::Refused, 52118),
            (401, FailureKind::Refused, 52109),
            (403, FailureKind::Refused, 52101),
            (404, FailureKind::Refused, 52111),
            (408, FailureKind::Retry, 52110),
            (429, FailureKind::Retry, 52108),
            (500, FailureKind::Retry, 52111),
            (502, FailureKind::Retry, 52110),
            (503, FailureKind::Retry, 52110),
            (504, FailureKind::Retry, 52110),
            (505, FailureKind::Retry, 52111),
        ] {
            let unknown = json!({"error": {"status": "NEWS", "details": "none"}});
            assert_eq!(outcome(status, unknown), kind.outcome(code, format!("{status} NEWS"), AFTER));
            for body in
                ["", "<html>", "null", "[]", r#"{"error":"x"}"#, r#"{"error":{"status":7,"details":[7]}}"#]
            {
                assert_eq!(outcome(status, body), kind.outcome(code, status.to_string(), AFTER), "{body}");
            }
        }
    }

    proptest! {
        #[test]
        fn parsing_an_arbitrary_fcm_response_does_not_panic(status in 100_u16..600, body in r#"(\{|\}|\[|\]|"|:|,|error|status|details|errorCode|\PC)*"#) {
            let _ = outcome(status, body);
        }
    }
}
