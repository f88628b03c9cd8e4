//! HTTP itself: methods, limits, headers, and misbehaving clients.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use device::Style;
use harness::{Auth, Http, wait_until};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::fixture::Fixture;
use crate::matrix::{Allowed, TABLE};
use crate::world::{World, assert_error, entity};

/// A connection on which a test sends arbitrary bytes.
pub(crate) struct RawConnection {
    stream: TcpStream,
    /// Received bytes that were not read yet.
    rest: Vec<u8>,
}

/// A raw HTTP response, as received.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head, without the empty line that ends it.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Returns all values of the header `name`, which is matched regardless of case.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    /// Checks that this response is an error with this status and code, in the format that clients expect.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, code: i64) {
        assert_eq!((self.status, self.json()["code"].as_i64()), (status, Some(code)), "{self:?}");
    }
}

impl RawConnection {
    pub(crate) async fn to(world: &World) -> Self {
        Self::at(world.server.url()).await
    }

    /// Connects to the server at this URL.
    pub(crate) async fn at(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        Self { stream: TcpStream::connect(address).await.unwrap(), rest: Vec::new() }
    }

    /// Connects to the server at this URL from this address of the machine.
    pub(crate) async fn from(address: &str, url: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        let stream = socket.connect(url.strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap();
        Self { stream, rest: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads the next response.
    pub(crate) async fn receive(&mut self) -> Answer {
        self.answer(false).await.expect("an answer before the connection ends")
    }

    /// Reads the response to a `HEAD` request, which has no body whatever its `Content-Length`.
    async fn receive_head(&mut self) -> Answer {
        self.answer(true).await.expect("an answer before the connection ends")
    }

    /// Reads the next response; returns `None` if the server closes the connection instead.
    pub(crate) async fn answer(&mut self, to_head: bool) -> Option<Answer> {
        let end = loop {
            match self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end,
                None => self.more().await?,
            }
        };
        let head = String::from_utf8(self.rest[..end].to_vec()).unwrap();
        self.rest.drain(..end + 4);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").first().map_or(0, |length| length.parse().unwrap());
        if !to_head {
            while self.rest.len() < length {
                self.more().await?;
            }
            answer.body = String::from_utf8(self.rest.drain(..length).collect()).unwrap();
        }
        Some(answer)
    }

    /// Waits for more bytes; returns `None` at the end of the stream.
    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.rest);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await.expect("an answer in time");
        read.ok().filter(|read| *read > 0).map(drop)
    }

    /// Waits until the connection ends, and returns whether the server closed it without sending further
    /// bytes.
    pub(crate) async fn ends(mut self) -> bool {
        self.rest.is_empty() && self.more().await.is_none()
    }
}

/// Returns the `Authorization` header of the backend.
pub(crate) fn authorization(world: &World) -> String {
    let pair = format!("{}:{}", world.server.account_sid(), world.server.auth_token());
    format!("Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

/// Returns an authenticated request head of the backend; each line in `headers` ends with CR LF.
pub(crate) fn head(world: &World, request_line: &str, headers: &str) -> String {
    format!("{request_line} HTTP/1.1\r\nHost: verify.test\r\n{}{headers}\r\n", authorization(world))
}

/// Returns a complete, authenticated POST request of the backend with this form.
pub(crate) fn post(world: &World, path: &str, form: &str) -> String {
    let headers =
        format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", form.len());
    format!("{}{form}", head(world, &format!("POST {path}"), &headers))
}

/// Sends a request on its own connection and returns the response.
async fn ask(world: &World, request: impl AsRef<[u8]>) -> Answer {
    let mut connection = RawConnection::to(world).await;
    connection.send(request).await;
    connection.receive().await
}

/// Checks that the server still works.
async fn assert_serves(world: &World) {
    let answer = ask(world, head(world, "GET /v2/Services", "")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn unknown_route_error_names_the_path_without_the_version() {
    let world = World::ephemeral();
    let (backend, unauthenticated) = (world.backend(), world.backend().auth(Auth::None));
    for (path, named) in [
        ("/", "/"),
        ("/v2", ""),
        ("/v2/Nothing", "/Nothing"),
        ("/v1/Services", "/Services"),
        ("/v3/Services", "/v3/Services"),
        ("/v2/services", "/services"),
        ("/V2/Services", "/V2/Services"),
        ("/v2/Services/VA1/Entities/user-0001/Nothing", "/Services/VA1/Entities/user-0001/Nothing"),
        ("/v2/Services/VA1/Nothing?PageSize=1", "/Services/VA1/Nothing"),
    ] {
        for client in [&backend, &unauthenticated] {
            for reply in
                [client.get(path, &[]).await, client.post(path, &[]).await, client.delete(path, &[]).await]
            {
                assert_error(&reply, 404, 20404);
                let message = format!("The requested resource {named} was not found");
                assert_eq!(reply.json()["message"], message, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn unknown_resource_error_names_the_path_without_the_version() {
    let world = World::ephemeral();
    let path = format!("/Services/VA{}/Entities/user-0001", "0".repeat(32));
    let reply = world.backend().get(&format!("/v2{path}"), &[]).await;
    assert_error(&reply, 404, 20404);
    assert_eq!(reply.json()["message"], format!("The requested resource {path} was not found"));
}

#[tokio::test]
async fn empty_sid_in_the_path_is_reported_as_empty() {
    let world = World::ephemeral();
    let service = world.service().await;
    for path in [
        "/v2/Services/".to_owned(),
        format!("/v2/Services/{service}/AccessTokens/"),
        format!("/v2/Services/{service}/Entities/"),
        format!("/v2/Services/{service}/Entities/user-0001/Factors/"),
        format!("/v2/Services/{service}/Entities/user-0001/Challenges/"),
        format!("/v2/Services/{service}/Entities//Factors"),
        "/v2/Services//Entities".to_owned(),
    ] {
        for reply in [world.backend().get(&path, &[]).await, world.backend().post(&path, &[]).await] {
            assert_error(&reply, 404, 20404);
            let message = reply.json()["message"].as_str().unwrap().to_owned();
            assert!(message.ends_with("was not found: a SID in the path is empty"), "{path}: {message}");
        }
    }
}

#[tokio::test]
async fn unsupported_method_is_refused_with_the_allowed_methods() {
    let world = World::ephemeral();
    let backend = world.backend();
    for path in paths() {
        let served: Vec<_> = api::ROUTES.iter().filter(|route| route.path == path).collect();
        let here = path
            .replace("{ServiceSid}", &format!("VA{}", "0".repeat(32)))
            .replace("{Identity}", "user-0001")
            .replace("{Sid}", "YF0");
        for method in ["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH"] {
            let as_get = if method == "HEAD" { "GET" } else { method };
            if served.iter().any(|route| route.method == as_get) {
                continue;
            }
            let mut connection = RawConnection::to(&world).await;
            connection.send(head(&world, &format!("{method} {here}"), "Content-Length: 0\r\n")).await;
            let answer =
                if method == "HEAD" { connection.receive_head().await } else { connection.receive().await };
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            if method != "HEAD" {
                answer.assert_error(405, 20004);
            }
            let allow = answer.header("allow");
            assert_eq!(allow.len(), 1, "{answer:?}");
            let allowed: HashSet<&str> = allow[0].split(", ").collect();
            let mut expected: HashSet<&str> = served.iter().map(|route| route.method).collect();
            if expected.contains("GET") {
                expected.insert("HEAD");
            }
            expected.insert("OPTIONS");
            assert_eq!(allowed, expected, "{method} {path}");
        }
    }
    // A collection cannot be deleted, whatever the body.
    assert_error(&backend.delete("/v2/Services", &[]).await, 405, 20004);
}

/// Returns every path of the API once.
fn paths() -> Vec<&'static str> {
    let mut paths: Vec<_> = api::ROUTES.iter().map(|route| route.path).collect();
    paths.dedup();
    paths
}

#[tokio::test]
async fn unknown_http_methods_return_501() {
    let world = World::ephemeral();
    for method in ["TRACE", "PROPFIND", "BREW", "get", "LINK"] {
        for path in ["/v2/Services", "/v2/Nothing"] {
            let answer = ask(&world, head(&world, &format!("{method} {path}"), "")).await;
            answer.assert_error(501, 20501);
        }
    }
    let mut connection = RawConnection::to(&world).await;
    connection.send(head(&world, "CONNECT verify.test:443", "")).await;
    assert_eq!(connection.receive().await.status, 501);
    assert_serves(&world).await;
}

#[tokio::test]
async fn head_response_equals_get_response_without_the_body() {
    let world = World::ephemeral();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let challenge = world.challenge(&enrollment, &[]).await;
    let entity = entity(&service, "user-0001");
    for path in [
        "/healthz".to_owned(),
        "/readyz".to_owned(),
        "/v2/Services".to_owned(),
        format!("/v2/Services/{service}"),
        format!("/v2/Services/{service}/Entities"),
        entity.clone(),
        format!("{entity}/Factors"),
        format!("{entity}/Factors/{}", enrollment.factor_sid),
        format!("{entity}/Challenges"),
        format!("{entity}/Challenges/{}", challenge["sid"].as_str().unwrap()),
        format!("/v2/Services/VA{}", "0".repeat(32)),
    ] {
        let mut connection = RawConnection::to(&world).await;
        connection.send(head(&world, &format!("HEAD {path}"), "")).await;
        let bare = connection.receive_head().await;
        // A body of the previous response would appear before this response.
        connection.send(head(&world, &format!("GET {path}"), "")).await;
        let full = connection.receive().await;
        assert_eq!(bare.status, full.status, "{path}");
        for name in ["content-type", "content-length", "twilio-verify-signature-fields"] {
            assert_eq!(bare.header(name), full.header(name), "{path}: {name}");
        }
        assert!(!full.body.is_empty());
    }
    let mut unauthenticated = RawConnection::to(&world).await;
    unauthenticated.send("HEAD /v2/Services HTTP/1.0\r\n\r\n").await;
    assert_eq!(unauthenticated.receive_head().await.status, 401);
    assert!(unauthenticated.ends().await, "bytes follow the response head");
}

/// The headers of every response, with lower-case names.
const COMMON_HEADERS: [(&str, &str); 6] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, POST, DELETE, OPTIONS"),
    (
        "access-control-allow-headers",
        "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, \
         If-Unmodified-Since, Idempotency-Key",
    ),
    ("access-control-allow-credentials", "true"),
    (
        "access-control-expose-headers",
        "Date, ETag, Retry-After, Twilio-Reached-Rate-Limit, Twilio-Request-Id, Twilio-Verify-Signature-Fields",
    ),
    ("cache-control", "no-store"),
];

#[tokio::test]
async fn options_request_needs_no_credentials() {
    let world = World::ephemeral();
    for path in ["/v2/Services", "/v2/Services/VA0/Entities/user-0001/Challenges", "/v2/Nothing", "/healthz"]
    {
        let request = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: verify.test\r\nOrigin: https://app.test\r\n\
             Access-Control-Request-Method: POST\r\n\r\n"
        );
        let answer = ask(&world, request).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{path}: {answer:?}");
        for (name, value) in COMMON_HEADERS {
            assert_eq!(answer.header(name), [value], "{path}: {name}");
        }
        assert_eq!(answer.header("access-control-max-age"), ["600"], "{path}");
    }
}

#[tokio::test]
async fn every_response_has_a_unique_request_id_date_and_cors_headers() {
    let world = World::ephemeral();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Ios, &service, "user-0001").await;
    let entity = entity(&service, "user-0001");
    let mut seen = HashSet::new();
    for (status, request) in [
        (200, head(&world, "GET /v2/Services", "")),
        (200, head(&world, "GET /healthz", "")),
        (201, post(&world, "/v2/Services", "FriendlyName=Owl")),
        (204, head(&world, &format!("DELETE {entity}/Factors/{}", enrollment.factor_sid), "")),
        (204, head(&world, "OPTIONS /v2/Services", "")),
        (400, post(&world, "/v2/Services", "")),
        (400, head(&world, "GET /v2/Services?PageSize=%zz", "")),
        (401, "GET /v2/Services HTTP/1.1\r\nHost: verify.test\r\n\r\n".to_owned()),
        (404, head(&world, "GET /v2/Services/VA0", "")),
        (404, head(&world, "GET /nothing", "")),
        (405, head(&world, "DELETE /v2/Services", "")),
        (409, post(&world, &format!("/v2/Services/{service}/Entities"), "Identity=user-0001")),
        (413, post(&world, "/v2/Services", &format!("A={}", "x".repeat(64 * 1024)))),
        (414, head(&world, &format!("GET /v2/{}", "x".repeat(9000)), "")),
        (415, head(&world, "POST /v2/Services", "Content-Type: text/csv\r\nContent-Length: 1\r\n") + "x"),
        (431, head(&world, "GET /v2/Services", &format!("X-Long: {}\r\n", "x".repeat(40_000)))),
        (501, head(&world, "BREW /v2/Services", "")),
    ] {
        let answer = ask(&world, &request).await;
        assert_eq!(answer.status, status, "{}: {answer:?}", request.lines().next().unwrap());
        let ids = answer.header("twilio-request-id");
        assert_eq!(ids.len(), 1, "{answer:?}");
        let digits = ids[0].strip_prefix("RQ").unwrap_or_default();
        let is_id =
            digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        assert!(is_id, "{}", ids[0]);
        assert!(seen.insert(digits.to_owned()), "{} came twice", ids[0]);
        let dates = answer.header("date");
        assert!(matches!(dates[..], [date] if date.ends_with(" GMT") && date.len() == 29), "{answer:?}");
        for (name, value) in COMMON_HEADERS {
            assert_eq!(answer.header(name), [value], "{status}: {name}");
        }
        if status == 204 {
            assert_eq!(answer.body, "");
        } else {
            assert_eq!(answer.header("content-type"), ["application/json"], "{answer:?}");
            answer.json();
        }
        assert!(!(300..400).contains(&answer.status), "no SDK can be redirected");
    }
}

#[tokio::test]
async fn json_path_suffix_is_accepted_and_omitted_from_response_urls() {
    let world = World::sqlite();
    let fixture = Fixture::create(&world).await;
    let device = world.server.http().auth(fixture.device.auth());
    let backend = world.backend();
    for (method, pattern, who, _) in TABLE {
        // Only paths of Twilio's APIs have the suffix.
        let is_extension = pattern.starts_with("/countersign/");
        if *method != "GET" || *who == Allowed::Anyone || is_extension {
            continue;
        }
        let path = fixture.path(pattern);
        let with_suffix = match path.split_once('?') {
            Some((path, query)) => format!("{path}.json?{query}"),
            None => format!("{path}.json"),
        };
        let has_suffixed_links = pattern.starts_with("/2010-04-01/");
        for client in [&backend, &device] {
            let (plain, suffixed) = (client.get(&path, &[]).await, client.get(&with_suffix, &[]).await);
            assert_eq!((suffixed.status, suffixed.json()), (plain.status, plain.json()), "{pattern}");
            assert!(has_suffixed_links || !suffixed.text.contains(".json"), "{suffixed:?}");
        }
    }
    let list = backend.get("/v2/Services.json?PageSize=1", &[]).await;
    assert_eq!(list.json()["services"][0]["sid"], fixture.service.as_str());
    let services = backend.post("/v2/Services.json", &[("FriendlyName", "Second")]).await;
    assert_eq!(services.status, 201, "{services:?}");
    let next = backend.get("/v2/Services.json?PageSize=1", &[]).await.json()["meta"]["next_page_url"].clone();
    assert!(next.as_str().unwrap().contains("/v2/Services?PageSize=1&Page=1&PageToken="), "{next}");
    for path in [
        &fixture.path("/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}"),
        fixture.device.path().as_str(),
    ] {
        let changed =
            backend.post(&format!("{path}.json"), &[("Metadata", "{}"), ("FriendlyName", "Owl")]).await;
        assert_eq!(changed.status, 200, "{changed:?}");
    }
    assert_error(&Http::new(world.server.url()).get("/v2/Services.json", &[]).await, 401, 20003);
    assert_error(&backend.get("/v2/Services/nothing.json", &[]).await, 404, 20404);
    assert_error(&backend.get("/v2/Services/.json", &[]).await, 404, 20404);
    assert_error(&backend.get("/healthz.json", &[]).await, 404, 20404);
    assert_error(&backend.delete("/v2/Services.json", &[]).await, 405, 20004);
    assert_eq!(backend.get("/openapi.json", &[]).await.status, 200);
    assert_eq!(backend.delete(&format!("{}.json", fixture.device.path()), &[]).await.status, 204);
}

#[tokio::test]
async fn signature_fields_header_is_sent_exactly_once_in_exact_spelling() {
    let world = World::ephemeral();
    let service = world.service().await;
    let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let challenge = world.challenge(&enrollment, &[]).await;
    let sid = challenge["sid"].as_str().unwrap();
    let list = format!("{}/Challenges", entity(&service, "user-0001"));
    let line = "Twilio-Verify-Signature-Fields: hidden_details,account_sid,sid,expiration_date,date_created,\
                status,factor_sid,details,service_sid,identity";
    let of = |answer: &Answer| -> Vec<String> {
        let fields = |line: &&str| line.to_ascii_lowercase().starts_with("twilio-verify-signature-fields");
        answer.head.lines().filter(fields).map(str::to_owned).collect()
    };

    let answer = ask(&world, head(&world, &format!("GET {list}/{sid}"), "")).await;
    assert_eq!(of(&answer), [line], "{answer:?}");
    for name in line.split(": ").nth(1).unwrap().split(',') {
        assert!(answer.json().get(name).is_some(), "the body lacks {name}, which would have to be signed");
    }
    assert_eq!(of(&ask(&world, head(&world, &format!("GET {list}"), "")).await), Vec::<String>::new());

    phone.answer(&enrollment, sid, device::Answer::Denied).await.unwrap();
    let answered = ask(&world, head(&world, &format!("GET {list}/{sid}"), "")).await;
    assert_eq!(of(&answered), [line], "on every fetch, answered or not");
}

#[tokio::test]
async fn url_length_is_limited() {
    let world = World::ephemeral();
    // 8 KiB in total, including every header of the request.
    let of_length =
        |length: usize| format!("/v2/Services?A={}", "x".repeat(length - "/v2/Services?A=".len()));
    let longest = ask(&world, head(&world, &format!("GET {}", of_length(8 * 1024)), "")).await;
    assert_eq!(longest.status, 200, "{longest:?}");
    for length in [8 * 1024 + 1, 20_000, 60_000] {
        ask(&world, head(&world, &format!("GET {}", of_length(length)), "")).await.assert_error(414, 20414);
    }
}

#[tokio::test]
async fn header_size_is_limited() {
    let world = World::ephemeral();
    for (length, status) in [(30_000, 200), (33_000, 431), (60_000, 431)] {
        let headers = format!("X-Long: {}\r\n", "x".repeat(length));
        let answer = ask(&world, head(&world, "GET /v2/Services", &headers)).await;
        assert_eq!(answer.status, status, "{length}: {answer:?}");
        if status == 431 {
            answer.assert_error(431, 20431);
        }
    }
    // Too large for the server to read at all: any 4xx is fine, but the server must keep running.
    for headers in [format!("X-Long: {}\r\n", "x".repeat(200_000)), "X-Many: 1\r\n".repeat(2_000)] {
        let mut connection = RawConnection::to(&world).await;
        // The server may close the connection while this is being sent.
        let _ = connection.stream.write_all(head(&world, "GET /v2/Services", &headers).as_bytes()).await;
        if let Some(answer) = connection.answer(false).await {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
    assert_serves(&world).await;
}

#[tokio::test]
async fn body_size_is_limited_for_every_transfer_encoding() {
    let world = World::ephemeral();
    let before = world.everything().await;
    let largest = 64 * 1024;
    let form = |length: usize| {
        let name = "FriendlyName=Owl&Filler=";
        format!("{name}{}", "x".repeat(length - name.len()))
    };
    let chunked = |form: &str| {
        let mut body = String::new();
        for chunk in form.as_bytes().chunks(4096) {
            body.push_str(&format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
        }
        let headers =
            "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n".to_owned();
        format!("{}{body}0\r\n\r\n", head(&world, "POST /v2/Services", &headers))
    };
    for request in [post(&world, "/v2/Services", &form(largest + 1)), chunked(&form(largest + 1))] {
        ask(&world, request).await.assert_error(413, 20413);
    }
    // Far too large: the response arrives long before everything is sent, and the connection is closed.
    let mut connection = RawConnection::to(&world).await;
    connection.send(head(&world, "POST /v2/Services", "Content-Length: 1000000000\r\n")).await;
    // The server may close the connection while this is being sent.
    let _ = connection.stream.write_all(&vec![b'x'; 2 * 1024 * 1024]).await;
    connection.receive().await.assert_error(413, 20413);
    assert!(connection.ends().await);
    assert_eq!(world.everything().await, before, "a refused request changed the data");

    for request in [post(&world, "/v2/Services", &form(largest)), chunked(&form(largest))] {
        let answer = ask(&world, request).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[tokio::test]
async fn request_with_an_incomplete_body_times_out() {
    let world = World::ephemeral();
    let (known, unknown) = (authorization(&world), "");
    let (length, chunks) = ("Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n");
    let mut lines = Vec::new();
    for (request, authorization, framing, begun, expected) in [
        ("POST /v2/Services", known.as_str(), length, "FriendlyName=Ow", (408, 20408)),
        ("POST /v2/Services", &known, chunks, "f\r\nFriendlyName=Ow\r\n", (408, 20408)),
        ("POST /v2/Services", &known, chunks, "f\r\nFriend", (408, 20408)),
        ("GET /v2/Services", &known, chunks, "", (408, 20408)),
        ("POST /v2/Services", unknown, chunks, "", (401, 20003)),
        ("OPTIONS /v2/Services", unknown, chunks, "", (408, 20408)),
        ("GET /nowhere", unknown, chunks, "", (404, 20404)),
    ] {
        let mut connection = RawConnection::to(&world).await;
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        connection
            .send(format!(
                "{request} HTTP/1.1\r\nHost: verify.test\r\n{authorization}{form}{framing}\r\n{begun}"
            ))
            .await;
        lines.push((connection, expected));
    }
    // Other clients never wait for a body, even where they offer to upgrade.
    for offer in ["Connection: Upgrade\r\nUpgrade: websocket\r\n", ""] {
        let mut connection = RawConnection::to(&world).await;
        connection.send(head(&world, "GET /v2/Services", offer)).await;
        let (slow, _) = &mut lines[0];
        tokio::select! {
            biased;
            answer = slow.receive() => panic!("{answer:?} came first"),
            answer = connection.receive() => assert_eq!(answer.status, 200, "{answer:?}"),
        }
    }
    for (mut connection, (status, code)) in lines {
        let answer = connection.receive().await;
        answer.assert_error(status, code);
        assert!(
            !answer.header("date").is_empty() && !answer.header("twilio-request-id").is_empty(),
            "{answer:?}"
        );
        assert_eq!(answer.header("connection"), ["close"], "{answer:?}");
        assert!(connection.ends().await);
    }
    assert_eq!(world.everything().await, serde_json::json!([]));
}

#[tokio::test]
async fn request_with_an_incomplete_head_times_out() {
    let world = World::ephemeral();
    let mut silent = RawConnection::to(&world).await;
    silent.send("").await;
    let mut slow = RawConnection::to(&world).await;
    slow.send("GET /v2/Services HTTP/1.1\r\nHost: verify.test\r\nX-Owl: ").await;
    // A response of the HTTP library, which has no request yet.
    let answer = slow.receive().await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(slow.ends().await);
    let _ = silent.answer(false).await;
    assert!(silent.ends().await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn client_that_reads_nothing_times_out() {
    let world = World::ephemeral();
    assert_serves(&world).await;
    let address: SocketAddr = world.server.url().strip_prefix("http://").unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let client = stream.local_addr().unwrap().port();
    // These responses exceed the capacity of all buffers between client and server.
    let ask = "GET /openapi.json HTTP/1.1\r\nHost: verify.test\r\n\r\n".repeat(400);
    stream.write_all(ask.as_bytes()).await.unwrap();
    let server_has_it = || has_connection(world.server.pid(), address.port(), client);
    wait_until("the server has the connection", Duration::from_secs(20), async || {
        server_has_it().then_some(())
    })
    .await;
    wait_until("the server ends the connection", Duration::from_secs(120), async || {
        (!server_has_it()).then_some(())
    })
    .await;
    assert_serves(&world).await;
}

/// Returns whether a process of this machine holds the end at the first port of the connection between these
/// two ports.
#[cfg(target_os = "linux")]
fn has_connection(pid: u32, near: u16, far: u16) -> bool {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let ends = format!("0100007F:{near:04X} 0100007F:{far:04X}");
    // Inode 0 means that no process holds the connection any more.
    let inode =
        table.lines().find(|line| line.contains(&ends)).and_then(|line| line.split_whitespace().nth(9));
    inode.is_some_and(|inode| inode != "0")
}

#[tokio::test]
async fn chunked_bodies_and_bodies_without_content_type_are_read() {
    let world = World::ephemeral();
    for headers in ["", "Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\n"] {
        let chunks = "d\r\nFriendlyName=\r\n6\r\nOwl%20\r\n4\r\nBank\r\n0\r\n\r\n";
        let headers = format!("{headers}Transfer-Encoding: chunked\r\n");
        let request = format!("{}{chunks}", head(&world, "POST /v2/Services", &headers));
        let answer = ask(&world, request).await;
        assert_eq!((answer.status, answer.json()["friendly_name"].as_str()), (201, Some("Owl Bank")));
    }
    let plain = head(&world, "POST /v2/Services", "Content-Length: 16\r\n");
    let answer = ask(&world, format!("{plain}FriendlyName=Owl")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn expect_100_continue_is_answered() {
    let world = World::ephemeral();
    let mut connection = RawConnection::to(&world).await;
    let headers = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 16\r\n\
                   Expect: 100-continue\r\n";
    connection.send(head(&world, "POST /v2/Services", headers)).await;
    let go_on = connection.receive().await;
    assert_eq!(go_on.status, 100, "{go_on:?}");
    connection.send("FriendlyName=Owl").await;
    let answer = connection.receive().await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn accept_header_is_ignored() {
    let world = World::ephemeral();
    // The SDKs send `Accept: application/x-www-form-urlencoded` but expect JSON.
    for accept in ["application/x-www-form-urlencoded", "text/html", "*/*;q=0", "nonsense", ""] {
        let answer = ask(&world, head(&world, "GET /v2/Services", &format!("Accept: {accept}\r\n"))).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, vec!["application/json"]),
            "{accept}"
        );
    }
}

#[tokio::test]
async fn user_agent_may_contain_any_bytes() {
    let world = World::ephemeral();
    for agent in ["Bankür; Android; 1.0".as_bytes(), b"Bank\xfcr; iOS; 1.0", b"\x80\xff", b""] {
        let request = head(&world, "GET /v2/Services", "User-Agent: @\r\n");
        let at = request.find('@').unwrap();
        let request = [&request.as_bytes()[..at], agent, &request.as_bytes()[at + 1..]].concat();
        assert_eq!(ask(&world, request).await.status, 200, "{agent:?}");
    }
}

#[tokio::test]
async fn authentication_scheme_is_case_insensitive() {
    let world = World::ephemeral();
    for scheme in ["basic", "BASIC", "BaSiC"] {
        let request = head(&world, "GET /v2/Services", "")
            .replace("Authorization: Basic", &format!("authorization: {scheme}"));
        assert_eq!(ask(&world, request).await.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn garbage_instead_of_http_is_refused() {
    let world = World::ephemeral();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello over TLS\r\n\r\n"[..],
        b"\x00\x00\x00\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v2/Services\r\n\r\n",
        b"GET /v2/Services HTTP/9.9\r\n\r\n",
        b"GET v2 HTTP/1.1\r\nHost: verify.test\r\n\r\n",
        b"GET /v2/Services HTTP/1.1\r\nHost\r\n\r\n",
        b"GET /v2/Services HTTP/1.1\r\nHost: a\r\nContent-Length: minus one\r\n\r\n",
        b"POST /v2/Services HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /v2/Services HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\nab",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut connection = RawConnection::to(&world).await;
        let _ = connection.stream.write_all(garbage).await;
        let _ = connection.stream.shutdown().await;
        if let Some(answer) = connection.answer(false).await {
            assert!(matches!(answer.status, 400..=499 | 501 | 505), "{garbage:?}: {answer:?}");
        }
        assert_serves(&world).await;
    }
    assert_eq!(world.everything().await, serde_json::json!([]));
}

#[tokio::test]
async fn body_is_never_parsed_as_the_next_request() {
    let world = World::ephemeral();
    // A proxy and a server could disagree about each of these.
    let inner = head(&world, "DELETE /v2/Services", "");
    for headers in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", inner.len()),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n", inner.len()),
        format!("Content-Length: +{}\r\n", inner.len()),
    ] {
        let mut connection = RawConnection::to(&world).await;
        connection.send(format!("{}{inner}", head(&world, "POST /v2/Services", &headers))).await;
        while let Some(answer) = connection.answer(false).await {
            assert_ne!(answer.status, 405, "{headers}: the body was taken for a request");
        }
    }
    // The body of a request that is refused before the body is read is still a body.
    let mut connection = RawConnection::to(&world).await;
    let unauthenticated =
        format!("POST /v2/Services HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", inner.len());
    connection.send(format!("{unauthenticated}{inner}{}", head(&world, "GET /healthz", ""))).await;
    assert_eq!(connection.receive().await.status, 401);
    if let Some(answer) = connection.answer(false).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_served_in_order() {
    let world = World::ephemeral();
    let mut connection = RawConnection::to(&world).await;
    let mut requests = String::new();
    for number in 0..50 {
        requests.push_str(&post(
            &world,
            "/v2/Services",
            &format!("FriendlyName=Number {number}").replace(' ', "+"),
        ));
        requests.push_str(&head(&world, "GET /v2/Services?PageSize=1", ""));
    }
    connection.send(requests).await;
    let mut last = String::new();
    for number in 0..50 {
        let made = connection.receive().await;
        assert_eq!((made.status, &made.json()["friendly_name"]), (201, &format!("Number {number}").into()));
        last = made.json()["sid"].as_str().unwrap().to_owned();
        assert_eq!(connection.receive().await.status, 200);
    }
    // The connection stays open for a later request.
    connection.send(head(&world, &format!("GET /v2/Services/{last}"), "Connection: close\r\n")).await;
    assert_eq!(connection.receive().await.status, 200);
    assert!(connection.ends().await, "and ends when the client says so");
}

#[tokio::test]
async fn response_to_a_refused_request_keeps_the_connection_or_announces_its_close() {
    let world = World::ephemeral();
    let unauthenticated = |method: &str, body: &str| {
        format!("{method} /v2/Services HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    for (status, request, survives) in [
        (401, unauthenticated("GET", ""), true),
        (404, head(&world, "GET /v2/Nothing", ""), true),
        (405, head(&world, "DELETE /v2/Services", ""), true),
        (400, post(&world, "/v2/Services", "FriendlyName=%zz"), true),
        (404, post(&world, "/v2/Services/VA0", "FriendlyName=Owl"), true),
        (413, post(&world, "/v2/Services", &format!("A={}", "x".repeat(64 * 1024))), false),
        // The body of these is not needed, so it may stay unread and end the connection.
        (401, unauthenticated("POST", "FriendlyName=Owl"), false),
        (401, unauthenticated("POST", &format!("A={}", "x".repeat(64 * 1024))), false),
        (404, post(&world, "/v2/Nothing", "FriendlyName=Owl"), false),
        (405, head(&world, "PUT /v2/Services", "Content-Length: 3\r\n") + "A=1", false),
    ] {
        let mut connection = RawConnection::to(&world).await;
        connection.send(&request).await;
        let answer = connection.receive().await;
        assert_eq!(answer.status, status, "{answer:?}");
        match answer.header("connection")[..] {
            ["close"] => assert!(connection.ends().await, "{answer:?}"),
            _ => {
                connection.send(head(&world, "GET /v2/Services", "")).await;
                assert_eq!(connection.receive().await.status, 200, "{request}");
                continue;
            }
        }
        assert!(!survives, "{answer:?}");
    }
}

#[tokio::test]
async fn http_1_0_client_is_served_and_disconnected() {
    let world = World::ephemeral();
    let mut connection = RawConnection::to(&world).await;
    connection.send(format!("GET /v2/Services HTTP/1.0\r\n{}\r\n", authorization(&world))).await;
    let answer = connection.receive().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(connection.ends().await);
}

#[tokio::test]
async fn client_disconnecting_midway_does_not_affect_the_server() {
    let world = World::ephemeral();
    let whole = post(&world, "/v2/Services", "FriendlyName=Half");
    for length in [1, 20, whole.len() / 2, whole.len() - 10, whole.len() - 1] {
        let mut connection = RawConnection::to(&world).await;
        connection.send(&whole[..length]).await;
        drop(connection);
    }
    assert_serves(&world).await;
    assert_eq!(world.everything().await, serde_json::json!([]), "an incomplete request changes nothing");

    // A client that disconnects before the response has still sent its request.
    let mut connection = RawConnection::to(&world).await;
    connection.send(post(&world, "/v2/Services", "FriendlyName=Whole")).await;
    drop(connection);
    assert_serves(&world).await;
}

#[tokio::test]
async fn health_checks_need_no_credentials() {
    let world = World::ephemeral();
    for auth in
        [Auth::None, Auth::Basic("AC1".to_owned(), "wrong".to_owned()), Auth::Raw("Nonsense".to_owned())]
    {
        let unauthenticated = world.backend().auth(auth);
        for (path, status) in [("/healthz", "alive"), ("/readyz", "ready")] {
            let reply = unauthenticated.get(path, &[]).await;
            assert_eq!((reply.status, &reply.json()["status"]), (200, &status.into()), "{reply:?}");
        }
    }
}

/// Like Java's HTTP client on each connection: the upgrade is declined, and the response announces the end of
/// the connection.
#[tokio::test]
async fn upgrade_is_declined_and_the_connection_closed() {
    let world = World::ephemeral();
    let mut connection = RawConnection::to(&world).await;
    connection
        .send(
            "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n\r\n",
        )
        .await;
    let answer = connection.receive().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), ["close"], "{answer:?}");
    assert!(connection.answer(false).await.is_none());
}

#[tokio::test]
async fn malformed_chunks_are_refused_regardless_of_following_bytes() {
    let world = World::ephemeral();
    let headers = "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n";
    let head = head(&world, "POST /v2/Services", headers);
    for chunks in
        ["zz\r\nnothing\r\n", "3\r\nA=1zz", "d\r\nFriendlyName=\r\n-1\r\nx", "\r\n", "ffffffffffffffffff\r\n"]
    {
        for more in [0, 100, 300_000] {
            for _ in 0..5 {
                let mut connection = RawConnection::to(&world).await;
                // The server may close the connection while this is being sent.
                let _ = connection
                    .stream
                    .write_all(format!("{head}{chunks}{}", "x".repeat(more)).as_bytes())
                    .await;
                let answer = connection.answer(false).await;
                let answer = answer.unwrap_or_else(|| panic!("no answer to {chunks:?} and {more} bytes"));
                answer.assert_error(400, 60306);
                assert_eq!(answer.header("connection"), ["close"], "{answer:?}");
            }
        }
    }
    assert_eq!(world.everything().await, serde_json::json!([]));
}

#[tokio::test]
async fn requests_pipelined_after_connection_close_are_not_processed() {
    let world = World::ephemeral();
    let form = |name: &str, more: &str| {
        let form = format!("FriendlyName={name}");
        let headers = format!(
            "Content-Type: application/x-www-form-urlencoded\r\n{more}Content-Length: {}\r\n",
            form.len()
        );
        format!("{}{form}", head(&world, "POST /v2/Services", &headers))
    };
    let mut connection = RawConnection::to(&world).await;
    connection
        .send([form("First", "Connection: close\r\n"), form("Second", ""), form("Third", "")].concat())
        .await;
    let first = connection.receive().await;
    assert_eq!((first.status, first.header("connection")), (201, vec!["close"]), "{first:?}");
    while let Some(answer) = connection.answer(false).await {
        answer.assert_error(503, 20503);
        assert_eq!(answer.header("connection"), ["close"], "{answer:?}");
    }
    let services = world.everything().await;
    assert_eq!(services.as_array().unwrap().len(), 1, "{services}");
}

#[tokio::test]
async fn websocket_upgrade_request_with_a_body_is_answered_immediately() {
    let world = World::ephemeral();
    let offer = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for headers in ["", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let headers = format!("{offer}{headers}Content-Length: 16\r\n");
        let mut connection = RawConnection::to(&world).await;
        let began = Instant::now();
        connection.send(format!("{}FriendlyName=Owl", head(&world, "POST /v2/Services", &headers))).await;
        let answer = connection.receive().await;
        assert_eq!((answer.status, answer.header("connection")), (201, vec!["close"]), "{answer:?}");
        assert!(connection.ends().await);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
