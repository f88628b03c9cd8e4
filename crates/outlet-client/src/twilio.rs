//! Outlets that are compatible with Twilio's API: `Messages.json` for text and WhatsApp messages, `Calls.json` for
//! calls.

use domain::Channel;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use url::form_urlencoded;

use crate::codes;
use crate::message::{Message, Outcome};
use crate::redaction::Redactor;
use crate::settings::TwilioSettings;
use crate::transport::{self, MAX_JSON_BYTES, Response, Transport};

/// Bounds of the parameter `ValidityPeriod`, in seconds.
const VALIDITY_PERIOD: (u32, u32) = (1, 14_400);

/// Sends `message` through an outlet of this kind.
pub(crate) async fn send(http: &Transport, settings: &TwilioSettings, message: &Message) -> Outcome {
    let redactor = Redactor::new(message, Some(settings.secret()));
    let (resource, form) = match message.channel {
        Channel::Call => ("Calls.json", call(settings, message)),
        Channel::Sms | Channel::Whatsapp => ("Messages.json", Some(text_message(settings, message))),
        Channel::Email => ("Messages.json", None),
    };
    let Some(form) = form else {
        let reason = format!("the outlet has no sender for the channel {}", message.channel.as_str());
        return Outcome::Refused { code: codes::UNKNOWN_ERROR, reason };
    };
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let idempotency_key = message.attempt_sid.to_string();
    let request = http
        .request(Method::POST, settings.resource_url(resource))
        .basic_auth(settings.user(), Some(settings.secret().expose()))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("Idempotency-Key", &idempotency_key)
        .header("I-Twilio-Idempotency-Token", &idempotency_key)
        .body(body);
    match Response::to(request, MAX_JSON_BYTES).await {
        Ok(response) => outcome(&response, &redactor),
        Err(reason) => transport::no_response(&reason, &redactor),
    }
}

type Form = Vec<(&'static str, String)>;

/// Returns the parameters of a text message or a WhatsApp message.
fn text_message(settings: &TwilioSettings, message: &Message) -> Form {
    let address = |number: &str| match message.channel {
        Channel::Whatsapp if !number.starts_with("whatsapp:") => format!("whatsapp:{number}"),
        _ => number.to_owned(),
    };
    let mut form = vec![("To", address(message.to.as_str()))];
    match (message.from.as_deref(), settings.messaging_service_sid(), settings.from()) {
        (Some(from), _, _) | (None, None, Some(from)) => form.push(("From", address(from))),
        (None, Some(sid), _) => form.push(("MessagingServiceSid", sid.to_owned())),
        // Settings have a sender or a messaging service.
        (None, None, None) => {}
    }
    let validity = message.validity_seconds.clamp(VALIDITY_PERIOD.0, VALIDITY_PERIOD.1);
    form.extend([("Body", message.text.clone()), ("ValidityPeriod", validity.to_string())]);
    form.extend(message.report_url.clone().map(|url| ("StatusCallback", url)));
    form
}

/// Returns the parameters of a call, or `None` if there is no number from which to call.
fn call(settings: &TwilioSettings, message: &Message) -> Option<Form> {
    let from = message.from.as_deref().or(settings.from())?;
    let mut form = vec![
        ("To", message.to.as_str().to_owned()),
        ("From", from.to_owned()),
        ("Twiml", message.twiml.clone()),
    ];
    form.extend(message.send_digits.clone().map(|digits| ("SendDigits", digits)));
    form.extend(message.report_url.clone().map(|url| ("StatusCallback", url)));
    Some(form)
}

/// Returns the outcome that a response reports.
fn outcome(response: &Response, redactor: &Redactor) -> Outcome {
    let body = response.json();
    if response.is_success() {
        return match transport::provider_id(&body["sid"], redactor) {
            Some(sid) => Outcome::Accepted { provider_id: Some(sid) },
            None => response.failure(codes::UNKNOWN_ERROR, "the response has no sid", redactor),
        };
    }
    let code = body["code"].as_u64().and_then(|code| u32::try_from(code).ok());
    let words = body["message"].as_str().unwrap_or(&response.body);
    response.failure(code.unwrap_or(codes::UNKNOWN_ERROR), words, redactor)
}
