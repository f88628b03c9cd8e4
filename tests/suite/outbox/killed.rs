//! `kill -9`, twenty times each: what was acknowledged is told, at least once, under the same name, and
//! nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use app::SystemClock;
use device::{Answer as Word, Enrollment, Phone, Style, signing};
use domain::Clock as _;
use harness::{Answer, Call, Http, Receiver, Server, wait_until};
use reqwest::Url;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::webhooks::{PATIENCE, attempts, webhook};
use crate::world::{World, created, entity, on_every_database};

const ROUNDS: usize = 20;

/// What a killed server had begun is taken over after a second.
const SERVING: &[&str] =
    &["--webhook-allow", "127.0.0.0/8", "--delivery-longest-wait", "1", "--delivery-lease", "1"];

on_every_database! {
    serving SERVING;
    /// Killed with answers in flight, as soon as some are acknowledged.
    async fn between_commit_and_delivery(world: World) {
        const AT_ONCE: usize = 8;
        let mut world = world;
        let receiver = Receiver::start([Answer::ok()]);
        let stage = Stage::set(&world, &receiver, ROUNDS * AT_ONCE).await;
        let mut acknowledged = BTreeSet::new();
        let mut untold = 0;
        for round in 0..ROUNDS {
            let questions = &stage.questions[round * AT_ONCE..][..AT_ONCE];
            let (acknowledge, mut acknowledgements) = mpsc::unbounded_channel();
            let mut answering = JoinSet::new();
            for question in questions {
                let (answer, acknowledge) = (stage.answer(&world.server, question), acknowledge.clone());
                answering.spawn(async move {
                    if let Some(sid) = answer.await {
                        let _ = acknowledge.send(sid);
                    }
                });
            }
            drop(acknowledge);
            // One more each time, and then anew.
            let mut new = BTreeSet::new();
            for _ in 0..=round % AT_ONCE {
                new.insert(acknowledgements.recv().await.unwrap());
            }
            world.server.kill9();
            let told = told(&receiver);
            while let Some(sid) = acknowledgements.recv().await {
                new.insert(sid);
            }
            untold += new.iter().filter(|sid| !told.contains_key(*sid)).count();
            acknowledged.append(&mut new);
            world.server.restart();
        }
        println!("{} acknowledged, {untold} of them not told before the server was killed", acknowledged.len());
        assert!(untold >= ROUNDS, "the killer came too late for a test");
        stage.verify(&world, &receiver, &acknowledged).await;
    }
}

on_every_database! {
    serving SERVING;
    /// Killed while the receiver holds the request.
    async fn in_the_middle_of_an_attempt(world: World) {
        const AT_ONCE: usize = 3;
        let mut world = world;
        let held: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let receiver = holding(&held);
        let stage = Stage::set(&world, &receiver, ROUNDS * AT_ONCE).await;
        let mut acknowledged = BTreeSet::new();
        for round in 0..ROUNDS {
            let questions = &stage.questions[round * AT_ONCE..][..AT_ONCE];
            *held.lock().unwrap() = questions.iter().map(|question| question.sid.clone()).collect();
            for question in questions {
                acknowledged.insert(stage.answer(&world.server, question).await.unwrap());
            }
            all_told(&receiver, questions).await;
            world.server.kill9();
            held.lock().unwrap().clear();
            world.server.restart();
        }
        stage.verify(&world, &receiver, &acknowledged).await;
        let told = told(&receiver);
        assert!(told.values().all(|calls| calls.len() >= 2), "held, and then answered: {told:?}");
    }
}

/// Two servers share a PostgreSQL; one is killed while the receiver holds requests, and the other takes over.
#[tokio::test]
async fn one_of_two_servers() {
    const AT_ONCE: usize = 4;
    let test = "outbox::killed::one_of_two_servers";
    let Some(mut world) = World::postgres_with(test, SERVING) else { return };
    let mut other = Server::start(crate::world::BINARY, world.storage.clone(), SERVING);
    let held: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let receiver = holding(&held);
    let stage = Stage::set(&world, &receiver, ROUNDS * AT_ONCE).await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let questions = &stage.questions[round * AT_ONCE..][..AT_ONCE];
        *held.lock().unwrap() = questions.iter().map(|question| question.sid.clone()).collect();
        for (number, question) in questions.iter().enumerate() {
            let server = if number % 2 == 0 { &world.server } else { &other };
            acknowledged.insert(stage.answer(server, question).await.unwrap());
        }
        all_told(&receiver, questions).await;
        let victim = if round % 2 == 0 { &mut world.server } else { &mut other };
        victim.kill9();
        held.lock().unwrap().clear();
        if round % 5 == 4 {
            // While the victim is dead. What the survivor held itself it gives up after a while.
            let again = async || {
                let told = told(&receiver);
                questions.iter().all(|question| told[&question.sid].len() >= 2).then_some(())
            };
            wait_until("the survivor has told everything", PATIENCE, again).await;
        }
        victim.restart();
    }
    stage.verify(&world, &receiver, &acknowledged).await;
    let told = told(&receiver);
    assert!(told.values().all(|calls| calls.len() >= 2), "held, and then answered: {told:?}");
}

/// A receiver that says nothing to those who tell it of these challenges.
fn holding(held: &Arc<Mutex<BTreeSet<String>>>) -> Receiver {
    let held = Arc::clone(held);
    Receiver::reacting(move |call| {
        let hold = held.lock().unwrap().contains(&call.value("challenge_sid").unwrap());
        async move { if hold { Answer::silence() } else { Answer::ok() } }
    })
}

/// Waits until the receiver was told of all of them.
async fn all_told(receiver: &Receiver, questions: &[Question]) {
    let all = async || {
        let told = told(receiver);
        questions.iter().all(|question| told.contains_key(&question.sid)).then_some(())
    };
    wait_until("the receiver holds all requests", PATIENCE, all).await;
}

/// What a receiver was told of each challenge.
fn told(receiver: &Receiver) -> BTreeMap<String, Vec<Call>> {
    let mut told: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for call in receiver.calls() {
        told.entry(call.value("challenge_sid").unwrap()).or_default().push(call);
    }
    told
}

/// A pending challenge, and the answer to it, signed.
struct Question {
    sid: String,
    word: Word,
    payload: String,
}

/// A phone with many questions, and a webhook that wants to hear of its answers.
struct Stage {
    service: String,
    webhook: String,
    enrollment: Enrollment,
    questions: Vec<Question>,
    http: reqwest::Client,
}

impl Stage {
    async fn set(world: &World, receiver: &Receiver, count: usize) -> Self {
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "zoe-0001").await;
        let ask = async |backend: Http, phone: Arc<Phone>, enrollment: Enrollment, word: Word| {
            let expiry = SystemClock.now().plus_seconds(3000).to_string();
            let form = [
                ("FactorSid", enrollment.factor_sid.as_str()),
                ("Details.Message", "Sign in to Owl Bank?"),
                ("ExpirationDate", &expiry),
            ];
            let path = format!("{}/Challenges", entity(&enrollment.service_sid, &enrollment.identity));
            let sid = created(&backend.post(&path, &form).await)["sid"].as_str().unwrap().to_owned();
            let shown = phone.challenge(&enrollment, &sid).await.unwrap();
            let payload = signing::answer(Style::Android, &enrollment, &shown, word).unwrap();
            Question { sid, word, payload }
        };
        let mut questions = Vec::new();
        while questions.len() < count {
            let mut asking = JoinSet::new();
            for word in [Word::Approved, Word::Denied].into_iter().cycle().take(20) {
                asking.spawn(ask(world.backend(), phone.clone(), enrollment.clone(), word));
            }
            questions.append(&mut asking.join_all().await);
        }
        let types = [("EventTypes", "challenge.approved"), ("EventTypes", "challenge.denied")];
        // An answer that does not come is waited for no longer than this, in milliseconds.
        let webhook = webhook(world, &service, &receiver.at("/#rt=1500"), &types).await;
        let http = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
        Self { service, webhook, enrollment, questions, http: http.build().unwrap() }
    }

    /// Sends an answer to this server; the challenge's SID if it is acknowledged, `None` if the server is
    /// gone.
    fn answer(
        &self,
        server: &Server,
        question: &Question,
    ) -> impl Future<Output = Option<String>> + Send + use<> {
        let path = format!("{}/Challenges/{}", entity(&self.service, "zoe-0001"), question.sid);
        let token = signing::device_token(Style::Android, &self.enrollment, SystemClock.now());
        let form = Url::parse_with_params("form:", [("AuthPayload", &question.payload)]).unwrap();
        let request = self.http.post(format!("{}{path}", server.url())).basic_auth("token", Some(token));
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        let request = request.body(form.query().unwrap().to_owned());
        let sid = question.sid.clone();
        async move {
            let response = request.send().await.ok()?;
            assert_eq!(response.status(), 200);
            // The whole answer.
            response.text().await.ok()?;
            Some(sid)
        }
    }

    /// Waits until nothing is owed any more, and compares what was told with what is.
    async fn verify(&self, world: &World, receiver: &Receiver, acknowledged: &BTreeSet<String>) {
        let mut answered = BTreeMap::new();
        let backend = world.backend();
        let challenges = format!("{}/Challenges?PageSize=1000", entity(&self.service, "zoe-0001"));
        for body in backend.get(&challenges, &[]).await.json()["challenges"].as_array().unwrap() {
            let (sid, status) = (body["sid"].as_str().unwrap(), body["status"].as_str().unwrap());
            if status != "pending" {
                answered.insert(sid.to_owned(), format!("challenge.{status}"));
            }
        }
        for question in &self.questions {
            if acknowledged.contains(&question.sid) {
                let event_type = format!("challenge.{}", question.word.as_str());
                assert_eq!(
                    answered.get(&question.sid),
                    Some(&event_type),
                    "{} was acknowledged",
                    question.sid
                );
            }
        }

        let done = async || {
            let owed = attempts(world, &[&self.webhook, "--state", "owed"]);
            owed.is_empty().then_some(())
        };
        wait_until("nothing is owed any more", PATIENCE, done).await;
        let deliveries = attempts(world, &[&self.webhook]);
        assert!(deliveries.iter().all(|delivery| delivery.state == "delivered"), "{deliveries:?}");
        // Whether it was acknowledged or not: what happened is owed, and nothing else.
        assert_eq!(deliveries.len(), answered.len());

        let told = told(receiver);
        assert!(told.keys().eq(answered.keys()), "{told:?} is not {answered:?}");
        let mut tokens = BTreeSet::new();
        for (sid, calls) in &told {
            let token = calls[0].header("I-Twilio-Idempotency-Token");
            assert!(tokens.insert(token.to_owned()), "{token} names two deliveries");
            for call in calls {
                assert_eq!(call.header("I-Twilio-Idempotency-Token"), token, "{sid}");
                assert_eq!(call.form(), calls[0].form(), "{sid}");
                assert_eq!(call.value("type").as_ref(), Some(&answered[sid]));
            }
        }
        let repeated = told.values().map(Vec::len).sum::<usize>() - told.len();
        println!("{} answers, each told; {repeated} calls were repetitions", told.len());
        let names: BTreeSet<_> = deliveries.into_iter().map(|delivery| delivery.id).collect();
        assert_eq!(tokens, names);
    }
}
