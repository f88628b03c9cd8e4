//! What receivers get, and what becomes of it when they misbehave.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod receiver;

use std::time::{Duration, Instant};

use domain::webhooks::Condition;
use receiver::{Answer, Receiver, answer, auth_token, now, ok, send, sender, settings};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use webhook_client::{Outcome, Request, Sender, sign};

/// Far less than the default timeouts, far more than anything here should take.
const SOON: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_receiver_gets_what_was_signed() {
    let mut receiver = Receiver::start([answer("201 Created", "X-Node: 7\r\n", "thanks")]);
    let url = receiver.url("/verify/hook?tenant=7&x=%7e#rc=2");
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
    let request =
        Request { url: &url, parameters: &parameters, auth_token: &token, idempotency_token: "7f1c" };
    let attempt = sender().send(&request, now()).await;

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
    assert_eq!(call.headers.len(), 7, "and Content-Length, but nothing else: {call:?}");

    assert_eq!(attempt.outcome, Outcome::Delivered);
    let response = attempt.response.unwrap();
    assert_eq!((response.status, response.body.as_slice(), response.truncated), (201, &b"thanks"[..], false));
    assert!(response.headers.contains(&("x-node".into(), "7".into())));
}

#[tokio::test]
async fn a_url_without_a_path_is_signed_as_it_is() {
    let mut receiver = Receiver::start([ok()]);
    send(&sender(), &receiver.url("?a=b")).await;
    let call = receiver.call().await;
    assert_eq!(call.line, "POST /?a=b HTTP/1.1");
    let signed = format!("http://127.0.0.1:{}?a=b", receiver.port);
    assert_eq!(call.header("X-Twilio-Signature"), sign(&auth_token(), &signed, &call.form()));
}

#[tokio::test]
async fn every_status_has_its_outcome() {
    let sender = sender();
    for (status, outcome, code, condition, transient) in [
        ("204 No Content", Outcome::Delivered, 0, None, false),
        ("304 Not Modified", Outcome::Redirected, 11215, None, false),
        ("404 Not Found", Outcome::Refused, 11200, Some(Condition::ClientError), false),
        ("429 Too Many Requests", Outcome::Busy, 11200, Some(Condition::ClientError), true),
        ("500 Oh", Outcome::Failed, 11200, Some(Condition::ServerError), true),
        ("999 Beyond", Outcome::Garbled, 11206, None, false),
    ] {
        let receiver = Receiver::start([answer(status, "", "")]);
        let attempt = send(&sender, &receiver.url("/")).await;
        assert_eq!(attempt.outcome, outcome, "{status}");
        assert!(attempt.response.is_some());
        assert_eq!((outcome.error_code(), outcome.condition()), (code, condition), "{status}");
        assert_eq!((outcome.is_transient(), outcome.is_delivered()), (transient, code == 0), "{status}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let sender = sender();
    let mut elsewhere = Receiver::start([ok()]);
    let location = format!("Location: http://127.0.0.1:{}/\r\n", elsewhere.port);
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent"]
    {
        let receiver = Receiver::start([answer(status, &location, "")]);
        let attempt = send(&sender, &receiver.url("/")).await;
        assert_eq!(attempt.outcome, Outcome::Redirected, "{status}");
    }
    // Had one been followed, its call would have come before this one.
    send(&sender, &elsewhere.url("/last")).await;
    assert_eq!(elsewhere.call().await.line, "POST /last HTTP/1.1");
    assert_eq!(elsewhere.calls_left(), 0);
}

#[tokio::test]
async fn receivers_can_ask_to_wait() {
    let sender = sender();
    for (header, seconds) in [("120", 120), ("Thu, 01 Jan 2026 01:00:00 GMT", 3600), ("99999999999", 86_400)]
    {
        let receiver = Receiver::start([answer("503 Busy", &format!("Retry-After: {header}\r\n"), "")]);
        let response = send(&sender, &receiver.url("/")).await.response.unwrap();
        let wait = response.retry_after.unwrap();
        assert!(
            wait <= Duration::from_secs(seconds) && wait + SOON > Duration::from_secs(seconds),
            "{wait:?}"
        );
    }
}

#[tokio::test]
async fn silence_ends_with_the_read_timeout() {
    let mut receiver = Receiver::start([Answer::Stall(String::new())]);
    let began = Instant::now();
    let attempt = send(&sender(), &receiver.url("/#rt=100")).await;
    assert_eq!(attempt.outcome, Outcome::ReadTimedOut);
    assert_eq!((attempt.outcome.error_code(), attempt.outcome.condition()), (11200, Some(Condition::Read)));
    assert!(attempt.response.is_none() && attempt.duration >= Duration::from_millis(100));
    assert!(began.elapsed() < SOON);
    assert_eq!(receiver.end().await, 1, "and the connection is closed");
}

#[tokio::test]
async fn half_a_head_is_silence_too() {
    let receiver = Receiver::start([Answer::Stall("HTTP/1.1 200 OK\r\nContent-Le".into())]);
    assert_eq!(send(&sender(), &receiver.url("/#rt=100")).await.outcome, Outcome::ReadTimedOut);
}

#[tokio::test]
async fn the_total_limits_what_the_others_do_not() {
    let sender = sender();
    for url in ["/#tt=300", "/#tt=300&rt=15000&ct=10000"] {
        let mut receiver = Receiver::start([Answer::Stall(String::new())]);
        let attempt = send(&sender, &receiver.url(url)).await;
        assert_eq!(attempt.outcome, Outcome::ReadTimedOut);
        assert!(attempt.duration < SOON);
        receiver.end().await;
    }
}

#[tokio::test]
async fn the_settings_hold_where_the_url_is_silent() {
    let receiver = Receiver::start([Answer::Stall(String::new())]);
    let hasty =
        Sender::new(webhook_client::Settings { read_timeout: Duration::from_millis(50), ..settings() })
            .unwrap();
    assert_eq!(send(&hasty, &receiver.url("/")).await.outcome, Outcome::ReadTimedOut);
    let hasty =
        Sender::new(webhook_client::Settings { total_timeout: Duration::from_millis(300), ..settings() })
            .unwrap();
    assert_eq!(send(&hasty, &receiver.url("/")).await.outcome, Outcome::ReadTimedOut);
    let forever = webhook_client::Settings {
        connect_timeout: Duration::MAX,
        read_timeout: Duration::MAX,
        total_timeout: Duration::MAX,
        ..settings()
    };
    let patient = Sender::new(forever).unwrap();
    assert_eq!(send(&patient, &receiver.url("/#rt=100")).await.outcome, Outcome::ReadTimedOut);
}

#[tokio::test]
async fn nobody_answers_the_door() {
    let sender = sender();
    // With a full backlog the kernel drops who knocks.
    let deaf = TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let deaf = deaf.listen(0).unwrap();
    let address = deaf.local_addr().unwrap();
    let mut knocking = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        knocking.push(connected.unwrap());
    }
    for limit in ["ct=100", "tt=100&ct=10000"] {
        let attempt = send(&sender, &receiver::url(&format!("http://{address}/#{limit}"))).await;
        assert_eq!(attempt.outcome, Outcome::ConnectTimedOut);
        assert_eq!(
            (attempt.outcome.error_code(), attempt.outcome.condition()),
            (11205, Some(Condition::Connect))
        );
        // The default is five seconds.
        assert!(attempt.duration < Duration::from_secs(4));
    }
    drop(knocking);
}

#[tokio::test]
async fn nobody_lives_there() {
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = receiver::url(&format!("http://{}/?secret=hush", taken.local_addr().unwrap()));
    let attempt = send(&sender(), &url).await;
    assert_eq!((attempt.outcome, attempt.outcome.error_code()), (Outcome::ConnectFailed, 11205));
    let line = attempt.to_string();
    assert!(line.contains("refused") && !line.contains("hush"), "{line}");
}

#[tokio::test]
async fn a_trickle_of_a_body_is_cut_off() {
    let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut receiver = Receiver::start([Answer::Trickle(begun.into())]);
    let attempt = send(&sender(), &receiver.url("/#tt=3000")).await;
    assert_eq!(attempt.outcome, Outcome::Delivered, "the receiver has said so");
    assert!(attempt.duration >= Duration::from_millis(3000) && attempt.duration < SOON);
    let response = attempt.response.unwrap();
    assert!(response.truncated && response.body.starts_with(b"."));
    assert_eq!(receiver.end().await, 1);
}

#[tokio::test]
async fn a_body_that_stops_is_cut_off_after_the_read_timeout() {
    let begun = "HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nbegun";
    let mut receiver = Receiver::start([Answer::Stall(begun.into())]);
    let attempt = send(&sender(), &receiver.url("/#rt=3000")).await;
    assert_eq!(attempt.outcome, Outcome::Failed);
    assert!(attempt.duration < SOON);
    let response = attempt.response.unwrap();
    assert!(response.truncated && response.body == b"begun");
    assert_eq!(receiver.end().await, 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_its_beginning() {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun";
    let receiver = Receiver::start([Answer::HangUp(begun.into())]);
    let attempt = send(&sender(), &receiver.url("/")).await;
    assert_eq!(attempt.outcome, Outcome::Delivered);
    assert!(attempt.response.is_some_and(|response| response.truncated && response.body == b"begun"));
}

#[tokio::test]
async fn a_flood_costs_64_kib() {
    let sender = sender();
    let much = 10 << 20;
    for head in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {much}\r\n\r\n"),
        "HTTP/1.1 200 OK\r\n\r\n".into(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{much:x}\r\n"),
    ] {
        let mut receiver = Receiver::start([Answer::Flood(head)]);
        let attempt = send(&sender, &receiver.url("/")).await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
        let response = attempt.response.unwrap();
        assert!(response.truncated && response.body == vec![b'x'; 64 * 1024]);
        assert_eq!(receiver.end().await, 1, "and the connection is closed");
    }
}

#[tokio::test]
async fn a_body_of_just_64_kib_is_whole() {
    let receiver = Receiver::start([answer("200 OK", "", &"x".repeat(64 * 1024))]);
    let response = send(&sender(), &receiver.url("/")).await.response.unwrap();
    assert!(!response.truncated && response.body.len() == 64 * 1024);
}

#[tokio::test]
async fn what_is_not_http_is_garbled() {
    let sender = sender();
    for garbage in [
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
        let mut receiver = Receiver::start([Answer::Stall(garbage.clone())]);
        let attempt = send(&sender, &receiver.url("/")).await;
        assert_eq!(attempt.outcome, Outcome::Garbled, "{:.60} {attempt}", garbage.escape_debug());
        assert_eq!((attempt.outcome.error_code(), attempt.outcome.condition()), (11206, None));
        receiver.end().await;
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let interim =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let receiver = Receiver::start([Answer::Words(interim.into())]);
    assert_eq!(send(&sender(), &receiver.url("/")).await.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn hanging_up_is_no_answer() {
    let sender = sender();
    for words in ["", "HTTP/1.1 200 OK\r\nConte"] {
        let mut receiver = Receiver::start([Answer::HangUp(words.into())]);
        let attempt = send(&sender, &receiver.url("/")).await;
        assert_eq!(
            (attempt.outcome, attempt.outcome.error_code()),
            (Outcome::Disconnected, 11205),
            "{attempt}"
        );
        receiver.call().await;
        assert_eq!(receiver.calls_left(), 0, "a new connection is not tried twice");
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    let mut receiver = Receiver::start([ok()]);
    let (sender, url) = (sender(), receiver.url("/"));
    for _ in 0..20 {
        assert_eq!(send(&sender, &url).await.outcome, Outcome::Delivered);
        assert_eq!(receiver.call().await.connection, 1);
    }
    drop(sender);
    receiver.end().await;
}

#[tokio::test]
async fn a_stale_connection_costs_no_attempt() {
    // The first connection ends under its second request, before an answer or within one.
    for words in ["", "HTTP/1.1 200 OK\r\nConte"] {
        let mut receiver = Receiver::start([ok(), Answer::HangUp(words.into()), ok()]);
        let (sender, url) = (sender(), receiver.url("/"));
        assert_eq!(send(&sender, &url).await.outcome, Outcome::Delivered);
        assert_eq!(send(&sender, &url).await.outcome, Outcome::Delivered);
        let calls = [receiver.call().await, receiver.call().await, receiver.call().await];
        assert_eq!(calls.each_ref().map(|call| call.connection), [1, 1, 2]);
        assert!(calls.iter().all(|call| call.header("I-Twilio-Idempotency-Token") == "one-delivery"));
    }
}

#[tokio::test]
async fn a_new_connection_that_fails_is_a_failed_attempt() {
    let mut receiver = Receiver::start([ok(), Answer::HangUp(String::new())]);
    let (sender, url) = (sender(), receiver.url("/"));
    assert_eq!(send(&sender, &url).await.outcome, Outcome::Delivered);
    assert_eq!(send(&sender, &url).await.outcome, Outcome::Disconnected);
    let calls = [receiver.call().await, receiver.call().await, receiver.call().await];
    assert_eq!(calls.map(|call| call.connection), [1, 1, 2]);
    assert_eq!(receiver.calls_left(), 0);
}

#[tokio::test]
async fn what_says_close_is_closed() {
    let mut receiver = Receiver::start([answer("200 OK", "Connection: close\r\n", "")]);
    let (sender, url) = (sender(), receiver.url("/"));
    for connection in 1..=3 {
        send(&sender, &url).await;
        assert_eq!(receiver.call().await.connection, connection);
        assert_eq!(receiver.end().await, connection);
    }
}

#[tokio::test]
async fn a_token_that_is_no_header_is_not_sent() {
    let receiver = Receiver::start([ok()]);
    let url = receiver.url("/");
    let token = auth_token();
    let request =
        Request { url: &url, parameters: &[], auth_token: &token, idempotency_token: "a\r\nX-Evil: 1" };
    let attempt = sender().send(&request, now()).await;
    assert_eq!((attempt.outcome, attempt.outcome.is_transient()), (Outcome::Unsendable, false));
    assert_eq!(receiver.calls_left(), 0);
}

#[tokio::test]
async fn many_at_once() {
    let receiver = Receiver::start([ok()]);
    let (sender, url) = (sender(), receiver.url("/"));
    let attempts = futures_util::future::join_all((0..50).map(|_| send(&sender, &url))).await;
    assert!(attempts.iter().all(|attempt| attempt.outcome.is_delivered()));
}

#[test]
fn nothing_prints_a_secret() {
    let sender = sender();
    assert!(!format!("{sender:?} {:?}", auth_token()).contains("0123456789abcdef"));
}

/// The delivery worker sends from tasks of its own.
#[test]
fn a_sender_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    fn movable<F: Future + Send>(_: impl Fn(&'static Sender, &'static domain::CallbackUrl) -> F) {}
    shared::<Sender>();
    movable(send);
}
