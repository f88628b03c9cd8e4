//! Messages for the tests of this crate.

use domain::verifications::{MailOptions, OneTimeCode};
use domain::{Channel, Recipient};

use crate::message::Message;

/// Returns a text message with tricky characters.
pub(crate) fn text_message() -> Message {
    Message {
        channel: Channel::Sms,
        to: Recipient::from_stored("+4366412345678".to_owned()),
        text: "Owl \"Bank\": 918273 is your code.".to_owned(),
        subject: "Your code".to_owned(),
        twiml: "<Response><Say>9, 1, 8, 2, 7, 3</Say></Response>".to_owned(),
        code: OneTimeCode::from_sealed("918273".to_owned()),
        service_name: "Owl \"Bank\"".to_owned(),
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
        to: Recipient::from_stored("ann@Example.com".to_owned()),
        ..text_message()
    }
}
