//! PostgreSQL outages: broken connections, a hanging database, and an unreachable database that returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use app::SystemClock;
use device::{Answer, Enrollment, NewFactor, Phone, Style};
use harness::{Database, Port, Reply};
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle as Task, spawn_blocking};

use super::*;
use crate::metrics;
use crate::world::{assert_error, created, entity};

const ACCOUNT: [(&str, &str); 2] = [
    ("COUNTERSIGN_ACCOUNT_SID", "AC0123456789abcdef0123456789abcdef"),
    ("COUNTERSIGN_AUTH_TOKEN", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
];

/// A server on PostgreSQL behind a proxy that can interrupt connections, with a service and an enrolled phone.
struct OutageFixture {
    server: Serving,
    proxy: Proxy,
    /// The URL of the database through the proxy.
    url: String,
    service: String,
    phone: Phone,
    enrollment: Enrollment,
    database: Arc<Database>,
    _place: Place,
}

impl OutageFixture {
    async fn start(test: &str) -> Option<Self> {
        Self::set_with(test, &[]).await
    }

    async fn set_with(test: &str, arguments: &[&str]) -> Option<Self> {
        let database = harness::postgres_or_skip(test)?;
        let place = Place::new();
        let (proxy, url) = Proxy::to(&database.url).await;
        let always = ["--database-url", &url, "--migrate", metrics::LISTEN[0], metrics::LISTEN[1]];
        let arguments = [&always, arguments].concat();
        let server = Serving::start(&place.folder, &arguments, &ACCOUNT).await;
        let backend = server.backend(ACCOUNT[0].1, ACCOUNT[1].1);
        let service = created(&backend.post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await);
        let service = service["sid"].as_str().unwrap().to_owned();
        let form = [("Identity", "outage-0001"), ("FactorType", "push")];
        let token = created(&backend.post(&format!("/v2/Services/{service}/AccessTokens"), &form).await);
        let new = NewFactor {
            service_sid: service.clone(),
            identity: "outage-0001".to_owned(),
            access_token: domain::Secret::new(token["token"].as_str().unwrap().to_owned()),
            friendly_name: "Test phone".to_owned(),
            notification: None,
            metadata: None,
            app_id: "com.example.app".to_owned(),
        };
        let phone = Phone::new(Style::Android, &server.url, Arc::new(SystemClock)).unwrap();
        let enrollment = phone.enroll(&new).await.unwrap();
        let database = Arc::new(database);
        Some(Self { server, proxy, url, service, phone, enrollment, database, _place: place })
    }

    fn backend(&self) -> Http {
        self.server.backend(ACCOUNT[0].1, ACCOUNT[1].1)
    }

    /// Creates a challenge for the phone and returns its SID.
    async fn challenge(&self) -> String {
        let form = [("FactorSid", self.enrollment.factor_sid.as_str()), ("Details.Message", "Still there?")];
        let path = format!("{}/Challenges", entity(&self.service, "outage-0001"));
        created(&self.backend().post(&path, &form).await)["sid"].as_str().unwrap().to_owned()
    }

    async fn wait_until_ready_again(&self) {
        wait_until("the server is ready again", WAIT_TIMEOUT, async || {
            (self.backend().get("/readyz", &[]).await.status == 200).then_some(())
        })
        .await;
    }

    /// Checks that every request succeeds at the first attempt, with as many concurrent requests as the
    /// server has database connections.
    async fn assert_everything_works(&self) {
        for _ in 0..2 {
            let reads: Vec<_> = (0..20)
                .map(|_| {
                    let (backend, path) = (self.backend(), entity(&self.service, "outage-0001"));
                    tokio::spawn(async move { backend.get(&path, &[]).await })
                })
                .collect();
            for read in reads {
                let reply = read.await.unwrap();
                assert_eq!(reply.status, 200, "{reply:?}; the server's log: {}", self.server.stderr());
            }
            for answer in [Answer::Approved, Answer::Denied] {
                let sid = self.challenge().await;
                self.phone.answer(&self.enrollment, &sid, answer).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn broken_database_connections_under_load_lose_no_acknowledged_write() {
    let test = "operation::outage::broken_database_connections_under_load_lose_no_acknowledged_write";
    let Some(fixture) = OutageFixture::start(test).await else { return };
    let load = Load::on(&fixture);
    for _ in 0..15 {
        load.wait_for_progress().await;
        let database = Arc::clone(&fixture.database);
        let broken = spawn_blocking(move || {
            database.psql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
        });
        assert_ne!(broken.await.unwrap(), "0");
    }
    load.wait_for_progress().await;
    load.check(&fixture).await;
    fixture.assert_everything_works().await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn requests_get_503_with_retry_after_during_a_database_outage() {
    let test = "operation::outage::requests_get_503_with_retry_after_during_a_database_outage";
    let Some(fixture) = OutageFixture::start(test).await else { return };
    let sid = fixture.challenge().await;
    let shown = fixture.phone.get_challenge(&fixture.enrollment, &sid).await.unwrap();
    fixture.proxy.set(ProxyState::Cut);

    let began = Instant::now();
    let backend = fixture.backend();
    let entities = format!("/v2/Services/{}/Entities", fixture.service);
    let unauthenticated = fixture.server.backend(ACCOUNT[0].1, "wrong");
    let (alive, ready, read, write, unauthenticated, device) = tokio::join!(
        backend.get("/healthz", &[]),
        backend.get("/readyz", &[]),
        backend.get(&entities, &[]),
        backend.post(&entities, &[("Identity", "meanwhile-0001")]),
        // Credentials that cannot be checked are not refused: a phone would take a 401 as the end of its
        // factor.
        unauthenticated.get(&entities, &[]),
        fixture.phone.send_answer(&fixture.enrollment, &shown, Answer::Approved),
    );
    assert_eq!(alive.status, 200);
    for reply in [&ready, &read, &write, &unauthenticated] {
        assert_error(reply, 503, 20503);
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
    }
    assert!(matches!(device, Err(device::Error::Api { status: 503, code: 20503, .. })), "{device:?}");
    // The limit is one second; the test allows one more for a slow machine.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let address = metrics::address(|| fixture.server.stderr()).await;
    let exposition = metrics::read(&address).await;
    assert_eq!(exposition.sum("countersign_ready", &[]), 0.0);
    assert!(exposition.sum("countersign_database_failures", &[("kind", "unavailable")]) > 0.0);
    assert_eq!(exposition.sum("countersign_faults", &[("kind", "unavailable")]), 5.0);
    let probes = Http::new(&address);
    assert_eq!(probes.get("/healthz", &[]).await.status, 200);
    assert_eq!(probes.get("/readyz", &[]).await.status, 503);

    fixture.proxy.set(ProxyState::Open);
    fixture.wait_until_ready_again().await;
    wait_for_ready_metric(&address, 1.0).await;
    let path = format!("{entities}/meanwhile-0001");
    assert_error(&backend.get(&path, &[]).await, 404, 20404);
    let answered = fixture.phone.answer(&fixture.enrollment, &sid, Answer::Denied).await.unwrap();
    assert_eq!(answered.status.as_str(), "denied");
    fixture.assert_everything_works().await;

    // The log names address and reason once, and not for each request.
    let log = fixture.server.stderr();
    let url = fixture.url.parse::<Url>().unwrap();
    let (port, name) = (url.port().unwrap(), url.path().trim_start_matches('/'));
    let lost = format!("cannot connect to PostgreSQL at 127.0.0.1:{port}, database {name}: ");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("database lost")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains(&lost) && lines[0].contains("Connection refused"), "{log}");
    assert_eq!(log.matches("database is back: PostgreSQL at 127.0.0.1").count(), 1, "{log}");
    assert!(!log.contains("fault: "), "{log}");
    fixture.server.stop().await;
}

/// Waits until the metrics report whether the server is ready. A response can contain an older measurement.
async fn wait_for_ready_metric(address: &str, expected: f64) {
    wait_until(&format!("countersign_ready is {expected}"), WAIT_TIMEOUT, async || {
        (metrics::read(address).await.sum("countersign_ready", &[]) == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_are_served_while_the_database_hangs() {
    let test = "operation::outage::metrics_are_served_while_the_database_hangs";
    let Some(fixture) = OutageFixture::start(test).await else { return };
    let address = metrics::address(|| fixture.server.stderr()).await;
    wait_for_ready_metric(&address, 1.0).await;
    fixture.proxy.set(ProxyState::Stalled);
    let mut quick = 0;
    for _ in 0..5 {
        let began = Instant::now();
        metrics::read(&address).await;
        quick += u32::from(began.elapsed() < Duration::from_secs(1));
    }
    // A busy machine may delay single responses; waiting for the database would delay each.
    assert!(quick >= 3, "{quick}");
    // A later response contains the measurement.
    wait_for_ready_metric(&address, 0.0).await;
    fixture.proxy.set(ProxyState::Open);
    fixture.wait_until_ready_again().await;
    wait_for_ready_metric(&address, 1.0).await;
    fixture.server.stop().await;
}

/// Starts `countersign serve` on the database at `url`, with its log in a file. Returns the process and the
/// log's path.
fn waiting(place: &Place, url: &str, arguments: &[&str]) -> (Child, PathBuf) {
    let log = place.folder.with_extension("log");
    let arguments = [&["serve", "--listen", "127.0.0.1:0", "--migrate", "--database-url", url], arguments];
    let mut command = countersign(&place.folder, &arguments.concat());
    command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
    (command.spawn().unwrap(), log)
}

async fn says(log: &Path, expected: &str) -> String {
    wait_until("the server logs why it waits", WAIT_TIMEOUT, async || {
        fs::read_to_string(log).ok().filter(|log| log.contains(expected))
    })
    .await
}

#[tokio::test]
async fn starting_server_waits_for_a_database_that_is_not_up_yet() {
    let test = "operation::outage::starting_server_waits_for_a_database_that_is_not_up_yet";
    let Some(database) = harness::postgres_or_skip(test) else { return };
    let place = Place::new();
    let (proxy, url) = Proxy::to(&database.url).await;
    proxy.set(ProxyState::Cut);
    let (mut child, log) = waiting(&place, &url, &[]);
    let output = says(&log, "waiting for the database").await;
    // The proxy accepts connections without sending anything.
    assert!(
        output.contains("cannot connect to PostgreSQL at 127.0.0.1:") && output.contains("no answer within"),
        "{output}"
    );
    assert_eq!(child.try_wait().unwrap(), None);
    proxy.set(ProxyState::Open);
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let first = spawn_blocking(move || {
        let mut first = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut first).map(|_| first)
    });
    assert!(first.await.unwrap().unwrap().starts_with("countersign listening on "));
    assert_eq!(fs::read_to_string(&log).unwrap().matches("waiting for the database").count(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn server_waiting_for_its_database_can_be_stopped() {
    let place = Place::new();
    let (mut child, log) = waiting(&place, "postgres://owl:hoot@127.0.0.1:1/x", &[]);
    let output = says(&log, "waiting for the database").await;
    assert!(output.contains("refused") && !output.contains("hoot"), "{output}");
    let pid = child.id().to_string();
    assert!(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().unwrap().success());
    let status = wait_until("the server ends", WAIT_TIMEOUT, async || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0), "{}", fs::read_to_string(&log).unwrap());
}

#[tokio::test]
async fn server_start_fails_immediately_on_a_permanent_database_error() {
    let test = "operation::outage::server_start_fails_immediately_on_a_permanent_database_error";
    let Some(database) = harness::postgres_or_skip(test) else { return };
    let place = Place::new();
    let another = format!("{}_x", database.url);
    for (url, wait, words) in [
        (another.as_str(), "3600", "does not exist"),
        ("postgres://owl:hoot@127.0.0.1:1/x", "0", "cannot connect to PostgreSQL at 127.0.0.1:1, database x"),
    ] {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url", url, "--database-wait", wait];
        let output = refuse(&mut countersign(&place.folder, &serve), &[words]);
        assert!(!output.stderr.contains("hoot"), "{output:?}");
    }
}

#[tokio::test]
async fn error_for_a_database_that_is_not_in_utf8_names_its_encoding() {
    let test = "operation::outage::error_for_a_database_that_is_not_in_utf8_names_its_encoding";
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let Some(database) = harness::postgres_in_encoding_or_skip(test, encoding) else { return };
        let place = Place::new();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--migrate"];
        for arguments in [&serve[..], &["migrate"], &["migrate", "--check"], &["account", "list"]] {
            let mut command = countersign(&place.folder, arguments);
            command.args(["--database-url", &database.url]);
            refuse(&mut command, &[encoding, "ENCODING 'UTF8'", "pg_dump"]);
        }
        let mut doctor = countersign(&place.folder, &["doctor", "--database-url", &database.url]);
        let output = run(&mut doctor).stdout;
        assert!(output.contains(&format!("its encoding is {encoding}, not UTF8")), "{output}");
        assert!(output.contains("ENCODING 'UTF8'"), "{output}");
    }
}

#[tokio::test]
async fn short_database_outage_under_load_loses_no_acknowledged_write() {
    let test = "operation::outage::short_database_outage_under_load_loses_no_acknowledged_write";
    let Some(fixture) = OutageFixture::start(test).await else { return };
    let load = Load::on(&fixture);
    for _ in 0..3 {
        load.wait_for_progress().await;
        fixture.proxy.set(ProxyState::Cut);
        tokio::time::sleep(Duration::from_millis(500)).await;
        fixture.proxy.set(ProxyState::Open);
    }
    load.wait_for_progress().await;
    load.check(&fixture).await;
    fixture.assert_everything_works().await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn hanging_database_does_not_hang_the_server() {
    let test = "operation::outage::hanging_database_does_not_hang_the_server";
    let Some(fixture) = OutageFixture::start(test).await else { return };
    fixture.proxy.set(ProxyState::Stalled);

    // More requests than connections, both reads and writes, by clients that wait longer than the server.
    let client = reqwest::Client::builder().timeout(WAIT_TIMEOUT).no_proxy().build().unwrap();
    let url = format!("{}/v2/Services/{}/Entities", fixture.server.url, fixture.service);
    let requests: Vec<_> = (0..24)
        .map(|number| {
            let request = match number % 2 {
                0 => client.get(&url),
                _ => client.post(&url).body(format!("Identity=stalled-{number:04}")),
            };
            tokio::spawn(request.basic_auth(ACCOUNT[0].1, Some(ACCOUNT[1].1)).send())
        })
        .collect();
    assert_eq!(fixture.backend().get("/healthz", &[]).await.status, 200);
    for request in requests {
        let reply = request.await.unwrap().unwrap();
        assert_eq!(reply.status().as_u16(), 503, "{reply:?}");
        assert!(reply.headers().contains_key("retry-after"), "{reply:?}");
    }

    fixture.proxy.set(ProxyState::Open);
    fixture.wait_until_ready_again().await;
    fixture.assert_everything_works().await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn silently_lost_database_connections_are_replaced() {
    let test = "operation::outage::silently_lost_database_connections_are_replaced";
    let Some(fixture) = OutageFixture::start(test).await else { return };
    // As many concurrent requests as possible.
    fixture.assert_everything_works().await;
    fixture.proxy.lose_connections();
    // Readiness checks time out after two seconds, and must not use up the connections.
    let address = metrics::address(|| fixture.server.stderr()).await;
    wait_until("the server is ready", WAIT_TIMEOUT, async || {
        (Http::new(&address).get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;

    // Requests get 503 until each connection has been tried once; no restart is needed.
    fixture.wait_until_ready_again().await;
    let path = format!("{}/Challenges", entity(&fixture.service, "outage-0001"));
    wait_until("challenges can be created again", WAIT_TIMEOUT, async || {
        let form =
            [("FactorSid", fixture.enrollment.factor_sid.as_str()), ("Details.Message", "Still there?")];
        let requests = (0..20).map(|_| {
            let (backend, path) = (fixture.backend(), path.clone());
            let form = form.map(|(name, value)| (name, value.to_owned()));
            tokio::spawn(async move {
                let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
                backend.post(&path, &form).await
            })
        });
        let mut all_are_made = true;
        for request in requests.collect::<Vec<_>>() {
            let reply = request.await.unwrap();
            assert!([201, 503].contains(&reply.status), "{reply:?}");
            all_are_made &= reply.status == 201;
        }
        all_are_made.then_some(())
    })
    .await;
    fixture.assert_everything_works().await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn excess_concurrent_requests_are_refused_immediately() {
    let test = "operation::outage::excess_concurrent_requests_are_refused_immediately";
    let Some(fixture) = OutageFixture::set_with(test, &["--max-requests", "4"]).await else { return };
    fixture.proxy.set(ProxyState::Stalled);
    let path = format!("/v2/Services/{}", fixture.service);
    let under_way: Vec<_> = (0..4)
        .map(|_| {
            let (backend, path) = (fixture.backend(), path.clone());
            tokio::spawn(async move { backend.get(&path, &[]).await })
        })
        .collect();
    // While these requests wait for the database, a further one is refused.
    let refused = wait_until("a request beyond the limit is refused", WAIT_TIMEOUT, async || {
        let reply =
            tokio::time::timeout(Duration::from_secs(2), fixture.backend().get("/v2/Services", &[])).await;
        assert!(under_way.iter().any(|request| !request.is_finished()), "no request was refused at once");
        reply.ok()
    })
    .await;
    assert_error(&refused, 503, 20503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let exposition = metrics::read(&metrics::address(|| fixture.server.stderr()).await).await;
    assert!(exposition.sum("countersign_faults", &[("kind", "overload")]) >= 1.0);
    // Health checks do not count as load.
    assert_eq!(fixture.backend().get("/healthz", &[]).await.status, 200);
    fixture.proxy.set(ProxyState::Open);
    for request in under_way {
        let reply = request.await.unwrap();
        assert!([200, 503].contains(&reply.status), "{reply:?}");
    }
    fixture.wait_until_ready_again().await;
    assert_eq!(fixture.backend().get(&path, &[]).await.status, 200);
    fixture.server.stop().await;
}

/// Clients that send requests without a pause. Each response is a success, or a 503 with `Retry-After`.
struct Load {
    clients: Vec<Task<AcknowledgedWrites>>,
    stop: Arc<AtomicBool>,
    /// The number of successful requests.
    done: Arc<AtomicUsize>,
    /// The number of requests refused with 503.
    refused: Arc<AtomicUsize>,
}

/// The acknowledged writes of a client.
#[derive(Default)]
struct AcknowledgedWrites {
    /// The identities of created entities.
    entities: Vec<String>,
    /// The SIDs of created challenges with their answer, if any, and whether the answer was acknowledged.
    challenges: Vec<(String, Option<(Answer, bool)>)>,
}

impl Load {
    fn on(fixture: &OutageFixture) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (done, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..6).map(|number| {
            let phone = Phone::new(Style::Android, &fixture.server.url, Arc::new(SystemClock)).unwrap();
            let client = Client {
                number,
                backend: fixture.backend(),
                phone,
                enrollment: fixture.enrollment.clone(),
                done: Arc::clone(&done),
                refused: Arc::clone(&refused),
            };
            tokio::spawn(client.work(Arc::clone(&stop)))
        });
        Self { clients: clients.collect(), stop, done, refused }
    }

    /// Waits until several further requests have succeeded.
    async fn wait_for_progress(&self) {
        let enough = self.done.load(Ordering::Relaxed) + 20;
        wait_until("requests succeed again", WAIT_TIMEOUT, async || {
            assert!(
                !self.clients.iter().any(Task::is_finished),
                "a client stopped before the end of the load"
            );
            (self.done.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    /// Ends the load and checks that all acknowledged writes exist.
    async fn check(self, fixture: &OutageFixture) {
        self.stop.store(true, Ordering::Relaxed);
        let mut kept = Vec::new();
        for client in self.clients {
            kept.push(client.await.unwrap());
        }
        let [done, refused] = [&self.done, &self.refused].map(|count| count.load(Ordering::Relaxed));
        println!("{done} requests succeeded, {refused} were refused with 503");

        let backend = fixture.backend();
        for client in kept {
            for identity in client.entities {
                let reply = backend.get(&entity(&fixture.service, &identity), &[]).await;
                assert_eq!(reply.status, 200, "{reply:?}");
            }
            for (sid, answer) in client.challenges {
                let path = format!("{}/Challenges/{sid}", entity(&fixture.service, "outage-0001"));
                let reply = backend.get(&path, &[]).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                let status = reply.json()["status"].as_str().unwrap().to_owned();
                match answer {
                    None => assert_eq!(status, "pending"),
                    Some((answer, true)) => assert_eq!(status, answer.as_str()),
                    Some((answer, false)) => assert!(["pending", answer.as_str()].contains(&&*status)),
                }
            }
        }
    }
}

struct Client {
    number: usize,
    backend: Http,
    phone: Phone,
    enrollment: Enrollment,
    done: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Client {
    async fn work(self, stop: Arc<AtomicBool>) -> AcknowledgedWrites {
        let service = &self.enrollment.service_sid;
        let mut kept = AcknowledgedWrites::default();
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let identity = format!("load-{}-{round}", self.number);
            let path = format!("/v2/Services/{service}/Entities");
            if self.made(&self.backend.post(&path, &[("Identity", &identity)]).await).is_some() {
                kept.entities.push(identity);
            }

            let path = format!("{}/Challenges", entity(service, &self.enrollment.identity));
            let form = [("FactorSid", self.enrollment.factor_sid.as_str()), ("Details.Message", "Hello?")];
            let Some(sid) = self.made(&self.backend.post(&path, &form).await) else { continue };
            let answer = if round % 2 == 0 { Answer::Approved } else { Answer::Denied };
            let shown = self.phone.get_challenge(&self.enrollment, &sid).await;
            kept.challenges.push((
                sid,
                match self.phone_result(shown) {
                    None => None,
                    Some(shown) => {
                        let answered = self.phone.send_answer(&self.enrollment, &shown, answer).await;
                        Some((answer, self.phone_result(answered).is_some()))
                    }
                },
            ));
        }
        kept
    }

    /// Returns the SID of a created resource; `None` if the server responded with 503.
    fn made(&self, reply: &Reply) -> Option<String> {
        if reply.status == 503 {
            assert_error(reply, 503, 20503);
            assert!(reply.header("retry-after").is_some(), "{reply:?}");
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        created(reply)["sid"].as_str().map(str::to_owned)
    }

    /// Returns the result of a phone; `None` if the server responded with 503.
    fn phone_result<T>(&self, result: Result<T, device::Error>) -> Option<T> {
        match result {
            Err(device::Error::Api { status: 503, code: 20503, .. }) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
            result => {
                self.done.fetch_add(1, Ordering::Relaxed);
                Some(result.unwrap())
            }
        }
    }
}

/// The state of the proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ProxyState {
    /// Data are forwarded in both directions.
    Open,
    /// Data are held back; connections stay open.
    Stalled,
    /// Connections are closed, and new ones refused.
    Cut,
}

/// A TCP proxy between the server and its database.
struct Proxy {
    state: watch::Sender<ProxyState>,
    /// How many times all connections were silently dropped so far.
    lost: watch::Sender<u32>,
}

impl Proxy {
    /// Starts a proxy to the database of this URL, and returns it with the URL through it.
    async fn to(url: &str) -> (Self, String) {
        let mut url: Url = url.parse().unwrap();
        let far = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
        let near = Port::new();
        let listener = near.listen();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(near.address.port())).unwrap();
        let (sender, mut state) = watch::channel(ProxyState::Open);
        let (lose, lost) = watch::channel(0);
        tokio::spawn(async move {
            let mut listener = Some(listener);
            while state.wait_for(|state| *state != ProxyState::Cut).await.is_ok() {
                let listener = listener.take().unwrap_or_else(|| near.listen());
                let mut cut = state.clone();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        tokio::spawn(connect(stream, far.clone(), state.clone(), lost.clone()));
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = cut.wait_for(|state| *state == ProxyState::Cut) => {}
                }
            }
        });
        (Self { state: sender, lost: lose }, url.into())
    }

    fn set(&self, state: ProxyState) {
        self.state.send_replace(state);
    }

    /// Silently drops all data on the current connections from now on; neither end is notified.
    fn lose_connections(&self) {
        self.lost.send_modify(|times| *times += 1);
    }
}

/// Forwards a connection until one side closes it or the proxy is cut.
async fn connect(
    near: TcpStream,
    far: (String, u16),
    mut state: watch::Receiver<ProxyState>,
    mut lost: watch::Receiver<u32>,
) {
    lost.mark_unchanged();
    let Ok(far) = TcpStream::connect(far).await else { return };
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    let (there, back) = (state.clone(), state.clone());
    tokio::select! {
        () = carry(from_near, to_far, there, lost.clone()) => {}
        () = carry(from_far, to_near, back, lost) => {}
        _ = state.wait_for(|state| *state == ProxyState::Cut) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<ProxyState>,
    mut lost: watch::Receiver<u32>,
) {
    let mut bytes = [0; 4096];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            _ = lost.changed() => std::future::pending().await,
        };
        let Ok(length @ 1..) = read else { return };
        let is_open = state.wait_for(|state| *state != ProxyState::Stalled).await.is_ok();
        if !is_open || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
