//! PostgreSQL breaks connections, hangs, goes away, and comes back.

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

/// A server on PostgreSQL, with a line to it that can be cut, a service, and an enrolled phone.
struct Stage {
    server: Serving,
    line: Line,
    /// The database, over the line.
    url: String,
    service: String,
    phone: Phone,
    enrollment: Enrollment,
    database: Arc<Database>,
    _place: Place,
}

impl Stage {
    async fn set(test: &str) -> Option<Self> {
        Self::set_with(test, &[]).await
    }

    async fn set_with(test: &str, arguments: &[&str]) -> Option<Self> {
        let database = harness::postgres_or_skip(test)?;
        let place = Place::new();
        let (line, url) = Line::to(&database.url).await;
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
        Some(Self { server, line, url, service, phone, enrollment, database, _place: place })
    }

    fn backend(&self) -> Http {
        self.server.backend(ACCOUNT[0].1, ACCOUNT[1].1)
    }

    /// Asks the phone; the SID of the challenge.
    async fn challenge(&self) -> String {
        let form = [("FactorSid", self.enrollment.factor_sid.as_str()), ("Details.Message", "Still there?")];
        let path = format!("{}/Challenges", entity(&self.service, "outage-0001"));
        created(&self.backend().post(&path, &form).await)["sid"].as_str().unwrap().to_owned()
    }

    async fn is_ready_again(&self) {
        wait_until("the server is ready again", PATIENCE, async || {
            (self.backend().get("/readyz", &[]).await.status == 200).then_some(())
        })
        .await;
    }

    /// Everything works, each thing at the first try, and as many at once as the server has connections.
    async fn all_is_well(&self) {
        for _ in 0..2 {
            let reads: Vec<_> = (0..20)
                .map(|_| {
                    let (backend, path) = (self.backend(), entity(&self.service, "outage-0001"));
                    tokio::spawn(async move { backend.get(&path, &[]).await })
                })
                .collect();
            for read in reads {
                let reply = read.await.unwrap();
                assert_eq!(reply.status, 200, "{reply:?}");
            }
            for answer in [Answer::Approved, Answer::Denied] {
                let sid = self.challenge().await;
                self.phone.answer(&self.enrollment, &sid, answer).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn connections_that_break_under_load_cost_nothing_that_was_acknowledged() {
    let test = "operation::outage::connections_that_break_under_load_cost_nothing_that_was_acknowledged";
    let Some(stage) = Stage::set(test).await else { return };
    let load = Load::on(&stage);
    for _ in 0..15 {
        load.goes_on().await;
        let database = Arc::clone(&stage.database);
        let broken = spawn_blocking(move || {
            database.psql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
        });
        assert_ne!(broken.await.unwrap(), "0");
    }
    load.goes_on().await;
    load.check(&stage).await;
    stage.all_is_well().await;
    stage.server.stop().await;
}

#[tokio::test]
async fn while_the_database_is_away_everybody_is_told_to_try_again() {
    let test = "operation::outage::while_the_database_is_away_everybody_is_told_to_try_again";
    let Some(stage) = Stage::set(test).await else { return };
    let sid = stage.challenge().await;
    let shown = stage.phone.challenge(&stage.enrollment, &sid).await.unwrap();
    stage.line.is(State::Cut);

    let began = Instant::now();
    let backend = stage.backend();
    let entities = format!("/v2/Services/{}/Entities", stage.service);
    let stranger = stage.server.backend(ACCOUNT[0].1, "wrong");
    let (alive, ready, read, write, stranger, device) = tokio::join!(
        backend.get("/healthz", &[]),
        backend.get("/readyz", &[]),
        backend.get(&entities, &[]),
        backend.post(&entities, &[("Identity", "meanwhile-0001")]),
        // Who can't be checked is not turned away: a phone takes a 401 for the end of its factor.
        stranger.get(&entities, &[]),
        stage.phone.respond(&stage.enrollment, &shown, Answer::Approved),
    );
    assert_eq!(alive.status, 200);
    for reply in [&ready, &read, &write, &stranger] {
        assert_error(reply, 503, 20503);
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
    }
    assert!(matches!(device, Err(device::Error::Api { status: 503, code: 20503, .. })), "{device:?}");
    // Within one second, and another for a slow machine.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let address = metrics::address(|| stage.server.stderr()).await;
    let told = metrics::read(&address).await;
    assert_eq!(told.sum("countersign_ready", &[]), 0.0);
    assert!(told.sum("countersign_database_failures", &[("kind", "unavailable")]) > 0.0);
    assert_eq!(told.sum("countersign_faults", &[("kind", "unavailable")]), 5.0);
    let probes = Http::new(&address);
    assert_eq!(probes.get("/healthz", &[]).await.status, 200);
    assert_eq!(probes.get("/readyz", &[]).await.status, 503);

    stage.line.is(State::Open);
    stage.is_ready_again().await;
    assert_eq!(metrics::read(&address).await.sum("countersign_ready", &[]), 1.0);
    let path = format!("{entities}/meanwhile-0001");
    assert_error(&backend.get(&path, &[]).await, 404, 20404);
    let answered = stage.phone.answer(&stage.enrollment, &sid, Answer::Denied).await.unwrap();
    assert_eq!(answered.status.as_str(), "denied");
    stage.all_is_well().await;

    // The log names the place and the reason, once, and not with each request.
    let log = stage.server.stderr();
    let url = stage.url.parse::<Url>().unwrap();
    let (port, name) = (url.port().unwrap(), url.path().trim_start_matches('/'));
    let lost = format!("cannot connect to PostgreSQL at 127.0.0.1:{port}, database {name}: ");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("database lost")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains(&lost) && lines[0].contains("Connection refused"), "{log}");
    assert_eq!(log.matches("database is back: PostgreSQL at 127.0.0.1").count(), 1, "{log}");
    assert!(!log.contains("fault: "), "{log}");
    stage.server.stop().await;
}

#[tokio::test]
async fn metrics_do_not_wait_for_a_database_that_hangs() {
    let test = "operation::outage::metrics_do_not_wait_for_a_database_that_hangs";
    let Some(stage) = Stage::set(test).await else { return };
    let address = metrics::address(|| stage.server.stderr()).await;
    assert_eq!(metrics::read(&address).await.sum("countersign_ready", &[]), 1.0);
    stage.line.is(State::Stalled);
    for _ in 0..5 {
        let began = Instant::now();
        metrics::read(&address).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    // What is measured meanwhile is in a later answer.
    wait_until("the metrics say that it is not ready", PATIENCE, async || {
        (metrics::read(&address).await.sum("countersign_ready", &[]) == 0.0).then_some(())
    })
    .await;
    stage.line.is(State::Open);
    stage.is_ready_again().await;
    wait_until("the metrics say that it is ready", PATIENCE, async || {
        (metrics::read(&address).await.sum("countersign_ready", &[]) == 1.0).then_some(())
    })
    .await;
    stage.server.stop().await;
}

/// `countersign serve` on the database of this URL, its log in a file.
fn waiting(place: &Place, url: &str, arguments: &[&str]) -> (Child, PathBuf) {
    let log = place.folder.with_extension("log");
    let arguments = [&["serve", "--listen", "127.0.0.1:0", "--migrate", "--database-url", url], arguments];
    let mut command = countersign(&place.folder, &arguments.concat());
    command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
    (command.spawn().unwrap(), log)
}

async fn says(log: &Path, words: &str) -> String {
    wait_until("the server says why it waits", PATIENCE, async || {
        fs::read_to_string(log).ok().filter(|log| log.contains(words))
    })
    .await
}

#[tokio::test]
async fn a_server_waits_for_a_database_that_is_not_up_yet() {
    let test = "operation::outage::a_server_waits_for_a_database_that_is_not_up_yet";
    let Some(database) = harness::postgres_or_skip(test) else { return };
    let place = Place::new();
    let (line, url) = Line::to(&database.url).await;
    line.is(State::Cut);
    let (mut child, log) = waiting(&place, &url, &[]);
    let said = says(&log, "waiting for the database").await;
    // The line takes connections and says nothing on them.
    assert!(
        said.contains("cannot connect to PostgreSQL at 127.0.0.1:") && said.contains("no answer within"),
        "{said}"
    );
    assert_eq!(child.try_wait().unwrap(), None);
    line.is(State::Open);
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
async fn a_server_that_waits_for_its_database_can_be_stopped() {
    let place = Place::new();
    let (mut child, log) = waiting(&place, "postgres://owl:hoot@127.0.0.1:1/x", &[]);
    let said = says(&log, "waiting for the database").await;
    assert!(said.contains("refused") && !said.contains("hoot"), "{said}");
    let pid = child.id().to_string();
    assert!(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().unwrap().success());
    let status = wait_until("the server ends", PATIENCE, async || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0), "{}", fs::read_to_string(&log).unwrap());
}

#[tokio::test]
async fn what_waiting_can_not_mend_is_refused_at_once() {
    let test = "operation::outage::what_waiting_can_not_mend_is_refused_at_once";
    let Some(database) = harness::postgres_or_skip(test) else { return };
    let place = Place::new();
    let another = format!("{}_x", database.url);
    for (url, wait, words) in [
        (another.as_str(), "3600", "does not exist"),
        ("postgres://owl:hoot@127.0.0.1:1/x", "0", "cannot connect to PostgreSQL at 127.0.0.1:1, database x"),
    ] {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url", url, "--database-wait", wait];
        let said = refuse(&mut countersign(&place.folder, &serve), &[words]);
        assert!(!said.stderr.contains("hoot"), "{said:?}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_utf8_is_refused_by_name() {
    let test = "operation::outage::a_database_that_is_not_utf8_is_refused_by_name";
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
        let said = run(&mut doctor).stdout;
        assert!(said.contains(&format!("its encoding is {encoding}, not UTF8")), "{said}");
        assert!(said.contains("ENCODING 'UTF8'"), "{said}");
    }
}

#[tokio::test]
async fn a_short_outage_under_load_costs_nothing_that_was_acknowledged() {
    let test = "operation::outage::a_short_outage_under_load_costs_nothing_that_was_acknowledged";
    let Some(stage) = Stage::set(test).await else { return };
    let load = Load::on(&stage);
    for _ in 0..3 {
        load.goes_on().await;
        stage.line.is(State::Cut);
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.line.is(State::Open);
    }
    load.goes_on().await;
    load.check(&stage).await;
    stage.all_is_well().await;
    stage.server.stop().await;
}

#[tokio::test]
async fn a_database_that_hangs_does_not_hang_the_server() {
    let test = "operation::outage::a_database_that_hangs_does_not_hang_the_server";
    let Some(stage) = Stage::set(test).await else { return };
    stage.line.is(State::Stalled);

    // More than there are connections, both ways, by clients with more patience than the server.
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap();
    let url = format!("{}/v2/Services/{}/Entities", stage.server.url, stage.service);
    let requests: Vec<_> = (0..24)
        .map(|number| {
            let request = match number % 2 {
                0 => client.get(&url),
                _ => client.post(&url).body(format!("Identity=stalled-{number:04}")),
            };
            tokio::spawn(request.basic_auth(ACCOUNT[0].1, Some(ACCOUNT[1].1)).send())
        })
        .collect();
    assert_eq!(stage.backend().get("/healthz", &[]).await.status, 200);
    for request in requests {
        let reply = request.await.unwrap().unwrap();
        assert_eq!(reply.status().as_u16(), 503, "{reply:?}");
        assert!(reply.headers().contains_key("retry-after"), "{reply:?}");
    }

    stage.line.is(State::Open);
    stage.is_ready_again().await;
    stage.all_is_well().await;
    stage.server.stop().await;
}

#[tokio::test]
async fn connections_that_are_lost_without_a_word_are_replaced() {
    let test = "operation::outage::connections_that_are_lost_without_a_word_are_replaced";
    let Some(stage) = Stage::set(test).await else { return };
    // As many as there can be.
    stage.all_is_well().await;
    stage.line.loses_connections();
    // Who asks how the server is waits for two seconds only, and must not use the connections up by that.
    let address = metrics::address(|| stage.server.stderr()).await;
    wait_until("the server says that it is ready", PATIENCE, async || {
        (Http::new(&address).get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;

    // Until each was tried once, requests are told to come again; no restart is needed.
    stage.is_ready_again().await;
    let path = format!("{}/Challenges", entity(&stage.service, "outage-0001"));
    wait_until("challenges are made again", PATIENCE, async || {
        let form = [("FactorSid", stage.enrollment.factor_sid.as_str()), ("Details.Message", "Still there?")];
        let requests = (0..20).map(|_| {
            let (backend, path) = (stage.backend(), path.clone());
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
    stage.all_is_well().await;
    stage.server.stop().await;
}

#[tokio::test]
async fn more_requests_than_may_be_under_way_are_told_at_once_to_come_again() {
    let test = "operation::outage::more_requests_than_may_be_under_way_are_told_at_once_to_come_again";
    let Some(stage) = Stage::set_with(test, &["--max-requests", "4"]).await else { return };
    stage.line.is(State::Stalled);
    let path = format!("/v2/Services/{}", stage.service);
    let under_way: Vec<_> = (0..4)
        .map(|_| {
            let (backend, path) = (stage.backend(), path.clone());
            tokio::spawn(async move { backend.get(&path, &[]).await })
        })
        .collect();
    // As long as those wait for the database, the next one does not.
    let refused = wait_until("a request too many is refused", PATIENCE, async || {
        let reply =
            tokio::time::timeout(Duration::from_secs(2), stage.backend().get("/v2/Services", &[])).await;
        assert!(under_way.iter().any(|request| !request.is_finished()), "nobody was told at once");
        reply.ok()
    })
    .await;
    assert_error(&refused, 503, 20503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let told = metrics::read(&metrics::address(|| stage.server.stderr()).await).await;
    assert!(told.sum("countersign_faults", &[("kind", "overload")]) >= 1.0);
    // Whoever asks how the server is, is no load.
    assert_eq!(stage.backend().get("/healthz", &[]).await.status, 200);
    stage.line.is(State::Open);
    for request in under_way {
        let reply = request.await.unwrap();
        assert!([200, 503].contains(&reply.status), "{reply:?}");
    }
    stage.is_ready_again().await;
    assert_eq!(stage.backend().get(&path, &[]).await.status, 200);
    stage.server.stop().await;
}

/// Clients that go on and on. Every answer they get is a success or a 503 that says when to come again.
struct Load {
    clients: Vec<Task<Kept>>,
    stop: Arc<AtomicBool>,
    /// Requests that succeeded.
    done: Arc<AtomicUsize>,
    /// Requests that were told to come again.
    refused: Arc<AtomicUsize>,
}

/// What was acknowledged to a client.
#[derive(Default)]
struct Kept {
    /// Identities.
    entities: Vec<String>,
    /// SIDs and what was answered, if anything was, and whether that is certain.
    challenges: Vec<(String, Option<(Answer, bool)>)>,
}

impl Load {
    fn on(stage: &Stage) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (done, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..6).map(|number| {
            let phone = Phone::new(Style::Android, &stage.server.url, Arc::new(SystemClock)).unwrap();
            let client = Client {
                number,
                backend: stage.backend(),
                phone,
                enrollment: stage.enrollment.clone(),
                done: Arc::clone(&done),
                refused: Arc::clone(&refused),
            };
            tokio::spawn(client.work(Arc::clone(&stop)))
        });
        Self { clients: clients.collect(), stop, done, refused }
    }

    /// Waits until some more requests have succeeded.
    async fn goes_on(&self) {
        let enough = self.done.load(Ordering::Relaxed) + 20;
        wait_until("requests succeed again", PATIENCE, async || {
            assert!(!self.clients.iter().any(Task::is_finished), "a client has given up");
            (self.done.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    /// Ends the load, and checks that all that was acknowledged is there.
    async fn check(self, stage: &Stage) {
        self.stop.store(true, Ordering::Relaxed);
        let mut kept = Vec::new();
        for client in self.clients {
            kept.push(client.await.unwrap());
        }
        let [done, refused] = [&self.done, &self.refused].map(|count| count.load(Ordering::Relaxed));
        println!("{done} requests succeeded, {refused} were told to come again");

        let backend = stage.backend();
        for client in kept {
            for identity in client.entities {
                let reply = backend.get(&entity(&stage.service, &identity), &[]).await;
                assert_eq!(reply.status, 200, "{reply:?}");
            }
            for (sid, answer) in client.challenges {
                let path = format!("{}/Challenges/{sid}", entity(&stage.service, "outage-0001"));
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
    async fn work(self, stop: Arc<AtomicBool>) -> Kept {
        let service = &self.enrollment.service_sid;
        let mut kept = Kept::default();
        for turn in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let identity = format!("load-{}-{turn}", self.number);
            let path = format!("/v2/Services/{service}/Entities");
            if self.made(&self.backend.post(&path, &[("Identity", &identity)]).await).is_some() {
                kept.entities.push(identity);
            }

            let path = format!("{}/Challenges", entity(service, &self.enrollment.identity));
            let form = [("FactorSid", self.enrollment.factor_sid.as_str()), ("Details.Message", "Hello?")];
            let Some(sid) = self.made(&self.backend.post(&path, &form).await) else { continue };
            let answer = if turn % 2 == 0 { Answer::Approved } else { Answer::Denied };
            let shown = self.phone.challenge(&self.enrollment, &sid).await;
            kept.challenges.push((
                sid,
                match self.heard(shown) {
                    None => None,
                    Some(shown) => {
                        let answered = self.phone.respond(&self.enrollment, &shown, answer).await;
                        Some((answer, self.heard(answered).is_some()))
                    }
                },
            ));
        }
        kept
    }

    /// The SID of what was made; `None` if the server said to come again.
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

    /// What a phone got; `None` if the server said to come again.
    fn heard<T>(&self, result: Result<T, device::Error>) -> Option<T> {
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

/// What may become of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// What is said on one side is heard on the other.
    Open,
    /// Nobody hears anything, and nobody knows why.
    Stalled,
    /// Connections are broken off, and new ones refused.
    Cut,
}

/// The way from the server to its database.
struct Line {
    state: watch::Sender<State>,
    /// How often whatever was connected was lost without a word.
    lost: watch::Sender<u32>,
}

impl Line {
    /// A line to the database of this URL, and the URL at its near end.
    async fn to(url: &str) -> (Self, String) {
        let mut url: Url = url.parse().unwrap();
        let far = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
        let near = Port::new();
        let listener = near.listen();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(near.address.port())).unwrap();
        let (sender, mut state) = watch::channel(State::Open);
        let (lose, lost) = watch::channel(0);
        tokio::spawn(async move {
            let mut listener = Some(listener);
            while state.wait_for(|state| *state != State::Cut).await.is_ok() {
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
                    _ = cut.wait_for(|state| *state == State::Cut) => {}
                }
            }
        });
        (Self { state: sender, lost: lose }, url.into())
    }

    fn is(&self, state: State) {
        self.state.send_replace(state);
    }

    /// From now on nothing comes through the connections that there are, and neither end is told.
    fn loses_connections(&self) {
        self.lost.send_modify(|times| *times += 1);
    }
}

/// Carries a connection until one side ends it or the line is cut.
async fn connect(
    near: TcpStream,
    far: (String, u16),
    mut state: watch::Receiver<State>,
    mut lost: watch::Receiver<u32>,
) {
    lost.mark_unchanged();
    let Ok(far) = TcpStream::connect(far).await else { return };
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    let (there, back) = (state.clone(), state.clone());
    tokio::select! {
        () = carry(from_near, to_far, there, lost.clone()) => {}
        () = carry(from_far, to_near, back, lost) => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    mut lost: watch::Receiver<u32>,
) {
    let mut bytes = [0; 4096];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            _ = lost.changed() => std::future::pending().await,
        };
        let Ok(length @ 1..) = read else { return };
        let is_open = state.wait_for(|state| *state != State::Stalled).await.is_ok();
        if !is_open || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
