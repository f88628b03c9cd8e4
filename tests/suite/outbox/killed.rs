//! `kill -9`, twenty times each: acknowledged changes are delivered at least once, with one idempotency token,
//! and nothing else is delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use app::SystemClock;
use device::{Answer as Word, Enrollment, Phone, Style, signing};
use domain::Clock as _;
use harness::{Answer, Call, Http, Receiver, Server, wait_until};
use reqwest::Url;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::webhooks::{WAIT_TIMEOUT, attempts, webhook};
use crate::world::{World, created, entity, on_every_database};

const ROUND_COUNT: usize = 20;

/// Deliveries of a killed server are taken over after one second.
const SERVER_ARGUMENTS: &[&str] =
    &["--webhook-allow-network", "127.0.0.0/8", "--delivery-max-backoff", "1", "--delivery-lease", "1"];

on_every_database! {
    serving SERVER_ARGUMENTS;
    /// The server is killed while answers are in flight, as soon as some have been acknowledged.
    async fn killing_the_server_between_commit_and_delivery_loses_no_webhook(world: World) {
        const CONCURRENT_REQUESTS: usize = 8;
        let mut world = world;
        let receiver = Receiver::start([Answer::ok()]);
        let fixture = KillFixture::set(&world, &receiver, ROUND_COUNT * CONCURRENT_REQUESTS).await;
        let mut acknowledged = BTreeSet::new();
        let mut undelivered = 0;
        for round in 0..ROUND_COUNT {
            let answers = &fixture.answers[round * CONCURRENT_REQUESTS..][..CONCURRENT_REQUESTS];
            let (acknowledge, mut acknowledgements) = mpsc::unbounded_channel();
            let mut answering = JoinSet::new();
            for answer in answers {
                let (answer, acknowledge) = (fixture.answer(&world.server, answer), acknowledge.clone());
                answering.spawn(async move {
                    if let Some(sid) = answer.await {
                        let _ = acknowledge.send(sid);
                    }
                });
            }
            drop(acknowledge);
            // The number of acknowledgments before the kill grows by one each round, and then starts again
            // from one.
            let mut new = BTreeSet::new();
            for _ in 0..=round % CONCURRENT_REQUESTS {
                new.insert(acknowledgements.recv().await.unwrap());
            }
            world.server.kill9();
            let delivered = requests_by_challenge(&receiver);
            while let Some(sid) = acknowledgements.recv().await {
                new.insert(sid);
            }
            undelivered += new.iter().filter(|sid| !delivered.contains_key(*sid)).count();
            acknowledged.append(&mut new);
            world.server.restart();
        }
        println!("{} acknowledged, {undelivered} of them not delivered before the server was killed", acknowledged.len());
        assert!(undelivered >= ROUND_COUNT, "every server was killed after its deliveries");
        fixture.verify(&world, &receiver, &acknowledged).await;
    }
}

on_every_database! {
    serving SERVER_ARGUMENTS;
    /// The server is killed while the receiver delays its response.
    async fn killing_the_server_during_an_attempt_loses_no_webhook(world: World) {
        const CONCURRENT_REQUESTS: usize = 3;
        let mut world = world;
        let held: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let receiver = receiver_without_replies(&held);
        let fixture = KillFixture::set(&world, &receiver, ROUND_COUNT * CONCURRENT_REQUESTS).await;
        let mut acknowledged = BTreeSet::new();
        for round in 0..ROUND_COUNT {
            let answers = &fixture.answers[round * CONCURRENT_REQUESTS..][..CONCURRENT_REQUESTS];
            *held.lock().unwrap() = answers.iter().map(|answer| answer.sid.clone()).collect();
            for answer in answers {
                acknowledged.insert(fixture.answer(&world.server, answer).await.unwrap());
            }
            wait_for_all(&receiver, answers).await;
            world.server.kill9();
            held.lock().unwrap().clear();
            world.server.restart();
        }
        fixture.verify(&world, &receiver, &acknowledged).await;
        let delivered = requests_by_challenge(&receiver);
        assert!(delivered.values().all(|calls| calls.len() >= 2), "held, and then answered: {delivered:?}");
    }
}

/// Two servers share a PostgreSQL database; one is killed while the receiver holds requests, and the other
/// takes over.
#[tokio::test]
async fn webhooks_of_a_killed_server_are_delivered_by_the_other_server() {
    const CONCURRENT_REQUESTS: usize = 4;
    let test = "outbox::killed::webhooks_of_a_killed_server_are_delivered_by_the_other_server";
    let Some(mut world) = World::postgres_with(test, SERVER_ARGUMENTS) else { return };
    let mut other = Server::start(crate::world::BINARY, world.storage.clone(), SERVER_ARGUMENTS);
    let held: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let receiver = receiver_without_replies(&held);
    let fixture = KillFixture::set(&world, &receiver, ROUND_COUNT * CONCURRENT_REQUESTS).await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUND_COUNT {
        let answers = &fixture.answers[round * CONCURRENT_REQUESTS..][..CONCURRENT_REQUESTS];
        *held.lock().unwrap() = answers.iter().map(|answer| answer.sid.clone()).collect();
        for (number, answer) in answers.iter().enumerate() {
            let server = if number % 2 == 0 { &world.server } else { &other };
            acknowledged.insert(fixture.answer(server, answer).await.unwrap());
        }
        wait_for_all(&receiver, answers).await;
        let victim = if round % 2 == 0 { &mut world.server } else { &mut other };
        victim.kill9();
        held.lock().unwrap().clear();
        if round % 5 == 4 {
            // While the killed server is down. The other server gives up its own held requests after a while.
            let again = async || {
                let delivered = requests_by_challenge(&receiver);
                answers.iter().all(|answer| delivered[&answer.sid].len() >= 2).then_some(())
            };
            wait_until("the other server has delivered everything", WAIT_TIMEOUT, again).await;
        }
        victim.restart();
    }
    fixture.verify(&world, &receiver, &acknowledged).await;
    let delivered = requests_by_challenge(&receiver);
    assert!(delivered.values().all(|calls| calls.len() >= 2), "held, and then answered: {delivered:?}");
}

/// Starts a receiver that sends no response for these challenges.
fn receiver_without_replies(held: &Arc<Mutex<BTreeSet<String>>>) -> Receiver {
    let held = Arc::clone(held);
    Receiver::reacting(move |call| {
        let hold = held.lock().unwrap().contains(&call.value("challenge_sid").unwrap());
        async move { if hold { Answer::silence() } else { Answer::ok() } }
    })
}

/// Waits until the receiver has received a request for each of `answers`.
async fn wait_for_all(receiver: &Receiver, answers: &[SignedAnswer]) {
    let all = async || {
        let delivered = requests_by_challenge(receiver);
        answers.iter().all(|answer| delivered.contains_key(&answer.sid)).then_some(())
    };
    wait_until("the receiver holds all requests", WAIT_TIMEOUT, all).await;
}

/// Returns the requests that a receiver got for each challenge.
fn requests_by_challenge(receiver: &Receiver) -> BTreeMap<String, Vec<Call>> {
    let mut delivered: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for call in receiver.calls() {
        delivered.entry(call.value("challenge_sid").unwrap()).or_default().push(call);
    }
    delivered
}

/// A pending challenge with its signed answer.
struct SignedAnswer {
    sid: String,
    word: Word,
    payload: String,
}

/// A phone with many challenges, and a webhook for their answers.
struct KillFixture {
    service: String,
    webhook: String,
    enrollment: Enrollment,
    answers: Vec<SignedAnswer>,
    http: reqwest::Client,
}

impl KillFixture {
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
            let shown = phone.get_challenge(&enrollment, &sid).await.unwrap();
            let payload = signing::sign_answer(Style::Android, &enrollment, &shown, word).unwrap();
            SignedAnswer { sid, word, payload }
        };
        let mut answers = Vec::new();
        while answers.len() < count {
            let mut asking = JoinSet::new();
            for word in [Word::Approved, Word::Denied].into_iter().cycle().take(20) {
                asking.spawn(ask(world.backend(), phone.clone(), enrollment.clone(), word));
            }
            answers.append(&mut asking.join_all().await);
        }
        let types = [("EventTypes", "challenge.approved"), ("EventTypes", "challenge.denied")];
        // The server waits at most this long for a response, in milliseconds.
        let webhook = webhook(world, &service, &receiver.at("/#rt=1500"), &types).await;
        let http = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
        Self { service, webhook, enrollment, answers, http: http.build().unwrap() }
    }

    /// Sends a signed answer to the server. Returns the challenge's SID if the answer was acknowledged, or
    /// `None` if the server was killed.
    fn answer(
        &self,
        server: &Server,
        answer: &SignedAnswer,
    ) -> impl Future<Output = Option<String>> + Send + use<> {
        let path = format!("{}/Challenges/{}", entity(&self.service, "zoe-0001"), answer.sid);
        let token = signing::sign_device_token(Style::Android, &self.enrollment, SystemClock.now());
        let form = Url::parse_with_params("form:", [("AuthPayload", &answer.payload)]).unwrap();
        let request = self.http.post(format!("{}{path}", server.url())).basic_auth("token", Some(token));
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        let request = request.body(form.query().unwrap().to_owned());
        let sid = answer.sid.clone();
        async move {
            let response = request.send().await.ok()?;
            assert_eq!(response.status(), 200);
            // The complete response counts as acknowledgment.
            response.text().await.ok()?;
            Some(sid)
        }
    }

    /// Waits until no delivery is pending, and compares the received requests with the stored challenges.
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
        for answer in &self.answers {
            if acknowledged.contains(&answer.sid) {
                let event_type = format!("challenge.{}", answer.word.as_str());
                assert_eq!(answered.get(&answer.sid), Some(&event_type), "{} was acknowledged", answer.sid);
            }
        }

        let done = async || {
            let owed = attempts(world, &[&self.webhook, "--state", "pending"]);
            owed.is_empty().then_some(())
        };
        wait_until("no delivery is pending", WAIT_TIMEOUT, done).await;
        let deliveries = attempts(world, &[&self.webhook]);
        assert!(deliveries.iter().all(|delivery| delivery.state == "delivered"), "{deliveries:?}");
        // Every answer that took effect has a delivery, acknowledged or not, and nothing else has one.
        assert_eq!(deliveries.len(), answered.len());

        let delivered = requests_by_challenge(receiver);
        assert!(delivered.keys().eq(answered.keys()), "{delivered:?} is not {answered:?}");
        let mut tokens = BTreeSet::new();
        for (sid, calls) in &delivered {
            let token = calls[0].header("I-Twilio-Idempotency-Token");
            assert!(tokens.insert(token.to_owned()), "{token} names two deliveries");
            for call in calls {
                assert_eq!(call.header("I-Twilio-Idempotency-Token"), token, "{sid}");
                assert_eq!(call.form(), calls[0].form(), "{sid}");
                assert_eq!(call.value("type").as_ref(), Some(&answered[sid]));
            }
        }
        let repeated = delivered.values().map(Vec::len).sum::<usize>() - delivered.len();
        println!("{} answers, each delivered; {repeated} requests were repetitions", delivered.len());
        let names: BTreeSet<_> = deliveries.into_iter().map(|delivery| delivery.id).collect();
        assert_eq!(tokens, names);
    }
}
