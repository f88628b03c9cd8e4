//! Stopping a server: received requests are answered, and the stop does not take long.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::metrics;

const ACCOUNT: [(&str, &str); 2] = [
    ("COUNTERSIGN_ACCOUNT_SID", "AC0123456789abcdef0123456789abcdef"),
    ("COUNTERSIGN_AUTH_TOKEN", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
];

/// The longest time to stop without open requests, also on a busy machine. It is less than the drain timeout of
/// thirty seconds.
const IDLE_STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// Begins to create a service: the server has the head of the request and waits for the rest of the body.
async fn begin_request(server: &Serving, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let account = STANDARD.encode(format!("{}:{}", ACCOUNT[0].1, ACCOUNT[1].1));
    let head = format!(
        "POST /v2/Services HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {account}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        server.address(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut ready = [0; 25];
    stream.read_exact(&mut ready).await.unwrap();
    assert_eq!(&ready, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

async fn stops_after_answering(signal: &str) {
    let place = Place::new();
    let mut server = Serving::start(&place.folder, &[], &ACCOUNT).await;
    let body = "FriendlyName=Last+Order";
    let mut slow = begin_request(&server, body).await;
    let (first_half, second_half) = body.split_at(10);
    slow.write_all(first_half.as_bytes()).await.unwrap();

    server.signal(signal);
    wait_until("no new connection is taken", WAIT_TIMEOUT, async || {
        TcpStream::connect(server.address()).await.is_err().then_some(())
    })
    .await;
    assert!(server.child.try_wait().unwrap().is_none(), "it has left its client alone");
    slow.write_all(second_half.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    let answered = Instant::now();
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.stderr());
    assert!(answered.elapsed() < IDLE_STOP_TIMEOUT, "{:?}", answered.elapsed());

    let again = Serving::start(&place.folder, &[], &ACCOUNT).await;
    let services = again.backend(ACCOUNT[0].1, ACCOUNT[1].1).get("/v2/Services", &[]).await.json();
    assert_eq!(services["services"][0]["friendly_name"], "Last Order");
}

#[tokio::test]
async fn sigterm_lets_the_current_request_finish() {
    stops_after_answering("TERM").await;
}

#[tokio::test]
async fn sigint_lets_the_current_request_finish() {
    stops_after_answering("INT").await;
}

/// During the delay a load balancer that checks readiness sends its requests elsewhere.
#[tokio::test]
async fn draining_server_is_not_ready_but_serves_until_the_delay_ends() {
    let place = Place::new();
    let arguments = [&["--ephemeral", "--drain-delay", "30"], &metrics::LISTEN[..]].concat();
    let mut server = Serving::start(&place.folder, &arguments, &ACCOUNT).await;
    let metrics = metrics::address(|| server.stderr()).await;
    let backend = server.backend(ACCOUNT[0].1, ACCOUNT[1].1);
    assert_eq!(backend.get("/readyz", &[]).await.status, 200);

    let signaled_at = Instant::now();
    server.signal("TERM");
    wait_until("/readyz reports that the server is not ready", WAIT_TIMEOUT, async || {
        (backend.get("/readyz", &[]).await.status == 503).then_some(())
    })
    .await;
    assert_eq!(metrics::read(&metrics).await.sum("countersign_ready", &[]), 0.0);
    // Requests on a new connection are served too.
    let mut stream = begin_request(&server, "FriendlyName=In+Time").await;
    stream.write_all(b"FriendlyName=In+Time").await.unwrap();
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201 Created");
    assert_eq!(backend.get("/healthz", &[]).await.status, 200);
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.stderr());
    assert!(signaled_at.elapsed() >= Duration::from_secs(30), "{:?}", signaled_at.elapsed());
}

#[tokio::test]
async fn second_signal_skips_the_drain_delay() {
    let place = Place::new();
    let mut server = Serving::start(&place.folder, &["--ephemeral", "--drain-delay", "300"], &ACCOUNT).await;
    let backend = server.backend(ACCOUNT[0].1, ACCOUNT[1].1);
    server.signal("TERM");
    wait_until("/readyz reports that the server is not ready", WAIT_TIMEOUT, async || {
        (backend.get("/readyz", &[]).await.status == 503).then_some(())
    })
    .await;
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.stderr());
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_stop() {
    let place = Place::new();
    let mut server = Serving::start(&place.folder, &["--ephemeral"], &ACCOUNT).await;
    let mut connections = Vec::new();
    // A connection kept alive after a request, one in the middle of a head, and an unused one.
    for text in ["GET /healthz HTTP/1.1\r\nHost: owl\r\n\r\n", "GET /healthz HTTP/1.1\r\nHo", ""] {
        for _ in 0..5 {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            if text.ends_with("\r\n\r\n") {
                let mut answer = [0; 15];
                stream.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"HTTP/1.1 200 OK");
            }
            connections.push(stream);
        }
    }

    let signaled_at = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.stderr());
    assert!(signaled_at.elapsed() < IDLE_STOP_TIMEOUT, "{:?}", signaled_at.elapsed());
}

#[tokio::test]
async fn incomplete_request_delays_the_stop_only_until_it_times_out() {
    let place = Place::new();
    let mut server = Serving::start(&place.folder, &["--ephemeral"], &ACCOUNT).await;
    let mut slow = begin_request(&server, "FriendlyName=Never").await;
    slow.write_all(b"Friendly").await.unwrap();

    server.signal("TERM");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":20408"#), "{answer}");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.stderr());
}

#[test]
fn signal_immediately_after_the_start_stops_the_server() {
    // The shell sends the signal as soon as it reads the server's address, which is fast enough.
    let script = "mkfifo ready && { \"$@\" >ready & } && read -r line <ready && kill -TERM $! && wait $!";
    for _ in 0..20 {
        let place = Place::new();
        let mut shell = Command::new("sh");
        let server = countersign(&place.folder, &["serve", "--ephemeral", "--listen", "127.0.0.1:0"]);
        shell.args(["-c", script, "sh"]).arg(server.get_program()).args(server.get_args());
        for (name, _) in server.get_envs() {
            shell.env_remove(name);
        }
        let output = run(shell.current_dir(&place.folder).envs(ACCOUNT));
        assert_eq!(output.code, Some(0), "{output:?}");
    }
}
