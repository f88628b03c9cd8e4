//! Fixtures for the tests of all kinds of outlets.

use std::time::Duration;

use domain::verifications::{MailOptions, OneTimeCode};
use domain::{Channel, Recipient};
use harness::stand_in::Authority;
use outlet_client::{ClientSettings, Message, Outcome, OutletClient, OutletParameters, OutletSettings};

/// Timeout for tests in which none is expected, even on a busy machine.
pub(crate) const LONG_TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout for tests that wait for it to elapse.
pub(crate) const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

/// The text of the messages.
pub(crate) const TEXT: &str = "Owl Bank: 918273 is your code.";

/// Returns a text message.
pub(crate) fn text_message() -> Message {
    Message {
        channel: Channel::Sms,
        to: Recipient::from_stored("+4366412345678".to_owned()),
        text: TEXT.to_owned(),
        subject: "Your code".to_owned(),
        twiml: "<Response><Say>9, 1, 8, 2, 7, 3</Say></Response>".to_owned(),
        code: OneTimeCode::from_sealed("918273".to_owned()),
        service_name: "Owl Bank".to_owned(),
        locale: "en".to_owned(),
        attempt_sid: "VL11111111111111111111111111111111".parse().unwrap(),
        validity_seconds: 600,
        from: None,
        send_digits: None,
        key_press_url: None,
        report_url: None,
        mail: MailOptions::default(),
    }
}

/// Returns a mail.
pub(crate) fn mail() -> Message {
    Message {
        channel: Channel::Email,
        to: Recipient::from_stored("ann@example.com".to_owned()),
        ..text_message()
    }
}

/// Returns a client that trusts `authority` in addition to the system's.
pub(crate) fn create_client(authority: Option<&Authority>, timeout: Duration) -> OutletClient {
    let extra_ca = authority.map(|authority| authority.pem().into_bytes());
    OutletClient::new(ClientSettings { timeout, connect_timeout: timeout, extra_ca }).unwrap()
}

/// Returns valid settings.
pub(crate) fn settings(parameters: OutletParameters) -> OutletSettings {
    OutletSettings::new(parameters).unwrap()
}

/// Checks that an outcome reveals neither the message nor the secret of the outlet, and returns its kind, code and
/// reason, or the provider's ID.
pub(crate) fn describe(outcome: &Outcome) -> String {
    let text = match outcome {
        Outcome::Accepted { provider_id } => format!("accepted {provider_id:?}"),
        Outcome::Retry { after, code, reason } => format!("retry {after:?} {code} {reason}"),
        Outcome::Refused { code, reason } => format!("refused {code} {reason}"),
    };
    for hidden in ["918273", "your code", "66412345678", "ann@example.com", "hunter2"] {
        assert!(!text.contains(hidden), "{text}");
    }
    text
}
