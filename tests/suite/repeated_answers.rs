//! Answers that an HTTP client sends twice, because the connection broke before it read the response.

use app::SystemClock;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use device::{Answer, Challenge, Style, signing, wire};
use domain::Clock as _;
use harness::{Answer as Received, Receiver};
use serde_json::{Map, Value, json};

use crate::races::{Request, send_at_once, split_outcomes};
use crate::webhooks::{LOOPBACK_ARGUMENTS, calls, settled, webhook};
use crate::world::{Device, World, assert_error, on_every_database};

/// A challenge as the phone has fetched it before the answer.
struct FetchedChallenge {
    device: Device,
    sid: String,
    path: String,
    shown: Challenge,
}

impl FetchedChallenge {
    async fn of(world: &World, service: &str, identity: &str) -> Self {
        let device = world.device(service, identity).await;
        let sid = world.challenge(&device.enrollment, &[]).await["sid"].as_str().unwrap().to_owned();
        let shown = device.phone.get_challenge(&device.enrollment, &sid).await.unwrap();
        let path = format!("{}/{sid}", device.challenges());
        Self { device, sid, path, shown }
    }

    /// Returns the payload with which the phone answers the challenge.
    fn payload(&self, answer: Answer) -> String {
        signing::sign_answer(Style::Android, &self.device.enrollment, &self.shown, answer).unwrap()
    }

    /// Returns a payload with the same answer but different bytes: it has an additional claim.
    fn payload_in_other_bytes(&self, answer: Answer) -> String {
        let payload = self.payload(answer);
        let claims = URL_SAFE_NO_PAD.decode(payload.split('.').nth(1).unwrap()).unwrap();
        let mut claims: Map<String, Value> = serde_json::from_slice(&claims).unwrap();
        claims.insert("more".into(), "text".into());
        let header = json!({ "typ": "JWT", "alg": "ES256" });
        crypto::jws::sign(header.as_object().unwrap(), &claims, &self.device.key)
    }
}

/// Returns the audit records about a challenge, newest first.
async fn lines(world: &World, sid: &str) -> Vec<Value> {
    let list = world.backend().get("/v1/Events", &[("ResourceSid", sid)]).await.json();
    list["events"].as_array().unwrap().clone()
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn repeated_identical_answer_succeeds_and_changes_nothing(world: World) {
        let receiver = Receiver::start([Received::ok()]);
        let service = world.service().await;
        let only = [("EventTypes", "challenge.approved"), ("EventTypes", "challenge.denied")];
        webhook(&world, &service, &receiver.at("/"), &only).await;
        for (number, answer) in [Answer::Approved, Answer::Denied].into_iter().enumerate() {
            let asked = FetchedChallenge::of(&world, &service, &format!("user-{number:04}")).await;
            let (device, payload) = (world.server.http().auth(asked.device.auth()), asked.payload(answer));
            let form = [("AuthPayload", payload.as_str())];
            let first = device.post(&asked.path, &form).await;
            assert_eq!((first.status, &first.json()["status"]), (200, &answer.as_str().into()), "{first:?}");
            let (before, audited) = (world.everything().await, lines(&world, &asked.sid).await);
            assert_eq!(audited.len(), 2, "created and answered: {audited:?}");

            for client in [&device, &world.backend(), &device] {
                let again = client.post(&asked.path, &form).await;
                assert_eq!((again.status, again.json()), (200, first.json()), "{again:?}");
            }
            for other in [Answer::Approved, Answer::Denied] {
                let other = asked.payload_in_other_bytes(other);
                let refused = device.post(&asked.path, &[("AuthPayload", &other)]).await;
                assert_error(&refused, 403, 60322);
            }
            // It remains invalid as an answer to another challenge.
            let next = world.challenge(&asked.device.enrollment, &[]).await;
            let path = format!("{}/{}", asked.device.challenges(), next["sid"].as_str().unwrap());
            assert_error(&device.post(&path, &form).await, 403, 60324);
            let mut after = world.everything().await;
            for entity in after[0]["entities"].as_array_mut().unwrap() {
                entity["challenges"].as_array_mut().unwrap().retain(|challenge| *challenge != next);
            }
            assert_eq!(after, before);
            assert_eq!(lines(&world, &asked.sid).await, audited);

            // A deleted phone cannot repeat its answer, but its backend can.
            asked.device.phone.delete_factor(&asked.device.enrollment).await.unwrap();
            assert_error(&device.post(&asked.path, &form).await, 401, 20003);
            assert_eq!(world.backend().post(&asked.path, &form).await.status, 200);
        }
        calls(&receiver, 2).await;
        assert_eq!(settled(&world, &[]).await.len(), 2, "each answer must have exactly one delivery");
    }
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn concurrent_identical_answers_all_succeed_and_are_recorded_once(world: World) {
        let receiver = Receiver::start([Received::ok()]);
        let service = world.service().await;
        webhook(&world, &service, &receiver.at("/"), &[("EventTypes", "challenge.approved")]).await;
        let asked = FetchedChallenge::of(&world, &service, "racer-0001").await;
        let payload = asked.payload(Answer::Approved);
        let now = SystemClock.now();
        let request = || {
            let request =
                wire::answer_challenge(Style::Android, &asked.device.enrollment, &asked.sid, &payload, now);
            Request::of_phone(world.server.url(), request)
        };
        let outcomes = send_at_once((0..50).map(|_| request()).collect()).await;
        let (taken, refused) = split_outcomes(&outcomes);
        assert_eq!(refused, []);
        for challenge in &taken {
            assert_eq!(*challenge, taken[0]);
            assert_eq!(challenge["status"], "approved");
        }
        assert_eq!(lines(&world, &asked.sid).await.len(), 2, "created and answered");
        calls(&receiver, 1).await;
        assert_eq!(settled(&world, &[]).await.len(), 1);
    }
}
