//! Pushes: what arrives through APNs and FCM, what is retried, and which alerts failed pushes create. Both
//! providers are stand-ins with the rules of the real ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use app::SystemClock;
use device::{Answer as Word, Enrollment, NewFactor, Phone, Platform, Style};
use domain::Clock;
use harness::stand_in::google::{self, error};
use harness::stand_in::pki::{Key, PushCertificate};
use harness::stand_in::{Answer, Apple, Authority, Google, Reply};
use harness::{Receiver, TunnelProxy, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::webhooks::attempts;
use crate::world::{WAIT_TIMEOUT, World, assert_error, created, entity, instant, on_every_database};

pub(crate) const TEAM: &str = "TEAM123456";
pub(crate) const KEY_ID: &str = "ABC123DEFG";
const PROJECT: &str = "owl-bank";

/// Device tokens in Apple's format.
pub(crate) const IPHONE: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
const NEW_IPHONE: &str = "11fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f1";

/// Registration tokens in Google's format.
pub(crate) const ANDROID: &str = "dQw4w9WgXcQ:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx";
const NEW_ANDROID: &str = "eRx5x0XhYdR:APA91bIvo5NyQ6fhpLNxu3LAGCbGVI-2SZry";

/// A server with stand-ins for APNs and FCM, which waits for at most a second before a retry.
pub(crate) struct PushFixture {
    pub(crate) world: World,
    apple: Apple,
    pub(crate) google: Google,
    authority: Authority,
    pub(crate) service: String,
    _folder: TempDir,
}

impl PushFixture {
    /// Starts a server that keeps everything in memory.
    async fn ephemeral() -> Self {
        Self::start(&[], World::ephemeral_with).await
    }

    /// Restarts the server of this world with the stand-ins.
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
            "--delivery-max-backoff",
            "1",
            "--webhook-allow-network",
            "127.0.0.0/8",
        ];
        arguments.extend_from_slice(more);
        let world = start(&arguments);
        let service = world.service().await;
        Self { world, apple, google, authority, service, _folder: folder }
    }

    /// Creates a valid credential for each provider and assigns both to the service.
    pub(crate) async fn with_credentials(self) -> Self {
        let (apn, fcm) = (self.token().await, self.service_account().await);
        self.set(&[("Push.ApnCredentialSid", &apn), ("Push.FcmCredentialSid", &fcm)]).await;
        self
    }

    /// Creates a credential and returns its SID.
    async fn credential(&self, form: &[(&str, &str)]) -> String {
        let made = created(&self.world.backend().post("/v1/Credentials", form).await);
        made["sid"].as_str().unwrap().to_owned()
    }

    /// Creates a credential with a token key that is known to Apple.
    async fn token(&self) -> String {
        let key = Key::p256();
        self.apple.register_key(TEAM, KEY_ID, &key);
        self.token_of(&key).await
    }

    async fn token_of(&self, key: &Key) -> String {
        let form = [("Type", "apn"), ("KeyId", KEY_ID), ("TeamId", TEAM), ("PrivateKey", &key.pkcs8())];
        self.credential(&form).await
    }

    /// Creates a credential with a certificate for this key.
    async fn certificate(&self, key: Key, pem: impl Fn(&Key) -> String, is_known: bool) -> String {
        let made = self.authority.push_certificate(PushCertificate { key, ..PushCertificate::default() });
        if is_known {
            self.apple.register_certificate(&made, "com.example.app");
        }
        let (certificate, key) = (made.pem(), pem(&made.key));
        self.credential(&[("Type", "apn"), ("Certificate", &certificate), ("PrivateKey", &key)]).await
    }

    /// Creates a credential with a service account that is known to Google.
    async fn service_account(&self) -> String {
        let file = self.google.service_account(PROJECT, &Key::rsa());
        self.credential(&[("Type", "fcm"), ("Secret", &file)]).await
    }

    /// Updates the service with `form`.
    async fn set(&self, form: &[(&str, &str)]) {
        let reply = self.world.backend().post(&format!("/v2/Services/{}", self.service), form).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// Returns a phone with a verified factor that receives pushes.
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

    /// Creates a challenge for a phone and returns its SID.
    pub(crate) async fn challenge(&self, enrollment: &Enrollment) -> String {
        sid(&self.world.challenge(enrollment, &[]).await)
    }

    /// Creates a further notification of a challenge.
    async fn notify(
        &self,
        enrollment: &Enrollment,
        challenge: &str,
        form: &[(&str, &str)],
    ) -> harness::Reply {
        let path = format!("{}/Challenges/{challenge}", entity(&self.service, &enrollment.identity));
        self.world.backend().post(&format!("{path}/Notifications"), form).await
    }

    /// Waits until Apple and Google have accepted this many pushes.
    pub(crate) async fn wait_for_pushes(&self, apple: usize, google: usize) {
        let context = format!("Apple took {apple} and Google {google} pushes");
        let enough = async || (self.apple.taken() >= apple && self.google.taken() >= google).then_some(());
        wait_until(&context, WAIT_TIMEOUT, enough).await;
        assert_eq!((self.apple.taken(), self.google.taken()), (apple, google));
    }

    /// Waits until the push of another phone has arrived: all earlier pushes have been attempted by then.
    async fn wait_for_marker_push(&self, identity: &str) {
        let marker = format!("marker-of-{identity}");
        let (_, enrollment) = self.phone(identity, Platform::Fcm, &marker).await;
        self.challenge(&enrollment).await;
        wait_until("the push of the marker has arrived", WAIT_TIMEOUT, async || {
            self.google.pushes().iter().any(|push| push.message["token"] == marker).then_some(())
        })
        .await;
    }

    /// Returns the alerts, oldest first.
    async fn alerts(&self) -> Vec<Value> {
        let reply = self.world.backend().get("/v1/Alerts", &[]).await;
        let mut alerts = reply.json()["alerts"].as_array().unwrap().clone();
        alerts.reverse();
        alerts
    }

    /// Waits until there are `count` alerts, and returns them as code and resource.
    async fn wait_for_alerts(&self, count: usize) -> Vec<(String, String)> {
        let alerts = wait_until(&format!("there are {count} alerts"), WAIT_TIMEOUT, async || {
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
    instant(date).seconds()
}

/// Returns the push's time to live at Google, after checking that it is `whole` seconds or slightly less (on
/// a busy machine).
#[track_caller]
fn ttl(push: &google::Push, whole: i64) -> String {
    let text = push.message["android"]["ttl"].as_str().unwrap();
    let ttl: i64 = text.strip_suffix('s').unwrap().parse().unwrap();
    assert!(ttl <= whole && ttl >= (whole - 50).max(whole.min(1)), "{text} instead of {whole}s");
    text.to_owned()
}

/// Returns the reply of a busy provider, without `Retry-After`.
fn busy(status: u16) -> Reply {
    Reply::Answer(error(status, "UNAVAILABLE", Some("UNAVAILABLE"), "busy"))
}

/// Returns the data about a challenge that a push contains at both providers.
fn facts(enrollment: &Enrollment, challenge: &str) -> Value {
    json!({
        "type": "verify_push_challenge",
        "challenge_sid": challenge,
        "factor_sid": enrollment.factor_sid,
        "message": "Sign in to Owl Bank?",
    })
}

on_every_database! {
    async fn challenge_is_pushed_exactly_once_on_each_platform(world: World) {
        let fixture = PushFixture::on(world).await.with_credentials().await;
        let (_, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
        let (_, iphone) = fixture.phone("user-0002", Platform::Apn, IPHONE).await;
        let on_android = fixture.world.challenge(&android, &[]).await;
        let on_iphone = fixture.world.challenge(&iphone, &[]).await;
        fixture.wait_for_pushes(1, 1).await;

        let push = &fixture.google.pushes()[0];
        assert_eq!(push.project, PROJECT);
        let expected = json!({
            "token": ANDROID,
            "data": facts(&android, &sid(&on_android)),
            "android": { "priority": "HIGH", "ttl": ttl(push, 300) },
        });
        assert_eq!(push.message, expected);

        let push = &fixture.apple.pushes()[0];
        assert_eq!((push.device.as_str(), push.topic.as_str()), (IPHONE, "com.example.app"));
        let mut expected = facts(&iphone, &sid(&on_iphone));
        expected["aps"] = json!({ "alert": "Sign in to Owl Bank?", "category": "verify_push_challenge" });
        assert_eq!(push.payload, expected);
        assert_eq!(push.expiration, seconds(&on_iphone["date_created"]) + 300);

        // Once, and at the first attempt.
        fixture.wait_for_marker_push("user-0003").await;
        fixture.wait_for_pushes(1, 2).await;
        assert_eq!((fixture.apple.requests(), fixture.google.send_requests()), (1, 2));
        assert_eq!(fixture.google.token_requests(), 1);
        assert!(fixture.alerts().await.is_empty());
    }
}

#[tokio::test]
async fn push_expires_with_its_challenge() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (_, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = fixture.phone("user-0002", Platform::Apn, IPHONE).await;
    let soon = SystemClock.now().plus_seconds(60);
    for enrollment in [&android, &iphone] {
        fixture.world.challenge(enrollment, &[("ExpirationDate", &soon.to_string())]).await;
    }
    fixture.wait_for_pushes(1, 1).await;
    assert_eq!(fixture.apple.pushes()[0].expiration, soon.seconds());
    ttl(&fixture.google.pushes()[0], 60);
}

#[tokio::test]
async fn challenge_is_created_regardless_of_the_push_provider_response() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (phone, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = fixture.phone("user-0002", Platform::Apn, IPHONE).await;
    let answer = |status| Reply::Answer(Answer::new(status, "<html>"));
    for reply in [Reply::Silence, Reply::HangUp, Reply::GoAway, answer(400), answer(401), answer(500)] {
        fixture.google.next_send(reply);
    }
    for reply in [Reply::Silence, Reply::HangUp, answer(403), answer(503)] {
        fixture.apple.next(reply);
    }
    let mut asked = Vec::new();
    for _ in 0..6 {
        asked.insert(0, fixture.challenge(&android).await);
        fixture.challenge(&iphone).await;
    }
    let pending = phone.list_pending(&android).await.unwrap().challenges;
    assert_eq!(pending.into_iter().map(|challenge| challenge.sid).collect::<Vec<_>>(), asked);
    phone.answer(&android, &asked[0], Word::Approved).await.unwrap();
}

#[tokio::test]
async fn unverified_factor_or_factor_without_push_platform_gets_no_push() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (phone, quiet) = fixture.world.enrolled(Style::Android, &fixture.service, "user-0001").await;
    let asked = fixture.challenge(&quiet).await;
    let new = fixture.new_factor("user-0002", Platform::Fcm, ANDROID).await;
    let unverified = fixture.world.phone(Style::Android).create_factor(&new).await.unwrap();
    let form = [("FactorSid", unverified.factor_sid.as_str()), ("Details.Message", "Too early")];
    let path = format!("{}/Challenges", entity(&fixture.service, "user-0002"));
    assert_error(&fixture.world.backend().post(&path, &form).await, 403, 60318);
    fixture.wait_for_marker_push("user-0003").await;
    assert_eq!((fixture.apple.requests(), fixture.google.send_requests()), (0, 1));
    assert!(fixture.alerts().await.is_empty());
    phone.answer(&quiet, &asked, Word::Denied).await.unwrap();
}

#[tokio::test]
async fn apns_pushes_succeed_with_token_and_certificate_credentials() {
    let fixture = PushFixture::ephemeral().await;
    let (_, iphone) = fixture.phone("user-0001", Platform::Apn, IPHONE).await;
    let credentials = [
        fixture.certificate(Key::p256(), Key::pkcs8, true).await,
        fixture.certificate(Key::p256(), Key::sec1, true).await,
        fixture.certificate(Key::rsa(), Key::pkcs1, true).await,
        fixture.certificate(Key::rsa(), Key::pkcs8, true).await,
        fixture.token().await,
    ];
    for (number, credential) in credentials.iter().enumerate() {
        fixture.set(&[("Push.ApnCredentialSid", credential)]).await;
        fixture.challenge(&iphone).await;
        fixture.wait_for_pushes(number + 1, 0).await;
    }
    assert_eq!(fixture.apple.tokens().len(), 1);
    assert_eq!(fixture.apple.server().connections(), credentials.len());
    assert!(fixture.alerts().await.is_empty());

    // A new secret under the same SID is used at once.
    let key = Key::p256();
    fixture.apple.register_key(TEAM, "NEWKEY1234", &key);
    let form = [("KeyId", "NEWKEY1234"), ("TeamId", TEAM), ("PrivateKey", &key.pkcs8())];
    let path = format!("/v1/Credentials/{}", credentials[0]);
    assert_eq!(fixture.world.backend().post(&path, &form).await.status, 200);
    fixture.set(&[("Push.ApnCredentialSid", &credentials[0])]).await;
    fixture.challenge(&iphone).await;
    fixture.wait_for_pushes(credentials.len() + 1, 0).await;
    assert_eq!(fixture.apple.tokens().len(), 2);
}

on_every_database! {
    async fn challenge_notification_can_be_sent_three_more_times(world: World) {
        let fixture = PushFixture::on(world).await.with_credentials().await;
        let (phone, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
        let challenge = fixture.world.challenge(&android, &[]).await;
        let asked = sid(&challenge);
        fixture.wait_for_pushes(0, 1).await;
        let ways: [(&[(&str, &str)], i64); 3] = [(&[], 300), (&[("Ttl", "0")], 0), (&[("Ttl", "150")], 150)];
        for (number, (form, ttl)) in ways.into_iter().enumerate() {
            let made = created(&fixture.notify(&android, &asked, form).await);
            assert!(made["sid"].as_str().is_some_and(|sid| sid.starts_with("NT") && sid.len() == 34), "{made}");
            assert!(seconds(&made["date_created"]) >= seconds(&challenge["date_created"]));
            let mut rest = made.clone();
            for key in ["sid", "date_created"] {
                rest.as_object_mut().unwrap().remove(key);
            }
            assert_eq!(
                rest,
                json!({
                    "account_sid": fixture.world.server.account_sid(),
                    "service_sid": fixture.service,
                    "entity_sid": challenge["entity_sid"],
                    "identity": "user-0001",
                    "challenge_sid": asked,
                    "priority": "high",
                    "ttl": ttl,
                })
            );
            fixture.wait_for_pushes(0, number + 2).await;
            let push = &fixture.google.pushes()[number + 1];
            assert_eq!(push.message["data"], facts(&android, &asked));
            self::ttl(push, ttl);
        }
        assert_error(&fixture.notify(&android, &asked, &[]).await, 429, 60309);
        // Another challenge has its own three notifications.
        let other = fixture.challenge(&android).await;
        created(&fixture.notify(&android, &other, &[]).await);
        fixture.wait_for_pushes(0, 6).await;
        phone.answer(&android, &asked, Word::Approved).await.unwrap();
        assert!(fixture.alerts().await.is_empty());
    }
}

#[tokio::test]
async fn notification_with_ttl_0_is_attempted_exactly_once() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (_, iphone) = fixture.phone("user-0001", Platform::Apn, IPHONE).await;
    let asked = fixture.challenge(&iphone).await;
    fixture.wait_for_pushes(1, 0).await;
    created(&fixture.notify(&iphone, &asked, &[("Ttl", "0")]).await);
    fixture.wait_for_pushes(2, 0).await;
    assert_eq!(fixture.apple.pushes()[1].expiration, 0);

    fixture.apple.refuse_next(503, "ServiceUnavailable");
    created(&fixture.notify(&iphone, &asked, &[("Ttl", "0")]).await);
    assert_eq!(fixture.wait_for_alerts(1).await, [("52139".to_owned(), asked)]);
    fixture.wait_for_pushes(2, 0).await;
    assert_eq!(fixture.apple.requests(), 3);
}

#[tokio::test]
async fn notification_with_invalid_ttl_or_for_an_unpushable_challenge_is_refused() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (phone, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, quiet) = fixture.world.enrolled(Style::Android, &fixture.service, "user-0002").await;
    let (asked, unheard) = (fixture.challenge(&android).await, fixture.challenge(&quiet).await);
    fixture.wait_for_pushes(0, 1).await;
    for ttl in ["-1", "301", "1.5", "soon", "9999999999999999999999"] {
        let reply = fixture.notify(&android, &asked, &[("Ttl", ttl)]).await;
        assert_error(&reply, 400, 60306);
        assert!(reply.json()["message"].as_str().unwrap().starts_with("Invalid Request: Ttl must "), "{ttl}");
    }
    assert_error(&fixture.notify(&quiet, &unheard, &[]).await, 400, 60307);
    for (enrollment, challenge) in
        [(&quiet, asked.as_str()), (&android, "YC0300000000000000000000000000000000"), (&android, "YC03")]
    {
        assert_error(&fixture.notify(enrollment, challenge, &[]).await, 404, 20404);
    }

    phone.answer(&android, &asked, Word::Denied).await.unwrap();
    assert_error(&fixture.notify(&android, &asked, &[]).await, 403, 60322);
    let soon = SystemClock.now().plus_seconds(10).to_string();
    let expiring = sid(&fixture.world.challenge(&quiet, &[("ExpirationDate", &soon)]).await);
    let expired = wait_until("the challenge has expired", WAIT_TIMEOUT, async || {
        (SystemClock.now().to_string() > soon).then_some(())
    });
    expired.await;
    assert_error(&fixture.notify(&quiet, &expiring, &[]).await, 403, 60323);

    // None of these refused requests counted.
    let (_, other) = fixture.phone("user-0003", Platform::Fcm, NEW_ANDROID).await;
    let asked = fixture.challenge(&other).await;
    for _ in 0..3 {
        assert_error(&fixture.notify(&other, &asked, &[("Ttl", "301")]).await, 400, 60306);
    }
    created(&fixture.notify(&other, &asked, &[]).await);
    fixture.wait_for_pushes(0, 3).await;
    assert!(fixture.alerts().await.is_empty());
}

/// Before a retry, the server checks whether the challenge is still pending.
#[tokio::test]
async fn answered_challenge_is_not_pushed() {
    let fixture = PushFixture::on(World::sqlite()).await.with_credentials().await;
    let (phone, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    // The answer may come only after a second attempt.
    for _ in 0..100 {
        let busy = error(503, "UNAVAILABLE", Some("UNAVAILABLE"), "busy").header("retry-after", "10");
        fixture.google.next_send(Reply::Answer(busy));
    }
    let asked = fixture.challenge(&android).await;
    let refused = async || (fixture.google.send_requests() >= 1).then_some(());
    wait_until("the push was refused", WAIT_TIMEOUT, refused).await;
    phone.answer(&android, &asked, Word::Approved).await.unwrap();

    let shown = wait_until("the push is no longer pending", WAIT_TIMEOUT, async || {
        let shown = attempts(&fixture.world, &["--all"]);
        shown.iter().all(|delivery| delivery.state != "pending").then_some(shown)
    })
    .await;
    let [delivery] = shown.as_slice() else { panic!("{shown:?}") };
    assert!(delivery.way.starts_with("push "), "{delivery:?}");
    let refusals = fixture.google.send_requests();
    let endings = [vec!["again"; refusals], vec!["skipped"]].concat();
    assert_eq!((delivery.state.as_str(), delivery.endings()), ("skipped", endings));
    assert_eq!((delivery.attempts[0].code, fixture.google.taken()), (Some(52110), 0));
    assert!(fixture.alerts().await.is_empty(), "there must be no alert, because no attempt failed");
}

#[tokio::test]
async fn push_arrives_exactly_once_after_temporary_failures() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (_, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = fixture.phone("user-0002", Platform::Apn, IPHONE).await;
    let quota = error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), "slowly");
    for reply in [busy(503), Reply::Answer(quota), Reply::HangUp, busy(500)] {
        fixture.google.next_send(reply);
    }
    for (status, reason) in
        [(429, "TooManyRequests"), (503, "Shutdown"), (500, "InternalServerError"), (502, "")]
    {
        fixture.apple.refuse_next(status, reason);
    }
    let asked = [fixture.challenge(&android).await, fixture.challenge(&iphone).await];
    fixture.wait_for_pushes(1, 1).await;
    assert_eq!((fixture.apple.requests(), fixture.google.send_requests()), (5, 5));
    assert_eq!(fixture.google.pushes()[0].message["data"]["challenge_sid"], asked[0]);
    assert_eq!(fixture.apple.pushes()[0].payload["challenge_sid"], asked[1]);
    fixture.wait_for_marker_push("user-0003").await;
    fixture.wait_for_pushes(1, 2).await;
    assert!(fixture.alerts().await.is_empty(), "a push that arrived must not create an alert");
}

#[tokio::test]
async fn undeliverable_push_is_abandoned_with_an_alert() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (_, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    let asked = fixture.challenge(&android).await;
    fixture.wait_for_pushes(0, 1).await;
    for _ in 0..100 {
        fixture.google.next_send(busy(503));
    }
    created(&fixture.notify(&android, &asked, &[("Ttl", "20")]).await);
    assert_eq!(fixture.wait_for_alerts(1).await, [("52110".to_owned(), asked)]);
    let tries = fixture.google.send_requests() - 1;
    assert!((2..=25).contains(&tries), "{tries} in twenty seconds");
    let alert = &fixture.alerts().await[0];
    assert_eq!((&alert["service_sid"], &alert["log_level"]), (&json!(fixture.service), &json!("error")));
    assert_eq!(alert["alert_text"], "503 UNAVAILABLE busy");
}

on_every_database! {
    async fn unregistered_push_token_is_reported_once_and_skipped_until_replaced(world: World) {
        let fixture = PushFixture::on(world).await.with_credentials().await;
        let (android, mut on_android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
        let (iphone, mut on_iphone) = fixture.phone("user-0002", Platform::Apn, IPHONE).await;
        fixture.google.unregister(ANDROID);
        fixture.apple.unregister(IPHONE);
        let first = fixture.challenge(&on_android).await;
        assert_eq!(fixture.wait_for_alerts(1).await, [("52103".to_owned(), first.clone())]);
        let on_apple = fixture.challenge(&on_iphone).await;
        assert_eq!(fixture.wait_for_alerts(2).await[1], ("52141".to_owned(), on_apple));
        assert_eq!((fixture.apple.requests(), fixture.google.send_requests()), (1, 1));

        // The factors still work, but receive no pushes.
        let second = fixture.challenge(&on_android).await;
        fixture.challenge(&on_iphone).await;
        created(&fixture.notify(&on_android, &second, &[]).await);
        fixture.wait_for_marker_push("user-0003").await;
        assert_eq!((fixture.apple.requests(), fixture.google.send_requests()), (1, 2));
        assert_eq!(fixture.alerts().await.len(), 2, "one alert");
        for (phone, enrollment) in [(&android, &on_android), (&iphone, &on_iphone)] {
            let pending = phone.list_pending(enrollment).await.unwrap().challenges;
            assert_eq!(pending.len(), 2);
            phone.answer(enrollment, &pending[0].sid, Word::Approved).await.unwrap();
        }

        // The app was reinstalled and has another token.
        let token = Some((Platform::Fcm, NEW_ANDROID.to_owned()));
        android.update_factor(&mut on_android, token).await.unwrap();
        let token = Some((Platform::Apn, NEW_IPHONE.to_owned()));
        iphone.update_factor(&mut on_iphone, token).await.unwrap();
        let asked = [fixture.challenge(&on_android).await, fixture.challenge(&on_iphone).await];
        fixture.wait_for_pushes(1, 2).await;
        let push = &fixture.google.pushes()[1].message;
        assert_eq!((&push["token"], &push["data"]["challenge_sid"]), (&json!(NEW_ANDROID), &json!(asked[0])));
        let push = &fixture.apple.pushes()[0];
        assert_eq!((push.device.as_str(), &push.payload["challenge_sid"]), (NEW_IPHONE, &json!(asked[1])));
        assert_eq!(fixture.alerts().await.len(), 2);
        // The push that was skipped can be requested now.
        created(&fixture.notify(&on_android, &first, &[]).await);
        fixture.wait_for_pushes(1, 3).await;
    }
}

#[tokio::test]
async fn push_token_unregistered_again_creates_another_alert() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (phone, mut enrollment) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    for token in [ANDROID, NEW_ANDROID] {
        fixture.google.unregister(token);
    }
    // Several failures at once create one alert.
    for _ in 0..5 {
        fixture.challenge(&enrollment).await;
    }
    fixture.wait_for_alerts(1).await;
    fixture.wait_for_marker_push("user-0002").await;
    fixture.wait_for_alerts(1).await;
    phone.update_factor(&mut enrollment, Some((Platform::Fcm, NEW_ANDROID.to_owned()))).await.unwrap();
    let asked = fixture.challenge(&enrollment).await;
    assert_eq!(fixture.wait_for_alerts(2).await[1], ("52103".to_owned(), asked));
    // A factor without push platform cannot be unreachable.
    phone.update_factor(&mut enrollment, None).await.unwrap();
    fixture.challenge(&enrollment).await;
    fixture.wait_for_marker_push("user-0003").await;
    fixture.wait_for_alerts(2).await;
}

/// A token may be invalid only for a credential of another environment or another app.
#[tokio::test]
async fn rejected_push_token_is_used_again_after_a_credential_change() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (_, iphone) = fixture.phone("user-0001", Platform::Apn, IPHONE).await;
    let current = fixture.world.backend().get(&format!("/v2/Services/{}", fixture.service), &[]).await.json();
    let credential = format!("/v1/Credentials/{}", current["push"]["apn_credential_sid"].as_str().unwrap());
    let other = fixture.certificate(Key::p256(), Key::pkcs8, true).await;
    let dates = ["true", "false"];
    for (number, mend) in ["another environment", "another credential"].into_iter().enumerate() {
        fixture.apple.refuse_next(400, "BadDeviceToken");
        let asked = fixture.challenge(&iphone).await;
        assert_eq!(fixture.wait_for_alerts(number + 1).await[number], ("52134".to_owned(), asked));
        // Unrelated changes do not enable the token again.
        fixture.set(&[("FriendlyName", "Barn Owl Bank"), ("Push.IncludeDate", dates[number])]).await;
        let reply = fixture.world.backend().post(&credential, &[("FriendlyName", "Barn owls")]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        fixture.challenge(&iphone).await;
        fixture.wait_for_marker_push(&format!("marker-{number}")).await;
        assert_eq!(
            (fixture.apple.taken(), fixture.apple.requests()),
            (number, 2 * number + 1),
            "before {mend}"
        );

        match mend {
            "another environment" => {
                let reply = fixture.world.backend().post(&credential, &[("Sandbox", "true")]).await;
                assert_eq!((reply.status, &reply.json()["sandbox"]), (200, &json!("True")), "{reply:?}");
            }
            _ => fixture.set(&[("Push.ApnCredentialSid", &other)]).await,
        }
        // The push that caused the alert is not repeated; the next one arrives.
        fixture.challenge(&iphone).await;
        fixture.wait_for_pushes(number + 1, number + 1).await;
    }
}

on_every_database! {
    async fn each_of_many_devices_gets_exactly_one_push(world: World) {
        let fixture = PushFixture::on(world).await.with_credentials().await;
        let (_, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
        let (_, iphone) = fixture.phone("user-0002", Platform::Apn, IPHONE).await;
        let mut asking = JoinSet::new();
        for enrollment in [&android, &iphone].repeat(15) {
            let (backend, factor) = (fixture.world.backend(), enrollment.factor_sid.clone());
            let path = format!("{}/Challenges", entity(&fixture.service, &enrollment.identity));
            asking.spawn(async move {
                let form = [("FactorSid", factor.as_str()), ("Details.Message", "Sign in to Owl Bank?")];
                sid(&created(&backend.post(&path, &form).await))
            });
        }
        let asked: BTreeSet<String> = asking.join_all().await.into_iter().collect();
        assert_eq!(asked.len(), 30);
        fixture.wait_for_pushes(15, 15).await;
        fixture.wait_for_marker_push("user-0003").await;
        fixture.wait_for_pushes(15, 16).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let on_apple = fixture.apple.pushes().into_iter().map(|push| text(&push.payload["challenge_sid"]));
        let on_google = fixture.google.pushes().into_iter().take(15);
        let on_google = on_google.map(|push| text(&push.message["data"]["challenge_sid"]));
        assert_eq!(on_apple.chain(on_google).collect::<BTreeSet<_>>(), asked);
        // Apple treats many short connections as an attack.
        assert_eq!((fixture.apple.server().connections(), fixture.google.token_requests()), (1, 1));
    }
}

/// Introduces one credential fault after the other, and checks the alert for each.
#[tokio::test]
async fn push_credential_errors_create_alerts_with_the_matching_code() {
    let fixture = PushFixture::on(World::sqlite()).await;
    let receiver = Receiver::start([harness::Answer::ok()]);
    let debugger = format!("http://127.0.0.1:{}/debugger", receiver.port);
    let account = fixture.world.server.account_sid().to_owned();
    fixture.world.command(&["account", "set", &account, "--debugger-webhook", &debugger]);
    let (_, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = fixture.phone("user-0002", Platform::Apn, IPHONE).await;

    let known_apn = fixture.token().await;
    let known_fcm = fixture.service_account().await;
    let deleted = fixture.service_account().await;
    let path = format!("/v1/Credentials/{deleted}");
    assert_eq!(fixture.world.backend().delete(&path, &[]).await.status, 204);
    let unknown_key = fixture.token_of(&Key::p256()).await;
    let unknown_certificate = fixture.certificate(Key::p256(), Key::pkcs8, false).await;
    let forged = Google::start(&fixture.authority, Arc::new(SystemClock)).await;
    let file = forged.service_account(PROJECT, &Key::rsa());
    let file = file.replace(&forged.server().url(), &fixture.google.server().url());
    let file = file.replace("push@owl-bank", "nobody@owl-bank");
    let unknown_account = fixture.credential(&[("Type", "fcm"), ("Secret", &file)]).await;

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
        fixture.set(&[(parameter, credential)]).await;
        let challenge = fixture.challenge(enrollment).await;
        let alerts = fixture.wait_for_alerts(number + 1).await;
        assert_eq!(alerts[number], (code.to_owned(), challenge.clone()), "{parameter}={credential}");
        let alert = fixture.alerts().await.swap_remove(number);
        assert_eq!(alert["more_info"], format!("https://www.twilio.com/docs/errors/{code}"));
        assert_eq!(alert["service_sid"], fixture.service);
        assert!(alert["alert_text"].as_str().is_some_and(|text| text.len() > 10), "{alert}");

        let calls = wait_until("the debugger webhook receives the alert", WAIT_TIMEOUT, async || {
            Some(receiver.calls()).filter(|calls| calls.len() > number)
        })
        .await;
        assert_eq!(calls[number].value("Sid").as_deref(), alert["sid"].as_str());
        assert_eq!(calls[number].value("AccountSid").as_deref(), Some(account.as_str()));
        assert_eq!(calls[number].value("Level").as_deref(), Some("ERROR"));
        let payload: Value = serde_json::from_str(&calls[number].value("Payload").unwrap()).unwrap();
        assert_eq!((&payload["resource_sid"], &payload["error_code"]), (&json!(challenge), &json!(code)));
        assert_eq!(payload["service_sid"], fixture.service);
        let more = &payload["more_info"];
        assert_eq!(
            more["correlationIds"],
            format!("[{}, {}, {}, {challenge}]", fixture.service, enrollment.identity, enrollment.factor_sid)
        );
        let is_fcm = parameter == fcm;
        assert_eq!(more["bindingType"], if is_fcm { "fcm" } else { "apn" });
        assert_eq!(more["module"], if is_fcm { "FCMBA" } else { "APNBA" });
        assert_eq!(more["description"], alert["alert_text"]);
        let reference = if credential.is_empty() { Value::Null } else { json!(credential) };
        assert_eq!(more["fromReference"], reference, "{more}");
    }
    assert_eq!((fixture.apple.taken(), fixture.google.send_requests()), (0, 0));

    // After the fault is corrected, pushes arrive.
    fixture.set(&[(apn, &known_apn), (fcm, &known_fcm)]).await;
    fixture.challenge(&android).await;
    fixture.challenge(&iphone).await;
    fixture.wait_for_pushes(1, 1).await;
}

#[tokio::test]
async fn push_refused_for_the_wrong_app_creates_an_alert() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let certificate = fixture.certificate(Key::p256(), Key::pkcs8, true).await;
    fixture.set(&[("Push.ApnCredentialSid", &certificate)]).await;
    let new = NewFactor {
        app_id: "com.example.other".to_owned(),
        ..fixture.new_factor("user-0001", Platform::Apn, IPHONE).await
    };
    let other = fixture.world.phone(Style::Ios).enroll(&new).await.unwrap();
    let (_, no_hex) = fixture.phone("user-0002", Platform::Apn, "feed face").await;
    let (_, sandboxed) = fixture.phone("user-0003", Platform::Apn, NEW_IPHONE).await;
    let asked = fixture.challenge(&other).await;
    assert_eq!(fixture.wait_for_alerts(1).await, [("52143".to_owned(), asked)]);
    let asked = fixture.challenge(&no_hex).await;
    assert_eq!(fixture.wait_for_alerts(2).await[1].1, asked);
    fixture.apple.refuse_next(400, "BadDeviceToken");
    let asked = fixture.challenge(&sandboxed).await;
    assert_eq!(fixture.wait_for_alerts(3).await[2], ("52134".to_owned(), asked));
    assert_eq!(fixture.apple.taken(), 0);
}

/// Checks the log at its most detailed level, and the database files as they are on disk.
#[tokio::test]
async fn push_secrets_are_neither_logged_nor_stored_in_plaintext() {
    let mut world = World::sqlite();
    let started = |arguments: &[&str]| {
        world.server.restart_with(arguments);
        world
    };
    let fixture = PushFixture::start(&["--log", "trace"], started).await;
    let key = Key::p256();
    fixture.apple.register_key(TEAM, KEY_ID, &key);
    let account = Key::rsa();
    let file = fixture.google.service_account(PROJECT, &account);
    let certified = fixture.authority.push_certificate(PushCertificate::default());
    let (apn, fcm) =
        (fixture.token_of(&key).await, fixture.credential(&[("Type", "fcm"), ("Secret", &file)]).await);
    let form = [
        ("Type", "apn"),
        ("Certificate", &certified.pem()),
        ("PrivateKey", &certified.key.pkcs8()),
        ("FriendlyName", "Certified"),
    ];
    let certificate = fixture.credential(&form).await;
    fixture.apple.register_certificate(&certified, "com.example.app");
    fixture.set(&[("Push.ApnCredentialSid", &apn), ("Push.FcmCredentialSid", &fcm)]).await;
    let (_, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = fixture.phone("user-0002", Platform::Apn, IPHONE).await;
    fixture.challenge(&android).await;
    fixture.challenge(&iphone).await;
    fixture.wait_for_pushes(1, 1).await;
    fixture.set(&[("Push.ApnCredentialSid", &certificate)]).await;
    fixture.challenge(&iphone).await;
    fixture.wait_for_pushes(2, 1).await;
    // Unusable credentials are not logged either.
    let wrong = [("Type", "apn"), ("Certificate", &certified.pem()), ("PrivateKey", &key.pkcs8())];
    assert_error(&fixture.world.backend().post("/v1/Credentials", &wrong).await, 400, 60306);
    fixture.google.unregister(ANDROID);
    fixture.challenge(&android).await;
    fixture.wait_for_alerts(1).await;

    // Parts of each key: as base64 from every offset at which a PEM line may begin, and as bytes.
    let mut secrets = Vec::new();
    for key in [&key, &account, &certified.key] {
        let text = key.bare();
        let private = &text[text.len() / 2 - 64..];
        secrets.extend((0..32).map(|at| private[at..at + 24].to_owned()));
    }
    let PushFixture { mut world, apple, google, .. } = fixture;
    let tokens = [vec![ANDROID.to_owned(), IPHONE.to_owned()], apple.tokens()].concat();
    drop((apple, google));
    world.server.kill9();
    let log = world.server.log();
    let talks = ["TRACE h2", "TRACE store::statement", "Certificate"].map(|expected| log.contains(expected));
    assert!(talks[0] && talks[1] && log.lines().count() > 500, "{talks:?}: the log lacks expected lines");
    for secret in &secrets {
        assert!(!log.contains(secret), "a private key is in the log");
    }
    for token in tokens.iter().map(String::as_str).chain(["ya29.", "Bearer ey", "bearer ey"]) {
        let line = log.lines().find(|line| line.contains(token));
        assert!(line.is_none(), "{token} is in the log: {line:?}");
    }

    let harness::Storage::Sqlite(folder) = &world.storage else { panic!("a SQLite file") };
    let mut files = Vec::new();
    for name in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
        files.extend(std::fs::read(folder.join(name)).unwrap_or_default());
    }
    let found = |secret: &[u8]| files.windows(secret.len()).any(|window| window == secret);
    assert!(found(certificate.as_bytes()), "the data are stored elsewhere");
    for secret in &secrets {
        assert!(!found(secret.as_bytes()), "a private key is stored in plaintext");
    }
    assert!(!found(b"PRIVATE KEY") && !found(b"gserviceaccount"), "a credential is stored in plaintext");
}

on_every_database! {
    /// The server is killed twenty times while challenges are being created, as soon as some have been
    /// acknowledged.
    async fn acknowledged_challenges_are_pushed_after_kill_9(world: World) {
        const ROUND_COUNT: usize = 20;
        const CONCURRENT_REQUESTS: usize = 8;
        let mut world = world;
        let restarted = move |arguments: &[&str]| {
            world.server.restart_with(arguments);
            world
        };
        let mut fixture = PushFixture::start(&["--delivery-lease", "1"], restarted).await.with_credentials().await;
        let (_, enrollment) = fixture.phone("zoe-0001", Platform::Fcm, ANDROID).await;
        let pushed = |google: &Google| -> BTreeSet<String> {
            google.pushes().iter().map(|push| text_of(&push.message["data"]["challenge_sid"])).collect()
        };
        let (mut acknowledged, mut unsent) = (BTreeSet::new(), 0);
        for round in 0..ROUND_COUNT {
            let (acknowledge, mut acknowledgements) = mpsc::unbounded_channel();
            for _ in 0..CONCURRENT_REQUESTS {
                let (asked, acknowledge) = (fixture.asked(&enrollment), acknowledge.clone());
                tokio::spawn(async move {
                    if let Some(sid) = asked.await {
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
            fixture.world.server.kill9();
            let before = pushed(&fixture.google);
            while let Some(sid) = acknowledgements.recv().await {
                new.insert(sid);
            }
            unsent += new.difference(&before).count();
            acknowledged.append(&mut new);
            fixture.world.server.restart();
        }
        println!("{} acknowledged, {unsent} of them not pushed before the server was killed", acknowledged.len());
        assert!(unsent > 0, "the killer came too late for a test");
        wait_until("every acknowledged challenge is pushed", WAIT_TIMEOUT, async || {
            acknowledged.is_subset(&pushed(&fixture.google)).then_some(())
        })
        .await;
    }
}

impl PushFixture {
    /// Creates a challenge for a phone. Returns its SID if the creation was acknowledged, or `None` if the
    /// server was killed.
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

/// Apple reports a token as unregistered since a time before the device registered it: it is valid again, and
/// the push is retried.
#[tokio::test]
async fn apns_reply_that_dates_the_unregistration_before_the_registration_does_not_stop_pushes() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (phone, mut iphone) = fixture.phone("user-0001", Platform::Apn, IPHONE).await;
    let gone_at = |seconds: i64| {
        let body = json!({ "reason": "Unregistered", "timestamp": seconds * 1000 });
        Reply::Answer(Answer::new(410, body.to_string()))
    };
    let before = SystemClock.now().seconds() - 3600;
    fixture.apple.next(gone_at(before));
    fixture.apple.next(gone_at(before));
    fixture.challenge(&iphone).await;
    fixture.wait_for_pushes(1, 0).await;
    assert_eq!(fixture.apple.requests(), 3);
    assert!(fixture.alerts().await.is_empty());

    // Reported as unregistered after the registration, it stays disabled until the device sends it again, even
    // unchanged.
    fixture.apple.next(gone_at(SystemClock.now().seconds() + 60));
    fixture.challenge(&iphone).await;
    assert_eq!(fixture.wait_for_alerts(1).await[0].0, "52141");
    fixture.challenge(&iphone).await;
    fixture.wait_for_marker_push("user-0002").await;
    assert_eq!(fixture.apple.requests(), 4);
    phone.update_factor(&mut iphone, Some((Platform::Apn, IPHONE.to_owned()))).await.unwrap();
    fixture.challenge(&iphone).await;
    fixture.wait_for_pushes(2, 1).await;
}

/// Apple's `Retry-After` is respected up to the maximum wait; then the push arrives.
#[tokio::test]
async fn provider_retry_after_beyond_the_maximum_wait_is_capped() {
    let fixture = PushFixture::ephemeral().await.with_credentials().await;
    let (_, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = fixture.phone("user-0002", Platform::Apn, IPHONE).await;
    for wish in ["86400", "120000", "99999999999999999999999"] {
        let busy = Answer::new(503, r#"{"reason":"ServiceUnavailable"}"#);
        fixture.apple.next(Reply::Answer(busy.header("retry-after", wish)));
        let busy = error(503, "UNAVAILABLE", Some("UNAVAILABLE"), "busy");
        fixture.google.next_send(Reply::Answer(busy.header("retry-after", wish)));
        let busy = Answer::new(503, r#"{"error":"unavailable"}"#);
        fixture.google.next_token(Reply::Answer(busy.header("retry-after", wish)));
    }
    fixture.challenge(&android).await;
    fixture.challenge(&iphone).await;
    fixture.wait_for_pushes(1, 1).await;
    assert!(fixture.alerts().await.is_empty());
}

/// The proxy for networks without direct egress, set by option and by environment. Webhooks do not use it.
#[tokio::test]
async fn pushes_use_the_proxy_but_webhooks_do_not() {
    let proxy = TunnelProxy::start().await;
    let receiver = Receiver::start([harness::Answer::ok()]);
    let through = format!("http://{}", proxy.authority());
    let given =
        PushFixture::start(&["--push-proxy", &through], World::ephemeral_with).await.with_credentials().await;
    crate::webhooks::webhook(&given.world, &given.service, &receiver.at("/"), &[]).await;
    let (_, android) = given.phone("user-0001", Platform::Fcm, ANDROID).await;
    let (_, iphone) = given.phone("user-0002", Platform::Apn, IPHONE).await;
    given.challenge(&android).await;
    given.challenge(&iphone).await;
    given.wait_for_pushes(1, 1).await;
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
        let fixture = PushFixture::start(arguments, start).await.with_credentials().await;
        let (_, android) = fixture.phone("user-0001", Platform::Fcm, ANDROID).await;
        fixture.challenge(&android).await;
        fixture.wait_for_pushes(0, 1).await;
        assert_eq!(proxy.targets().len() - before, tunnels, "{environment:?} {arguments:?}");
    }
}
