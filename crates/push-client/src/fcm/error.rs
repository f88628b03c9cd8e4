//! Why Google did not take a push: the one table of its errors, and what each of them means here.

use std::time::Duration;

use domain::Timestamp;
use serde_json::Value;

use crate::outcome::{Outcome, Verdict};
use crate::transport::{Reply, excerpt};

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident $text:literal $status:literal $verdict:ident $code:literal;)*) => {
        /// Google's errors: those of FCM (firebase.google.com, "ErrorCode"), then the general ones that
        /// come without one of these.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// One that is not in Google's lists, or not yet; empty where Google gave none.
            Other(String),
        }

        impl ErrorCode {
            /// All errors that are known here.
            pub const KNOWN: &[Self] = &[$(Self::$name),*];

            /// Its name.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(name) => name,
                }
            }

            /// The status that comes with it, how it is to be taken, and the code for the debugger.
            pub const fn entry(&self) -> Option<(u16, Verdict, u32)> {
                match self {
                    $(Self::$name => Some(($status, Verdict::$verdict, $code)),)*
                    Self::Other(_) => None,
                }
            }
        }
    };
}

errors! {
    /// Something in the request is wrong.
    InvalidArgument "INVALID_ARGUMENT" 400 Refused 52118;
    /// The same, and it is the device's token.
    InvalidToken "INVALID_ARGUMENT" 400 Gone 52102;
    /// The app was removed from the device.
    Unregistered "UNREGISTERED" 404 Gone 52103;
    /// The token was made for another project.
    SenderIdMismatch "SENDER_ID_MISMATCH" 403 Gone 52104;
    /// Too many pushes, of this server or to this device.
    QuotaExceeded "QUOTA_EXCEEDED" 429 Retry 52108;
    /// Not now.
    Unavailable "UNAVAILABLE" 503 Retry 52110;
    /// Google's fault.
    Internal "INTERNAL" 500 Retry 52111;
    /// The token is an iPhone's or a browser's, and the project has no key for those.
    ThirdPartyAuthError "THIRD_PARTY_AUTH_ERROR" 401 Refused 52109;
    /// No access token, or one that does not count.
    Unauthenticated "UNAUTHENTICATED" 401 Refused 52109;
    /// The service account may not push in this project, or the API is switched off there.
    PermissionDenied "PERMISSION_DENIED" 403 Refused 52101;
    /// No such thing: the device's token.
    NotFound "NOT_FOUND" 404 Gone 52103;
    /// Too many pushes.
    ResourceExhausted "RESOURCE_EXHAUSTED" 429 Retry 52108;
    /// The project is not in a state to push.
    FailedPrecondition "FAILED_PRECONDITION" 400 Refused 52118;
    /// It took Google too long.
    DeadlineExceeded "DEADLINE_EXCEEDED" 504 Retry 52110;
}

impl ErrorCode {
    /// The error of this name.
    pub fn of(name: &str) -> Self {
        // The first of two that have one name is the general one.
        Self::KNOWN
            .iter()
            .find(|code| code.name() == name)
            .cloned()
            .unwrap_or_else(|| Self::Other(excerpt(name)))
    }

    /// The error in the body of an answer (cloud.google.com/apis/design/errors): FCM's own if there is
    /// one, and whether it is about the token, which only the particulars tell.
    fn read(body: &Value) -> Self {
        let error = &body["error"];
        let details = || error["details"].as_array().into_iter().flatten();
        let name = details().find_map(|detail| detail["errorCode"].as_str()).or(error["status"].as_str());
        let code = Self::of(name.unwrap_or_default());
        let is_token = || {
            details()
                .filter_map(|detail| detail["fieldViolations"].as_array())
                .flatten()
                .any(|violation| violation["field"] == "message.token")
                || error["message"].as_str().is_some_and(|words| words.contains("registration token"))
        };
        if code == Self::InvalidArgument && is_token() { Self::InvalidToken } else { code }
    }

    /// How it is to be taken, and the code for the debugger. What is not in the table goes by its status;
    /// a bare 404 is no word of Google's about a device, but a wrong address.
    pub const fn verdict(&self, status: u16) -> (Verdict, u32) {
        match (self.entry(), status) {
            (Some((_, verdict, code)), _) => (verdict, code),
            (None, 400) => (Verdict::Refused, 52118),
            (None, 401) => (Verdict::Refused, 52109),
            (None, 403) => (Verdict::Refused, 52101),
            (None, 429) => (Verdict::Retry, 52108),
            (None, 408 | 502..=504) => (Verdict::Retry, 52110),
            (None, 500..) => (Verdict::Retry, 52111),
            (None, _) => (Verdict::Refused, 52111),
        }
    }
}

/// A push that Google did not take.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) status: u16,
    pub(super) code: ErrorCode,
    /// Google's words for people.
    pub(super) message: String,
    pub(super) after: Option<Duration>,
}

impl Rejection {
    pub(super) fn read(reply: &Reply, now: Timestamp) -> Self {
        let body = reply.json();
        Self {
            status: reply.status,
            code: ErrorCode::read(&body),
            message: excerpt(body["error"]["message"].as_str().unwrap_or_default()),
            after: reply.retry_after(now),
        }
    }
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        let (verdict, code) = rejection.code.verdict(rejection.status);
        let words = format!("{} {} {}", rejection.status, rejection.code.name(), rejection.message);
        verdict.outcome(code, words.trim_end(), rejection.after)
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
        let reply = Reply { status, headers, body: body.to_string().into_bytes() };
        Rejection::read(&reply, Timestamp::from_seconds(0)).into()
    }

    fn fcm_error(code: &str) -> Value {
        json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
    }

    /// Written out once more, so that nobody changes an entry by accident.
    #[test]
    fn every_entry() {
        use Verdict::{Gone, Refused, Retry};
        let expected = [
            (ErrorCode::InvalidArgument, "INVALID_ARGUMENT", 400, Refused, 52118),
            (ErrorCode::InvalidToken, "INVALID_ARGUMENT", 400, Gone, 52102),
            (ErrorCode::Unregistered, "UNREGISTERED", 404, Gone, 52103),
            (ErrorCode::SenderIdMismatch, "SENDER_ID_MISMATCH", 403, Gone, 52104),
            (ErrorCode::QuotaExceeded, "QUOTA_EXCEEDED", 429, Retry, 52108),
            (ErrorCode::Unavailable, "UNAVAILABLE", 503, Retry, 52110),
            (ErrorCode::Internal, "INTERNAL", 500, Retry, 52111),
            (ErrorCode::ThirdPartyAuthError, "THIRD_PARTY_AUTH_ERROR", 401, Refused, 52109),
            (ErrorCode::Unauthenticated, "UNAUTHENTICATED", 401, Refused, 52109),
            (ErrorCode::PermissionDenied, "PERMISSION_DENIED", 403, Refused, 52101),
            (ErrorCode::NotFound, "NOT_FOUND", 404, Gone, 52103),
            (ErrorCode::ResourceExhausted, "RESOURCE_EXHAUSTED", 429, Retry, 52108),
            (ErrorCode::FailedPrecondition, "FAILED_PRECONDITION", 400, Refused, 52118),
            (ErrorCode::DeadlineExceeded, "DEADLINE_EXCEEDED", 504, Retry, 52110),
        ];
        assert_eq!(expected.clone().map(|(code, ..)| code), ErrorCode::KNOWN);
        for (error, name, status, verdict, code) in expected {
            assert_eq!((error.name(), error.entry()), (name, Some((status, verdict, code))));
            if error == ErrorCode::InvalidToken {
                continue;
            }
            assert_eq!(ErrorCode::of(name), error);
            let expected = verdict.outcome(code, format!("{status} {name} words"), AFTER);
            let general = json!({"error": {"code": status, "message": "words", "status": name}});
            assert_eq!(outcome(status, general), expected);
            let particular = json!({
                "error": {"message": "words", "status": "NOT_FOUND", "details": [{"x": []}, fcm_error(name)]}
            });
            assert_eq!(outcome(status, particular), expected);
        }
    }

    #[test]
    fn a_bad_token_is_told_from_other_bad_arguments() {
        let violation = |field| {
            let violations = json!([{"field": "x"}, {"field": field, "description": "Invalid"}]);
            let bad_request =
                json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations});
            json!({"error": {"status": "INVALID_ARGUMENT", "details": [fcm_error("INVALID_ARGUMENT"), bad_request]}})
        };
        let bad_token = |words: &str| Outcome::Gone {
            code: 52102,
            reason: format!("400 INVALID_ARGUMENT {words}").trim_end().to_owned(),
        };
        assert_eq!(outcome(400, violation("message.token")), bad_token(""));
        let words = "The registration token is not a valid FCM registration token";
        let error = json!({"error": {"status": "INVALID_ARGUMENT", "message": words}});
        assert_eq!(outcome(400, error), bad_token(words));
        assert_eq!(
            outcome(400, violation("message.data")),
            Outcome::Refused { code: 52118, reason: "400 INVALID_ARGUMENT".to_owned() }
        );
    }

    #[test]
    fn what_is_not_in_the_table_goes_by_its_status() {
        for (status, verdict, code) in [
            (204, Verdict::Refused, 52111),
            (301, Verdict::Refused, 52111),
            (400, Verdict::Refused, 52118),
            (401, Verdict::Refused, 52109),
            (403, Verdict::Refused, 52101),
            (404, Verdict::Refused, 52111),
            (408, Verdict::Retry, 52110),
            (429, Verdict::Retry, 52108),
            (500, Verdict::Retry, 52111),
            (502, Verdict::Retry, 52110),
            (503, Verdict::Retry, 52110),
            (504, Verdict::Retry, 52110),
            (505, Verdict::Retry, 52111),
        ] {
            let news = json!({"error": {"status": "NEWS", "details": "none"}});
            assert_eq!(outcome(status, news), verdict.outcome(code, format!("{status} NEWS"), AFTER));
            for body in
                ["", "<html>", "null", "[]", r#"{"error":"x"}"#, r#"{"error":{"status":7,"details":[7]}}"#]
            {
                assert_eq!(outcome(status, body), verdict.outcome(code, status.to_string(), AFTER), "{body}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(status in 100_u16..600, body in r#"(\{|\}|\[|\]|"|:|,|error|status|details|errorCode|\PC)*"#) {
            let _ = outcome(status, body);
        }
    }
}
