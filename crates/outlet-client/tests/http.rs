//! Tests outlets that send one HTTP request for each message.

use domain::{Channel, Secret};
use harness::stand_in::Authority;
use harness::{Answer, Receiver};
use outlet_client::{HttpParameters, Message, Outcome, OutletParameters};
use serde_json::{Value, json};

use crate::fixtures::{
    LONG_TIMEOUT, SHORT_TIMEOUT, TEXT, create_client, describe, mail, settings, text_message,
};

fn parameters(receiver: &Receiver, path: &str) -> HttpParameters {
    HttpParameters { url: receiver.at(path), ..HttpParameters::default() }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn send(parameters: HttpParameters, message: &Message) -> Outcome {
    let settings = settings(OutletParameters::Http(parameters));
    create_client(None, LONG_TIMEOUT).send("MG1", &settings, message).await
}

#[tokio::test]
async fn default_body_has_all_values() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let outcome = send(parameters(&receiver, "/send"), &text_message()).await;
    assert_eq!(outcome, Outcome::Accepted { provider_id: None });
    let call = receiver.call().await;
    assert_eq!(call.line, "POST /send HTTP/1.1");
    assert_eq!(call.header("content-type"), "application/json");
    assert_eq!(call.header("idempotency-key"), "VL11111111111111111111111111111111");
    let mut expected = json!({
        "to": "+4366412345678",
        "from": null,
        "body": TEXT,
        "code": "918273",
        "channel": "sms",
        "locale": "en",
        "attempt_sid": "VL11111111111111111111111111111111",
        "idempotency_key": "VL11111111111111111111111111111111",
    });
    assert_eq!(serde_json::from_str::<Value>(&call.body).unwrap(), expected);

    let form = HttpParameters {
        content_type: text("form"),
        from: text("OwlBank"),
        ..parameters(&receiver, "/send")
    };
    send(form, &text_message()).await;
    let call = receiver.call().await;
    assert_eq!(call.header("content-type"), "application/x-www-form-urlencoded");
    expected["from"] = "OwlBank".into();
    let found: serde_json::Map<_, _> =
        call.form().into_iter().map(|(name, value)| (name, value.into())).collect();
    assert_eq!(Value::Object(found), expected);
}

#[tokio::test]
async fn subject_and_url_for_reports_are_sent_if_there_are_any() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let url = "https://verify.example.com/countersign/v1/DeliveryReports/AA";
    let message = Message { report_url: Some(url.to_owned()), ..mail() };
    send(parameters(&receiver, "/send"), &message).await;
    let sent: Value = serde_json::from_str(&receiver.call().await.body).unwrap();
    assert_eq!((&sent["subject"], &sent["report_url"]), (&json!("Your code"), &json!(url)));

    // A template always has a URL, because gateways refuse a message whose URL for reports is none.
    let query = "/send?dlr={{report_url}}%3Fstatus%3D%25d";
    for (report_url, expected) in [
        (Some("https://a.example/AA".to_owned()), "https%3A%2F%2Fa.example%2FAA"),
        (None, "http%3A%2F%2Freport.invalid%2F"),
    ] {
        let parameters = HttpParameters { method: text("GET"), ..parameters(&receiver, query) };
        send(parameters, &Message { report_url, ..text_message() }).await;
        let line = format!("GET /send?dlr={expected}%3Fstatus%3D%25d HTTP/1.1");
        assert_eq!(receiver.call().await.line, line);
    }
}

#[tokio::test]
async fn templates_fill_query_headers_and_body() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let parameters = HttpParameters {
        method: text("PUT"),
        headers: vec!["X-Api-Key: {{secret}}".to_owned(), "X-Id: {{attempt_sid}}".to_owned()],
        secret: Some(Secret::new("hunter2".to_owned())),
        body: text(r#"{"to":["{{to}}"],"text":"{{body}}","by":"{{channel}}"}"#),
        ..parameters(&receiver, "/send?key={{secret}}&service={{service}}&from={{from}}")
    };
    let message = Message {
        text: "a \"quote\" \\ and \n more: 918273".to_owned(),
        service_name: "Owl & Bank/ü".to_owned(),
        ..text_message()
    };
    send(parameters, &message).await;
    let call = receiver.call().await;
    assert_eq!(call.line, "PUT /send?key=hunter2&service=Owl%20%26%20Bank%2F%C3%BC&from= HTTP/1.1");
    assert_eq!(call.header("x-api-key"), "hunter2");
    assert_eq!(call.header("x-id"), "VL11111111111111111111111111111111");
    let body: Value = serde_json::from_slice(&call.bytes()).unwrap();
    assert_eq!(body, json!({ "to": ["+4366412345678"], "text": message.text, "by": "sms" }));
}

#[tokio::test]
async fn get_request_has_everything_in_its_query() {
    let mut receiver = Receiver::start([Answer::of("202 Accepted", "", "0: Accepted for delivery")]);
    let parameters = HttpParameters {
        method: text("GET"),
        success_text: text("Accepted"),
        ..parameters(&receiver, "/cgi-bin/sendsms?username=owl&to={{to}}&text={{body}}")
    };
    assert_eq!(describe(&send(parameters, &text_message()).await), "accepted None");
    let call = receiver.call().await;
    let query = "username=owl&to=%2B4366412345678&text=Owl%20Bank%3A%20918273%20is%20your%20code.";
    assert_eq!(call.line, format!("GET /cgi-bin/sendsms?{query} HTTP/1.1"));
    assert_eq!(call.body, "");
}

#[tokio::test]
async fn requests_are_authenticated() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let url = format!("http://owl:hunter2@127.0.0.1:{}/send", receiver.port);
    send(HttpParameters { url, ..HttpParameters::default() }, &text_message()).await;
    assert_eq!(receiver.call().await.header("authorization"), "Basic b3dsOmh1bnRlcjI=");
    let bearer = HttpParameters {
        auth: text("bearer"),
        secret: Some(Secret::new("hunter2".to_owned())),
        ..parameters(&receiver, "/send")
    };
    send(bearer, &text_message()).await;
    assert_eq!(receiver.call().await.header("authorization"), "Bearer hunter2");
}

#[tokio::test]
async fn success_and_id_are_found_in_json() {
    let with_rule = |receiver: &Receiver| HttpParameters {
        success_pointer: text("/data/0/status"),
        success_value: text("OK"),
        id_pointer: text("/data/0/id"),
        ..parameters(receiver, "/send")
    };
    for (body, expected) in [
        (r#"{"data":[{"status":"OK","id":17}]}"#, "accepted Some(\"17\")"),
        (r#"{"data":[{"status":"OK","id":"a-1"}]}"#, "accepted Some(\"a-1\")"),
        (r#"{"data":[{"status":"OK"}]}"#, "accepted None"),
        (r#"{"data":[{"status":"ERR"}]}"#, r#"refused 30008 HTTP 200: {"data":[{"status":"ERR"}]}"#),
        ("ok", "refused 30008 HTTP 200: ok"),
    ] {
        let receiver = Receiver::start([Answer::of("200 OK", "", body)]);
        assert_eq!(describe(&send(with_rule(&receiver), &text_message()).await), expected);
    }
}

#[tokio::test]
async fn failures_are_classified_by_status_and_do_not_reveal_the_message() {
    let echo = format!("bad message to 0066412345678: {TEXT}");
    let cases = [
        (Answer::of("400 Bad Request", "", &echo), "refused 30008 HTTP 400: bad message to 00…: …"),
        (Answer::of("200 OK", "", "Error"), "refused 30008 HTTP 200: Error"),
        (Answer::of("408 Request Timeout", "", ""), "retry None 30008 HTTP 408"),
        (Answer::of("429 Slow", "Retry-After: 100000\r\n", ""), "retry Some(3600s) 30008 HTTP 429"),
        (Answer::of("500 Error", "", "key hunter2"), "retry None 30008 HTTP 500: key …"),
    ];
    for (answer, expected) in cases {
        let receiver = Receiver::start([answer]);
        let parameters = HttpParameters {
            auth: text("bearer"),
            secret: Some(Secret::new("hunter2".to_owned())),
            success_text: text("Success"),
            ..parameters(&receiver, "/send")
        };
        assert_eq!(describe(&send(parameters, &text_message()).await), expected);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Receiver::start([Answer::ok()]);
    let location = format!("Location: {}\r\n", target.at("/"));
    let receiver = Receiver::start([Answer::of("307 Temporary Redirect", &location, "")]);
    let outcome = send(parameters(&receiver, "/"), &text_message()).await;
    assert_eq!(describe(&outcome), "refused 30008 HTTP 307");
    assert!(target.calls().is_empty());
}

#[tokio::test]
async fn lost_connections_and_slow_servers_are_tried_again() {
    let receiver = Receiver::start([Answer::silence(), Answer::HangUp(String::new())]);
    let settings = settings(OutletParameters::Http(parameters(&receiver, "/send?code={{code}}")));
    let outcome = create_client(None, SHORT_TIMEOUT).send("MG1", &settings, &text_message()).await;
    assert_eq!(describe(&outcome), "retry None 30008 timed out waiting for a response");
    let outcome = create_client(None, LONG_TIMEOUT).send("MG1", &settings, &text_message()).await;
    assert!(describe(&outcome).starts_with("retry None 30008 "), "{outcome:?}");
}

#[tokio::test]
async fn status_counts_even_if_the_rest_of_the_response_is_lost() {
    let cut = |status: &str| Answer::HangUp(format!("HTTP/1.1 {status}\r\nContent-Length: 10\r\n\r\nok"));
    let receiver = Receiver::start([cut("200 OK"), cut("400 Bad Request"), cut("503 Service Unavailable")]);
    for expected in ["accepted None", "refused 30008 HTTP 400: ok", "retry None 30008 HTTP 503: ok"] {
        let outcome = send(parameters(&receiver, "/send"), &text_message()).await;
        assert_eq!(describe(&outcome), expected);
    }
}

#[tokio::test]
async fn server_certificates_are_checked() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut config = authority.server(&authority, rustls::ALL_VERSIONS);
    config.alpn_protocols.clear();
    let receiver = Receiver::with_tls(config, [Answer::ok()]);
    let url = format!("https://localhost:{}/send", receiver.port);
    let settings = settings(OutletParameters::Http(HttpParameters { url, ..HttpParameters::default() }));
    let send = async |authority| {
        let outcome =
            create_client(Some(authority), LONG_TIMEOUT).send("MG1", &settings, &text_message()).await;
        describe(&outcome)
    };
    assert_eq!(send(&authority).await, "accepted None");
    let refused = send(&other).await;
    assert!(refused.contains("invalid peer certificate: UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn mail_and_calls_can_be_sent_by_a_gateway() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let body = text(r#"{"to":"{{to}}","subject":"{{subject}}","channel":"{{channel}}"}"#);
    let parameters = HttpParameters { body, ..parameters(&receiver, "/") };
    send(parameters.clone(), &mail()).await;
    let sent: Value = serde_json::from_str(&receiver.call().await.body).unwrap();
    assert_eq!(sent, json!({ "to": "ann@example.com", "subject": "Your code", "channel": "email" }));
    send(parameters, &Message { channel: Channel::Call, ..text_message() }).await;
    let sent: Value = serde_json::from_str(&receiver.call().await.body).unwrap();
    assert_eq!(sent["channel"], "call");
}
