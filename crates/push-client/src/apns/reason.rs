//! Why Apple did not take a push: the one table of its reasons, and what each of them means here.

use domain::Timestamp;
use serde_json::Value;

use crate::outcome::{Outcome, Verdict};
use crate::transport::{Reply, excerpt};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $status:literal $verdict:ident $code:literal;)*) => {
        /// Apple's reasons (developer.apple.com, "Handling notification responses from APNs"), in Apple's
        /// order.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// One that is not in Apple's list, or not yet; empty where Apple gave none.
            Other(String),
        }

        impl Reason {
            /// All reasons that are known here.
            pub const KNOWN: &[Self] = &[$(Self::$name),*];

            /// The reason of this name.
            pub fn of(name: &str) -> Self {
                match name {
                    $(stringify!($name) => Self::$name,)*
                    other => Self::Other(excerpt(other)),
                }
            }

            /// Its name.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$name => stringify!($name),)*
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

reasons! {
    /// `apns-collapse-id` is too long.
    BadCollapseId 400 Refused 52140;
    /// No token of a device, or one of the other environment. Which of the two, Apple does not say; for
    /// this credential the token is dead either way.
    BadDeviceToken 400 Gone 52134;
    /// `apns-expiration` is no number.
    BadExpirationDate 400 Refused 52140;
    /// `apns-id` is no UUID.
    BadMessageId 400 Refused 52140;
    /// `apns-priority` is none that exists.
    BadPriority 400 Refused 52140;
    /// `apns-topic` is no topic.
    BadTopic 400 Refused 52143;
    /// The token is of another app than the topic.
    DeviceTokenNotForTopic 400 Refused 52143;
    /// A header twice.
    DuplicateHeaders 400 Refused 52140;
    /// The connection was idle for too long.
    IdleTimeout 400 Retry 52140;
    /// `apns-push-type` is none that exists.
    InvalidPushType 400 Refused 52140;
    /// The path has no token.
    MissingDeviceToken 400 Refused 52142;
    /// `apns-topic` is missing, and the certificate has more than one.
    MissingTopic 400 Refused 52143;
    /// There is no payload.
    PayloadEmpty 400 Refused 52136;
    /// The credential may not push to this topic.
    TopicDisallowed 400 Refused 52143;
    /// The certificate is bad.
    BadCertificate 403 Refused 52145;
    /// The certificate is for the other environment.
    BadCertificateEnvironment 403 Refused 52145;
    /// The provider token is over an hour old.
    ExpiredProviderToken 403 Retry 52148;
    /// Not allowed.
    Forbidden 403 Refused 52145;
    /// The provider token is bad, or its signature does not hold.
    InvalidProviderToken 403 Refused 52149;
    /// Neither a certificate nor a provider token.
    MissingProviderToken 403 Refused 52149;
    /// The connection is tied to another key; a new one is not.
    UnrelatedKeyIdInToken 403 Retry 52149;
    /// The key is for the other environment.
    BadEnvironmentKeyIdInToken 403 Refused 52149;
    /// The same, in another spelling that has been seen.
    BadEnvironmentKeyInToken 403 Refused 52149;
    /// No such path.
    BadPath 404 Refused 52140;
    /// Not a POST.
    MethodNotAllowed 405 Refused 52140;
    /// The token has expired.
    ExpiredToken 410 Gone 52141;
    /// The app was removed, or may not notify any more.
    Unregistered 410 Gone 52141;
    /// Over 4096 bytes.
    PayloadTooLarge 413 Refused 52138;
    /// Another provider token within 20 minutes.
    TooManyProviderTokenUpdates 429 Retry 52147;
    /// Too many pushes to one device in a row.
    TooManyRequests 429 Retry 52140;
    /// Apple's fault.
    InternalServerError 500 Retry 52144;
    /// Not now.
    ServiceUnavailable 503 Retry 52139;
    /// The server is being shut down.
    Shutdown 503 Retry 52139;
}

impl Reason {
    /// How it is to be taken, and the code for the debugger. What is not in the table goes by its status.
    pub const fn verdict(&self, status: u16) -> (Verdict, u32) {
        match (self.entry(), status) {
            (Some((_, verdict, code)), _) => (verdict, code),
            (None, 403) => (Verdict::Refused, 52145),
            (None, 410) => (Verdict::Gone, 52141),
            (None, 413) => (Verdict::Refused, 52138),
            (None, 503) => (Verdict::Retry, 52139),
            (None, 408 | 429 | 500..) => (Verdict::Retry, 52140),
            (None, _) => (Verdict::Refused, 52140),
        }
    }
}

/// A push that Apple did not take.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) status: u16,
    pub(super) reason: Reason,
    /// Since when the device's token has been dead, which Apple says with 410.
    pub(super) since: Option<Timestamp>,
    /// When the device sent this token.
    registered_at: Timestamp,
    pub(super) after: Option<std::time::Duration>,
}

impl Rejection {
    pub(super) fn read(reply: &Reply, registered_at: Timestamp, now: Timestamp) -> Self {
        let body = reply.json();
        let milliseconds = body.get("timestamp").and_then(Value::as_i64);
        Self {
            status: reply.status,
            reason: Reason::of(body.get("reason").and_then(Value::as_str).unwrap_or_default()),
            since: milliseconds.map(|since| Timestamp::from_micros(since.saturating_mul(1000))),
            registered_at,
            after: reply.retry_after(now),
        }
    }

    /// Whether Apple speaks of a time before the device sent this token, so that the token may be alive
    /// (docs/protocol/decisions.md, No. 36).
    fn is_outdated(&self) -> bool {
        self.since.is_some_and(|since| since < self.registered_at)
    }
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        let (verdict, code) = match rejection.reason.verdict(rejection.status) {
            (Verdict::Gone, code) if rejection.is_outdated() => (Verdict::Retry, code),
            entry => entry,
        };
        let mut words = format!("{} {}", rejection.status, rejection.reason.name());
        if let Some(since) = rejection.since {
            words.push_str(&format!(" since {since}"));
        }
        if rejection.is_outdated() {
            words.push_str(&format!(", but the device sent its token at {}", rejection.registered_at));
        }
        verdict.outcome(code, words.trim_end(), rejection.after)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::*;

    fn outcome(status: u16, body: &str) -> Outcome {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        let reply = Reply { status, headers, body: body.as_bytes().to_vec() };
        Rejection::read(&reply, REGISTERED, Timestamp::from_seconds(0)).into()
    }

    /// The first second of 2026.
    const REGISTERED: Timestamp = Timestamp::from_seconds(1_767_225_600);

    /// Written out once more, so that nobody changes an entry by accident.
    #[test]
    fn every_entry() {
        use Verdict::{Gone, Refused, Retry};
        let expected = [
            ("BadCollapseId", 400, Refused, 52140),
            ("BadDeviceToken", 400, Gone, 52134),
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
            ("ExpiredToken", 410, Gone, 52141),
            ("Unregistered", 410, Gone, 52141),
            ("PayloadTooLarge", 413, Refused, 52138),
            ("TooManyProviderTokenUpdates", 429, Retry, 52147),
            ("TooManyRequests", 429, Retry, 52140),
            ("InternalServerError", 500, Retry, 52144),
            ("ServiceUnavailable", 503, Retry, 52139),
            ("Shutdown", 503, Retry, 52139),
        ];
        assert_eq!(expected.map(|(name, ..)| Reason::of(name)), Reason::KNOWN);
        for (name, status, verdict, code) in expected {
            assert_eq!(Reason::of(name).entry(), Some((status, verdict, code)), "{name}");
            assert_eq!(Reason::of(name).name(), name);
            assert_eq!(
                outcome(status, &format!(r#"{{"reason":"{name}"}}"#)),
                verdict.outcome(code, format!("{status} {name}"), Some(Duration::from_secs(7)))
            );
        }
    }

    #[test]
    fn a_reason_counts_for_more_than_the_status() {
        assert_eq!(
            outcome(500, r#"{"reason":"BadDeviceToken"}"#),
            Outcome::Gone { code: 52134, reason: "500 BadDeviceToken".to_owned() }
        );
    }

    #[test]
    fn what_is_not_in_the_table_goes_by_its_status() {
        for (status, verdict, code) in [
            (200, Verdict::Refused, 52140),
            (301, Verdict::Refused, 52140),
            (400, Verdict::Refused, 52140),
            (403, Verdict::Refused, 52145),
            (404, Verdict::Refused, 52140),
            (410, Verdict::Gone, 52141),
            (413, Verdict::Refused, 52138),
            (429, Verdict::Retry, 52140),
            (500, Verdict::Retry, 52140),
            (502, Verdict::Retry, 52140),
            (503, Verdict::Retry, 52139),
        ] {
            let after = Some(Duration::from_secs(7));
            let news = verdict.outcome(code, format!("{status} News"), after);
            assert_eq!(outcome(status, r#"{"reason":"News"}"#), news);
            for body in ["", "<html>", "null", "[]", r#"{"reason":7}"#, "\u{0}"] {
                assert_eq!(outcome(status, body), verdict.outcome(code, status.to_string(), after), "{body}");
            }
        }
    }

    #[test]
    fn tells_since_when_a_token_has_been_dead() {
        let reason = |timestamp| match outcome(
            410,
            &format!(r#"{{"reason":"Unregistered","timestamp":{timestamp}}}"#),
        ) {
            Outcome::Gone { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason("1767225600000"), "410 Unregistered since 2026-01-01T00:00:00Z");
        assert_eq!(reason("\"x\""), "410 Unregistered");
        assert!(reason("9223372036854775807").starts_with("410 Unregistered since "));
    }

    #[test]
    fn token_that_was_sent_after_apples_timestamp_is_not_dead() {
        for reason in ["Unregistered", "ExpiredToken", "News"] {
            let told =
                |timestamp| outcome(410, &format!(r#"{{"reason":"{reason}","timestamp":{timestamp}}}"#));
            assert!(matches!(told(1_767_225_600_000_i64), Outcome::Gone { code: 52141, .. }), "{reason}");
            let words = format!(
                "410 {reason} since 2025-12-31T23:59:59Z, but the device sent its token at 2026-01-01T00:00:00Z"
            );
            let after = Some(Duration::from_secs(7));
            let retry = Outcome::RetryAfter { after, code: 52141, reason: words };
            assert_eq!(told(1_767_225_599_999), retry);
            // Seconds by mistake, as some relays have them, are long ago too.
            assert!(matches!(told(1_767_225_600), Outcome::RetryAfter { .. }), "{reason}");
        }
    }
}
