//! Measures how fast a challenge becomes a push: the real server on a SQLite file, a backend that creates
//! challenges, and a stand-in for FCM that accepts the pushes, all on this machine.
//!
//! `cargo bench --bench fan_out`, or `-- SECONDS` of load for each part (default 10). The word `postgres` selects
//! PostgreSQL, and `json` adds a last line with the figures as JSON. There are no pass criteria, because ten
//! seconds on a shared machine are not a reliable test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench ends with a panic when something is wrong, and its figures are its output"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use app::SystemClock;
use device::{NewFactor, Phone, Platform, Style};
use domain::Secret;
use harness::stand_in::pki::Key;
use harness::stand_in::{Authority, Google};
use harness::{Database, Http, Server, Storage, wait_until};
use tokio::task::JoinSet;

/// Number of challenges created per second while measuring the time from challenge to push.
const CHALLENGES_PER_SECOND: u32 = 200;

/// The number of backends that each create challenges one after the other without a pause.
const BACKEND_COUNT: usize = 32;

/// Number of devices; they are challenged in rotation.
const DEVICE_COUNT: usize = 64;

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let seconds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(10);
    let on_postgres = words.iter().any(|word| word == "postgres");
    let load = Duration::from_secs(seconds);

    let with_push = Fixture::set(Some(Platform::Fcm), on_postgres).await;
    println!("\n{CHALLENGES_PER_SECOND} challenges a second, for {seconds} s:");
    let asked = with_push.at_steady_rate(load).await;
    let times = with_push.report_times(&asked);

    println!("\nas many as {BACKEND_COUNT} backends can create, for {seconds} s:");
    let used = with_push.cpu_seconds();
    let (created, rate) = with_push.at_full_rate(load).await;
    println!("  challenges created, each with a push     {rate:7.0} a second");
    with_push.pushes_received(1 + asked.len() + created.len()).await;
    let cpu_with_push = (with_push.cpu_seconds() - used) * 1000.0 / created.len() as f64;
    let pushed = with_push.push_rate(&created);
    println!("  pushes received, until the last          {pushed:7.0} a second");

    let without = Fixture::set(None, on_postgres).await;
    let used = without.cpu_seconds();
    let (created, bare) = without.at_full_rate(load).await;
    let cpu_without = (without.cpu_seconds() - used) * 1000.0 / created.len() as f64;
    println!("  challenges created for devices without push {bare:4.0} a second");
    println!("  a challenge with its push costs {:.2} times one without", bare / pushed);
    println!("  CPU time of the server: {cpu_with_push:.3} ms with its push, {cpu_without:.3} ms without");
    if words.iter().any(|word| word == "json") {
        let figures = serde_json::json!({
            "push_median_ms": times.median,
            "push_p99_ms": times.p99,
            "challenges_with_push_per_s": rate,
            "pushes_per_s": pushed,
            "challenges_without_push_per_s": bare,
            "cpu_ms_with_push": cpu_with_push,
            "cpu_ms_without_push": cpu_without,
        });
        println!("{figures}");
    }
}

/// Times from the request for a challenge to the arrival of its push, in milliseconds.
struct PushTimes {
    median: f64,
    p99: f64,
}

/// A server with its backend, devices and push provider.
struct Fixture {
    google: Google,
    backend: Http,
    /// The challenge collection path and the factor SID of each device.
    devices: Vec<(String, String)>,
    server: Server,
    _database: Option<Database>,
    _folder: tempfile::TempDir,
}

/// The times of the creation request and of its response, by challenge SID.
type Asked = HashMap<String, (Instant, Instant)>;

impl Fixture {
    async fn set(platform: Option<Platform>, on_postgres: bool) -> Arc<Self> {
        let authority = Authority::new();
        let google = Google::start(&authority, Arc::new(SystemClock)).await;
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let data_dir = folder.path().join("data");
        let database = on_postgres.then(|| harness::fresh_postgres_database("fan_out"));
        let storage = match &database {
            Some(database) => Storage::Postgres { url: database.url.clone(), data_dir },
            None => Storage::Sqlite(data_dir),
        };
        let arguments = [
            "--push-ca",
            ca.to_str().unwrap(),
            "--push-fcm-endpoint",
            &google.server().url(),
            "--log",
            "warn",
        ];
        let server =
            Server::start(harness::binary_under_test(env!("CARGO_BIN_EXE_countersign")), storage, &arguments);
        let backend = server.http();

        let account = google.service_account("bench", &Key::rsa());
        let credential = made(&backend, "/v1/Credentials", &[("Type", "fcm"), ("Secret", &account)]).await;
        let service = [("FriendlyName", "Bench"), ("Push.FcmCredentialSid", &credential)];
        let service = made(&backend, "/v2/Services", &service).await;
        let phone = Phone::new(Style::Android, server.url(), Arc::new(SystemClock)).unwrap();
        let mut devices = Vec::new();
        for number in 0..DEVICE_COUNT {
            let identity = format!("device-{number:04}");
            let path = format!("/v2/Services/{service}");
            let form = [("Identity", identity.as_str()), ("FactorType", "push")];
            let token = backend.post(&format!("{path}/AccessTokens"), &form).await.json();
            let new = NewFactor {
                service_sid: service.clone(),
                identity: identity.clone(),
                access_token: Secret::new(token["token"].as_str().unwrap().to_owned()),
                friendly_name: "Bench phone".to_owned(),
                notification: platform
                    .map(|platform| (platform, format!("registration-token-of-{identity}"))),
                metadata: None,
                app_id: "com.example.bench".to_owned(),
            };
            let enrollment = phone.enroll(&new).await.unwrap();
            devices.push((format!("{path}/Entities/{identity}/Challenges"), enrollment.factor_sid));
        }
        let fixture = Self { google, backend, devices, server, _database: database, _folder: folder };
        let fixture = Arc::new(fixture);
        // The first push opens the connection and gets an access token.
        if platform.is_some() {
            fixture.ask(0).await;
            fixture.pushes_received(1).await;
        }
        fixture
    }

    /// Creates a challenge for the device with index `number` modulo the number of devices. Returns its SID
    /// and the times of the request and the response.
    async fn ask(&self, number: usize) -> (String, (Instant, Instant)) {
        let (path, factor_sid) = &self.devices[number % self.devices.len()];
        let form = [("FactorSid", factor_sid.as_str()), ("Details.Message", "Sign in to the bench?")];
        let asked = Instant::now();
        let sid = made(&self.backend, path, &form).await;
        (sid, (asked, Instant::now()))
    }

    /// Creates challenges at a steady rate for the duration `load`, regardless of the response times.
    async fn at_steady_rate(self: &Arc<Self>, load: Duration) -> Asked {
        let before = self.google.taken();
        let count = (load.as_secs_f64() * f64::from(CHALLENGES_PER_SECOND)) as usize;
        let mut clock = tokio::time::interval(Duration::from_secs(1) / CHALLENGES_PER_SECOND);
        let mut asking = JoinSet::new();
        for number in 0..count {
            clock.tick().await;
            let fixture = Arc::clone(self);
            asking.spawn(async move { fixture.ask(number).await });
        }
        let asked = asking.join_all().await.into_iter().collect();
        self.pushes_received(before + count).await;
        asked
    }

    /// Creates challenges without a pause for the duration `load`. Returns their times and the number created
    /// per second.
    async fn at_full_rate(self: &Arc<Self>, load: Duration) -> (Asked, f64) {
        let began = Instant::now();
        let mut backends = JoinSet::new();
        for backend in 0..BACKEND_COUNT {
            let fixture = Arc::clone(self);
            backends.spawn(async move {
                let mut asked = Vec::new();
                while began.elapsed() < load {
                    asked.push(fixture.ask(backend + asked.len() * BACKEND_COUNT).await);
                }
                asked
            });
        }
        let asked: Asked = backends.join_all().await.into_iter().flatten().collect();
        let rate = asked.len() as f64 / began.elapsed().as_secs_f64();
        (asked, rate)
    }

    /// Returns the CPU time that the server has used. Linux counts it in hundredths of a second (proc_pid_stat(5)).
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.server.pid())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let times = fields.split_whitespace().skip(11).take(2);
        times.map(|time| time.parse::<f64>().unwrap() / 100.0).sum()
    }

    async fn pushes_received(&self, count: usize) {
        let arrived = async || (self.google.taken() >= count).then_some(());
        wait_until("all pushes have arrived", Duration::from_secs(60), arrived).await;
    }

    /// Returns, for each challenge in `asked`, its request and response times and the arrival time of its
    /// push.
    fn arrivals<'a>(&self, asked: &'a Asked) -> Vec<(&'a (Instant, Instant), Instant)> {
        let sid = |push: &harness::stand_in::google::Push| {
            push.message["data"]["challenge_sid"].as_str().unwrap().to_owned()
        };
        let pushes = self.google.pushes();
        let arrivals: Vec<_> =
            pushes.iter().filter_map(|push| Some((asked.get(&sid(push))?, push.at))).collect();
        assert_eq!(arrivals.len(), asked.len(), "each challenge was pushed once");
        arrivals
    }

    /// Prints how long the pushes took, and returns their times from the request.
    fn report_times(&self, asked: &Asked) -> PushTimes {
        let arrivals = self.arrivals(asked);
        let mut from_request: Vec<_> = arrivals.iter().map(|((asked, _), at)| *at - *asked).collect();
        // The response is sent after the commit, so this is slightly less than the time since the commit.
        let mut from_answer: Vec<_> =
            arrivals.iter().map(|((_, answered), at)| at.saturating_duration_since(*answered)).collect();
        let report = |name: &str, times: &mut Vec<Duration>| {
            times.sort();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
            let (median, p99, most) = (at(0.5), at(0.99), at(1.0));
            println!(
                "  push received, {name:34} median {median:6.2} ms   p99 {p99:6.2} ms   most {most:6.2} ms"
            );
            PushTimes { median, p99 }
        };
        report("from its answer, after the commit", &mut from_answer);
        report("from the request", &mut from_request)
    }

    /// Returns the average number of pushes per second, from the first request to the last arrival.
    fn push_rate(&self, asked: &Asked) -> f64 {
        let arrivals = self.arrivals(asked);
        let began = arrivals.iter().map(|((asked, _), _)| *asked).min().unwrap();
        let ended = arrivals.iter().map(|(_, at)| *at).max().unwrap();
        arrivals.len() as f64 / (ended - began).as_secs_f64()
    }
}

/// Creates a resource and returns its SID.
async fn made(backend: &Http, path: &str, form: &[(&str, &str)]) -> String {
    let reply = backend.post(path, form).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()["sid"].as_str().unwrap().to_owned()
}
