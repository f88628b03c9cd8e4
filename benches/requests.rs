//! Measures requests inside the server: form parsing, and whole requests over a loopback connection to an in-memory
//! database. Client and HTTP server share one thread, so that the figures contain no waiting between those two.
//!
//! `health` and `unknown_path` measure routing and middleware. The difference between `challenge` and `service`, and
//! the lists of 1 and 50 challenges, show what JSON views cost.
#![allow(clippy::unwrap_used, reason = "a bench ends with a panic when something is wrong")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use actix_web::dev::{Service as _, ServiceFactory as _};
use actix_web::rt::System;
use api::Api;
use app::{App, AppConfig, MasterKeySource, Origin, SystemClock};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::Criterion;
use crypto::{MasterKey, MasterKeys, SigningKey, SystemEntropy};
use domain::challenges::{Field, Message};
use domain::{FactorSid, FriendlyName, Parameter as _, RequestSid};
use serde_json::Value;
use store::{Location, OldSchema, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use web::{Acceptor, Application, ConnectionLimiter, ConnectionLimits, Form, Settings};

/// Number of challenges in the long list.
const CHALLENGE_COUNT: usize = 50;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench_forms(&mut criterion);
    let system = System::new();
    let (mut client, paths) = system.block_on(prepare());
    let mut group = criterion.benchmark_group("requests");
    for (name, path) in &paths {
        group.bench_function(*name, |bencher| {
            bencher.iter_custom(|count| {
                let began = Instant::now();
                system.block_on(async {
                    for _ in 0..count {
                        client.send("GET", path, "").await;
                    }
                });
                began.elapsed()
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

/// Measures the parameters of a request that creates a challenge.
fn bench_forms(criterion: &mut Criterion) {
    let body = "FactorSid=YF033333333333333333333333333333333&Details.Message=Sign+in+to+https%3A%2F%2Fexample.com%3F\
                &Details.Fields=%7B%22label%22%3A%22IP%22%2C%22value%22%3A%22203.0.113.9%22%7D\
                &Details.Fields=%7B%22label%22%3A%22City%22%2C%22value%22%3A%22Lisbon%22%7D\
                &HiddenDetails=%7B%22txn%22%3A%22a%2Fb%22%7D";
    let body = body.replace("YF033333333333333333333333333333333", &format!("YF{}", "3".repeat(32)));
    criterion.benchmark_group("forms").bench_function("create_challenge", |bencher| {
        bencher.iter(|| {
            let form = Form::parse(black_box(body.as_bytes())).unwrap();
            let factor_sid: FactorSid = form.required("FactorSid").unwrap();
            let message: Message = form.required("Details.Message").unwrap();
            let fields: Vec<Field> = form.all("Details.Fields").unwrap();
            (factor_sid, message, fields)
        });
    });
}

/// Starts a server on this thread, and creates an entity with one challenge and another with [`CHALLENGE_COUNT`].
/// Returns a client, and the paths to measure by name.
async fn prepare() -> (Client, Vec<(&'static str, String)>) {
    let (store, _) = Store::open(&Location::Memory, OldSchema::Migrate).await.unwrap();
    let keys = MasterKeys::new(MasterKey::generate(&SystemEntropy), Vec::new());
    let app = App::start(
        store,
        Arc::new(SystemClock),
        Arc::new(SystemEntropy),
        Arc::new(jwe::Josekit),
        MasterKeySource::fixed(keys),
        AppConfig::default(),
    );
    let app = Arc::new(app.await.unwrap());
    let name = FriendlyName::from_parameter("Bench").unwrap();
    let account = app.create_account(&Origin::operator("bench"), None, None, name).await.unwrap().unwrap();
    let credentials = format!("{}:{}", account.account.sid, account.auth_token.expose());
    let mut client = Client { connection: serve(app).await, authorization: STANDARD.encode(credentials) };

    let service = client.create("/v2/Services", "FriendlyName=Bench").await;
    let service = format!("/v2/Services/{service}");
    let short = create_entity(&mut client, &service, "short-list", 1).await;
    let long = create_entity(&mut client, &service, "long-list", CHALLENGE_COUNT).await;
    let list = |entity: &str| format!("{entity}/Challenges?PageSize={CHALLENGE_COUNT}");
    let listed: Value = serde_json::from_str(&client.send("GET", &list(&short), "").await).unwrap();
    let challenge = format!("{short}/Challenges/{}", listed["challenges"][0]["sid"].as_str().unwrap());
    let paths = vec![
        ("health", "/healthz".to_owned()),
        ("unknown_path", format!("{short}/Unknown")),
        ("service", service),
        ("challenge", challenge),
        ("challenge_list_1", list(&short)),
        ("challenge_list_50", list(&long)),
    ];
    (client, paths)
}

/// Serves the API on this thread and returns a connection to it.
async fn serve(app: Arc<App>) -> TcpStream {
    let settings = Settings::default();
    let limits = ConnectionLimits { total: 8, per_address: None };
    let api = Api::new(Arc::clone(&app), settings.clone());
    let new_request_id = move || RequestSid::generate(app.now(), app.entropy());
    let acceptor = Acceptor {
        connection_limiter: Arc::new(ConnectionLimiter::new(limits, settings.trusted_proxies.clone())),
        tls: None,
        application: Application::new(settings, new_request_id, api),
    };
    let service = acceptor.service(std::future::pending).new_service(()).await.unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    actix_web::rt::spawn(async move { service.call(accepted).await });
    client
}

/// Creates an entity with a verified factor and `challenge_count` pending challenges. Returns the entity's path.
async fn create_entity(client: &mut Client, service: &str, identity: &str, challenge_count: usize) -> String {
    let entity = format!("{service}/Entities/{identity}");
    let key = SigningKey::generate();
    let form = format!(
        "FriendlyName=Phone&FactorType=push&Binding.Alg=ES256&Binding.PublicKey={}&Config.AppId=com.example.bench\
         &Config.NotificationPlatform=none&Config.SdkVersion=0.9.0",
        key.public_key_base64().replace('+', "%2B")
    );
    let factor = client.create(&format!("{entity}/Factors"), &form).await;
    let proof = STANDARD.encode(key.sign_der(factor.as_bytes())).replace('+', "%2B");
    let factor_path = format!("{entity}/Factors/{factor}");
    let verified = client.send("POST", &factor_path, &format!("AuthPayload={proof}")).await;
    assert!(verified.contains("\"verified\""), "{verified}");
    let form = format!(
        "FactorSid={factor}&Details.Message=Sign+in%3F\
         &Details.Fields=%7B%22label%22%3A%22IP%22%2C%22value%22%3A%22203.0.113.9%22%7D"
    );
    for _ in 0..challenge_count {
        client.create(&format!("{entity}/Challenges"), &form).await;
    }
    entity
}

/// A backend with one connection to the server.
struct Client {
    connection: TcpStream,
    authorization: String,
}

impl Client {
    /// Sends a form, and returns the SID of the resource that is created.
    async fn create(&mut self, path: &str, form: &str) -> String {
        let response = self.send("POST", path, form).await;
        let body: Value = serde_json::from_str(&response).unwrap();
        body["sid"].as_str().unwrap_or_else(|| panic!("{path}: {response}")).to_owned()
    }

    /// Sends one request and returns the body of its response.
    async fn send(&mut self, method: &str, path: &str, form: &str) -> String {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            self.authorization,
            form.len()
        );
        self.connection.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::with_capacity(4096);
        loop {
            assert!(self.connection.read_buf(&mut response).await.unwrap() > 0, "the connection was closed");
            if let Some(body) = whole_body(&response) {
                return body.to_owned();
            }
        }
    }
}

/// Returns the body of a response, or `None` if the response is not complete.
fn whole_body(response: &[u8]) -> Option<&str> {
    let (head, body) = std::str::from_utf8(response).ok()?.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
    })?;
    (body.len() >= length).then_some(body)
}
