//! What would be sent for a push, for a test server that sends nothing.

use domain::Timestamp;

use crate::apns;
use crate::credential::Credential;
use crate::debugger_codes;
use crate::fcm;
use crate::message::Message;

/// The request that [`PushClient::send`](crate::PushClient::send) would send, without its credential.
pub struct Preview {
    /// Names and values of the headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// Debugger code with which the client would refuse the push without sending it; `None` if it would be sent.
    pub refusal: Option<u32>,
}

impl Preview {
    /// Returns the request to APNs for `message` at `now`. Without a credential, only the message is checked.
    pub fn of_apns(message: &Message, credential: Option<&Credential>, now: Timestamp) -> Self {
        let (headers, body, refusal) = apns::preview(message);
        let is_expired = matches!(credential, Some(Credential::ApnsCertificate(it)) if it.not_after() <= now);
        let expired = is_expired.then_some(debugger_codes::INVALID_CREDENTIAL_CONTENT);
        Self { headers, body, refusal: refusal.or(expired) }
    }

    /// Returns the request to FCM for `message`.
    pub fn of_fcm(message: &Message) -> Self {
        let (body, refusal) = fcm::preview(message);
        Self { headers: vec![("content-type", "application/json".to_owned())], body, refusal }
    }
}

/// A failure of a push provider that a test server simulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedFailure {
    /// The provider cannot be reached.
    Unavailable,
    /// The device token is invalid, because the app was removed.
    Gone,
    /// The provider refuses the credential.
    Refused,
}

impl SimulatedFailure {
    /// Returns the kind of this failure, and its debugger code at APNs.
    pub const fn of_apns(self) -> (crate::FailureKind, u32) {
        match self {
            Self::Unavailable => (crate::FailureKind::Retry, debugger_codes::APNS_UNREACHABLE),
            Self::Gone => apns::Reason::Unregistered.classify(410),
            Self::Refused => (crate::FailureKind::Refused, debugger_codes::APNS_CREDENTIAL),
        }
    }

    /// Returns the kind of this failure, and its debugger code at FCM.
    pub const fn of_fcm(self) -> (crate::FailureKind, u32) {
        match self {
            Self::Unavailable => (crate::FailureKind::Retry, debugger_codes::FCM_UNREACHABLE),
            Self::Gone => fcm::ErrorCode::Unregistered.classify(404),
            Self::Refused => (crate::FailureKind::Refused, debugger_codes::FCM_CREDENTIAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data;

    #[test]
    fn preview_is_what_would_be_sent() {
        let message = test_data::message();
        let apns = Preview::of_apns(&message, None, Timestamp::from_seconds(0));
        let names: Vec<_> = apns.headers.iter().map(|(name, _)| *name).collect();
        assert!(names.starts_with(&["apns-topic", "apns-push-type", "apns-priority", "apns-expiration"]));
        assert!(apns.body.starts_with(br#"{"aps":"#));
        assert_eq!(apns.refusal, None);
        let fcm = Preview::of_fcm(&message);
        assert!(fcm.body.starts_with(br#"{"message":"#));
        assert_eq!(fcm.refusal, None);
    }

    #[test]
    fn preview_of_a_message_that_is_too_long_has_its_code() {
        let long = Message { text: "x".repeat(5000), ..test_data::message() };
        assert_eq!(Preview::of_apns(&long, None, Timestamp::from_seconds(0)).refusal, Some(52138));
        assert_eq!(Preview::of_fcm(&long).refusal, Some(52106));
    }

    #[test]
    fn simulated_failures_have_the_codes_of_the_providers() {
        use crate::FailureKind::{DeadToken, Refused, Retry};
        assert_eq!(SimulatedFailure::Gone.of_fcm(), (DeadToken, 52103));
        assert_eq!(SimulatedFailure::Gone.of_apns(), (DeadToken, 52141));
        assert_eq!(SimulatedFailure::Unavailable.of_fcm().0, Retry);
        assert_eq!(SimulatedFailure::Refused.of_apns().0, Refused);
    }
}
