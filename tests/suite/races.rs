//! Concurrent requests: of several conflicting requests exactly one takes effect, and no limit is exceeded.
//!
//! Requests that open their connections one after the other hardly race: the first is finished before the last
//! arrives. So every request is sent except its last byte, and then all last bytes together.

use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use device::wire::{self, WireRequest};
use device::{Answer, Enrollment, NewFactor, Phone, SigningKey, Style, signing};
use domain::Clock as _;
use harness::{Auth, Http, Server, Storage};
use reqwest::Url;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::pushes::{KEY_ID, TEAM};
use crate::world::{BINARY, World, created, entity, on_every_database};

on_every_database! {
    async fn exactly_one_of_a_hundred_concurrent_answers_is_accepted(world: World) {
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "racer-0001").await;
        let sid = sid_of(&world.challenge(&enrollment, &[]).await);

        let winner = race_answers(&[(&phone, world.server.url())], &enrollment, &sid, 100).await;

        assert_eq!(phone.get_challenge(&enrollment, &sid).await.unwrap().status.as_str(), winner.as_str());
        let path = format!("{}/Challenges/{sid}", entity(&service, "racer-0001"));
        let stored = world.backend().get(&path, &[]).await.json();
        assert_eq!(stored["status"], winner.as_str());
        assert_eq!(stored["date_responded"], stored["date_updated"], "{stored}");
    }
}

on_every_database! {
    async fn concurrent_enrollments_never_exceed_twenty_factors(world: World) {
        let service = world.service().await;
        for identity in new_and_existing_identity(&world, &service).await {
            let mut newcomers = Vec::new();
            for _ in 0..40 {
                newcomers.push(world.new_factor(&service, identity).await);
            }

            let with_new_key = |new| enrollment(&world.server, new, &SigningKey::generate());
            let outcomes = send_at_once(newcomers.iter().map(with_new_key).collect()).await;

            let (made, refused) = split_outcomes(&outcomes);
            assert_eq!(made.len(), 20);
            assert_eq!(refused, vec![(400, 60315); 20]);
            let sids = sorted(made.iter().map(sid_of));
            assert_eq!(sids, sorted(factors(&world.backend(), &service, identity).await));

            // A refusal does not spend the access token: with room again, the same phone can enroll.
            let path = format!("{}/Factors/{}", entity(&service, identity), sids[0]);
            assert_eq!(world.backend().delete(&path, &[]).await.status, 204);
            let loser = outcomes.iter().position(Result::is_err).unwrap();
            world.phone(Style::Ios).create_factor(&newcomers[loser]).await.unwrap();
        }
    }
}

on_every_database! {
    async fn concurrent_enrollments_with_the_same_key_create_exactly_one_factor(world: World) {
        let service = world.service().await;
        for identity in new_and_existing_identity(&world, &service).await {
            let key = SigningKey::generate();
            let mut requests = Vec::new();
            for _ in 0..15 {
                requests.push(enrollment(&world.server, &world.new_factor(&service, identity).await, &key));
            }

            let (made, refused) = split_outcomes(&send_at_once(requests).await);

            assert_eq!(refused, vec![(409, 60317); 14]);
            assert_eq!(factors(&world.backend(), &service, identity).await, [sid_of(&made[0])]);
        }
    }
}

on_every_database! {
    async fn repeated_enrollment_with_the_same_key_returns_the_same_factor(world: World) {
        let service = world.service().await;
        for identity in new_and_existing_identity(&world, &service).await {
            let new = world.new_factor(&service, identity).await;
            let key = SigningKey::generate();

            let requests = (0..15).map(|_| enrollment(&world.server, &new, &key));
            let (made, refused) = split_outcomes(&send_at_once(requests.collect()).await);

            assert_eq!(refused, []);
            for factor in &made {
                assert_eq!(factor, &made[0]);
            }
            assert_eq!(factors(&world.backend(), &service, identity).await, [sid_of(&made[0])]);
        }
    }
}

on_every_database! {
    async fn access_token_enrolls_exactly_one_of_many_concurrent_keys(world: World) {
        let service = world.service().await;
        for identity in new_and_existing_identity(&world, &service).await {
            let new = world.new_factor(&service, identity).await;

            let requests = (0..15).map(|_| enrollment(&world.server, &new, &SigningKey::generate()));
            let (made, refused) = split_outcomes(&send_at_once(requests.collect()).await);

            assert_eq!(refused, vec![(401, 20003); 14]);
            assert_eq!(factors(&world.backend(), &service, identity).await, [sid_of(&made[0])]);
        }
    }
}

on_every_database! {
    async fn concurrent_creations_of_one_identity_create_exactly_one_entity(world: World) {
        let service = world.service().await;
        let path = format!("/v2/Services/{service}/Entities");

        let form = [("Identity", "unique-0001")];
        let requests = (0..30).map(|_| Request::of_backend(&world.server, "POST", &path, &form));
        let (made, refused) = split_outcomes(&send_at_once(requests.collect()).await);

        assert_eq!(refused, vec![(409, 60301); 29]);
        let listed = world.backend().get(&path, &[]).await.json();
        assert_eq!(sids(&listed["entities"]), [sid_of(&made[0])]);
    }
}

on_every_database! {
    async fn no_challenge_of_a_concurrently_deleted_factor_stays_pending(world: World) {
        let service = world.service().await;
        for round in 0..6 {
            let identity = format!("leaver-{round:04}");
            let (_, enrollment) = world.enrolled(Style::Android, &service, &identity).await;
            let challenges = format!("{}/Challenges", entity(&service, &identity));
            let factor = format!("{}/Factors/{}", entity(&service, &identity), enrollment.factor_sid);

            let form = [("FactorSid", enrollment.factor_sid.as_str()), ("Details.Message", "Still there?")];
            let ask = || Request::of_backend(&world.server, "POST", &challenges, &form);
            let mut requests: Vec<Request> = (0..20).map(|_| ask()).collect();
            // At another position among the challenges in each round.
            let turn = 2 + 3 * round;
            requests.insert(turn, Request::of_backend(&world.server, "DELETE", &factor, &[]));
            let mut outcomes = send_at_once(requests).await;

            assert_eq!(outcomes.remove(turn), Ok(Value::Null));
            let (made, refused) = split_outcomes(&outcomes);
            assert!(refused.iter().all(|refusal| *refusal == (404, 20404)), "{refused:?}");
            let listed = world.backend().get(&challenges, &[]).await.json();
            assert_eq!(sorted(made.iter().map(sid_of)), sorted(sids(&listed["challenges"])));
            for challenge in listed["challenges"].as_array().unwrap() {
                assert_eq!(challenge["status"], "expired", "{challenge}");
            }
            let pending = world.backend().get(&challenges, &[("Status", "pending")]).await.json();
            assert_eq!(pending["challenges"], Value::Array(Vec::new()));
        }
    }
}

on_every_database! {
    async fn answer_during_factor_deletion_is_either_accepted_or_refused_without_effect(world: World) {
        let service = world.service().await;
        for round in 0..10 {
            let identity = format!("parting-{round:04}");
            let (phone, enrollment) = world.enrolled(Style::Android, &service, &identity).await;
            let sid = sid_of(&world.challenge(&enrollment, &[]).await);
            let factor = format!("{}/Factors/{}", entity(&service, &identity), enrollment.factor_sid);

            let answer = answers(&phone, world.server.url(), &enrollment, &sid, &[Answer::Approved]).await;
            let mut requests = answer;
            // The first request alternates between rounds.
            requests.insert(round % 2, Request::of_backend(&world.server, "DELETE", &factor, &[]));
            let mut outcomes = send_at_once(requests).await;

            assert_eq!(outcomes.remove(round % 2), Ok(Value::Null));
            let path = format!("{}/Challenges/{sid}", entity(&service, &identity));
            let stored = world.backend().get(&path, &[]).await.json();
            match outcomes.remove(0) {
                Ok(_) => assert_eq!(stored["status"], "approved", "{stored}"),
                // The device is unknown by now, or was authenticated just before.
                Err((401, 20003) | (403, 60323)) => {
                    assert_eq!(stored["status"], "expired", "{stored}");
                    assert_eq!(stored["date_responded"], Value::Null, "{stored}");
                }
                Err(refusal) => panic!("{refusal:?}"),
            }
        }
    }
}

on_every_database! {
    async fn concurrent_updates_of_different_credential_fields_are_all_kept(world: World) {
        let key = harness::stand_in::pki::Key::p256().pkcs8();
        let form = [("Type", "apn"), ("PrivateKey", &*key), ("KeyId", KEY_ID), ("TeamId", TEAM)];
        let path = format!("/v1/Credentials/{}", sid_of(&created(&world.backend().post("/v1/Credentials", &form).await)));
        for round in 0..10 {
            let (name, sandbox) = (format!("Owl {round}"), if round % 2 == 0 { "true" } else { "false" });
            let secrets = [form[1], form[2], form[3], ("Sandbox", sandbox)];
            let change = |form: &[(&str, &str)]| Request::of_backend(&world.server, "POST", &path, form);
            let outcomes = send_at_once(vec![change(&[("FriendlyName", &name)]), change(&secrets)]).await;

            assert_eq!(split_outcomes(&outcomes).1, []);
            let now = world.backend().get(&path, &[]).await.json();
            let expected = if round % 2 == 0 { "True" } else { "False" };
            assert_eq!((now["friendly_name"].as_str(), now["sandbox"].as_str()), (Some(&*name), Some(expected)));
        }
    }
}

#[tokio::test]
async fn two_servers_started_at_once_on_one_database_agree_on_keys_and_state() {
    let Some(database) = harness::postgres_or_skip(
        "races::two_servers_started_at_once_on_one_database_agree_on_keys_and_state",
    ) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // Both start at once on an empty database and data folder: they must agree on the schema, the master key
    // and the key of the access tokens.
    let storage = Storage::Postgres { url: database.url.clone(), data_dir: folder.path().join("data") };
    let start = || {
        let storage = storage.clone();
        thread::spawn(move || Server::start(BINARY, storage, &[]))
    };
    let servers = [start(), start()].map(|starting| starting.join().unwrap());
    let account = &servers[0];
    let account = Auth::Basic(account.account_sid().to_owned(), account.auth_token().to_owned());
    let backends = servers.each_ref().map(|server| Http::new(server.url()).auth(account.clone()));
    let phones = servers.each_ref().map(|server| phone_of(server.url()));
    let places = [(&phones[0], servers[0].url()), (&phones[1], servers[1].url())];

    let service = sid_of(&created(&backends[0].post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await));
    // Each server accepts the tokens that the other one issues.
    for (issuer, taker) in [(0, 1), (1, 0)] {
        let identity = format!("traveller-{issuer}");
        let form = [("Identity", identity.as_str()), ("FactorType", "push")];
        let token = backends[issuer].post(&format!("/v2/Services/{service}/AccessTokens"), &form).await;
        let new = NewFactor {
            service_sid: service.clone(),
            identity: identity.clone(),
            access_token: domain::Secret::new(created(&token)["token"].as_str().unwrap().to_owned()),
            friendly_name: "Test phone".to_owned(),
            notification: None,
            metadata: None,
            app_id: "com.example.app".to_owned(),
        };
        let enrollment = phones[taker].enroll(&new).await.unwrap();
        // A token spent at one server is spent at the other.
        let again = phones[issuer].create_factor(&new).await.unwrap_err();
        assert!(matches!(again, device::Error::Api { status: 401, code: 20003, .. }), "{again:?}");

        let form = [("FactorSid", enrollment.factor_sid.as_str()), ("Details.Message", "Which one?")];
        let path = format!("{}/Challenges", entity(&service, &identity));
        for _ in 0..3 {
            let sid = sid_of(&created(&backends[issuer].post(&path, &form).await));
            let winner = race_answers(&places, &enrollment, &sid, 60).await;
            for phone in &phones {
                let shown = phone.get_challenge(&enrollment, &sid).await.unwrap();
                assert_eq!(shown.status.as_str(), winner.as_str());
            }
        }
    }
}

/// Returns two identities: one without an entity, so that concurrent first factors also create it, and one
/// with an existing entity.
pub(crate) async fn new_and_existing_identity(world: &World, service: &str) -> [&'static str; 2] {
    let regular = [("Identity", "regular-0001")];
    created(&world.backend().post(&format!("/v2/Services/{service}/Entities"), &regular).await);
    ["newcomer-0001", "regular-0001"]
}

fn phone_of(url: &str) -> Phone {
    Phone::new(Style::Android, url, std::sync::Arc::new(app::SystemClock)).unwrap()
}

/// Answers a pending challenge `times` times at once, with both answers and at all of these servers, with a
/// phone of the same device at each. Checks that one answer is accepted, and returns which.
async fn race_answers(places: &[(&Phone, &str)], enrollment: &Enrollment, sid: &str, times: usize) -> Answer {
    let given = [Answer::Approved, Answer::Denied].repeat(times / 2 / places.len());
    let mut requests = Vec::new();
    for (phone, url) in places {
        requests.push(answers(phone, url, enrollment, sid, &given).await);
    }
    // Alternate the requests between the servers.
    let mut here_and_there = Vec::new();
    while let Some(request) = requests[here_and_there.len() % places.len()].pop() {
        here_and_there.push(request);
    }
    let outcomes = send_at_once(here_and_there).await;
    let (taken, refused) = split_outcomes(&outcomes);
    // Both answers were sent equally often, each with the same bytes: one is accepted, and every request with
    // it succeeds.
    assert_eq!(refused, vec![(403, 60322); times / 2], "taken: {taken:?}");
    // The URLs in it depend on the requested server.
    let outcome = |challenge: &Value| ["sid", "status", "date_responded"].map(|name| challenge[name].clone());
    assert!(taken.iter().all(|challenge| outcome(challenge) == outcome(&taken[0])), "{taken:?}");
    domain::challenges::Answer::parse(taken[0]["status"].as_str().unwrap()).unwrap()
}

/// Returns signed answers to a pending challenge.
async fn answers(
    phone: &Phone,
    url: &str,
    enrollment: &Enrollment,
    sid: &str,
    given: &[Answer],
) -> Vec<Request> {
    let shown = phone.get_challenge(enrollment, sid).await.unwrap();
    let style = enrollment.style;
    let request = |answer: &Answer| {
        let payload = signing::sign_answer(style, enrollment, &shown, *answer).unwrap();
        let now = app::SystemClock.now();
        Request::of_phone(url, wire::answer_challenge(style, enrollment, sid, &payload, now))
    };
    given.iter().map(request).collect()
}

/// Returns the first request of a phone that enrolls.
pub(crate) fn enrollment(server: &Server, new: &NewFactor, key: &SigningKey) -> Request {
    Request::of_phone(server.url(), wire::create_factor(Style::Android, new, &key.public_key_base64()))
}

/// A request, ready to be sent over its own connection.
pub(crate) struct Request {
    host: String,
    bytes: Vec<u8>,
}

impl Request {
    pub(crate) fn of_phone(url: &str, request: WireRequest) -> Self {
        let body = request.body.unwrap_or_default();
        let (method, path) = (request.method.as_str(), &request.path_and_query);
        Self::new(url, method, path, request.authorization.expose(), FORM, &body)
    }

    pub(crate) fn of_backend(server: &Server, method: &str, path: &str, form: &[(&str, &str)]) -> Self {
        // A query string has the same encoding as a form.
        let form = Url::parse_with_params("form:", form).unwrap();
        let body = form.query().unwrap_or_default();
        Self::new(server.url(), method, path, &account(server), FORM, body)
    }

    /// Returns a `POST` with a JSON body.
    pub(crate) fn with_json(server: &Server, path: &str, body: &Value) -> Self {
        Self::new(server.url(), "POST", path, &account(server), "application/json", &body.to_string())
    }

    /// Returns the same request for another server.
    pub(crate) fn at(self, other: &Server) -> Self {
        Self { host: other.url().strip_prefix("http://").unwrap().to_owned(), ..self }
    }

    fn new(url: &str, method: &str, path: &str, authorization: &str, content_type: &str, body: &str) -> Self {
        let host = url.strip_prefix("http://").unwrap().to_owned();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n\
             Content-Type: {content_type}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        Self { host, bytes: text.into_bytes() }
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Returns the value of the header `Authorization` of a backend.
fn account(server: &Server) -> String {
    let account = STANDARD.encode(format!("{}:{}", server.account_sid(), server.auth_token()));
    format!("Basic {account}")
}

/// The outcome of a request: the body on success (`Null` if empty), otherwise the status and error code.
pub(crate) type Outcome = Result<Value, (u16, i64)>;

/// Sends all requests at the same time, and returns their outcomes in the order of `requests`.
pub(crate) async fn send_at_once(requests: Vec<Request>) -> Vec<Outcome> {
    let mut waiting = Vec::new();
    for request in requests {
        let mut stream = TcpStream::connect(&request.host).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (last, before) = request.bytes.split_last().unwrap();
        stream.write_all(before).await.unwrap();
        waiting.push((stream, *last));
    }
    for (stream, last) in &mut waiting {
        stream.write_all(&[*last]).await.unwrap();
    }
    let mut outcomes = Vec::new();
    for (mut stream, _) in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        outcomes.push(outcome(&answer));
    }
    outcomes
}

fn outcome(answer: &str) -> Outcome {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    if status < 300 { Ok(body) } else { Err((status, body["code"].as_i64().unwrap())) }
}

pub(crate) fn split_outcomes(outcomes: &[Outcome]) -> (Vec<Value>, Vec<(u16, i64)>) {
    let made = outcomes.iter().filter_map(|outcome| outcome.clone().ok()).collect();
    let refused = outcomes.iter().filter_map(|outcome| outcome.clone().err()).collect();
    (made, refused)
}

/// Returns the SIDs of an entity's factors.
pub(crate) async fn factors(backend: &Http, service: &str, identity: &str) -> Vec<String> {
    sids(&backend.get(&format!("{}/Factors", entity(service, identity)), &[]).await.json()["factors"])
}

fn sids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(sid_of).collect()
}

pub(crate) fn sid_of(body: &Value) -> String {
    body["sid"].as_str().unwrap().to_owned()
}

fn sorted(sids: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut sids: Vec<_> = sids.into_iter().collect();
    sids.sort();
    sids
}
