//! Tests outlets with the shape of Twilio's API.

use std::time::Duration;

use domain::{Channel, Secret};
use harness::{Answer, Call, Receiver};
use outlet_client::{Message, Outcome, OutletParameters, OutletSettings, TwilioParameters};

use crate::fixtures::{
    LONG_TIMEOUT, SHORT_TIMEOUT, TEXT, create_client, describe, mail, settings, text_message,
};

const ACCOUNT: &str = "AC11111111111111111111111111111111";
const SERVICE: &str = "MG11111111111111111111111111111111";

fn parameters(receiver: &Receiver) -> TwilioParameters {
    TwilioParameters {
        url: Some(receiver.at("")),
        account_sid: ACCOUNT.to_owned(),
        secret: Some(Secret::new("hunter2".to_owned())),
        from: Some("+14155552671".to_owned()),
        ..TwilioParameters::default()
    }
}

fn created() -> Answer {
    Answer::of("201 Created", "", r#"{"sid":"SM1","status":"queued"}"#)
}

async fn send(settings: TwilioParameters, message: &Message) -> Outcome {
    let settings = OutletSettings::new(OutletParameters::Twilio(settings)).unwrap();
    create_client(None, LONG_TIMEOUT).send("MG1", &settings, message).await
}

fn form(call: &Call) -> Vec<(String, String)> {
    call.form()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn text_message_is_one_request() {
    let mut receiver = Receiver::start([created()]);
    let outcome = send(parameters(&receiver), &text_message()).await;
    assert_eq!(outcome, Outcome::Accepted { provider_id: Some("SM1".to_owned()) });
    let call = receiver.call().await;
    assert_eq!(call.line, format!("POST /2010-04-01/Accounts/{ACCOUNT}/Messages.json HTTP/1.1"));
    let basic = "Basic QUMxMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTpodW50ZXIy";
    assert_eq!(call.header("authorization"), basic);
    assert_eq!(call.header("content-type"), "application/x-www-form-urlencoded");
    for name in ["idempotency-key", "i-twilio-idempotency-token"] {
        assert_eq!(call.header(name), "VL11111111111111111111111111111111");
    }
    let expected = pairs(&[
        ("To", "+4366412345678"),
        ("From", "+14155552671"),
        ("Body", TEXT),
        ("ValidityPeriod", "600"),
    ]);
    assert_eq!(form(&call), expected);
}

#[tokio::test]
async fn messaging_service_is_the_sender_unless_the_message_has_its_own() {
    let mut receiver = Receiver::start([created()]);
    let parameters = TwilioParameters {
        messaging_service_sid: Some(SERVICE.to_owned()),
        user: Some("SK1".to_owned()),
        ..parameters(&receiver)
    };
    send(parameters.clone(), &text_message()).await;
    let call = receiver.call().await;
    assert_eq!(call.value("MessagingServiceSid").as_deref(), Some(SERVICE));
    assert_eq!(call.value("From"), None);
    assert_eq!(call.header("authorization"), "Basic U0sxOmh1bnRlcjI=");
    send(parameters, &Message { from: Some("OwlBank".to_owned()), ..text_message() }).await;
    let call = receiver.call().await;
    assert_eq!(call.value("From").as_deref(), Some("OwlBank"));
    assert_eq!(call.value("MessagingServiceSid"), None);
}

#[tokio::test]
async fn whatsapp_message_names_the_channel_in_both_numbers() {
    let mut receiver = Receiver::start([created()]);
    for from in [None, Some("whatsapp:+14155552671".to_owned())] {
        send(parameters(&receiver), &Message { channel: Channel::Whatsapp, from, ..text_message() }).await;
        let call = receiver.call().await;
        assert_eq!(call.value("To").as_deref(), Some("whatsapp:+4366412345678"));
        assert_eq!(call.value("From").as_deref(), Some("whatsapp:+14155552671"));
    }
}

#[tokio::test]
async fn call_has_instructions_and_keys() {
    let mut receiver = Receiver::start([created()]);
    let send_digits = Some("ww1".to_owned());
    let message = Message { channel: Channel::Call, send_digits, ..text_message() };
    assert_eq!(describe(&send(parameters(&receiver), &message).await), "accepted Some(\"SM1\")");
    let call = receiver.call().await;
    assert_eq!(call.line, format!("POST /2010-04-01/Accounts/{ACCOUNT}/Calls.json HTTP/1.1"));
    let expected = pairs(&[
        ("To", "+4366412345678"),
        ("From", "+14155552671"),
        ("Twiml", "<Response><Say>9, 1, 8, 2, 7, 3</Say></Response>"),
        ("SendDigits", "ww1"),
    ]);
    assert_eq!(form(&call), expected);
}

#[tokio::test]
async fn messages_and_calls_name_the_url_for_reports() {
    let mut receiver = Receiver::start([created()]);
    let url = "https://verify.example.com/countersign/v1/DeliveryReports/AA";
    for channel in [Channel::Sms, Channel::Whatsapp, Channel::Call] {
        let message = Message { channel, report_url: Some(url.to_owned()), ..text_message() };
        send(parameters(&receiver), &message).await;
        assert_eq!(receiver.call().await.value("StatusCallback").as_deref(), Some(url));
    }
}

#[tokio::test]
async fn channel_without_a_sender_is_refused_without_a_request() {
    let receiver = Receiver::start([created()]);
    let messaging_service_sid = Some(SERVICE.to_owned());
    let service = TwilioParameters { from: None, messaging_service_sid, ..parameters(&receiver) };
    let call = Message { channel: Channel::Call, ..text_message() };
    let reason = "refused 30008 the outlet has no sender for the channel";
    assert_eq!(describe(&send(service, &call).await), format!("{reason} call"));
    assert_eq!(describe(&send(parameters(&receiver), &mail()).await), format!("{reason} email"));
    assert!(receiver.calls().is_empty());
}

#[tokio::test]
async fn failures_are_classified_by_status() {
    let refusal = r#"{"code":21211,"message":"The 'To' number +4366412345678 is not valid","status":400}"#;
    let redirect = "Location: https://example.com/\r\n";
    for (answer, expected) in [
        (
            Answer::of("400 Bad Request", "", refusal),
            "refused 21211 HTTP 400: The 'To' number … is not valid",
        ),
        (Answer::of("401 Unauthorized", "", "who?"), "refused 30008 HTTP 401: who?"),
        (Answer::of("404 Not Found", "", ""), "refused 30008 HTTP 404"),
        (Answer::of("302 Found", redirect, ""), "refused 30008 HTTP 302"),
        (Answer::of("200 OK", "", "<html>"), "refused 30008 HTTP 200: the response has no sid"),
        (
            Answer::of("429 Too Many Requests", "Retry-After: 7\r\n", r#"{"code":20429,"message":"slow"}"#),
            "retry Some(7s) 20429 HTTP 429: slow",
        ),
        (Answer::of("503 Unavailable", "", "later"), "retry None 30008 HTTP 503: later"),
    ] {
        let mut receiver = Receiver::start([answer]);
        assert_eq!(describe(&send(parameters(&receiver), &text_message()).await), expected);
        receiver.call().await;
        assert_eq!(receiver.calls_left(), 0);
    }
}

#[tokio::test]
async fn lost_connections_and_slow_servers_are_tried_again() {
    let mut receiver = Receiver::start([Answer::silence()]);
    let settings = settings(OutletParameters::Twilio(parameters(&receiver)));
    let client = create_client(None, SHORT_TIMEOUT);
    let outcome = client.send("MG1", &settings, &text_message()).await;
    assert_eq!(describe(&outcome), "retry None 30008 timed out waiting for a response");
    receiver.down().await;
    let outcome = client.send("MG1", &settings, &text_message()).await;
    assert!(describe(&outcome).starts_with("retry None 30008 error sending request"), "{outcome:?}");
}

#[tokio::test]
async fn endless_response_is_cut() {
    let flood = "HTTP/1.1 400 Bad Request\r\nContent-Length: 1000000000000\r\n\r\n";
    let receiver = Receiver::start([Answer::Flood(flood.to_owned())]);
    let outcome =
        tokio::time::timeout(Duration::from_secs(20), send(parameters(&receiver), &text_message())).await;
    assert!(describe(&outcome.unwrap()).starts_with("refused 30008 HTTP 400: xxx"));
}
