//! The reasons that APNs gives for rejecting a push, and how each of them is handled.

use domain::Timestamp;
use serde_json::Value;

use crate::outcome::{FailureKind, Outcome};
use crate::transport::{Response, excerpt};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $status:literal $kind:ident $code:literal;)*) => {
        /// The reason for which APNs rejected a push (developer.apple.com, "Handling notification responses
        /// from APNs"). The variants are in Apple's order.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// Any other reason, shortened to 200 characters. The text is empty if the response gives no
            /// reason.
            Other(String),
        }

        impl Reason {
            /// Every known reason, in Apple's order.
            pub const KNOWN: &[Self] = &[$(Self::$name),*];

            /// Returns the reason with the name `name`, or [`Self::Other`] if the name is unknown.
            pub fn from_name(name: &str) -> Self {
                match name {
                    $(stringify!($name) => Self::$name,)*
                    other => Self::Other(excerpt(other)),
                }
            }

            /// Returns Apple's name for the reason.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other(name) => name,
                }
            }

            /// Returns the reason's usual HTTP status, its failure kind, and its debugger code. Returns
            /// `None` for an unknown reason.
            pub const fn definition(&self) -> Option<(u16, FailureKind, u32)> {
                match self {
                    $(Self::$name => Some(($status, FailureKind::$kind, $code)),)*
                    Self::Other(_) => None,
                }
            }
        }
    };
}

reasons! {
    /// The `apns-collapse-id` header is too long.
    BadCollapseId 400 Refused 52140;
    /// The device token is invalid or belongs to the other environment. APNs does not say which. Either way,
    /// the token is dead for this credential.
    BadDeviceToken 400 DeadToken 52134;
    /// The `apns-expiration` header is not a number.
    BadExpirationDate 400 Refused 52140;
    /// The `apns-id` header is not a UUID.
    BadMessageId 400 Refused 52140;
    /// The `apns-priority` header has an unknown value.
    BadPriority 400 Refused 52140;
    /// The `apns-topic` header is not a valid topic.
    BadTopic 400 Refused 52143;
    /// The device token belongs to an app other than the one in `apns-topic`.
    DeviceTokenNotForTopic 400 Refused 52143;
    /// A request header appears more than once.
    DuplicateHeaders 400 Refused 52140;
    /// The connection to APNs was idle for too long.
    IdleTimeout 400 Retry 52140;
    /// The `apns-push-type` header has an unknown value.
    InvalidPushType 400 Refused 52140;
    /// The request path contains no device token.
    MissingDeviceToken 400 Refused 52142;
    /// The `apns-topic` header is missing, and the certificate is valid for more than one topic.
    MissingTopic 400 Refused 52143;
    /// The push has no payload.
    PayloadEmpty 400 Refused 52136;
    /// The credential is not permitted to push to this topic.
    TopicDisallowed 400 Refused 52143;
    /// The client certificate is invalid.
    BadCertificate 403 Refused 52145;
    /// The client certificate is for the other APNs environment.
    BadCertificateEnvironment 403 Refused 52145;
    /// The provider token is more than an hour old.
    ExpiredProviderToken 403 Retry 52148;
    /// APNs does not allow the requested action.
    Forbidden 403 Refused 52145;
    /// The provider token is malformed, or its signature is invalid.
    InvalidProviderToken 403 Refused 52149;
    /// The request has neither a certificate nor a provider token.
    MissingProviderToken 403 Refused 52149;
    /// The connection is bound to another key. The key of this provider token works on a new connection.
    UnrelatedKeyIdInToken 403 Retry 52149;
    /// The key that signed the provider token is for the other APNs environment.
    BadEnvironmentKeyIdInToken 403 Refused 52149;
    /// Another spelling of [`Self::BadEnvironmentKeyIdInToken`] that APNs has been observed to send.
    BadEnvironmentKeyInToken 403 Refused 52149;
    /// The request path does not exist.
    BadPath 404 Refused 52140;
    /// The request method is not `POST`.
    MethodNotAllowed 405 Refused 52140;
    /// The device token has expired.
    ExpiredToken 410 DeadToken 52141;
    /// The app was removed from the device or may no longer show notifications.
    Unregistered 410 DeadToken 52141;
    /// The payload is larger than 4096 bytes.
    PayloadTooLarge 413 Refused 52138;
    /// The provider token was replaced more often than every 20 minutes.
    TooManyProviderTokenUpdates 429 Retry 52147;
    /// Too many consecutive pushes were sent to one device.
    TooManyRequests 429 Retry 52140;
    /// APNs had an internal error.
    InternalServerError 500 Retry 52144;
    /// APNs is temporarily unavailable.
    ServiceUnavailable 503 Retry 52139;
    /// The APNs server is shutting down.
    Shutdown 503 Retry 52139;
}

impl Reason {
    /// Returns the failure kind and the debugger code of this reason. An unknown reason is classified by the
    /// HTTP `status` of the response.
    pub const fn classify(&self, status: u16) -> (FailureKind, u32) {
        match (self.definition(), status) {
            (Some((_, kind, code)), _) => (kind, code),
            (None, 403) => (FailureKind::Refused, 52145),
            (None, 410) => (FailureKind::DeadToken, 52141),
            (None, 413) => (FailureKind::Refused, 52138),
            (None, 503) => (FailureKind::Retry, 52139),
            (None, 408 | 429 | 500..) => (FailureKind::Retry, 52140),
            (None, _) => (FailureKind::Refused, 52140),
        }
    }
}

/// A response with which APNs rejected a push.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) status: u16,
    pub(super) reason: Reason,
    /// When the device token became invalid. APNs sends this with status 410.
    pub(super) since: Option<Timestamp>,
    /// When the device registered its token with this server.
    registered_at: Timestamp,
    /// The delay that APNs requested with the `Retry-After` header, if any.
    pub(super) after: Option<std::time::Duration>,
}

impl Rejection {
    /// Parses a response whose status is not 200. `registered_at` is when the device registered its token.
    pub(super) fn from_response(response: &Response, registered_at: Timestamp, now: Timestamp) -> Self {
        let body = response.json();
        let milliseconds = body.get("timestamp").and_then(Value::as_i64);
        Self {
            status: response.status,
            reason: Reason::from_name(body.get("reason").and_then(Value::as_str).unwrap_or_default()),
            since: milliseconds.map(|since| Timestamp::from_micros(since.saturating_mul(1000))),
            registered_at,
            after: response.retry_after(now),
        }
    }

    /// Returns whether the device registered its token after the time that APNs reports, so that the token
    /// may still be valid (docs/protocol/decisions.md, No. 36).
    fn is_outdated(&self) -> bool {
        self.since.is_some_and(|since| since < self.registered_at)
    }
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        let (kind, code) = match rejection.reason.classify(rejection.status) {
            (FailureKind::DeadToken, code) if rejection.is_outdated() => (FailureKind::Retry, code),
            classification => classification,
        };
        let mut text = format!("{} {}", rejection.status, rejection.reason.name());
        if let Some(since) = rejection.since {
            text.push_str(&format!(" since {since}"));
        }
        if rejection.is_outdated() {
            text.push_str(&format!(", but the device registered its token at {}", rejection.registered_at));
        }
        kind.outcome(code, text.trim_end(), rejection.after)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::*;

    fn outcome(status: u16, body: &str) -> Outcome {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        let response = Response { status, headers, body: body.as_bytes().to_vec() };
        Rejection::from_response(&response, REGISTERED, Timestamp::from_seconds(0)).into()
    }

    /// Midnight UTC on January 1, 2026.
    const REGISTERED: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Repeats the table, so that an accidental change to an entry fails the test.
    #[test]
    fn apns_reasons_have_the_expected_status_outcome_and_error_code() {
        use FailureKind::{DeadToken, Refused, Retry};
        let expected = [
            ("BadCollapseId", 400, Refused, 52140),
            ("BadDeviceToken", 400, DeadToken, 52134),
            ("BadExpirationDate", 400, Refused, 52140),
            ("BadMessageId", 400, Refused, 52140),
            ("BadPriority", 400, Refused, 52140),
            ("BadTopic", 400, Refused, 52143),
            ("DeviceTokenNotForTopic", 400, Refused, 52143),
            ("DuplicateHeaders", 400, Refused, 52140),
            ("IdleTimeout", 400, Retry, 52140),
            ("InvalidPushType", 400, Refused, 52140),
            ("MissingDeviceToken", 400, Refused, 52142),
            ("MissingTopic", 400, Refused, 52143),
            ("PayloadEmpty", 400, Refused, 52136),
            ("TopicDisallowed", 400, Refused, 52143),
            ("BadCertificate", 403, Refused, 52145),
            ("BadCertificateEnvironment", 403, Refused, 52145),
            ("ExpiredProviderToken", 403, Retry, 52148),
            ("Forbidden", 403, Refused, 52145),
            ("InvalidProviderToken", 403, Refused, 52149),
            ("MissingProviderToken", 403, Refused, 52149),
            ("UnrelatedKeyIdInToken", 403, Retry, 52149),
            ("BadEnvironmentKeyIdInToken", 403, Refused, 52149),
            ("BadEnvironmentKeyInToken", 403, Refused, 52149),
            ("BadPath", 404, Refused, 52140),
            ("MethodNotAllowed", 405, Refused, 52140),
            ("ExpiredToken", 410, DeadToken, 52141),
            ("Unregistered", 410, DeadToken, 52141),
            ("PayloadTooLarge", 413, Refused, 52138),
            ("TooManyProviderTokenUpdates", 429, Retry, 52147),
            ("TooManyRequests", 429, Retry, 52140),
            ("InternalServerError", 500, Retry, 52144),
            ("ServiceUnavailable", 503, Retry, 52139),
            ("Shutdown", 503, Retry, 52139),
        ];
        assert_eq!(expected.map(|(name, ..)| Reason::from_name(name)), Reason::KNOWN);
        for (name, status, kind, code) in expected {
            assert_eq!(Reason::from_name(name).definition(), Some((status, kind, code)), "{name}");
            assert_eq!(Reason::from_name(name).name(), name);
            assert_eq!(
                outcome(status, &format!(r#"{{"reason":"{name}"}}"#)),
                kind.outcome(code, format!("{status} {name}"), Some(Duration::from_secs(7)))
            );
        }
    }

    #[test]
    fn known_apns_reason_takes_precedence_over_the_http_status() {
        assert_eq!(
            outcome(500, r#"{"reason":"BadDeviceToken"}"#),
            Outcome::DeadToken { code: 52134, reason: "500 BadDeviceToken".to_owned() }
        );
    }

    #[test]
    fn unknown_apns_reason_is_classified_by_the_http_status() {
        for (status, kind, code) in [
            (200, FailureKind::Refused, 52140),
            (301, FailureKind::Refused, 52140),
            (400, FailureKind::Refused, 52140),
            (403, FailureKind::Refused, 52145),
            (404, FailureKind::Refused, 52140),
            (410, FailureKind::DeadToken, 52141),
            (413, FailureKind::Refused, 52138),
            (429, FailureKind::Retry, 52140),
            (500, FailureKind::Retry, 52140),
            (502, FailureKind::Retry, 52140),
            (503, FailureKind::Retry, 52139),
        ] {
            let after = Some(Duration::from_secs(7));
            let expected = kind.outcome(code, format!("{status} News"), after);
            assert_eq!(outcome(status, r#"{"reason":"News"}"#), expected);
            for body in ["", "<html>", "null", "[]", r#"{"reason":7}"#, "\u{0}"] {
                assert_eq!(outcome(status, body), kind.outcome(code, status.to_string(), after), "{body}");
            }
        }
    }

    #[test]
    fn outcome_reports_when_the_device_token_became_invalid() {
        let reason = |timestamp| match outcome(
            410,
            &format!(r#"{{"reason":"Unregistered","timestamp":{timestamp}}}"#),
        ) {
            Outcome::DeadToken { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason("1767225600000"), "410 Unregistered since 2026-01-01T00:00:00Z");
        assert_eq!(reason("\"x\""), "410 Unregistered");
        assert!(reason("9223372036854775807").starts_with("410 Unregistered since "));
    }

    #[test]
    fn device_token_registered_after_the_reported_time_is_not_dead() {
        for reason in ["Unregistered", "ExpiredToken", "News"] {
            let outcome_at =
                |timestamp| outcome(410, &format!(r#"{{"reason":"{reason}","timestamp":{timestamp}}}"#));
            assert!(
                matches!(outcome_at(1_767_225_600_000_i64), Outcome::DeadToken { code: 52141, .. }),
                "{reason}"
            );
            let text = format!(
                "410 {reason} since 2025-12-31T23:59:59Z, but the device registered its token at 2026-01-01T00:00:00Z"
            );
            let after = Some(Duration::from_secs(7));
            let retry = Outcome::Retry { after, code: 52141, reason: text };
            assert_eq!(outcome_at(1_767_225_599_999), retry);
            // Some relays send seconds instead of milliseconds. Read as milliseconds, the time is in 1970, so
            // the report counts as outdated.
            assert!(matches!(outcome_at(1_767_225_600), Outcome::Retry { .. }), "{reason}");
        }
    }
}
