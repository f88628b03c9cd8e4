//! Measures the HTTP part of a cycle without Countersign: actix-web in its simplest form, in a process of its own. The
//! figure is the CPU time of that process for one request, because `docs/performance.md` compares it with the CPU time
//! of the server.
//!
//! Each request carries 600 bytes of JSON, which are parsed, and gets 1000 bytes of JSON, which are formatted.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends with a panic when something is wrong, and its server prints its port"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use criterion::Criterion;
use serde_json::{Value, json};

/// The environment variable with which this program is started as the server.
const SERVER_VARIABLE: &str = "BENCH_HTTP_SERVER";

/// Number of connections that send requests at the same time.
const CONNECTION_COUNT: u64 = 32;

fn main() {
    if std::env::var_os(SERVER_VARIABLE).is_some() {
        return actix_web::rt::System::new().block_on(serve());
    }
    let server = Server::start();
    let mut connections: Vec<_> = (0..CONNECTION_COUNT).map(|_| server.connect()).collect();
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("alone");
    group.bench_function("http_request", |bencher| {
        bencher.iter_custom(|count| {
            let rounds = count.div_ceil(CONNECTION_COUNT);
            let before = server.cpu_time();
            for _ in 0..rounds {
                exchange(&mut connections);
            }
            (server.cpu_time() - before).mul_f64(count as f64 / (rounds * CONNECTION_COUNT) as f64)
        });
    });
    group.finish();
    criterion.final_summary();
}

async fn serve() {
    let app = || App::new().route("/v2/Services/{ServiceSid}/Challenges", web::post().to(answer));
    let server = HttpServer::new(app).bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    println!("{}", server.addrs()[0]);
    server.run().await.unwrap();
}

async fn answer(body: web::Bytes) -> HttpResponse {
    let claims: Value = serde_json::from_slice(&body).unwrap();
    HttpResponse::Ok().json(json!({
        "sid": claims["sid"],
        "account_sid": claims["account_sid"],
        "service_sid": claims["service_sid"],
        "identity": claims["identity"],
        "status": "approved",
        "details": claims["details"],
        "padding": "x".repeat(500),
    }))
}

/// A process of this program that runs as the server. It is killed when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(SERVER_VARIABLE, "1").stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, address: line.trim().parse().unwrap() }
    }

    fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(self.address).unwrap();
        connection.set_nodelay(true).unwrap();
        connection
    }

    /// Returns the CPU time that all threads of the server have used.
    fn cpu_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let of_thread = |thread: std::io::Result<std::fs::DirEntry>| {
            let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
            Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
        };
        threads.map(of_thread).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends one request on each connection, and then reads all responses.
fn exchange(connections: &mut [TcpStream]) {
    let body = json!({
        "sid": format!("YC{}", "4".repeat(32)),
        "account_sid": format!("AC{}", "1".repeat(32)),
        "service_sid": format!("VA{}", "2".repeat(32)),
        "identity": "user-0001-abcd",
        "details": { "message": "Sign in?", "fields": [{ "label": "IP", "value": "203.0.113.9" }] },
        "padding": "x".repeat(320),
    });
    let body = body.to_string();
    let request = format!(
        "POST /v2/Services/VA22222222222222222222222222222222/Challenges HTTP/1.1\r\nHost: bench\r\n\
         Authorization: Basic {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        "A".repeat(90),
        body.len()
    );
    for connection in &mut *connections {
        connection.write_all(request.as_bytes()).unwrap();
    }
    for connection in connections {
        read_response(connection);
    }
}

/// Reads one response of at most 8 KiB, whose body must not be empty.
fn read_response(connection: &mut TcpStream) {
    let mut buffer = [0; 8192];
    let mut length = 0;
    loop {
        let count = connection.read(&mut buffer[length..]).unwrap();
        assert!(count > 0, "the server closed the connection");
        length += count;
        if is_whole(&buffer[..length]) {
            return;
        }
    }
}

fn is_whole(response: &[u8]) -> bool {
    let text = std::str::from_utf8(response).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    body.len() >= length.parse::<usize>().unwrap()
}
