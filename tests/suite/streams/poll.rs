//! The long poll of a challenge.

use std::time::Instant;

use device::{Answer, Style};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::*;
use crate::world::{assert_error, on_every_database};

on_every_database! {
    async fn long_poll_returns_at_the_answer(world: World) {
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        let challenge = world.challenge(&enrollment, &[]).await;
        let (backend, path) = (world.backend(), stream_path(&challenge_path(&challenge)));
        let poll = async || {
            let began = Instant::now();
            let reply = backend.get(&path, &[("Wait", "25")]).await;
            assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
            (reply.json(), began.elapsed())
        };
        let answering = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            answer(&phone, &enrollment, &challenge, Answer::Denied).await;
        };
        let ((polled, waited), ()) = tokio::join!(poll(), answering);
        assert_eq!(polled, shown(&world, &challenge).await);
        assert_eq!(polled["status"], "denied");
        assert!(waited >= Duration::from_millis(500) && waited < Duration::from_secs(20), "{waited:?}");
        let (polled, waited) = poll().await;
        assert_eq!(polled["status"], "denied");
        assert!(waited < Duration::from_secs(20), "{waited:?}");
    }
}

#[tokio::test]
async fn long_poll_returns_the_pending_challenge_at_the_end_of_the_wait() {
    let world = World::sqlite();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let challenge = world.challenge(&enrollment, &[]).await;
    let path = stream_path(&challenge_path(&challenge));
    let began = Instant::now();
    let reply = world.backend().get(&path, &[("Wait", "2")]).await;
    assert_eq!(reply.json(), shown(&world, &challenge).await);
    assert_eq!(reply.json()["status"], "pending");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    for wait in ["0", "61", "-1", "1.5", "x"] {
        assert_error(&world.backend().get(&path, &[("Wait", wait)]).await, 400, 60306);
    }
    assert_error(&world.backend().get(&path, &[("Wait", "1"), ("Wait", "1")]).await, 400, 60306);
}

/// A handler has 30 seconds, and proxies close connections on which nothing is sent for a minute.
#[tokio::test]
async fn long_poll_sends_its_head_at_once_and_white_space_while_it_waits() {
    let world = World::sqlite();
    let service = world.service().await;
    let device = world.device(&service, "user-0001").await;
    let challenge = world.challenge(&device.enrollment, &[]).await;
    let path = stream_path(&challenge_path(&challenge));
    let address = world.server.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let harness::Auth::Basic(user, password) = device.auth() else { panic!("basic credentials") };
    let credentials = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
    };
    let request = |query: &str| {
        format!("GET {path}{query} HTTP/1.1\r\nHost: owl\r\nAuthorization: Basic {credentials}\r\n\r\n")
    };
    let began = Instant::now();
    stream.write_all(request("?Wait=40").as_bytes()).await.unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).await.unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // The beginning of the next request must not end this response early.
    reader.get_mut().write_all(b"GET /healthz HT").await.unwrap();
    let mut body = String::new();
    while !body.ends_with("0\r\n\r\n") {
        assert!(reader.read_line(&mut body).await.unwrap() > 0, "{body}");
    }
    assert!(began.elapsed() >= Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(body.starts_with("1\r\n\n\r\n"), "{body}");
    assert!(body.contains("\"status\":\"pending\""), "{body}");
    // The connection can be used again.
    reader.get_mut().write_all(b"TP/1.1\r\nHost: owl\r\n\r\n").await.unwrap();
    let mut status = [0; 15];
    reader.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}
