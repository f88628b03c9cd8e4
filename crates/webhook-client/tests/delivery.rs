//! Tests the request that receivers get, and the outcome of every kind of response and failure.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports a failure")]

mod fixtures;

use std::time::{Duration, Instant};

use domain::webhooks::Condition;
use fixtures::{auth_token, callback_url, client, now, send, settings, url_at};
use harness::{Answer, Receiver, SilentPort};
use tokio::net::TcpSocket;
use webhook_client::{Content, Outcome, Request, Settings, WebhookClient, sign};

/// A limit that is longer than any step here should take, but shorter than the default timeouts.
const MAX_STEP_DURATION: Duration = Duration::from_secs(12);

#[tokio::test]
async fn receiver_gets_the_signed_form_and_documented_headers() {
    let mut receiver = Receiver::start([Answer::of("201 Created", "X-Node: 7\r\n", "thanks")]);
    let url = url_at(&receiver, "/verify/hook?tenant=7&x=%7e#rc=2");
    let parameters = [
        ("type", "challenge.approved"),
        ("entity_identity", "user-0001-abcd"),
        ("factor_friendly_name", "Zoë’s phone + tablet 50% & more = 📱"),
        ("challenge_details", r#"{"message":"a\nb\u0000","fields":[]}"#),
        ("raw", "line\r\nfeed\t;~*'()!"),
        ("empty", ""),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let token = auth_token();
    let content = Content::Form(&parameters);
    let request = Request { url: &url, content, auth_token: &token, idempotency_token: "7f1c" };
    let attempt = client().send(&request, now()).await;

    let call = receiver.call().await;
    assert_eq!(call.line, "POST /verify/hook?tenant=7&x=%7e HTTP/1.1");
    assert_eq!(call.header("Host"), format!("127.0.0.1:{}", receiver.port));
    assert_eq!(call.header("Content-Type"), "application/x-www-form-urlencoded");
    assert_eq!(call.header("User-Agent"), "TwilioProxy/1.1");
    assert_eq!(call.header("Accept"), "*/*");
    assert_eq!(call.header("I-Twilio-Idempotency-Token"), "7f1c");
    assert_eq!(call.form(), parameters);
    let configured = format!("http://127.0.0.1:{}/verify/hook?tenant=7&x=%7e", receiver.port);
    assert_eq!(call.header("X-Twilio-Signature"), sign(&token, &configured, &call.form()));
    assert_eq!(call.headers.len(), 7, "Content-Length is the only other header: {call:?}");

    assert_eq!(attempt.outcome, Outcome::Delivered);
    let response = attempt.response.unwrap();
    assert_eq!((response.status, response.body.as_slice(), response.truncated), (201, &b"thanks"[..], false));
    assert!(response.headers.contains(&("x-node".into(), "7".into())));
}

/// The hash was computed with `printf '%s' '[{"to":"Zoë"}]' | sha256sum`.
#[tokio::test]
async fn json_body_is_signed_by_its_hash_in_the_url() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let (body, token) = (r#"[{"to":"Zoë"}]"#, auth_token());
    let hash = "fe3cdd1071314212fdb9c6692e2c849c1d700e17ccfdf318c13598414babed81";
    for (path, target) in [
        ("/events?tenant=7#rc=2", format!("/events?tenant=7&bodySHA256={hash}")),
        ("/events", format!("/events?bodySHA256={hash}")),
    ] {
        let url = url_at(&receiver, path);
        let content = Content::Json(body);
        let request = Request { url: &url, content, auth_token: &token, idempotency_token: "7f1c" };
        let attempt = client().send(&request, now()).await;
        let call = receiver.call().await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
        assert_eq!(call.line, format!("POST {target} HTTP/1.1"));
        assert_eq!(call.header("Content-Type"), "application/json");
        assert_eq!(call.bytes(), body.as_bytes());
        assert_eq!(call.header("X-Twilio-Signature"), sign(&token, &call.url(), &[]));
    }
}

#[tokio::test]
async fn url_without_a_path_is_signed_as_configured() {
    let mut receiver = Receiver::start([Answer::ok()]);
    send(&client(), &url_at(&receiver, "?a=b")).await;
    let call = receiver.call().await;
    assert_eq!(call.line, "POST /?a=b HTTP/1.1");
    let signed = format!("http://127.0.0.1:{}?a=b", receiver.port);
    assert_eq!(call.header("X-Twilio-Signature"), sign(&auth_token(), &signed, &call.form()));
}

#[tokio::test]
async fn every_http_status_leads_to_the_documented_outcome() {
    let client = client();
    for (status, outcome, code, condition, transient) in [
        ("204 No Content", Outcome::Delivered, 0, None, false),
        ("304 Not Modified", Outcome::Redirected, 11215, None, false),
        ("404 Not Found", Outcome::Refused, 11200, Some(Condition::ClientError), false),
        ("429 Too Many Requests", Outcome::Busy, 11200, Some(Condition::ClientError), true),
        ("500 Oh", Outcome::Failed, 11200, Some(Condition::ServerError), true),
        ("999 Beyond", Outcome::InvalidResponse, 11206, None, false),
    ] {
        let receiver = Receiver::start([Answer::of(status, "", "")]);
        let attempt = send(&client, &url_at(&receiver, "/")).await;
        assert_eq!(attempt.outcome, outcome, "{status}");
        assert!(attempt.response.is_some());
        assert_eq!((outcome.error_code(), outcome.condition()), (code, condition), "{status}");
        assert_eq!((outcome.is_transient(), outcome.is_delivered()), (transient, code == 0), "{status}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let client = client();
    let mut elsewhere = Receiver::start([Answer::ok()]);
    let location = format!("Location: http://127.0.0.1:{}/\r\n", elsewhere.port);
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent"]
    {
        let receiver = Receiver::start([Answer::of(status, &location, "")]);
        let attempt = send(&client, &url_at(&receiver, "/")).await;
        assert_eq!(attempt.outcome, Outcome::Redirected, "{status}");
    }
    // A redirect that was followed would have arrived before this request.
    send(&client, &url_at(&elsewhere, "/last")).await;
    assert_eq!(elsewhere.call().await.line, "POST /last HTTP/1.1");
    assert_eq!(elsewhere.calls_left(), 0);
}

#[tokio::test]
async fn retry_after_delay_from_the_receiver_is_reported() {
    let client = client();
    for (header, seconds) in [("120", 120), ("Thu, 01 Jan 2026 01:00:00 GMT", 3600), ("99999999999", 86_400)]
    {
        let receiver = Receiver::start([Answer::of("503 Busy", &format!("Retry-After: {header}\r\n"), "")]);
        let response = send(&client, &url_at(&receiver, "/")).await.response.unwrap();
        let wait = response.retry_after.unwrap();
        assert!(
            wait <= Duration::from_secs(seconds) && wait + MAX_STEP_DURATION > Duration::from_secs(seconds),
            "{wait:?}"
        );
    }
}

#[tokio::test]
async fn missing_response_times_out_after_the_read_timeout() {
    let mut receiver = Receiver::start([Answer::Stall(String::new())]);
    let began = Instant::now();
    let attempt = send(&client(), &url_at(&receiver, "/#rt=100")).await;
    assert_eq!(attempt.outcome, Outcome::ReadTimedOut);
    assert_eq!((attempt.outcome.error_code(), attempt.outcome.condition()), (11200, Some(Condition::Read)));
    assert!(attempt.response.is_none() && attempt.duration >= Duration::from_millis(100));
    assert!(began.elapsed() < MAX_STEP_DURATION);
    assert_eq!(receiver.end().await, 1, "the connection is closed");
}

#[tokio::test]
async fn incomplete_response_head_times_out_after_the_read_timeout() {
    let receiver = Receiver::start([Answer::Stall("HTTP/1.1 200 OK\r\nContent-Le".into())]);
    assert_eq!(send(&client(), &url_at(&receiver, "/#rt=100")).await.outcome, Outcome::ReadTimedOut);
}

#[tokio::test]
async fn total_timeout_limits_the_whole_attempt() {
    let client = client();
    for url in ["/#tt=300", "/#tt=300&rt=15000&ct=10000"] {
        let mut receiver = Receiver::start([Answer::Stall(String::new())]);
        let attempt = send(&client, &url_at(&receiver, url)).await;
        assert_eq!(attempt.outcome, Outcome::ReadTimedOut);
        assert!(attempt.duration < MAX_STEP_DURATION);
        receiver.end().await;
    }
}

#[tokio::test]
async fn timeouts_from_the_settings_apply_if_the_url_has_no_overrides() {
    let receiver = Receiver::start([Answer::Stall(String::new())]);
    let client =
        WebhookClient::new(Settings { read_timeout: Duration::from_millis(50), ..settings() }).unwrap();
    assert_eq!(send(&client, &url_at(&receiver, "/")).await.outcome, Outcome::ReadTimedOut);
    let client =
        WebhookClient::new(Settings { total_timeout: Duration::from_millis(300), ..settings() }).unwrap();
    assert_eq!(send(&client, &url_at(&receiver, "/")).await.outcome, Outcome::ReadTimedOut);
    let unlimited = Settings {
        connect_timeout: Duration::MAX,
        read_timeout: Duration::MAX,
        total_timeout: Duration::MAX,
        ..settings()
    };
    let client = WebhookClient::new(unlimited).unwrap();
    assert_eq!(send(&client, &url_at(&receiver, "/#rt=100")).await.outcome, Outcome::ReadTimedOut);
}

#[tokio::test]
async fn unresponsive_host_times_out_after_the_connect_timeout() {
    let client = client();
    let silent = SilentPort::new().await;
    let address = silent.address;
    for limit in ["ct=100", "tt=100&ct=10000"] {
        let attempt = send(&client, &callback_url(&format!("http://{address}/#{limit}"))).await;
        assert_eq!(attempt.outcome, Outcome::ConnectTimedOut);
        assert_eq!(
            (attempt.outcome.error_code(), attempt.outcome.condition()),
            (11205, Some(Condition::Connect))
        );
        // The default connect timeout is five seconds.
        assert!(attempt.duration < Duration::from_secs(4));
    }
}

#[tokio::test]
async fn refused_connection_is_reported_without_the_url() {
    let reserved = TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = callback_url(&format!("http://{}/?secret=hush", reserved.local_addr().unwrap()));
    let attempt = send(&client(), &url).await;
    assert_eq!((attempt.outcome, attempt.outcome.error_code()), (Outcome::ConnectFailed, 11205));
    let line = attempt.to_string();
    assert!(line.contains("refused") && !line.contains("hush"), "{line}");
}

#[tokio::test]
async fn trickling_body_is_truncated_at_the_total_timeout() {
    let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut receiver = Receiver::start([Answer::Trickle(begun.into())]);
    let attempt = send(&client(), &url_at(&receiver, "/#tt=3000")).await;
    assert_eq!(attempt.outcome, Outcome::Delivered, "the status counts");
    assert!(attempt.duration >= Duration::from_millis(3000) && attempt.duration < MAX_STEP_DURATION);
    let response = attempt.response.unwrap();
    assert!(response.truncated && response.body.starts_with(b"."));
    assert_eq!(receiver.end().await, 1);
}

#[tokio::test]
async fn stalled_body_is_truncated_at_the_read_timeout() {
    let begun = "HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nbegun";
    let mut receiver = Receiver::start([Answer::Stall(begun.into())]);
    let attempt = send(&client(), &url_at(&receiver, "/#rt=3000")).await;
    assert_eq!(attempt.outcome, Outcome::Failed);
    assert!(attempt.duration < MAX_STEP_DURATION);
    let response = attempt.response.unwrap();
    assert!(response.truncated && response.body == b"begun");
    assert_eq!(receiver.end().await, 1);
}

#[tokio::test]
async fn beginning_of_an_interrupted_body_is_kept() {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun";
    let receiver = Receiver::start([Answer::HangUp(begun.into())]);
    let attempt = send(&client(), &url_at(&receiver, "/")).await;
    assert_eq!(attempt.outcome, Outcome::Delivered);
    assert!(attempt.response.is_some_and(|response| response.truncated && response.body == b"begun"));
}

#[tokio::test]
async fn response_body_is_truncated_at_64_kib() {
    let client = client();
    let much = 10 << 20;
    for head in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {much}\r\n\r\n"),
        "HTTP/1.1 200 OK\r\n\r\n".into(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{much:x}\r\n"),
    ] {
        let mut receiver = Receiver::start([Answer::Flood(head)]);
        let attempt = send(&client, &url_at(&receiver, "/")).await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
        let response = attempt.response.unwrap();
        assert!(response.truncated && response.body == vec![b'x'; 64 * 1024]);
        assert_eq!(receiver.end().await, 1, "the connection is closed");
    }
}

#[tokio::test]
async fn body_of_exactly_64_kib_is_not_truncated() {
    let receiver = Receiver::start([Answer::of("200 OK", "", &"x".repeat(64 * 1024))]);
    let response = send(&client(), &url_at(&receiver, "/")).await.response.unwrap();
    assert!(!response.truncated && response.body.len() == 64 * 1024);
}

#[tokio::test]
async fn malformed_http_response_is_reported_as_invalid() {
    let client = client();
    for response in [
        "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
        "\u{15}\u{3}\u{1}\0\u{2}\u{2}P".into(),
        "HTTP/3.0 200 OK\r\n\r\n".into(),
        "HTTP/1.1 20 OK\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".into(),
        format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000)),
    ] {
        let mut receiver = Receiver::start([Answer::Stall(response.clone())]);
        let attempt = send(&client, &url_at(&receiver, "/")).await;
        assert_eq!(attempt.outcome, Outcome::InvalidResponse, "{:.60} {attempt}", response.escape_debug());
        assert_eq!((attempt.outcome.error_code(), attempt.outcome.condition()), (11206, None));
        receiver.end().await;
    }
}

#[tokio::test]
async fn interim_responses_are_skipped() {
    let interim =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let receiver = Receiver::start([Answer::Words(interim.into())]);
    assert_eq!(send(&client(), &url_at(&receiver, "/")).await.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn closed_connection_is_reported_as_disconnected() {
    let client = client();
    for response in ["", "HTTP/1.1 200 OK\r\nConte"] {
        let mut receiver = Receiver::start([Answer::HangUp(response.into())]);
        let attempt = send(&client, &url_at(&receiver, "/")).await;
        assert_eq!(
            (attempt.outcome, attempt.outcome.error_code()),
            (Outcome::Disconnected, 11205),
            "{attempt}"
        );
        receiver.call().await;
        assert_eq!(receiver.calls_left(), 0, "a request on a new connection is not repeated");
    }
}

#[tokio::test]
async fn connection_is_reused_for_later_requests() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let (client, url) = (client(), url_at(&receiver, "/"));
    for _ in 0..20 {
        assert_eq!(send(&client, &url).await.outcome, Outcome::Delivered);
        assert_eq!(receiver.call().await.connection, 1);
    }
    drop(client);
    receiver.end().await;
}

#[tokio::test]
async fn request_that_fails_on_a_stale_connection_is_repeated_on_a_new_one() {
    // The receiver closes the first connection during its second request, before or during the response.
    for response in ["", "HTTP/1.1 200 OK\r\nConte"] {
        let mut receiver = Receiver::start([Answer::ok(), Answer::HangUp(response.into()), Answer::ok()]);
        let (client, url) = (client(), url_at(&receiver, "/"));
        assert_eq!(send(&client, &url).await.outcome, Outcome::Delivered);
        assert_eq!(send(&client, &url).await.outcome, Outcome::Delivered);
        let calls = [receiver.call().await, receiver.call().await, receiver.call().await];
        assert_eq!(calls.each_ref().map(|call| call.connection), [1, 1, 2]);
        assert!(calls.iter().all(|call| call.header("I-Twilio-Idempotency-Token") == "one-delivery"));
    }
}

#[tokio::test]
async fn attempt_fails_if_the_new_connection_after_a_stale_one_also_fails() {
    let mut receiver = Receiver::start([Answer::ok(), Answer::HangUp(String::new())]);
    let (client, url) = (client(), url_at(&receiver, "/"));
    assert_eq!(send(&client, &url).await.outcome, Outcome::Delivered);
    assert_eq!(send(&client, &url).await.outcome, Outcome::Disconnected);
    let calls = [receiver.call().await, receiver.call().await, receiver.call().await];
    assert_eq!(calls.map(|call| call.connection), [1, 1, 2]);
    assert_eq!(receiver.calls_left(), 0);
}

#[tokio::test]
async fn connection_close_header_closes_the_connection() {
    let mut receiver = Receiver::start([Answer::of("200 OK", "Connection: close\r\n", "")]);
    let (client, url) = (client(), url_at(&receiver, "/"));
    for connection in 1..=3 {
        send(&client, &url).await;
        assert_eq!(receiver.call().await.connection, connection);
        assert_eq!(receiver.end().await, connection);
    }
}

#[tokio::test]
async fn webhook_is_not_sent_if_its_idempotency_token_is_an_invalid_header_value() {
    let receiver = Receiver::start([Answer::ok()]);
    let url = url_at(&receiver, "/");
    let token = auth_token();
    let content = Content::Form(&[]);
    let request = Request { url: &url, content, auth_token: &token, idempotency_token: "a\r\nX-Evil: 1" };
    let attempt = client().send(&request, now()).await;
    assert_eq!((attempt.outcome, attempt.outcome.is_transient()), (Outcome::InvalidRequest, false));
    assert_eq!(receiver.calls_left(), 0);
}

#[tokio::test]
async fn concurrent_requests_are_all_delivered() {
    let receiver = Receiver::start([Answer::ok()]);
    let (client, url) = (client(), url_at(&receiver, "/"));
    let attempts = futures_util::future::join_all((0..50).map(|_| send(&client, &url))).await;
    assert!(attempts.iter().all(|attempt| attempt.outcome.is_delivered()));
}

#[test]
fn debug_output_of_the_client_contains_no_secret() {
    let client = client();
    assert!(!format!("{client:?} {:?}", auth_token()).contains("0123456789abcdef"));
}

/// The delivery worker shares one client among its tasks, so the client and its futures must be thread-safe.
#[test]
fn client_is_send_and_sync() {
    fn shared<T: Send + Sync>() {}
    fn movable<F: Future + Send>(_: impl Fn(&'static WebhookClient, &'static domain::CallbackUrl) -> F) {}
    shared::<WebhookClient>();
    movable(send);
}
