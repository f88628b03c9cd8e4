//! Pushes: what reaches a phone through Apple and Google, what is tried again, and what a backend hears
//! when nothing reaches it. Both providers are stand-ins, which demand what the real ones demand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use app::SystemClock;
use device::{Answer as Word, Enrollment, NewFactor, Phone, Platform, Style};
use domain::{Clock, Timestamp};
use harness::stand_in::google::{self, error};
use harness::stand_in::pki::{Key, PushCertificate};
use harness::stand_in::{Answer, Apple, Authority, Google, Reply};
use harness::{Receiver, TunnelProxy, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::webhooks::attempts;
use crate::world::{World, assert_error, created, entity, on_every_database};

/// How long a push may take on a busy machine, when nothing is in its way.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const TEAM: &str = "TEAM123456";
pub(crate) const KEY_ID: &str = "ABC123DEFG";
const PROJECT: &str = "owl-bank";

/// Device tokens as Apple gives them out.
pub(crate) const IPHONE: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
const NEW_IPHONE: &str = "11fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f1";

/// Registration tokens as Google gives them out.
pub(crate) const ANDROID: &str = "dQw4w9WgXcQ:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx";
const NEW_ANDROID: &str = "eRx5x0XhYdR:APA91bIvo5NyQ6fhpLNxu3LAGCbGVI-2SZry";

/// A server that takes the stand-ins for Apple and Google, and never waits for more than a second before
/// it tries again unless it is asked to.
pub(crate) struct Stage {
    pub(crate) world: World,
    apple: Apple,
    pub(crate) google: Google,
    authority: Authority,
    pub(crate) service: String,
    _folder: TempDir,
}

impl Stage {
    /// A server that keeps everything in memory.
    async fn ephemeral() -> Self {
        Self::start(&[], World::ephemeral_with).await
    }

    /// The server of this world, started once more.
    async fn on(mut world: World) -> Self {
        let restarted = move |arguments: &[&str]| {
            world.server.restart_with(arguments);
            world
        };
        Self::start(&[], restarted).await
    }

    pub(crate) async fn start(more: &[&str], start: impl FnOnce(&[&str]) -> World) -> Self {
        let (authority, clock) = (Authority::new(), Arc::new(SystemClock));
        let apple = Apple::start(&authority, clock.clone()).await;
        let google = Google::start(&authority, clock).await;
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, authority.pem()).unwrap();
        let (apns, fcm) = (apple.server().url(), google.server().url());
        let mut arguments = vec![
            "--push-apns-endpoint",
            &apns,
            "--push-fcm-endpoint",
            &fcm,
            "--push-ca",
            ca.to_str().unwrap(),
            "--delivery-longest-wait",
            "1",
            "--webhook-allow",
            "127.0.0.0/8",
        ];
        arguments.extend_from_slice(more);
        let world = start(&arguments);
        let service = world.service().await;
        Self { world, apple, google, authority, service, _folder: folder }
    }

    /// Makes a credential that both providers know for each of them, and gives them to the service.
    pub(crate) async fn with_credentials(self) -> Self {
        let (apn, fcm) = (self.token().await, self.service_account().await);
        self.set(&[("Push.ApnCredentialSid", &apn), ("Push.FcmCredentialSid", &fcm)]).await;
        self
    }

    /// Makes a credential and returns its SID.
    async fn credential(&self, form: &[(&str, &str)]) -> String {
        let made = created(&self.world.backend().post("/v1/Credentials", form).await);
        made["sid"].as_str().unwrap().to_owned()
    }

    /// A credential with a token key, which Apple knows.
    async fn token(&self) -> String {
        let key = Key::p256();
        self.apple.register_key(TEAM, KEY_ID, &key);
        self.token_of(&key).await
    }

    async fn token_of(&self, key: &Key) -> String {
        let form = [("Type", "apn"), ("KeyId", KEY_ID), ("TeamId", TEAM), ("PrivateKey", &key.pkcs8())];
        self.credential(&form).await
    }

    /// A credential with a certificate of this key.
    async fn certificate(&self, key: Key, pem: impl Fn(&Key) -> String, is_known: bool) -> String {
        let made = self.authority.push_certificate(PushCertificate { key, ..PushCertificate::default() });
        if is_known {
            self.apple.register_certificate(&made, "com.example.app");
        }
        let (certificate, key) = (made.pem(), pem(&made.key));
        self.credential(&[("Type", "apn"), ("Certificate", &certificate), ("PrivateKey", &key)]).await
    }

    /// A credential with a service account, which Google knows.
    async fn service_account(&self) -> String {
        let file = self.google.service_account(PROJECT, &Key::rsa());
        self.credential(&[("Type", "fcm"), ("Secret", &file)]).await
    }

    /// Changes the service.
    async fn set(&self, form: &[(&str, &str)]) {
        let reply = self.world.backend().post(&format!("/v2/Services/{}", self.service), form).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// A phone that wants pushes and is verified.
    pub(crate) async fn phone(
        &self,
        identity: &str,
        platform: Platform,
        token: &str,
    ) -> (Arc<Phone>, Enrollment) {
        let phone = self.world.phone(if platform == Platform::Apn { Style::Ios } else { Style::Android });
        let enrollment = phone.enroll(&self.new_factor(identity, platform, token).await).await.unwrap();
        (phone, enrollment)
    }

    async fn new_factor(&self, identity: &str, platform: Platform, token: &str) -> NewFactor {
        let notification = Some((platform, token.to_owned()));
        NewFactor { notification, ..self.world.new_factor(&self.service, identity).await }
    }

    /// Asks a phone, and returns the SID of the challenge.
    pub(crate) async fn ask(&self, enrollment: &Enrollment) -> String {
        sid(&self.world.challenge(enrollment, &[]).await)
    }

    /// Asks for a push once more.
    async fn notify(
        &self,
        enrollment: &Enrollment,
        challenge: &str,
        form: &[(&str, &str)],
    ) -> harness::Reply {
        let path = format!("{}/Challenges/{challenge}", entity(&self.service, &enrollment.identity));
        self.world.backend().post(&format!("{path}/Notifications"), form).await
    }

    /// Waits until Apple and Google have taken so many pushes.
    pub(crate) async fn taken(&self, apple: usize, google: usize) {
        let what = format!("Apple took {apple} and Google {google} pushes");
        let enough = async || (self.apple.taken() >= apple && self.google.taken() >= google).then_some(());
        wait_until(&what, PATIENCE, enough).await;
        assert_eq!((self.apple.taken(), self.google.taken()), (apple, google));
    }

    /// Waits until another phone's push has come through: what was owed before it has been attempted.
    async fn settle(&self, identity: &str) {
        let marker = format!("marker-of-{identity}");
        let (_, enrollment) = self.phone(identity, Platform::Fcm, &marker).await;
        self.ask(&enrollment).await;
        wait_until("the marker's push has come", PATIENCE, async || {
            self.google.pushes().iter().any(|push| push.message["token"] == marker).then_some(())
        })
        .await;
    }

    /// The alerts, oldest first.
    async fn alerts(&self) -> Vec<Value> {
        let reply = self.world.backend().get("/v1/Alerts", &[]).await;
        let mut alerts = reply.json()["alerts"].as_array().unwrap().clone();
        alerts.reverse();
        alerts
    }

    /// The alerts as soon as there are so many, as code and what they are about.
    async fn alerted(&self, count: usize) -> Vec<(String, String)> {
        let alerts = wait_until(&format!("there are {count} alerts"), PATIENCE, async || {
            Some(self.alerts().await).filter(|alerts| alerts.len() >= count)
        })
        .await;
        assert_eq!(alerts.len(), count, "{alerts:?}");
        let text = |alert: &Value, key: &str| alert[key].as_str().unwrap().to_owned();
        alerts.iter().map(|alert| (text(alert, "error_code"), text(alert, "resource_sid"))).collect()
    }
}

fn sid(resource: &Value) -> String {
    resource["sid"].as_str().unwrap().to_owned()
}

fn seconds(date: &Value) -> i64 {
    domain::Parameter::from_parameter(date.as_str().unwrap()).map(|at: Timestamp| at.seconds()).unwrap()
}

/// How long Google may keep a push, which must be `whole`, or what was left of it on a busy machine.
#[track_caller]
fn ttl(push: &google::Push, whole: i64) -> String {
    let text = push.message["android"]["ttl"].as_str().unwrap();
    let ttl: i64 = text.strip_suffix('s').unwrap().parse().unwrap();
    assert!(ttl <= whole && ttl >= (whole - 50).max(whole.min(1)), "{text} instead of {whole}s");
    text.to_owned()
}

/// A provider that is busy, and asks for nothing.
fn busy(status: u16) -> Reply {
    Reply::Answer(error(status, "UNAVAILABLE", Some("UNAVAILABLE"), "busy"))
}

/// What both providers are told of a challenge.
fn facts(enrollment: &Enrollment, challenge: &str) -> Value {
    json!({
        "type": "verify_push_challenge",
        "challenge_sid": challenge,
        "factor_sid": enrollment.factor_sid,
        "message": "Sign in to Owl Bank?",
    })
}

on_every_database! {
    async fn a_challenge_is_pushed_once_to_either_kind_of_phone(world: World) {
        let stage = Stage::on(world).await.with_credentials().await;
        let (_, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
        let (_, iphone) = stage.phone("user-0002", Platform::Apn, IPHONE).await;
        let on_android = stage.world.challenge(&android, &[]).await;
        let on_iphone = stage.world.challenge(&iphone, &[]).await;
        stage.taken(1, 1).await;

        let push = &stage.google.pushes()[0];
        assert_eq!(push.project, PROJECT);
        let expected = json!({
            "token": ANDROID,
            "data": facts(&android, &sid(&on_android)),
            "android": { "priority": "HIGH", "ttl": ttl(push, 300) },
        });
        assert_eq!(push.message, expected);

        let push = &stage.apple.pushes()[0];
        assert_eq!((push.device.as_str(), push.topic.as_str()), (IPHONE, "com.example.app"));
        let mut expected = facts(&iphone, &sid(&on_iphone));
        expected["aps"] = json!({ "alert": "Sign in to Owl Bank?", "category": "verify_push_challenge" });
        assert_eq!(push.payload, expected);
        assert_eq!(push.expiration, seconds(&on_iphone["date_created"]) + 300);

        // Once, and at the first try.
        stage.settle("user-0003").await;
        stage.taken(1, 2).await;
        assert_eq!((stage.apple.requests(), stage.google.send_requests()), (1, 2));
        assert_eq!(stage.google.token_requests(), 1);
        assert!(stage.alerts().await.is_empty());
    }
}

#[tokio::test]
async fn a_push_is_kept_no_longer_than_the_challenge_lives() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (_, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = stage.phone("user-0002", Platform::Apn, IPHONE).await;
    let soon = SystemClock.now().plus_seconds(60);
    for enrollment in [&android, &iphone] {
        stage.world.challenge(enrollment, &[("ExpirationDate", &soon.to_string())]).await;
    }
    stage.taken(1, 1).await;
    assert_eq!(stage.apple.pushes()[0].expiration, soon.seconds());
    ttl(&stage.google.pushes()[0], 60);
}

#[tokio::test]
async fn a_challenge_is_made_whatever_the_provider_does() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (phone, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = stage.phone("user-0002", Platform::Apn, IPHONE).await;
    let answer = |status| Reply::Answer(Answer::new(status, "<html>"));
    for reply in [Reply::Silence, Reply::HangUp, Reply::GoAway, answer(400), answer(401), answer(500)] {
        stage.google.next_send(reply);
    }
    for reply in [Reply::Silence, Reply::HangUp, answer(403), answer(503)] {
        stage.apple.next(reply);
    }
    let mut asked = Vec::new();
    for _ in 0..6 {
        asked.insert(0, stage.ask(&android).await);
        stage.ask(&iphone).await;
    }
    let pending = phone.pending(&android).await.unwrap().challenges;
    assert_eq!(pending.into_iter().map(|challenge| challenge.sid).collect::<Vec<_>>(), asked);
    phone.answer(&android, &asked[0], Word::Approved).await.unwrap();
}

#[tokio::test]
async fn who_wants_no_pushes_or_is_not_verified_gets_none() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (phone, quiet) = stage.world.enrolled(Style::Android, &stage.service, "user-0001").await;
    let asked = stage.ask(&quiet).await;
    let new = stage.new_factor("user-0002", Platform::Fcm, ANDROID).await;
    let unverified = stage.world.phone(Style::Android).create_factor(&new).await.unwrap();
    let form = [("FactorSid", unverified.factor_sid.as_str()), ("Details.Message", "Too early")];
    let path = format!("{}/Challenges", entity(&stage.service, "user-0002"));
    assert_error(&stage.world.backend().post(&path, &form).await, 403, 60318);
    stage.settle("user-0003").await;
    assert_eq!((stage.apple.requests(), stage.google.send_requests()), (0, 1));
    assert!(stage.alerts().await.is_empty());
    phone.answer(&quiet, &asked, Word::Denied).await.unwrap();
}

#[tokio::test]
async fn every_kind_of_credential_opens_apples_door() {
    let stage = Stage::ephemeral().await;
    let (_, iphone) = stage.phone("user-0001", Platform::Apn, IPHONE).await;
    let credentials = [
        stage.certificate(Key::p256(), Key::pkcs8, true).await,
        stage.certificate(Key::p256(), Key::sec1, true).await,
        stage.certificate(Key::rsa(), Key::pkcs1, true).await,
        stage.certificate(Key::rsa(), Key::pkcs8, true).await,
        stage.token().await,
    ];
    for (number, credential) in credentials.iter().enumerate() {
        stage.set(&[("Push.ApnCredentialSid", credential)]).await;
        stage.ask(&iphone).await;
        stage.taken(number + 1, 0).await;
    }
    assert_eq!(stage.apple.tokens().len(), 1);
    assert_eq!(stage.apple.server().connections(), credentials.len());
    assert!(stage.alerts().await.is_empty());

    // Other secrets under the same SID are used at once.
    let key = Key::p256();
    stage.apple.register_key(TEAM, "NEWKEY1234", &key);
    let form = [("KeyId", "NEWKEY1234"), ("TeamId", TEAM), ("PrivateKey", &key.pkcs8())];
    let path = format!("/v1/Credentials/{}", credentials[0]);
    assert_eq!(stage.world.backend().post(&path, &form).await.status, 200);
    stage.set(&[("Push.ApnCredentialSid", &credentials[0])]).await;
    stage.ask(&iphone).await;
    stage.taken(credentials.len() + 1, 0).await;
    assert_eq!(stage.apple.tokens().len(), 2);
}

on_every_database! {
    async fn a_push_can_be_asked_for_three_times_more(world: World) {
        let stage = Stage::on(world).await.with_credentials().await;
        let (phone, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
        let challenge = stage.world.challenge(&android, &[]).await;
        let asked = sid(&challenge);
        stage.taken(0, 1).await;
        let ways: [(&[(&str, &str)], i64); 3] = [(&[], 300), (&[("Ttl", "0")], 0), (&[("Ttl", "150")], 150)];
        for (number, (form, ttl)) in ways.into_iter().enumerate() {
            let made = created(&stage.notify(&android, &asked, form).await);
            assert!(made["sid"].as_str().is_some_and(|sid| sid.starts_with("NT") && sid.len() == 34), "{made}");
            assert!(seconds(&made["date_created"]) >= seconds(&challenge["date_created"]));
            let mut rest = made.clone();
            for key in ["sid", "date_created"] {
                rest.as_object_mut().unwrap().remove(key);
            }
            assert_eq!(
                rest,
                json!({
                    "account_sid": stage.world.server.account_sid(),
                    "service_sid": stage.service,
                    "entity_sid": challenge["entity_sid"],
                    "identity": "user-0001",
                    "challenge_sid": asked,
                    "priority": "high",
                    "ttl": ttl,
                })
            );
            stage.taken(0, number + 2).await;
            let push = &stage.google.pushes()[number + 1];
            assert_eq!(push.message["data"], facts(&android, &asked));
            self::ttl(push, ttl);
        }
        assert_error(&stage.notify(&android, &asked, &[]).await, 429, 60309);
        // Another challenge has three of its own.
        let other = stage.ask(&android).await;
        created(&stage.notify(&android, &other, &[]).await);
        stage.taken(0, 6).await;
        phone.answer(&android, &asked, Word::Approved).await.unwrap();
        assert!(stage.alerts().await.is_empty());
    }
}

#[tokio::test]
async fn now_or_never_means_one_attempt() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (_, iphone) = stage.phone("user-0001", Platform::Apn, IPHONE).await;
    let asked = stage.ask(&iphone).await;
    stage.taken(1, 0).await;
    created(&stage.notify(&iphone, &asked, &[("Ttl", "0")]).await);
    stage.taken(2, 0).await;
    assert_eq!(stage.apple.pushes()[1].expiration, 0);

    stage.apple.refuse_next(503, "ServiceUnavailable");
    created(&stage.notify(&iphone, &asked, &[("Ttl", "0")]).await);
    assert_eq!(stage.alerted(1).await, [("52139".to_owned(), asked)]);
    stage.taken(2, 0).await;
    assert_eq!(stage.apple.requests(), 3);
}

#[tokio::test]
async fn a_notification_is_refused_when_it_would_be_of_no_use() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (phone, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, quiet) = stage.world.enrolled(Style::Android, &stage.service, "user-0002").await;
    let (asked, unheard) = (stage.ask(&android).await, stage.ask(&quiet).await);
    stage.taken(0, 1).await;
    for ttl in ["-1", "301", "1.5", "soon", "9999999999999999999999"] {
        let reply = stage.notify(&android, &asked, &[("Ttl", ttl)]).await;
        assert_error(&reply, 400, 60306);
        assert!(reply.json()["message"].as_str().unwrap().starts_with("Invalid Request: Ttl must "), "{ttl}");
    }
    assert_error(&stage.notify(&quiet, &unheard, &[]).await, 400, 60307);
    for (enrollment, challenge) in
        [(&quiet, asked.as_str()), (&android, "YC0300000000000000000000000000000000"), (&android, "YC03")]
    {
        assert_error(&stage.notify(enrollment, challenge, &[]).await, 404, 20404);
    }

    phone.answer(&android, &asked, Word::Denied).await.unwrap();
    assert_error(&stage.notify(&android, &asked, &[]).await, 403, 60322);
    let soon = SystemClock.now().plus_seconds(10).to_string();
    let expiring = sid(&stage.world.challenge(&quiet, &[("ExpirationDate", &soon)]).await);
    let expired = wait_until("the challenge has expired", PATIENCE, async || {
        (SystemClock.now().to_string() > soon).then_some(())
    });
    expired.await;
    assert_error(&stage.notify(&quiet, &expiring, &[]).await, 403, 60323);

    // None of these was a notification.
    let (_, other) = stage.phone("user-0003", Platform::Fcm, NEW_ANDROID).await;
    let asked = stage.ask(&other).await;
    for _ in 0..3 {
        assert_error(&stage.notify(&other, &asked, &[("Ttl", "301")]).await, 400, 60306);
    }
    created(&stage.notify(&other, &asked, &[]).await);
    stage.taken(0, 3).await;
    assert!(stage.alerts().await.is_empty());
}

/// What is tried again is looked at again.
#[tokio::test]
async fn nothing_is_pushed_once_the_challenge_was_answered() {
    let stage = Stage::on(World::sqlite()).await.with_credentials().await;
    let (phone, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    let busy = error(503, "UNAVAILABLE", Some("UNAVAILABLE"), "busy").header("retry-after", "10");
    stage.google.next_send(Reply::Answer(busy));
    let asked = stage.ask(&android).await;
    let refused = async || (stage.google.send_requests() == 1).then_some(());
    wait_until("the push was refused", PATIENCE, refused).await;
    phone.answer(&android, &asked, Word::Approved).await.unwrap();

    let shown = wait_until("the push is not owed any more", PATIENCE, async || {
        let shown = attempts(&stage.world, &["--all"]);
        shown.iter().all(|delivery| delivery.state != "owed").then_some(shown)
    })
    .await;
    let [delivery] = shown.as_slice() else { panic!("{shown:?}") };
    assert!(delivery.way.starts_with("push "), "{delivery:?}");
    assert_eq!((delivery.state.as_str(), delivery.endings()), ("skipped", vec!["again", "skipped"]));
    assert_eq!(delivery.attempts[0].code, Some(52110));
    assert_eq!((stage.google.send_requests(), stage.google.taken()), (1, 0));
    assert!(stage.alerts().await.is_empty(), "nothing went wrong");
}

#[tokio::test]
async fn what_is_put_off_arrives_once() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (_, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = stage.phone("user-0002", Platform::Apn, IPHONE).await;
    let quota = error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), "slowly");
    for reply in [busy(503), Reply::Answer(quota), Reply::HangUp, busy(500)] {
        stage.google.next_send(reply);
    }
    for (status, reason) in
        [(429, "TooManyRequests"), (503, "Shutdown"), (500, "InternalServerError"), (502, "")]
    {
        stage.apple.refuse_next(status, reason);
    }
    let asked = [stage.ask(&android).await, stage.ask(&iphone).await];
    stage.taken(1, 1).await;
    assert_eq!((stage.apple.requests(), stage.google.send_requests()), (5, 5));
    assert_eq!(stage.google.pushes()[0].message["data"]["challenge_sid"], asked[0]);
    assert_eq!(stage.apple.pushes()[0].payload["challenge_sid"], asked[1]);
    stage.settle("user-0003").await;
    stage.taken(1, 2).await;
    assert!(stage.alerts().await.is_empty(), "it arrived");
}

#[tokio::test]
async fn what_nobody_takes_in_time_is_given_up_and_told() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (_, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    let asked = stage.ask(&android).await;
    stage.taken(0, 1).await;
    for _ in 0..100 {
        stage.google.next_send(busy(503));
    }
    created(&stage.notify(&android, &asked, &[("Ttl", "20")]).await);
    assert_eq!(stage.alerted(1).await, [("52110".to_owned(), asked)]);
    let tries = stage.google.send_requests() - 1;
    assert!((2..=25).contains(&tries), "{tries} in twenty seconds");
    let alert = &stage.alerts().await[0];
    assert_eq!((&alert["service_sid"], &alert["log_level"]), (&json!(stage.service), &json!("error")));
    assert_eq!(alert["alert_text"], "503 UNAVAILABLE busy");
}

on_every_database! {
    async fn a_dead_token_is_told_once_and_left_alone_until_the_phone_has_a_new_one(world: World) {
        let stage = Stage::on(world).await.with_credentials().await;
        let (android, mut on_android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
        let (iphone, mut on_iphone) = stage.phone("user-0002", Platform::Apn, IPHONE).await;
        stage.google.unregister(ANDROID);
        stage.apple.unregister(IPHONE);
        let first = stage.ask(&on_android).await;
        assert_eq!(stage.alerted(1).await, [("52103".to_owned(), first.clone())]);
        let on_apple = stage.ask(&on_iphone).await;
        assert_eq!(stage.alerted(2).await[1], ("52141".to_owned(), on_apple));
        assert_eq!((stage.apple.requests(), stage.google.send_requests()), (1, 1));

        // The factors are as good as before, but hear nothing.
        let second = stage.ask(&on_android).await;
        stage.ask(&on_iphone).await;
        created(&stage.notify(&on_android, &second, &[]).await);
        stage.settle("user-0003").await;
        assert_eq!((stage.apple.requests(), stage.google.send_requests()), (1, 2));
        assert_eq!(stage.alerts().await.len(), 2, "told once");
        for (phone, enrollment) in [(&android, &on_android), (&iphone, &on_iphone)] {
            let pending = phone.pending(enrollment).await.unwrap().challenges;
            assert_eq!(pending.len(), 2);
            phone.answer(enrollment, &pending[0].sid, Word::Approved).await.unwrap();
        }

        // The app was installed again, and has another token.
        let token = Some((Platform::Fcm, NEW_ANDROID.to_owned()));
        android.update_factor(&mut on_android, token).await.unwrap();
        let token = Some((Platform::Apn, NEW_IPHONE.to_owned()));
        iphone.update_factor(&mut on_iphone, token).await.unwrap();
        let asked = [stage.ask(&on_android).await, stage.ask(&on_iphone).await];
        stage.taken(1, 2).await;
        let push = &stage.google.pushes()[1].message;
        assert_eq!((&push["token"], &push["data"]["challenge_sid"]), (&json!(NEW_ANDROID), &json!(asked[0])));
        let push = &stage.apple.pushes()[0];
        assert_eq!((push.device.as_str(), &push.payload["challenge_sid"]), (NEW_IPHONE, &json!(asked[1])));
        assert_eq!(stage.alerts().await.len(), 2);
        // What was not pushed then can be asked for now.
        created(&stage.notify(&on_android, &first, &[]).await);
        stage.taken(1, 3).await;
    }
}

#[tokio::test]
async fn a_dead_token_that_dies_again_is_told_again() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (phone, mut enrollment) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    for token in [ANDROID, NEW_ANDROID] {
        stage.google.unregister(token);
    }
    // Several at once are one piece of news.
    for _ in 0..5 {
        stage.ask(&enrollment).await;
    }
    stage.alerted(1).await;
    stage.settle("user-0002").await;
    stage.alerted(1).await;
    phone.update_factor(&mut enrollment, Some((Platform::Fcm, NEW_ANDROID.to_owned()))).await.unwrap();
    let asked = stage.ask(&enrollment).await;
    assert_eq!(stage.alerted(2).await[1], ("52103".to_owned(), asked));
    // Whoever wants no pushes any more can't be unreachable.
    phone.update_factor(&mut enrollment, None).await.unwrap();
    stage.ask(&enrollment).await;
    stage.settle("user-0003").await;
    stage.alerted(2).await;
}

/// A token may be dead only for a credential that is for another environment, or another app's.
#[tokio::test]
async fn a_token_that_was_dead_is_tried_again_with_other_secrets() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (_, iphone) = stage.phone("user-0001", Platform::Apn, IPHONE).await;
    let current = stage.world.backend().get(&format!("/v2/Services/{}", stage.service), &[]).await.json();
    let credential = format!("/v1/Credentials/{}", current["push"]["apn_credential_sid"].as_str().unwrap());
    let other = stage.certificate(Key::p256(), Key::pkcs8, true).await;
    let dates = ["true", "false"];
    for (number, mend) in ["another environment", "another credential"].into_iter().enumerate() {
        stage.apple.refuse_next(400, "BadDeviceToken");
        let asked = stage.ask(&iphone).await;
        assert_eq!(stage.alerted(number + 1).await[number], ("52134".to_owned(), asked));
        // What has nothing to do with it mends nothing.
        stage.set(&[("FriendlyName", "Barn Owl Bank"), ("Push.IncludeDate", dates[number])]).await;
        let reply = stage.world.backend().post(&credential, &[("FriendlyName", "Barn owls")]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        stage.ask(&iphone).await;
        stage.settle(&format!("marker-{number}")).await;
        assert_eq!((stage.apple.taken(), stage.apple.requests()), (number, 2 * number + 1), "before {mend}");

        match mend {
            "another environment" => {
                let reply = stage.world.backend().post(&credential, &[("Sandbox", "true")]).await;
                assert_eq!((reply.status, &reply.json()["sandbox"]), (200, &json!("True")), "{reply:?}");
            }
            _ => stage.set(&[("Push.ApnCredentialSid", &other)]).await,
        }
        // The alert's own push is not made up for; the next one arrives.
        stage.ask(&iphone).await;
        stage.taken(number + 1, number + 1).await;
    }
}

on_every_database! {
    async fn a_crowd_gets_one_push_each(world: World) {
        let stage = Stage::on(world).await.with_credentials().await;
        let (_, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
        let (_, iphone) = stage.phone("user-0002", Platform::Apn, IPHONE).await;
        let mut asking = JoinSet::new();
        for enrollment in [&android, &iphone].repeat(15) {
            let (backend, factor) = (stage.world.backend(), enrollment.factor_sid.clone());
            let path = format!("{}/Challenges", entity(&stage.service, &enrollment.identity));
            asking.spawn(async move {
                let form = [("FactorSid", factor.as_str()), ("Details.Message", "Sign in to Owl Bank?")];
                sid(&created(&backend.post(&path, &form).await))
            });
        }
        let asked: BTreeSet<String> = asking.join_all().await.into_iter().collect();
        assert_eq!(asked.len(), 30);
        stage.taken(15, 15).await;
        stage.settle("user-0003").await;
        stage.taken(15, 16).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let on_apple = stage.apple.pushes().into_iter().map(|push| text(&push.payload["challenge_sid"]));
        let on_google = stage.google.pushes().into_iter().take(15);
        let on_google = on_google.map(|push| text(&push.message["data"]["challenge_sid"]));
        assert_eq!(on_apple.chain(on_google).collect::<BTreeSet<_>>(), asked);
        // Apple takes many short connections for an attack.
        assert_eq!((stage.apple.server().connections(), stage.google.token_requests()), (1, 1));
    }
}

/// One fault after the other, and what a backend is told of each.
#[tokio::test]
async fn what_is_wrong_with_a_credential_is_told_by_its_code() {
    let stage = Stage::on(World::sqlite()).await;
    let receiver = Receiver::start([harness::Answer::ok()]);
    let debugger = format!("http://127.0.0.1:{}/debugger", receiver.port);
    let account = stage.world.server.account_sid().to_owned();
    stage.world.command(&["account", "set", &account, "--debugger-webhook", &debugger]);
    let (_, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = stage.phone("user-0002", Platform::Apn, IPHONE).await;

    let known_apn = stage.token().await;
    let known_fcm = stage.service_account().await;
    let deleted = stage.service_account().await;
    let path = format!("/v1/Credentials/{deleted}");
    assert_eq!(stage.world.backend().delete(&path, &[]).await.status, 204);
    let unknown_key = stage.token_of(&Key::p256()).await;
    let unknown_certificate = stage.certificate(Key::p256(), Key::pkcs8, false).await;
    let forged = Google::start(&stage.authority, Arc::new(SystemClock)).await;
    let file = forged.service_account(PROJECT, &Key::rsa());
    let file = file.replace(&forged.server().url(), &stage.google.server().url());
    let file = file.replace("push@owl-bank", "nobody@owl-bank");
    let unknown_account = stage.credential(&[("Type", "fcm"), ("Secret", &file)]).await;

    let (apn, fcm) = ("Push.ApnCredentialSid", "Push.FcmCredentialSid");
    let rows = [
        (&android, fcm, "", "52004"),
        (&iphone, apn, "", "52004"),
        (&android, fcm, deleted.as_str(), "52002"),
        (&android, fcm, "CR00000000000000000000000000000000", "52002"),
        (&iphone, apn, "CR00000000000000000000000000000000", "52002"),
        (&android, fcm, &known_apn, "52003"),
        (&iphone, apn, &known_fcm, "52003"),
        (&android, fcm, &unknown_account, "52101"),
        (&iphone, apn, &unknown_key, "52149"),
        (&iphone, apn, &unknown_certificate, "52145"),
    ];
    for (number, (enrollment, parameter, credential, code)) in rows.into_iter().enumerate() {
        stage.set(&[(parameter, credential)]).await;
        let challenge = stage.ask(enrollment).await;
        let alerts = stage.alerted(number + 1).await;
        assert_eq!(alerts[number], (code.to_owned(), challenge.clone()), "{parameter}={credential}");
        let alert = stage.alerts().await.swap_remove(number);
        assert_eq!(alert["more_info"], format!("https://www.twilio.com/docs/errors/{code}"));
        assert_eq!(alert["service_sid"], stage.service);
        assert!(alert["alert_text"].as_str().is_some_and(|text| text.len() > 10), "{alert}");

        let calls = wait_until("the debugger webhook has heard of it", PATIENCE, async || {
            Some(receiver.calls()).filter(|calls| calls.len() > number)
        })
        .await;
        assert_eq!(calls[number].value("Sid").as_deref(), alert["sid"].as_str());
        assert_eq!(calls[number].value("AccountSid").as_deref(), Some(account.as_str()));
        assert_eq!(calls[number].value("Level").as_deref(), Some("ERROR"));
        let payload: Value = serde_json::from_str(&calls[number].value("Payload").unwrap()).unwrap();
        assert_eq!((&payload["resource_sid"], &payload["error_code"]), (&json!(challenge), &json!(code)));
        assert_eq!(payload["service_sid"], stage.service);
        let more = &payload["more_info"];
        assert_eq!(
            more["correlationIds"],
            format!("[{}, {}, {}, {challenge}]", stage.service, enrollment.identity, enrollment.factor_sid)
        );
        let is_fcm = parameter == fcm;
        assert_eq!(more["bindingType"], if is_fcm { "fcm" } else { "apn" });
        assert_eq!(more["module"], if is_fcm { "FCMBA" } else { "APNBA" });
        assert_eq!(more["description"], alert["alert_text"]);
        let reference = if credential.is_empty() { Value::Null } else { json!(credential) };
        assert_eq!(more["fromReference"], reference, "{more}");
    }
    assert_eq!((stage.apple.taken(), stage.google.send_requests()), (0, 0));

    // Once it is mended, pushes arrive.
    stage.set(&[(apn, &known_apn), (fcm, &known_fcm)]).await;
    stage.ask(&android).await;
    stage.ask(&iphone).await;
    stage.taken(1, 1).await;
}

#[tokio::test]
async fn a_push_that_is_not_for_this_app_is_told() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let certificate = stage.certificate(Key::p256(), Key::pkcs8, true).await;
    stage.set(&[("Push.ApnCredentialSid", &certificate)]).await;
    let new = NewFactor {
        app_id: "com.example.other".to_owned(),
        ..stage.new_factor("user-0001", Platform::Apn, IPHONE).await
    };
    let other = stage.world.phone(Style::Ios).enroll(&new).await.unwrap();
    let (_, no_hex) = stage.phone("user-0002", Platform::Apn, "feed face").await;
    let (_, sandboxed) = stage.phone("user-0003", Platform::Apn, NEW_IPHONE).await;
    let asked = stage.ask(&other).await;
    assert_eq!(stage.alerted(1).await, [("52143".to_owned(), asked)]);
    let asked = stage.ask(&no_hex).await;
    assert_eq!(stage.alerted(2).await[1].1, asked);
    stage.apple.refuse_next(400, "BadDeviceToken");
    let asked = stage.ask(&sandboxed).await;
    assert_eq!(stage.alerted(3).await[2], ("52134".to_owned(), asked));
    assert_eq!(stage.apple.taken(), 0);
}

/// The log at its most talkative, and the files as a thief would find them.
#[tokio::test]
async fn no_secret_of_a_push_is_in_the_log_or_lies_in_the_open() {
    let mut world = World::sqlite();
    let started = |arguments: &[&str]| {
        world.server.restart_with(arguments);
        world
    };
    let stage = Stage::start(&["--log", "trace"], started).await;
    let key = Key::p256();
    stage.apple.register_key(TEAM, KEY_ID, &key);
    let account = Key::rsa();
    let file = stage.google.service_account(PROJECT, &account);
    let certified = stage.authority.push_certificate(PushCertificate::default());
    let (apn, fcm) =
        (stage.token_of(&key).await, stage.credential(&[("Type", "fcm"), ("Secret", &file)]).await);
    let form = [
        ("Type", "apn"),
        ("Certificate", &certified.pem()),
        ("PrivateKey", &certified.key.pkcs8()),
        ("FriendlyName", "Certified"),
    ];
    let certificate = stage.credential(&form).await;
    stage.apple.register_certificate(&certified, "com.example.app");
    stage.set(&[("Push.ApnCredentialSid", &apn), ("Push.FcmCredentialSid", &fcm)]).await;
    let (_, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = stage.phone("user-0002", Platform::Apn, IPHONE).await;
    stage.ask(&android).await;
    stage.ask(&iphone).await;
    stage.taken(1, 1).await;
    stage.set(&[("Push.ApnCredentialSid", &certificate)]).await;
    stage.ask(&iphone).await;
    stage.taken(2, 1).await;
    // What can't be used is not told to the log either.
    let wrong = [("Type", "apn"), ("Certificate", &certified.pem()), ("PrivateKey", &key.pkcs8())];
    assert_error(&stage.world.backend().post("/v1/Credentials", &wrong).await, 400, 60306);
    stage.google.unregister(ANDROID);
    stage.ask(&android).await;
    stage.alerted(1).await;

    // Pieces of each key, in base64, at every place where a line of a PEM may begin, and as bytes.
    let mut secrets = Vec::new();
    for key in [&key, &account, &certified.key] {
        let text = key.bare();
        let private = &text[text.len() / 2 - 64..];
        secrets.extend((0..32).map(|at| private[at..at + 24].to_owned()));
    }
    let Stage { mut world, apple, google, .. } = stage;
    let tokens = [vec![ANDROID.to_owned(), IPHONE.to_owned()], apple.tokens()].concat();
    drop((apple, google));
    world.server.kill9();
    let log = world.server.log();
    let talks = ["TRACE h2", "DEBUG sqlx", "Certificate"].map(|words| log.contains(words));
    assert!(talks[0] && talks[1] && log.lines().count() > 500, "{talks:?}: the log is not what it should be");
    for secret in &secrets {
        assert!(!log.contains(secret), "a private key is in the log");
    }
    for token in tokens.iter().map(String::as_str).chain(["ya29.", "Bearer ey", "bearer ey"]) {
        let told = log.lines().find(|line| line.contains(token));
        assert!(told.is_none(), "{token} is in the log: {told:?}");
    }

    let harness::Storage::Sqlite(folder) = &world.storage else { panic!("a SQLite file") };
    let mut files = Vec::new();
    for name in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
        files.extend(std::fs::read(folder.join(name)).unwrap_or_default());
    }
    let found = |secret: &[u8]| files.windows(secret.len()).any(|window| window == secret);
    assert!(found(certificate.as_bytes()), "this is not where the data are");
    for secret in &secrets {
        assert!(!found(secret.as_bytes()), "a private key lies in the open");
    }
    assert!(!found(b"PRIVATE KEY") && !found(b"gserviceaccount"), "a credential lies in the open");
}

on_every_database! {
    /// Twenty times: killed with challenges in flight, as soon as some are acknowledged.
    async fn what_was_acknowledged_is_pushed_after_kill_9(world: World) {
        const ROUNDS: usize = 20;
        const AT_ONCE: usize = 8;
        let mut world = world;
        let restarted = move |arguments: &[&str]| {
            world.server.restart_with(arguments);
            world
        };
        let mut stage = Stage::start(&["--delivery-lease", "1"], restarted).await.with_credentials().await;
        let (_, enrollment) = stage.phone("zoe-0001", Platform::Fcm, ANDROID).await;
        let pushed = |google: &Google| -> BTreeSet<String> {
            google.pushes().iter().map(|push| text_of(&push.message["data"]["challenge_sid"])).collect()
        };
        let (mut acknowledged, mut unsent) = (BTreeSet::new(), 0);
        for round in 0..ROUNDS {
            let (acknowledge, mut acknowledgements) = mpsc::unbounded_channel();
            for _ in 0..AT_ONCE {
                let (asked, acknowledge) = (stage.asked(&enrollment), acknowledge.clone());
                tokio::spawn(async move {
                    if let Some(sid) = asked.await {
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
            stage.world.server.kill9();
            let before = pushed(&stage.google);
            while let Some(sid) = acknowledgements.recv().await {
                new.insert(sid);
            }
            unsent += new.difference(&before).count();
            acknowledged.append(&mut new);
            stage.world.server.restart();
        }
        println!("{} acknowledged, {unsent} of them not pushed before the server was killed", acknowledged.len());
        assert!(unsent > 0, "the killer came too late for a test");
        wait_until("all that was acknowledged is pushed", PATIENCE, async || {
            acknowledged.is_subset(&pushed(&stage.google)).then_some(())
        })
        .await;
    }
}

impl Stage {
    /// Asks a phone; the challenge's SID if that is acknowledged, `None` if the server is gone.
    fn asked(&self, enrollment: &Enrollment) -> impl Future<Output = Option<String>> + Send + use<> {
        let path = format!("{}/Challenges", entity(&self.service, &enrollment.identity));
        let form = [("FactorSid", enrollment.factor_sid.as_str()), ("Details.Message", "Sign in?")];
        let form = reqwest::Url::parse_with_params("form:", form).unwrap().query().unwrap().to_owned();
        let server = &self.world.server;
        let http =
            reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
        let request = http.post(format!("{}{path}", server.url()));
        let request = request.basic_auth(server.account_sid(), Some(server.auth_token()));
        let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form);
        async move {
            let reply = request.send().await.ok().filter(|reply| reply.status() == 201)?;
            let body: Value = serde_json::from_str(&reply.text().await.ok()?).ok()?;
            Some(text_of(&body["sid"]))
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Apple was told that the app is gone before the device registered: the token is alive, and the push is tried
/// again.
#[tokio::test]
async fn outdated_word_of_a_dead_token_stops_no_pushes() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (phone, mut iphone) = stage.phone("user-0001", Platform::Apn, IPHONE).await;
    let gone_at = |seconds: i64| {
        let body = json!({ "reason": "Unregistered", "timestamp": seconds * 1000 });
        Reply::Answer(Answer::new(410, body.to_string()))
    };
    let before = SystemClock.now().seconds() - 3600;
    stage.apple.next(gone_at(before));
    stage.apple.next(gone_at(before));
    stage.ask(&iphone).await;
    stage.taken(1, 0).await;
    assert_eq!(stage.apple.requests(), 3);
    assert!(stage.alerts().await.is_empty());

    // After it registered it is dead, until the device sends it again, be it the same one.
    stage.apple.next(gone_at(SystemClock.now().seconds() + 60));
    stage.ask(&iphone).await;
    assert_eq!(stage.alerted(1).await[0].0, "52141");
    stage.ask(&iphone).await;
    stage.settle("user-0002").await;
    assert_eq!(stage.apple.requests(), 4);
    phone.update_factor(&mut iphone, Some((Platform::Apn, IPHONE.to_owned()))).await.unwrap();
    stage.ask(&iphone).await;
    stage.taken(2, 1).await;
}

/// What Apple asks for is granted up to the longest wait, and the push arrives.
#[tokio::test]
async fn provider_that_asks_for_too_much_time_is_tried_again() {
    let stage = Stage::ephemeral().await.with_credentials().await;
    let (_, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = stage.phone("user-0002", Platform::Apn, IPHONE).await;
    for wish in ["86400", "120000", "99999999999999999999999"] {
        let busy = Answer::new(503, r#"{"reason":"ServiceUnavailable"}"#);
        stage.apple.next(Reply::Answer(busy.header("retry-after", wish)));
        let busy = error(503, "UNAVAILABLE", Some("UNAVAILABLE"), "busy");
        stage.google.next_send(Reply::Answer(busy.header("retry-after", wish)));
        let busy = Answer::new(503, r#"{"error":"unavailable"}"#);
        stage.google.next_token(Reply::Answer(busy.header("retry-after", wish)));
    }
    stage.ask(&android).await;
    stage.ask(&iphone).await;
    stage.taken(1, 1).await;
    assert!(stage.alerts().await.is_empty());
}

/// In a network without direct egress, by option and by environment. Webhooks do not take the proxy.
#[tokio::test]
async fn pushes_go_through_a_proxy_and_webhooks_do_not() {
    let proxy = TunnelProxy::start().await;
    let receiver = Receiver::start([harness::Answer::ok()]);
    let through = format!("http://{}", proxy.authority());
    let given =
        Stage::start(&["--push-proxy", &through], World::ephemeral_with).await.with_credentials().await;
    crate::webhooks::webhook(&given.world, &given.service, &receiver.at("/"), &[]).await;
    let (_, android) = given.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = given.phone("user-0002", Platform::Apn, IPHONE).await;
    given.ask(&android).await;
    given.ask(&iphone).await;
    given.taken(1, 1).await;
    let target = |url: &str| url.trim_start_matches("https://").to_owned();
    let (apple, google) = (target(&given.apple.server().url()), target(&given.google.server().url()));
    assert_eq!(BTreeSet::from_iter(proxy.targets()), BTreeSet::from([apple, google]));
    crate::webhooks::calls(&receiver, 1).await;

    for (environment, arguments, tunnels) in [
        (&[("HTTPS_PROXY", through.as_str())][..], &[][..], 1),
        (&[("https_proxy", through.trim_start_matches("http://"))], &[], 1),
        (&[("HTTPS_PROXY", &through), ("NO_PROXY", "example.com,localhost")], &[], 0),
        (&[("HTTPS_PROXY", &through)], &["--push-proxy", "none"], 0),
        (&[("HTTPS_PROXY", "socks5://127.0.0.1:1")], &[], 0),
    ] {
        let before = proxy.targets().len();
        let start = |arguments: &[&str]| {
            let mut world = World::ephemeral_with(arguments);
            world.server.restart_in(environment);
            world
        };
        let stage = Stage::start(arguments, start).await.with_credentials().await;
        let (_, android) = stage.phone("user-0001", Platform::Fcm, ANDROID).await;
        stage.ask(&android).await;
        stage.taken(0, 1).await;
        assert_eq!(proxy.targets().len() - before, tunnels, "{environment:?} {arguments:?}");
    }
}
