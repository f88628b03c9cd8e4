//! The webhook receiver, called by the harness's own client.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::io::ErrorKind;

use harness::{Answer, Http, Receiver};
use tokio::net::TcpStream;

#[tokio::test]
async fn receiver_replies_in_order_and_records_requests() {
    let mut receiver = Receiver::start([Answer::of("503 Busy", "Retry-After: 1\r\n", "later"), Answer::ok()]);
    let http = Http::new(&receiver.at(""));
    let busy = http.post("/hook?a=b", &[("name", "Zoë & co")]).await;
    assert_eq!((busy.status, busy.header("retry-after"), busy.text.as_str()), (503, Some("1"), "later"));
    for _ in 0..2 {
        assert_eq!(http.post("/hook", &[]).await.status, 200);
    }

    assert_eq!((receiver.calls().len(), receiver.calls_left()), (3, 3));
    let call = receiver.call().await;
    assert_eq!(call.line, "POST /hook?a=b HTTP/1.1");
    assert_eq!(call.url(), receiver.at("/hook?a=b"));
    assert_eq!(call.form(), [("name".to_owned(), "Zoë & co".to_owned())]);
    assert_eq!((call.value("name").as_deref(), call.value("none")), (Some("Zoë & co"), None));
    assert_eq!(receiver.calls_left(), 2);
}

#[tokio::test]
async fn receiver_callback_may_await_before_the_reply() {
    let other = Receiver::start([Answer::of("201 Created", "", "")]);
    let address = other.at("");
    let receiver = Receiver::reacting(move |call| {
        let other = Http::new(&address);
        async move {
            let status = other.post("/", &[]).await.status;
            Answer::of("200 OK", "", &format!("{status} {}", call.value("x").unwrap()))
        }
    });
    let reply = Http::new(&receiver.at("")).post("/", &[("x", "y")]).await;
    assert_eq!(reply.text, "201 y");
}

#[tokio::test]
async fn stopped_receiver_keeps_its_port_reserved() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let address = ("127.0.0.1", receiver.port);
    let _held = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        receiver.down().await;
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let others: Vec<_> = (0..50).map(|_| Receiver::start([Answer::ok()])).collect();
        assert!(others.iter().all(|other| other.port != receiver.port));
        receiver.up();
        assert_eq!(Http::new(&receiver.at("")).post("/", &[]).await.status, 200);
    }
}
