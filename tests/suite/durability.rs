//! Promises are kept: what was acknowledged is there after `kill -9`, and nothing else has happened.
//!
//! The killer strikes at random moments. Their seed is printed; `COUNTERSIGN_TEST_SEED` repeats them.

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

use crate::world::{World, entity, on_every_database};

const ROUNDS: u64 = 20;
const CLIENTS: usize = 8;

/// Acknowledged writes after which the killer lies in wait: a slow machine works as much as a quick one.
const ENOUGH: usize = 4 * CLIENTS;
const PATIENCE: Duration = Duration::from_secs(60);

on_every_database! {
    async fn what_was_acknowledged_survives_kill_9(world: World) {
        let mut world = world;
        let mut moments = Moments::seeded();
        let service = world.service().await;
        let entities = format!("/v2/Services/{service}/Entities");
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let identity = format!("client-{number:04}");
            let (_, enrollment) = world.enrolled(Style::Android, &service, &identity).await;
            clients.push(Client { enrollment, turn: 0, diary: Diary::default() });
        }

        for round in 0..ROUNDS {
            let line = Arc::new(Line::to(&world));
            let begin = |client: Client| tokio::spawn(client.work(Arc::clone(&line)));
            let working: Vec<_> = clients.drain(..).map(begin).collect();
            wait_until("enough is acknowledged", PATIENCE, async || line.is_warm().then_some(())).await;
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

        let sum = |count: fn(&Diary) -> usize| clients.iter().map(|client| count(&client.diary)).sum();
        let (entities, challenges): (usize, usize) =
            (sum(|diary| diary.entities.len()), sum(|diary| diary.challenges.len()));
        let answers: usize = sum(Diary::answers);
        println!("{entities} entities, {challenges} challenges, {answers} answers are all there");
        assert!(entities > 100 && challenges > 100 && answers > 30, "too little was done to be a test");

        // Each has its line in the audit log, and the chain was never torn.
        let lines = crate::audit::exported(&world).await;
        let of = |event_type: &str| {
            let lines = lines.iter().filter(|line| line["event_type"] == event_type);
            lines.map(|line| line["resource_sid"].as_str().unwrap()).collect::<Vec<_>>()
        };
        let mut asked: Vec<_> =
            clients.iter().flat_map(|client| client.diary.challenges.keys().map(String::as_str)).collect();
        let mut noted = of("challenge.created");
        asked.sort_unstable();
        noted.sort_unstable();
        assert_eq!(noted, asked, "those of the audit log on the left");
        assert_eq!(of("challenge.approved").len() + of("challenge.denied").len(), answers);
    }
}

/// A backend and a phone that work until the server is gone.
struct Client {
    enrollment: Enrollment,
    /// How often they have gone round, over all rounds.
    turn: usize,
    diary: Diary,
}

impl Client {
    async fn work(mut self, line: Arc<Line>) -> Self {
        while self.go_round(&line).await.is_some() {}
        self
    }

    /// Makes an entity, asks the phone, and answers in two of three cases. `None` as soon as the server
    /// is gone.
    async fn go_round(&mut self, line: &Line) -> Option<()> {
        self.turn += 1;
        let Self { enrollment, turn, diary } = self;
        let service = &enrollment.service_sid;

        let identity = format!("{}-{turn}", enrollment.identity);
        diary.begun.push(Begun::Entity(identity.clone()));
        let path = format!("/v2/Services/{service}/Entities");
        let made = line.post(&path, &[("Identity", &identity)], &line.account).await?;
        diary.entities.insert(identity, essence(made));
        diary.begun.pop();

        let message = format!("Question {turn} of {}", enrollment.identity);
        diary.begun.push(Begun::Challenge(message.clone()));
        let path = format!("{}/Challenges", entity(service, &enrollment.identity));
        let form = [
            ("FactorSid", enrollment.factor_sid.as_str()),
            ("Details.Message", &message),
            ("Details.Fields", &json!({ "label": "Turn", "value": turn.to_string() }).to_string()),
            ("HiddenDetails", &json!({ "turn": turn.to_string() }).to_string()),
            // Far enough ahead that none expires while the test runs.
            ("ExpirationDate", &SystemClock.now().plus_seconds(3000).to_string()),
        ];
        let made = line.post(&path, &form, &line.account).await?;
        let sid = made["sid"].as_str().unwrap().to_owned();
        diary.challenges.insert(sid.clone(), essence(made));
        diary.begun.pop();

        let answer = [None, Some(Answer::Approved), Some(Answer::Denied)][*turn % 3];
        if let Some(answer) = answer {
            let shown = match line.phone.challenge(enrollment, &sid).await {
                Err(device::Error::Transport(_)) => return None,
                shown => shown.unwrap(),
            };
            let payload = signing::answer(enrollment.style, enrollment, &shown, answer).unwrap();
            let token = signing::device_token(enrollment.style, enrollment, SystemClock.now());
            diary.begun.push(Begun::Answer(sid.clone(), answer.as_str()));
            let path = format!("{path}/{sid}");
            let device = ("token".to_owned(), token);
            let answered = line.post(&path, &[("AuthPayload", &payload)], &device).await?;
            diary.challenges.insert(sid, essence(answered));
            diary.begun.pop();
        }
        Some(())
    }

    /// Compares what was acknowledged with what is there.
    async fn compare(&mut self, backend: &Http, entities: &[Value]) {
        let Enrollment { service_sid: service, identity, .. } = &self.enrollment;
        let mine = format!("{identity}-");
        let mine = |body: &&Value| body["identity"].as_str().unwrap().starts_with(&mine);
        let entities = entities.iter().filter(mine).cloned().collect();
        let challenges = format!("{}/Challenges", entity(service, identity));
        let challenges = everything(backend, &challenges, "challenges").await;
        self.diary.compare(entities, challenges);
    }
}

/// What a client knows: all that was acknowledged, as it was acknowledged, and what was begun and never
/// acknowledged.
#[derive(Default)]
struct Diary {
    /// By identity.
    entities: BTreeMap<String, Value>,
    /// By SID.
    challenges: BTreeMap<String, Value>,
    begun: Vec<Begun>,
}

/// A write whose acknowledgement is due. It may have happened or not, but not by halves; PostgreSQL may
/// even come to it when the server is long gone.
enum Begun {
    /// An entity of this identity.
    Entity(String),
    /// A challenge with this message.
    Challenge(String),
    /// This answer to the challenge of this SID.
    Answer(String, &'static str),
}

impl Diary {
    /// Compares with what the server has: all that was acknowledged, just as it was, and nothing more than
    /// what was begun, which counts as acknowledged from now on.
    fn compare(&mut self, entities: Vec<Value>, challenges: Vec<Value>) {
        let by = |key: &str, list: Vec<Value>| -> BTreeMap<String, Value> {
            list.into_iter().map(|body| (body[key].as_str().unwrap().to_owned(), essence(body))).collect()
        };
        let (entities, challenges) = (by("identity", entities), by("sid", challenges));
        let Self { entities: known_entities, challenges: known, begun } = self;
        // What has happened is not due any more.
        begun.retain(|begun| match begun {
            Begun::Entity(identity) => {
                let body = entities.get(identity);
                if let Some(body) = body {
                    known_entities.insert(identity.clone(), body.clone());
                }
                body.is_none()
            }
            Begun::Challenge(message) => {
                let challenge = challenges.iter().find(|(_, body)| body["details"]["message"] == **message);
                if let Some((sid, body)) = challenge {
                    assert_eq!(body["status"], "pending", "{body}");
                    known.insert(sid.clone(), body.clone());
                }
                challenge.is_none()
            }
            Begun::Answer(sid, answer) => {
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
        assert!(acknowledged.contains_key(key), "{key} was never asked for: {}", there[key]);
    }
}

/// A body without the addresses in it, which change with the port.
fn essence(mut body: Value) -> Value {
    let object = body.as_object_mut().unwrap();
    object.remove("url");
    object.remove("links");
    body
}

/// All pages of a list.
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

/// The way to one life of the server. Unlike the harness's client it survives the server's death.
struct Line {
    url: String,
    account: (String, String),
    http: reqwest::Client,
    phone: Phone,
    /// How many writes were acknowledged.
    acknowledged: AtomicUsize,
}

impl Line {
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

    /// Whether enough was done for this life to be worth ending.
    fn is_warm(&self) -> bool {
        self.acknowledged.load(Ordering::Relaxed) >= ENOUGH
    }

    /// The body of a success; `None` if there is no whole answer, since the server is gone.
    async fn post(&self, path: &str, form: &[(&str, &str)], who: &(String, String)) -> Option<Value> {
        // A query string is encoded just as a form is.
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

/// Random moments (SplitMix64).
struct Moments(u64);

impl Moments {
    fn seeded() -> Self {
        let given = std::env::var("COUNTERSIGN_TEST_SEED").ok();
        let seed = given.map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().unwrap());
        println!("COUNTERSIGN_TEST_SEED={seed}");
        Self(seed)
    }

    /// How long to lie in wait next time.
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        Duration::from_micros(bits % 250_000)
    }
}
