//! The reasons with which APNs rejects a push, and how each of them is handled.

use domain::Timestamp;
use serde_json::Value;

use crate::outcome::{FailureKind, Outcome};
use crate::transport::{Response, excerpt};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $status:literal $kind:ident $code:literal;)*) => {
        /// A reason of APNs (developer.apple.com, "Handling notification responses from APNs"). The order is
        /// Apple's.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// A reason that is not in Apple's list. Empty if the response has no reason.
            Other(String),
        }

        impl Reason {
            /// All reasons in the table.
            pub const KNOWN: &[Self] = &[$(Self::$name),*];

            /// Returns the reason with this name.
            pub fn from_name(name: &str) -> Self {
                match name {
                    $(stringify!($name) => Self::$name,)*
                    other => Self::Other(excerpt(other)),
                }
            }

            /// Returns Apple's name of the reason.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other(name) => name,
                }
            }

            /// Returns the HTTP status, the failure kind and the debugger code, or `None` for an unknown
            /// reason.
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
    /// `apns-collapse-id` is too long.
    BadCollapseId 400 Refused 52140;
    /// The device token is invalid or belongs to the other environment. APNs does not say which; for this
    /// credential the token is dead either way.
    BadDeviceToken 400 DeadToken 52134;
    /// `apns-expiration` is not a number.
    BadExpirationDate 400 Refused 52140;
    /// `apns-id` is not a UUID.
    BadMessageId 400 Refused 52140;
    /// `apns-priority` has an unknown value.
    BadPriority 400 Refused 52140;
    /// `apns-topic` is not a valid topic.
    BadTopic 400 Refused 52143;
    /// The device token belongs to a different app than the topic.
    DeviceTokenNotForTopic 400 Refused 52143;
    /// A header is repeated.
    DuplicateHeaders 400 Refused 52140;
    /// The connection was idle for too long.
    IdleTimeout 400 Retry 52140;
    /// `apns-push-type` has an unknown value.
    InvalidPushType 400 Refused 52140;
    /// The path has no device token.
    MissingDeviceToken 400 Refused 52142;
    /// `apns-topic` is missing, and the certificate has more than one.
    MissingTopic 400 Refused 52143;
    /// The payload is empty.
    PayloadEmpty 400 Refused 52136;
    /// The credential may not push to this topic.
    TopicDisallowed 400 Refused 52143;
    /// The certificate is invalid.
    BadCertificate 403 Refused 52145;
    /// The certificate is for the other environment.
    BadCertificateEnvironment 403 Refused 52145;
    /// The provider token is over an hour old.
    ExpiredProviderToken 403 Retry 52148;
    /// The action is not allowed.
    Forbidden 403 Refused 52145;
    /// The provider token is malformed, or its signature is invalid.
    InvalidProviderToken 403 Refused 52149;
    /// The request has neither a certificate nor a provider token.
    MissingProviderToken 403 Refused 52149;
    /// The connection is bound to another key. A new connection accepts this one.
    UnrelatedKeyIdInToken 403 Retry 52149;
    /// The key is for the other environment.
    BadEnvironmentKeyIdInToken 403 Refused 52149;
    /// Another observed spelling of [`Self::BadEnvironmentKeyIdInToken`].
    BadEnvironmentKeyInToken 403 Refused 52149;
    /// The path does not exist.
    BadPath 404 Refused 52140;
    /// The method is not POST.
    MethodNotAllowed 405 Refused 52140;
    /// The device token has expired.
    ExpiredToken 410 DeadToken 52141;
    /// The app was removed or may no longer show notifications.
    Unregistered 410 DeadToken 52141;
    /// The payload is larger than 4096 bytes.
    PayloadTooLarge 413 Refused 52138;
    /// The provider token was replaced within 20 minutes.
    TooManyProviderTokenUpdates 429 Retry 52147;
    /// Too many consecutive pushes to one device.
    TooManyRequests 429 Retry 52140;
    /// Internal error of APNs.
    InternalServerError 500 Retry 52144;
    /// APNs is temporarily unavailable.
    ServiceUnavailable 503 Retry 52139;
    /// The server is being shut down.
    Shutdown 503 Retry 52139;
}

impl Reason {
    /// Returns the failure kind and the debugger code. Reasons that are not in the table are classified by
    /// `status`.
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

/// The response of APNs to a push that it rejected.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) status: u16,
    pub(super) reason: Reason,
    /// Since when the device token has been dead. APNs reports it with status 410.
    pub(super) since: Option<Timestamp>,
    /// When the device registered its token.
    registered_at: Timestamp,
    /// The delay that APNs requested in `Retry-After`.
    pub(super) after: Option<std::time::Duration>,
}

impl Rejection {
    /// Parses a response with a status other than 200.
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

    /// Returns whether the report is older than the device's registration, so that the token may be alive
    /// (docs/protocol/decisions.md, No. 36).
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

    /// The first second of 2026.
    const REGISTERED: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Repeats the table, so that no entry is changed by accident.
    #[test]
    fn reason_table_is_unchanged() {
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
    fn known_reason_takes_precedence_over_the_status() {
        assert_eq!(
            outcome(500, r#"{"reason":"BadDeviceToken"}"#),
            Outcome::DeadToken { code: 52134, reason: "500 BadDeviceToken".to_owned() }
        );
    }

    #[test]
    fn unknown_reason_is_classified_by_its_status() {
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
    fn outcome_says_since_when_a_token_has_been_dead() {
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
    fn token_registered_after_the_reported_time_is_not_dead() {
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
            // Some relays send seconds instead of milliseconds. That is long ago and counts as outdated.
            assert!(matches!(outcome_at(1_767_225_600), Outcome::Retry { .. }), "{reason}");
        }
    }
}
