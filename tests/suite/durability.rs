//! Durability: acknowledged writes survive `kill -9`, and no other changes appear.
//!
//! The server is killed at random moments. The test prints their seed; `COUNTERSIGN_TEST_SEED` repeats them.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use app::SystemClock;
use device::{Answer, Enrollment, Phone, Style, signing};
use domain::Clock as _;
use harness::{Http, wait_until};
use reqwest::Url;
use serde_json::{Value, json};

use crate::world::{WAIT_TIMEOUT, World, entity, on_every_database};

const ROUND_COUNT: u64 = 20;
const CLIENT_COUNT: usize = 8;

/// The number of acknowledged writes before the server may be killed, so that slow machines do as much as fast
/// ones.
const MIN_ACKNOWLEDGED_WRITES: usize = 4 * CLIENT_COUNT;
on_every_database! {
    async fn acknowledged_writes_survive_kill_9(world: World) {
        let mut world = world;
        let mut moments = RandomDelays::seeded();
        let service = world.service().await;
        let entities = format!("/v2/Services/{service}/Entities");
        let mut clients = Vec::new();
        for number in 0..CLIENT_COUNT {
            let identity = format!("client-{number:04}");
            let (_, enrollment) = world.enrolled(Style::Android, &service, &identity).await;
            clients.push(Client { enrollment, round: 0, expected: ExpectedState::default() });
        }

        for round in 0..ROUND_COUNT {
            let line = Arc::new(ProcessClient::to(&world));
            let begin = |client: Client| tokio::spawn(client.work(Arc::clone(&line)));
            let working: Vec<_> = clients.drain(..).map(begin).collect();
            wait_until("enough writes are acknowledged", WAIT_TIMEOUT, async || line.has_enough_writes().then_some(())).await;
            let moment = moments.next();
            tokio::time::sleep(moment).await;
            world.server.kill9();
            for client in working {
                clients.push(client.await.unwrap());
            }

            world.server.restart();
            println!("round {round}: killed {moment:?} later");
            let backend = world.backend();
            let entities = everything(&backend, &entities, "entities").await;
            for client in &mut clients {
                client.compare(&backend, &entities).await;
            }
        }

        let sum = |count: fn(&ExpectedState) -> usize| clients.iter().map(|client| count(&client.expected)).sum();
        let (entities, challenges): (usize, usize) =
            (sum(|expected| expected.entities.len()), sum(|expected| expected.challenges.len()));
        let answers: usize = sum(ExpectedState::answers);
        println!("{entities} entities, {challenges} challenges, {answers} answers are all there");
        assert!(entities > 100 && challenges > 100 && answers > 30, "too little was done to be a test");

        // Each write has its audit record, and the chain is intact.
        let lines = crate::audit::exported(&world).await;
        let of = |event_type: &str| {
            let lines = lines.iter().filter(|line| line["event_type"] == event_type);
            lines.map(|line| line["resource_sid"].as_str().unwrap()).collect::<Vec<_>>()
        };
        let mut asked: Vec<_> =
            clients.iter().flat_map(|client| client.expected.challenges.keys().map(String::as_str)).collect();
        let mut noted = of("challenge.created");
        asked.sort_unstable();
        noted.sort_unstable();
        assert_eq!(noted, asked, "those of the audit log on the left");
        assert_eq!(of("challenge.approved").len() + of("challenge.denied").len(), answers);
    }
}

/// A backend and a phone that work until the server is killed.
struct Client {
    enrollment: Enrollment,
    /// The number of completed rounds, over all servers.
    round: usize,
    expected: ExpectedState,
}

impl Client {
    async fn work(mut self, line: Arc<ProcessClient>) -> Self {
        while self.run_round(&line).await.is_some() {}
        self
    }

    /// Creates an entity and a challenge, and answers the challenge in two of three rounds. Returns `None`
    /// once the server has been killed.
    async fn run_round(&mut self, line: &ProcessClient) -> Option<()> {
        self.round += 1;
        let Self { enrollment, round, expected } = self;
        let service = &enrollment.service_sid;

        let identity = format!("{}-{round}", enrollment.identity);
        expected.begun.push(UnacknowledgedWrite::Entity(identity.clone()));
        let path = format!("/v2/Services/{service}/Entities");
        let made = line.post(&path, &[("Identity", &identity)], &line.account).await?;
        expected.entities.insert(identity, without_urls(made));
        expected.begun.pop();

        let message = format!("Question {round} of {}", enrollment.identity);
        expected.begun.push(UnacknowledgedWrite::Challenge(message.clone()));
        let path = format!("{}/Challenges", entity(service, &enrollment.identity));
        let form = [
            ("FactorSid", enrollment.factor_sid.as_str()),
            ("Details.Message", &message),
            ("Details.Fields", &json!({ "label": "Turn", "value": round.to_string() }).to_string()),
            ("HiddenDetails", &json!({ "round": round.to_string() }).to_string()),
            // Late enough that none expires during the test.
            ("ExpirationDate", &SystemClock.now().plus_seconds(3000).to_string()),
        ];
        let made = line.post(&path, &form, &line.account).await?;
        let sid = made["sid"].as_str().unwrap().to_owned();
        expected.challenges.insert(sid.clone(), without_urls(made));
        expected.begun.pop();

        let answer = [None, Some(Answer::Approved), Some(Answer::Denied)][*round % 3];
        if let Some(answer) = answer {
            let shown = match line.phone.get_challenge(enrollment, &sid).await {
                Err(device::Error::Transport(_)) => return None,
                shown => shown.unwrap(),
            };
            let payload = signing::sign_answer(enrollment.style, enrollment, &shown, answer).unwrap();
            let token = signing::sign_device_token(enrollment.style, enrollment, SystemClock.now());
            expected.begun.push(UnacknowledgedWrite::Answer(sid.clone(), answer.as_str()));
            let path = format!("{path}/{sid}");
            let device = ("token".to_owned(), token);
            let answered = line.post(&path, &[("AuthPayload", &payload)], &device).await?;
            expected.challenges.insert(sid, without_urls(answered));
            expected.begun.pop();
        }
        Some(())
    }

    /// Checks the server's data against this client's acknowledged writes.
    async fn compare(&mut self, backend: &Http, entities: &[Value]) {
        let Enrollment { service_sid: service, identity, .. } = &self.enrollment;
        let mine = format!("{identity}-");
        let mine = |body: &&Value| body["identity"].as_str().unwrap().starts_with(&mine);
        let entities = entities.iter().filter(mine).cloned().collect();
        let challenges = format!("{}/Challenges", entity(service, identity));
        let challenges = everything(backend, &challenges, "challenges").await;
        self.expected.compare(entities, challenges);
    }
}

/// The state that a client expects: the resources as acknowledged by the server, and the writes without an
/// acknowledgment.
#[derive(Default)]
struct ExpectedState {
    /// The acknowledged entities by identity.
    entities: BTreeMap<String, Value>,
    /// The acknowledged challenges by SID.
    challenges: BTreeMap<String, Value>,
    begun: Vec<UnacknowledgedWrite>,
}

/// A write without an acknowledgment. It may have happened or not, but not partially. PostgreSQL may even
/// commit it after the server is gone.
enum UnacknowledgedWrite {
    /// The creation of an entity with this identity.
    Entity(String),
    /// The creation of a challenge with this message.
    Challenge(String),
    /// An answer to a challenge: the SID and the new status.
    Answer(String, &'static str),
}

impl ExpectedState {
    /// Checks that the server's data contain every acknowledged write unchanged, and otherwise only writes
    /// that were begun. Unacknowledged writes found in the data count as acknowledged from now on.
    fn compare(&mut self, entities: Vec<Value>, challenges: Vec<Value>) {
        let by = |key: &str, list: Vec<Value>| -> BTreeMap<String, Value> {
            list.into_iter()
                .map(|body| (body[key].as_str().unwrap().to_owned(), without_urls(body)))
                .collect()
        };
        let (entities, challenges) = (by("identity", entities), by("sid", challenges));
        let Self { entities: known_entities, challenges: known, begun } = self;
        // Forget the writes that have happened.
        begun.retain(|begun| match begun {
            UnacknowledgedWrite::Entity(identity) => {
                let body = entities.get(identity);
                if let Some(body) = body {
                    known_entities.insert(identity.clone(), body.clone());
                }
                body.is_none()
            }
            UnacknowledgedWrite::Challenge(message) => {
                let challenge = challenges.iter().find(|(_, body)| body["details"]["message"] == **message);
                if let Some((sid, body)) = challenge {
                    assert_eq!(body["status"], "pending", "{body}");
                    known.insert(sid.clone(), body.clone());
                }
                challenge.is_none()
            }
            UnacknowledgedWrite::Answer(sid, answer) => {
                let (before, now) = (known[sid].clone(), challenges[sid].clone());
                let happened = now != before;
                if happened {
                    let dates = ["date_updated", "date_responded"].map(|date| (date, now[date].clone()));
                    assert!(dates.iter().all(|(_, date)| date.is_string()), "{now}");
                    let mut expected = before;
                    expected["status"] = (*answer).into();
                    for (name, date) in dates {
                        expected[name] = date;
                    }
                    assert_eq!(now, expected);
                    known.insert(sid.clone(), now);
                }
                !happened
            }
        });
        assert_same(&self.entities, &entities);
        assert_same(&self.challenges, &challenges);
    }

    fn answers(&self) -> usize {
        self.challenges.values().filter(|body| body["status"] != "pending").count()
    }
}

#[track_caller]
fn assert_same(acknowledged: &BTreeMap<String, Value>, there: &BTreeMap<String, Value>) {
    for (key, body) in acknowledged {
        assert_eq!(there.get(key), Some(body), "{key} was acknowledged");
    }
    for key in there.keys() {
        assert!(acknowledged.contains_key(key), "{key} was never requested: {}", there[key]);
    }
}

/// Returns a body without its URLs, which change with the port.
fn without_urls(mut body: Value) -> Value {
    let object = body.as_object_mut().unwrap();
    object.remove("url");
    object.remove("links");
    body
}

/// Returns the items of all pages of a list.
async fn everything(backend: &Http, path: &str, key: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut next = Some(format!("{path}?PageSize=500"));
    while let Some(url) = next {
        let reply = backend.get(&url, &[]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let mut page = reply.json();
        all.append(page[key].as_array_mut().unwrap());
        next = page["meta"]["next_page_url"].as_str().map(str::to_owned);
    }
    all
}

/// A client for one server process. Unlike the harness's client, it does not panic if the server is killed.
struct ProcessClient {
    url: String,
    account: (String, String),
    http: reqwest::Client,
    phone: Phone,
    /// The number of acknowledged writes.
    acknowledged: AtomicUsize,
}

impl ProcessClient {
    fn to(world: &World) -> Self {
        let server = &world.server;
        Self {
            url: server.url().to_owned(),
            account: (server.account_sid().to_owned(), server.auth_token().to_owned()),
            http: reqwest::Client::builder()
                .no_proxy()
                .tls_danger_accept_invalid_certs(true)
                .build()
                .unwrap(),
            phone: Phone::new(Style::Android, server.url(), Arc::new(SystemClock)).unwrap(),
            acknowledged: AtomicUsize::new(0),
        }
    }

    /// Returns whether enough writes have been acknowledged for the server to be killed.
    fn has_enough_writes(&self) -> bool {
        self.acknowledged.load(Ordering::Relaxed) >= MIN_ACKNOWLEDGED_WRITES
    }

    /// Sends a POST request and returns the body of the successful response. Returns `None` if there is no
    /// complete response because the server was killed.
    async fn post(&self, path: &str, form: &[(&str, &str)], who: &(String, String)) -> Option<Value> {
        // A query string has the same encoding as a form.
        let form = Url::parse_with_params("form:", form).unwrap();
        let request = self.http.post(format!("{}{path}", self.url)).basic_auth(&who.0, Some(&who.1));
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        let response = request.body(form.query().unwrap().to_owned()).send().await.ok()?;
        let status = response.status();
        let body = response.text().await.ok()?;
        assert!(status.is_success(), "{status} {body}");
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Some(serde_json::from_str(&body).unwrap())
    }
}

/// A generator of random delays (SplitMix64).
struct RandomDelays(u64);

impl RandomDelays {
    fn seeded() -> Self {
        let given = std::env::var("COUNTERSIGN_TEST_SEED").ok();
        let seed = given.map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().unwrap());
        println!("COUNTERSIGN_TEST_SEED={seed}");
        Self(seed)
    }

    /// Returns the next delay before a kill.
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        Duration::from_micros(bits % 250_000)
    }
}
