//! What HTTP itself demands: methods, limits, headers, and clients that misbehave.

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

use crate::matrix::{Stage, TABLE, Who};
use crate::world::{World, assert_error, entity};

/// A connection on which a test says, byte for byte, what it wants.
pub(crate) struct Line {
    stream: TcpStream,
    /// What came and was not read yet.
    rest: Vec<u8>,
}

/// An answer as it stood on the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head, without the empty line that ends it.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The values of the header of that name, in any spelling.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    /// Checks that this is an error as every client expects it.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, code: i64) {
        assert_eq!((self.status, self.json()["code"].as_i64()), (status, Some(code)), "{self:?}");
    }
}

impl Line {
    pub(crate) async fn to(world: &World) -> Self {
        Self::at(world.server.url()).await
    }

    /// A connection to the server at this URL.
    pub(crate) async fn at(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        Self { stream: TcpStream::connect(address).await.unwrap(), rest: Vec::new() }
    }

    /// A connection to the server at this URL, from this address of this machine.
    pub(crate) async fn from(address: &str, url: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        let stream = socket.connect(url.strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap();
        Self { stream, rest: Vec::new() }
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer.
    pub(crate) async fn hear(&mut self) -> Answer {
        self.answer(false).await.expect("an answer before the connection ends")
    }

    /// The next answer, which is one to a `HEAD` request and so has no body, whatever its length says.
    async fn hear_head(&mut self) -> Answer {
        self.answer(true).await.expect("an answer before the connection ends")
    }

    /// The next answer; `None` if the server hangs up instead.
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

    /// Waits for more bytes; `None` once there will be none.
    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.rest);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await.expect("an answer in time");
        read.ok().filter(|read| *read > 0).map(drop)
    }

    /// Whether the server has nothing more to say and hangs up.
    pub(crate) async fn ends(mut self) -> bool {
        self.rest.is_empty() && self.more().await.is_none()
    }
}

/// The header with which the backend signs in.
pub(crate) fn authorization(world: &World) -> String {
    let pair = format!("{}:{}", world.server.account_sid(), world.server.auth_token());
    format!("Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

/// A request head of the backend; `headers` are whole lines.
pub(crate) fn head(world: &World, request_line: &str, headers: &str) -> String {
    format!("{request_line} HTTP/1.1\r\nHost: verify.test\r\n{}{headers}\r\n", authorization(world))
}

/// A form, posted by the backend.
pub(crate) fn post(world: &World, path: &str, form: &str) -> String {
    let headers =
        format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", form.len());
    format!("{}{form}", head(world, &format!("POST {path}"), &headers))
}

/// Asks once, on a connection of its own.
async fn ask(world: &World, request: impl AsRef<[u8]>) -> Answer {
    let mut line = Line::to(world).await;
    line.say(request).await;
    line.hear().await
}

/// Checks that the server still does its work.
async fn assert_serves(world: &World) {
    let answer = ask(world, head(world, "GET /v2/Services", "")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn unknown_routes_name_their_path_without_the_version() {
    let world = World::ephemeral();
    let (backend, stranger) = (world.backend(), world.backend().auth(Auth::None));
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
        for client in [&backend, &stranger] {
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
async fn unknown_resources_name_their_path_without_the_version() {
    let world = World::ephemeral();
    let path = format!("/Services/VA{}/Entities/user-0001", "0".repeat(32));
    let reply = world.backend().get(&format!("/v2{path}"), &[]).await;
    assert_error(&reply, 404, 20404);
    assert_eq!(reply.json()["message"], format!("The requested resource {path} was not found"));
}

#[tokio::test]
async fn an_empty_sid_in_the_path_is_said_to_be_empty() {
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
async fn a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has() {
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
            let mut line = Line::to(&world).await;
            line.say(head(&world, &format!("{method} {here}"), "Content-Length: 0\r\n")).await;
            let answer = if method == "HEAD" { line.hear_head().await } else { line.hear().await };
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
    // A collection can't be deleted, with whatever body.
    assert_error(&backend.delete("/v2/Services", &[]).await, 405, 20004);
}

/// Every path of the API, once.
fn paths() -> Vec<&'static str> {
    let mut paths: Vec<_> = api::ROUTES.iter().map(|route| route.path).collect();
    paths.dedup();
    paths
}

#[tokio::test]
async fn exotic_methods_are_not_implemented() {
    let world = World::ephemeral();
    for method in ["TRACE", "PROPFIND", "BREW", "get", "LINK"] {
        for path in ["/v2/Services", "/v2/Nothing"] {
            let answer = ask(&world, head(&world, &format!("{method} {path}"), "")).await;
            answer.assert_error(501, 20501);
        }
    }
    let mut line = Line::to(&world).await;
    line.say(head(&world, "CONNECT verify.test:443", "")).await;
    assert_eq!(line.hear().await.status, 501);
    assert_serves(&world).await;
}

#[tokio::test]
async fn official_endpoints_that_are_not_served_say_so() {
    let world = World::ephemeral();
    let va = format!("/v2/Services/VA{}", "0".repeat(32));
    for path in [
        format!("{va}/Verifications"),
        format!("{va}/Verifications/VE{}", "0".repeat(32)),
        format!("{va}/VerificationCheck"),
        format!("{va}/RateLimits"),
        format!("{va}/RateLimits/RK{}/Buckets", "0".repeat(32)),
        format!("{va}/MessagingConfigurations/US"),
        format!("{va}/Passkeys/Factors"),
        format!("{va}/Passkeys/VerifyFactor"),
        "/v2/Templates".to_owned(),
        "/v2/SafeList/Numbers".to_owned(),
        "/v2/Attempts".to_owned(),
        "/v2/Attempts/Summary".to_owned(),
        "/v2/Forms/form-push".to_owned(),
    ] {
        for reply in [world.backend().get(&path, &[]).await, world.backend().post(&path, &[]).await] {
            assert_error(&reply, 501, 20501);
        }
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
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
        let mut line = Line::to(&world).await;
        line.say(head(&world, &format!("HEAD {path}"), "")).await;
        let bare = line.hear_head().await;
        // Would anything have followed the head, it would stand before this.
        line.say(head(&world, &format!("GET {path}"), "")).await;
        let full = line.hear().await;
        assert_eq!(bare.status, full.status, "{path}");
        for name in ["content-type", "content-length", "twilio-verify-signature-fields"] {
            assert_eq!(bare.header(name), full.header(name), "{path}: {name}");
        }
        assert!(!full.body.is_empty());
    }
    let mut stranger = Line::to(&world).await;
    stranger.say("HEAD /v2/Services HTTP/1.0\r\n\r\n").await;
    assert_eq!(stranger.hear_head().await.status, 401);
    assert!(stranger.ends().await, "nothing follows the head");
}

/// The headers of every response, under their names in small letters.
const ALWAYS: [(&str, &str); 6] = [
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
        "Date, ETag, Retry-After, Twilio-Request-Id, Twilio-Verify-Signature-Fields",
    ),
    ("cache-control", "no-store"),
];

#[tokio::test]
async fn options_are_answered_for_browsers_without_credentials() {
    let world = World::ephemeral();
    for path in ["/v2/Services", "/v2/Services/VA0/Entities/user-0001/Challenges", "/v2/Nothing", "/healthz"]
    {
        let request = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: verify.test\r\nOrigin: https://app.test\r\n\
             Access-Control-Request-Method: POST\r\n\r\n"
        );
        let answer = ask(&world, request).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{path}: {answer:?}");
        for (name, value) in ALWAYS {
            assert_eq!(answer.header(name), [value], "{path}: {name}");
        }
    }
}

#[tokio::test]
async fn every_response_has_a_request_id_of_its_own_a_date_and_what_browsers_need() {
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
        (501, head(&world, "GET /v2/Attempts", "")),
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
        for (name, value) in ALWAYS {
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
async fn every_path_of_twilio_may_end_in_json_which_no_answer_repeats() {
    let world = World::sqlite();
    let stage = Stage::set(&world).await;
    let device = world.server.http().auth(stage.device.auth());
    let backend = world.backend();
    for (method, pattern, who, _) in TABLE {
        if *method != "GET" || *who == Who::Anyone {
            continue;
        }
        let path = stage.path(pattern);
        for client in [&backend, &device] {
            let (plain, suffixed) =
                (client.get(&path, &[]).await, client.get(&format!("{path}.json"), &[]).await);
            assert_eq!((suffixed.status, suffixed.json()), (plain.status, plain.json()), "{pattern}");
            assert!(!suffixed.text.contains(".json"), "{suffixed:?}");
        }
    }
    let list = backend.get("/v2/Services.json?PageSize=1", &[]).await;
    assert_eq!(list.json()["services"][0]["sid"], stage.service.as_str());
    let services = backend.post("/v2/Services.json", &[("FriendlyName", "Second")]).await;
    assert_eq!(services.status, 201, "{services:?}");
    let next = backend.get("/v2/Services.json?PageSize=1", &[]).await.json()["meta"]["next_page_url"].clone();
    assert!(next.as_str().unwrap().contains("/v2/Services?PageSize=1&Page=1&PageToken="), "{next}");
    for path in [
        &stage.path("/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}"),
        stage.device.path().as_str(),
    ] {
        let changed =
            backend.post(&format!("{path}.json"), &[("Metadata", "{}"), ("FriendlyName", "Owl")]).await;
        assert_eq!(changed.status, 200, "{changed:?}");
    }
    assert_error(&Http::new(world.server.url()).get("/v2/Services.json", &[]).await, 401, 20003);
    assert_error(&backend.get("/v2/Services/nothing.json", &[]).await, 404, 20404);
    assert_error(&backend.get("/v2/Services/.json", &[]).await, 404, 20404);
    assert_error(&backend.get("/v2/Attempts/Summary.json", &[]).await, 501, 20501);
    assert_error(&backend.get("/healthz.json", &[]).await, 404, 20404);
    assert_error(&backend.delete("/v2/Services.json", &[]).await, 405, 20004);
    assert_eq!(backend.get("/openapi.json", &[]).await.status, 200);
    assert_eq!(backend.delete(&format!("{}.json", stage.device.path()), &[]).await.status, 204);
}

#[tokio::test]
async fn the_signature_fields_are_on_the_wire_once_in_their_exact_spelling() {
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
async fn addresses_have_a_longest_length() {
    let world = World::ephemeral();
    // 8 KiB with all that a client can put there.
    let of_length =
        |length: usize| format!("/v2/Services?A={}", "x".repeat(length - "/v2/Services?A=".len()));
    let longest = ask(&world, head(&world, &format!("GET {}", of_length(8 * 1024)), "")).await;
    assert_eq!(longest.status, 200, "{longest:?}");
    for length in [8 * 1024 + 1, 20_000, 60_000] {
        ask(&world, head(&world, &format!("GET {}", of_length(length)), "")).await.assert_error(414, 20414);
    }
}

#[tokio::test]
async fn headers_have_a_largest_size() {
    let world = World::ephemeral();
    for (length, status) in [(30_000, 200), (33_000, 431), (60_000, 431)] {
        let headers = format!("X-Long: {}\r\n", "x".repeat(length));
        let answer = ask(&world, head(&world, "GET /v2/Services", &headers)).await;
        assert_eq!(answer.status, status, "{length}: {answer:?}");
        if status == 431 {
            answer.assert_error(431, 20431);
        }
    }
    // Too large for the server to read at all: any 4xx will do, but it must go on.
    for headers in [format!("X-Long: {}\r\n", "x".repeat(200_000)), "X-Many: 1\r\n".repeat(2_000)] {
        let mut line = Line::to(&world).await;
        // The server may hang up while this is still being sent.
        let _ = line.stream.write_all(head(&world, "GET /v2/Services", &headers).as_bytes()).await;
        if let Some(answer) = line.answer(false).await {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
    }
    assert_serves(&world).await;
}

#[tokio::test]
async fn bodies_have_a_largest_size_however_they_are_sent() {
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
    // Far too large: the answer is there long before all is sent, and the connection ends.
    let mut line = Line::to(&world).await;
    line.say(head(&world, "POST /v2/Services", "Content-Length: 1000000000\r\n")).await;
    // The server may hang up while this is still being sent.
    let _ = line.stream.write_all(&vec![b'x'; 2 * 1024 * 1024]).await;
    line.hear().await.assert_error(413, 20413);
    assert!(line.ends().await);
    assert_eq!(world.everything().await, before, "nothing came of any of them");

    for request in [post(&world, "/v2/Services", &form(largest)), chunked(&form(largest))] {
        let answer = ask(&world, request).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_after_a_while() {
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
        let mut line = Line::to(&world).await;
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        line.say(format!(
            "{request} HTTP/1.1\r\nHost: verify.test\r\n{authorization}{form}{framing}\r\n{begun}"
        ))
        .await;
        lines.push((line, expected));
    }
    // Nobody else waits for that, also where a client would rather speak something else.
    for offer in ["Connection: Upgrade\r\nUpgrade: websocket\r\n", ""] {
        let mut line = Line::to(&world).await;
        line.say(head(&world, "GET /v2/Services", offer)).await;
        let (slow, _) = &mut lines[0];
        tokio::select! {
            biased;
            answer = slow.hear() => panic!("{answer:?} came first"),
            answer = line.hear() => assert_eq!(answer.status, 200, "{answer:?}"),
        }
    }
    for (mut line, (status, code)) in lines {
        let answer = line.hear().await;
        answer.assert_error(status, code);
        assert!(
            !answer.header("date").is_empty() && !answer.header("twilio-request-id").is_empty(),
            "{answer:?}"
        );
        assert_eq!(answer.header("connection"), ["close"], "{answer:?}");
        assert!(line.ends().await);
    }
    assert_eq!(world.everything().await, serde_json::json!([]));
}

#[tokio::test]
async fn a_head_that_does_not_come_is_given_up_after_a_while() {
    let world = World::ephemeral();
    let mut silent = Line::to(&world).await;
    silent.say("").await;
    let mut slow = Line::to(&world).await;
    slow.say("GET /v2/Services HTTP/1.1\r\nHost: verify.test\r\nX-Owl: ").await;
    // The library's own answer, for which there is no request yet.
    let answer = slow.hear().await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(slow.ends().await);
    let _ = silent.answer(false).await;
    assert!(silent.ends().await);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up_after_a_while() {
    let world = World::ephemeral();
    assert_serves(&world).await;
    let address: SocketAddr = world.server.url().strip_prefix("http://").unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let client = stream.local_addr().unwrap().port();
    // More than any buffer between the two holds.
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

/// Whether a process of this machine holds the connection between these two ports at the first one's end.
#[cfg(target_os = "linux")]
fn has_connection(pid: u32, near: u16, far: u16) -> bool {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let ends = format!("0100007F:{near:04X} 0100007F:{far:04X}");
    // One that nobody owns any more is on its way out.
    let inode =
        table.lines().find(|line| line.contains(&ends)).and_then(|line| line.split_whitespace().nth(9));
    inode.is_some_and(|inode| inode != "0")
}

#[tokio::test]
async fn chunked_bodies_and_bodies_without_a_type_are_read() {
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
async fn a_client_that_asks_first_is_told_to_continue() {
    let world = World::ephemeral();
    let mut line = Line::to(&world).await;
    let headers = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 16\r\n\
                   Expect: 100-continue\r\n";
    line.say(head(&world, "POST /v2/Services", headers)).await;
    let go_on = line.hear().await;
    assert_eq!(go_on.status, 100, "{go_on:?}");
    line.say("FriendlyName=Owl").await;
    let answer = line.hear().await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn accept_is_ignored() {
    let world = World::ephemeral();
    // The SDKs say that they accept a form, and mean JSON.
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
async fn user_agents_may_hold_any_bytes() {
    let world = World::ephemeral();
    for agent in ["Bankür; Android; 1.0".as_bytes(), b"Bank\xfcr; iOS; 1.0", b"\x80\xff", b""] {
        let request = head(&world, "GET /v2/Services", "User-Agent: @\r\n");
        let at = request.find('@').unwrap();
        let request = [&request.as_bytes()[..at], agent, &request.as_bytes()[at + 1..]].concat();
        assert_eq!(ask(&world, request).await.status, 200, "{agent:?}");
    }
}

#[tokio::test]
async fn the_scheme_of_the_credentials_has_no_case() {
    let world = World::ephemeral();
    for scheme in ["basic", "BASIC", "BaSiC"] {
        let request = head(&world, "GET /v2/Services", "")
            .replace("Authorization: Basic", &format!("authorization: {scheme}"));
        assert_eq!(ask(&world, request).await.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn garbage_instead_of_http_does_no_harm() {
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
        let mut line = Line::to(&world).await;
        let _ = line.stream.write_all(garbage).await;
        let _ = line.stream.shutdown().await;
        if let Some(answer) = line.answer(false).await {
            assert!(matches!(answer.status, 400..=499 | 501 | 505), "{garbage:?}: {answer:?}");
        }
        assert_serves(&world).await;
    }
    assert_eq!(world.everything().await, serde_json::json!([]));
}

#[tokio::test]
async fn a_body_is_never_taken_for_the_next_request() {
    let world = World::ephemeral();
    // Each of these could be read in two ways by a proxy and a server that disagree.
    let inner = head(&world, "DELETE /v2/Services", "");
    for headers in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", inner.len()),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n", inner.len()),
        format!("Content-Length: +{}\r\n", inner.len()),
    ] {
        let mut line = Line::to(&world).await;
        line.say(format!("{}{inner}", head(&world, "POST /v2/Services", &headers))).await;
        while let Some(answer) = line.answer(false).await {
            assert_ne!(answer.status, 405, "{headers}: the body was taken for a request");
        }
    }
    // The body of a request that is refused before anybody reads it is still a body.
    let mut line = Line::to(&world).await;
    let stranger =
        format!("POST /v2/Services HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", inner.len());
    line.say(format!("{stranger}{inner}{}", head(&world, "GET /healthz", ""))).await;
    assert_eq!(line.hear().await.status, 401);
    if let Some(answer) = line.answer(false).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn requests_may_follow_each_other_without_waiting() {
    let world = World::ephemeral();
    let mut line = Line::to(&world).await;
    let mut requests = String::new();
    for number in 0..50 {
        requests.push_str(&post(
            &world,
            "/v2/Services",
            &format!("FriendlyName=Number {number}").replace(' ', "+"),
        ));
        requests.push_str(&head(&world, "GET /v2/Services?PageSize=1", ""));
    }
    line.say(requests).await;
    let mut last = String::new();
    for number in 0..50 {
        let made = line.hear().await;
        assert_eq!((made.status, &made.json()["friendly_name"]), (201, &format!("Number {number}").into()));
        last = made.json()["sid"].as_str().unwrap().to_owned();
        assert_eq!(line.hear().await.status, 200);
    }
    // The connection lives on for one that comes later.
    line.say(head(&world, &format!("GET /v2/Services/{last}"), "Connection: close\r\n")).await;
    assert_eq!(line.hear().await.status, 200);
    assert!(line.ends().await, "and ends when the client says so");
}

#[tokio::test]
async fn a_connection_survives_a_refusal_or_is_said_to_end() {
    let world = World::ephemeral();
    let stranger = |method: &str, body: &str| {
        format!("{method} /v2/Services HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    for (status, request, survives) in [
        (401, stranger("GET", ""), true),
        (404, head(&world, "GET /v2/Nothing", ""), true),
        (405, head(&world, "DELETE /v2/Services", ""), true),
        (400, post(&world, "/v2/Services", "FriendlyName=%zz"), true),
        (404, post(&world, "/v2/Services/VA0", "FriendlyName=Owl"), true),
        (413, post(&world, "/v2/Services", &format!("A={}", "x".repeat(64 * 1024))), false),
        // Nobody needs the body of these, so it may be left unread and end the connection.
        (401, stranger("POST", "FriendlyName=Owl"), false),
        (401, stranger("POST", &format!("A={}", "x".repeat(64 * 1024))), false),
        (404, post(&world, "/v2/Nothing", "FriendlyName=Owl"), false),
        (405, head(&world, "PUT /v2/Services", "Content-Length: 3\r\n") + "A=1", false),
    ] {
        let mut line = Line::to(&world).await;
        line.say(&request).await;
        let answer = line.hear().await;
        assert_eq!(answer.status, status, "{answer:?}");
        match answer.header("connection")[..] {
            ["close"] => assert!(line.ends().await, "{answer:?}"),
            _ => {
                line.say(head(&world, "GET /v2/Services", "")).await;
                assert_eq!(line.hear().await.status, 200, "{request}");
                continue;
            }
        }
        assert!(!survives, "{answer:?}");
    }
}

#[tokio::test]
async fn old_clients_are_answered_and_hung_up_on() {
    let world = World::ephemeral();
    let mut line = Line::to(&world).await;
    line.say(format!("GET /v2/Services HTTP/1.0\r\n{}\r\n", authorization(&world))).await;
    let answer = line.hear().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(line.ends().await);
}

#[tokio::test]
async fn a_client_that_vanishes_in_the_middle_breaks_nothing() {
    let world = World::ephemeral();
    let whole = post(&world, "/v2/Services", "FriendlyName=Half");
    for length in [1, 20, whole.len() / 2, whole.len() - 10, whole.len() - 1] {
        let mut line = Line::to(&world).await;
        line.say(&whole[..length]).await;
        drop(line);
    }
    assert_serves(&world).await;
    assert_eq!(world.everything().await, serde_json::json!([]), "half a request is none");

    // Who leaves before the answer has asked all the same.
    let mut line = Line::to(&world).await;
    line.say(post(&world, "/v2/Services", "FriendlyName=Whole")).await;
    drop(line);
    assert_serves(&world).await;
}

#[tokio::test]
async fn health_is_told_to_anyone() {
    let world = World::ephemeral();
    for auth in
        [Auth::None, Auth::Basic("AC1".to_owned(), "wrong".to_owned()), Auth::Raw("Nonsense".to_owned())]
    {
        let stranger = world.backend().auth(auth);
        for (path, status) in [("/healthz", "alive"), ("/readyz", "ready")] {
            let reply = stranger.get(path, &[]).await;
            assert_eq!((reply.status, &reply.json()["status"]), (200, &status.into()), "{reply:?}");
        }
    }
}

/// As Java's own client does on each connection: the offer is declined, and the connection ends, aloud.
#[tokio::test]
async fn an_offer_to_upgrade_is_declined_and_the_end_announced() {
    let world = World::ephemeral();
    let mut line = Line::to(&world).await;
    line.say(
        "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n\r\n",
    )
    .await;
    let answer = line.hear().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), ["close"], "{answer:?}");
    assert!(line.answer(false).await.is_none());
}

#[tokio::test]
async fn malformed_chunks_are_answered_whatever_follows_them() {
    let world = World::ephemeral();
    let headers = "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n";
    let head = head(&world, "POST /v2/Services", headers);
    for chunks in
        ["zz\r\nnothing\r\n", "3\r\nA=1zz", "d\r\nFriendlyName=\r\n-1\r\nx", "\r\n", "ffffffffffffffffff\r\n"]
    {
        for more in [0, 100, 300_000] {
            for _ in 0..5 {
                let mut line = Line::to(&world).await;
                // The server may end the connection while this is still being sent.
                let _ = line.stream.write_all(format!("{head}{chunks}{}", "x".repeat(more)).as_bytes()).await;
                let answer = line.answer(false).await;
                let answer = answer.unwrap_or_else(|| panic!("no answer to {chunks:?} and {more} bytes"));
                answer.assert_error(400, 60306);
                assert_eq!(answer.header("connection"), ["close"], "{answer:?}");
            }
        }
    }
    assert_eq!(world.everything().await, serde_json::json!([]));
}

#[tokio::test]
async fn requests_behind_one_that_ends_the_connection_are_not_processed() {
    let world = World::ephemeral();
    let form = |name: &str, more: &str| {
        let form = format!("FriendlyName={name}");
        let headers = format!(
            "Content-Type: application/x-www-form-urlencoded\r\n{more}Content-Length: {}\r\n",
            form.len()
        );
        format!("{}{form}", head(&world, "POST /v2/Services", &headers))
    };
    let mut line = Line::to(&world).await;
    line.say([form("First", "Connection: close\r\n"), form("Second", ""), form("Third", "")].concat()).await;
    let first = line.hear().await;
    assert_eq!((first.status, first.header("connection")), (201, vec!["close"]), "{first:?}");
    while let Some(answer) = line.answer(false).await {
        answer.assert_error(503, 20503);
        assert_eq!(answer.header("connection"), ["close"], "{answer:?}");
    }
    let services = world.everything().await;
    assert_eq!(services.as_array().unwrap().len(), 1, "{services}");
}

#[tokio::test]
async fn an_offer_of_websocket_with_a_body_is_answered_at_once() {
    let world = World::ephemeral();
    let offer = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for headers in ["", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let headers = format!("{offer}{headers}Content-Length: 16\r\n");
        let mut line = Line::to(&world).await;
        let began = Instant::now();
        line.say(format!("{}FriendlyName=Owl", head(&world, "POST /v2/Services", &headers))).await;
        let answer = line.hear().await;
        assert_eq!((answer.status, answer.header("connection")), (201, vec!["close"]), "{answer:?}");
        assert!(line.ends().await);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
