//! The stream of a challenge: its states, its end, and where it begins.

use std::time::Instant;

use device::{Answer, Style};
use harness::Event;
use reqwest::header::CACHE_CONTROL;

use super::*;
use crate::passkeys::{IDENTITY, ORIGIN, RelyingParty};
use crate::totp::TotpFixture;
use crate::world::{assert_error, created, on_every_database};

on_every_database! {
    async fn stream_sends_the_pending_challenge_then_its_answer_and_ends(world: World) {
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        for (reply, status) in [(Answer::Approved, "approved"), (Answer::Denied, "denied")] {
            let challenge = world.challenge(&enrollment, &[]).await;
            let mut events = open(&world.backend(), &challenge_path(&challenge)).await;
            assert_eq!(events.headers["content-type"], "text/event-stream");
            assert_eq!(events.headers["x-accel-buffering"], "no");
            assert_eq!(events.headers[CACHE_CONTROL], "no-store");
            let pending = next(&mut events).await;
            assert_eq!(pending.name.as_deref(), Some("challenge.pending"));
            assert_eq!(pending.json(), shown(&world, &challenge).await);
            answer(&phone, &enrollment, &challenge, reply).await;
            let answered = next(&mut events).await;
            assert_eq!(answered.name, Some(format!("challenge.{status}")));
            assert_eq!(answered.json(), shown(&world, &challenge).await);
            assert_eq!(answered.json()["status"], status);
            assert_ne!(pending.id, answered.id);
            assert_ends(&mut events, "final").await;
        }
    }
}

on_every_database! {
    async fn stream_of_an_answered_challenge_sends_only_what_the_client_lacks(world: World) {
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Ios, &service, "user-0001").await;
        let challenge = world.challenge(&enrollment, &[]).await;
        let path = challenge_path(&challenge);
        let pending = next(&mut open(&world.backend(), &path).await).await;
        answer(&phone, &enrollment, &challenge, Answer::Approved).await;
        let last_event_id = |event: &Event| world.backend().header("Last-Event-ID", event.id.as_ref().unwrap());

        let mut events = open(&world.backend(), &path).await;
        let approved = next(&mut events).await;
        assert_eq!(approved.name.as_deref(), Some("challenge.approved"));
        assert_ends(&mut events, "final").await;

        let mut events = open(&last_event_id(&pending), &path).await;
        assert_eq!(next(&mut events).await, approved);
        assert_ends(&mut events, "final").await;
        assert_ends(&mut open(&last_event_id(&approved), &path).await, "final").await;
    }
}

#[tokio::test]
async fn stream_sends_the_expiry_within_a_second() {
    let world = World::sqlite();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    // A busy machine may delay single events.
    let mut late = Vec::new();
    for _ in 0..3 {
        let challenge = world.challenge(&enrollment, &[("ExpirationDate", &date_in(8))]).await;
        let mut events = open(&world.backend(), &challenge_path(&challenge)).await;
        let pending = next(&mut events).await;
        assert_eq!(pending.name.as_deref(), Some("challenge.pending"));
        let expired = next(&mut events).await;
        let now = date_in(0);
        assert_eq!(expired.name.as_deref(), Some("challenge.expired"));
        assert_eq!(expired.json(), shown(&world, &challenge).await);
        assert_eq!(expired.json()["status"], "expired");
        assert_ends(&mut events, "final").await;
        let expiry = challenge["expiration_date"].as_str().unwrap();
        assert!(now.as_str() >= expiry, "{now}, expiry {expiry}");
        if now.as_str() <= date_after(expiry).as_str() {
            return;
        }
        late.push((expiry.to_owned(), now));
    }
    panic!("{late:?}");
}

/// Returns the date a second after this one.
fn date_after(date: &str) -> String {
    use domain::Parameter as _;
    domain::Timestamp::from_parameter(date).unwrap().plus_seconds(1).to_string()
}

on_every_database! {
    async fn deletion_of_the_factor_or_the_entity_ends_the_stream(world: World) {
        let service = world.service().await;
        let device = world.device(&service, "user-0001").await;
        let challenge = world.challenge(&device.enrollment, &[]).await;
        let mut events = open(&world.backend(), &challenge_path(&challenge)).await;
        assert_eq!(named(&mut events).await.0, "challenge.pending");
        let own = Http::new(world.server.url()).auth(device.auth());
        let mut of_device = open(&own, &challenge_path(&challenge)).await;
        assert_eq!(named(&mut of_device).await.0, "challenge.pending");
        assert_eq!(world.backend().delete(&device.path(), &[]).await.status, 204);
        let (name, data) = named(&mut events).await;
        assert_eq!((name.as_str(), &data["status"]), ("challenge.expired", &json!("expired")));
        assert_ends(&mut events, "final").await;
        assert_ends(&mut of_device, "unauthorized").await;

        let other = world.device(&service, "user-0002").await;
        let challenge = world.challenge(&other.enrollment, &[]).await;
        let mut events = open(&world.backend(), &challenge_path(&challenge)).await;
        assert_eq!(named(&mut events).await.0, "challenge.pending");
        assert_eq!(world.backend().delete(&entity(&service, "user-0002"), &[]).await.status, 204);
        let began = Instant::now();
        assert_ends(&mut events, "gone").await;
        // Without a notice, a stream reads within fifteen seconds, half of that on average.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn stream_of_a_totp_challenge_sends_changes_and_the_approval() {
    let world = World::sqlite();
    let service = world.service().await;
    let factor = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
    let challenge = created(&factor.challenge(&world, &[]).await);
    let path = challenge_path(&challenge);
    let mut events = open(&world.backend(), &path).await;
    assert_eq!(named(&mut events).await.0, "challenge.pending");
    // A wrong code changes nothing that the stream shows.
    for (form, expected) in [
        (("AuthPayload", factor.wrong_code()), None),
        (("Metadata", r#"{"page":"2"}"#.to_owned()), Some("challenge.pending")),
        (("AuthPayload", factor.code(0)), Some("challenge.approved")),
    ] {
        assert_eq!(world.backend().post(&path, &[(form.0, &form.1)]).await.status, 200);
        if let Some(expected) = expected {
            let (name, data) = named(&mut events).await;
            assert_eq!((name.as_str(), data), (expected, shown(&world, &challenge).await));
        }
    }
    assert_ends(&mut events, "final").await;

    // A challenge that is created with its code is approved at once.
    let challenge = created(&factor.challenge(&world, &[("AuthPayload", &factor.code(1))]).await);
    let mut events = open(&world.backend(), &challenge_path(&challenge)).await;
    assert_eq!(named(&mut events).await.0, "challenge.approved");
    assert_ends(&mut events, "final").await;
}

#[tokio::test]
async fn stream_of_a_passkey_challenge_sends_which_passkey_has_approved() {
    let world = World::sqlite();
    let party = RelyingParty::create(&world).await;
    let (mut passkey, factor) = party.passkey(IDENTITY).await;
    let path = |made: &Value| {
        format!("{}/Challenges/{}", entity(&party.service, IDENTITY), made["sid"].as_str().unwrap())
    };
    for (body, factor_sid) in [
        (json!({ "identity": IDENTITY }), &json!(null)),
        (json!({ "factor_sid": factor["sid"] }), &factor["sid"]),
    ] {
        let made = party.challenge(&body).await;
        let mut events = open(&world.backend(), &path(&made)).await;
        let (name, data) = named(&mut events).await;
        assert_eq!((name.as_str(), &data["factor_sid"]), ("challenge.pending", factor_sid));
        assert_eq!(data["identity"], IDENTITY);
        let approval = party.approve(&passkey.sign_in(&made["options"], ORIGIN).unwrap()).await;
        assert_eq!(approval.status, 200, "{approval:?}");
        let (name, data) = named(&mut events).await;
        assert_eq!((name.as_str(), &data["factor_sid"]), ("challenge.approved", &factor["sid"]));
        assert_ends(&mut events, "final").await;
    }
    // A challenge to any passkey belongs to no entity before it is approved.
    let made = party.challenge(&json!({})).await;
    assert_error(&world.backend().get(&stream_path(&path(&made)), &[]).await, 404, 20404);
}

#[tokio::test]
async fn device_follows_only_challenges_of_its_own_factor() {
    let world = World::sqlite();
    let service = world.service().await;
    let (own, sibling) =
        (world.device(&service, "user-0001").await, world.device(&service, "user-0001").await);
    let challenge = world.challenge(&own.enrollment, &[]).await;
    let path = challenge_path(&challenge);
    let client = |auth| Http::new(world.server.url()).auth(auth);
    let mut events = open(&client(own.auth()), &path).await;
    assert_eq!(named(&mut events).await.0, "challenge.pending");
    assert_error(&client(sibling.auth()).get(&stream_path(&path), &[]).await, 404, 20404);
    let access_token = world.access_token(&service, "user-0001").await;
    let enrollee = client(crate::world::signed_in(access_token));
    assert_error(&enrollee.get(&stream_path(&path), &[]).await, 403, 20403);
    assert_error(&Http::new(world.server.url()).get(&stream_path(&path), &[]).await, 401, 20003);
    answer(&own.phone, &own.enrollment, &challenge, Answer::Approved).await;
    assert_eq!(named(&mut events).await.0, "challenge.approved");
    assert_ends(&mut events, "final").await;
}

#[tokio::test]
async fn head_request_gets_the_headers_at_once_and_other_methods_are_refused() {
    let world = World::sqlite();
    let service = world.service().await;
    let (_, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let challenge = world.challenge(&enrollment, &[]).await;
    let url = format!("{}{}", world.server.url(), stream_path(&challenge_path(&challenge)));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (sid, token) = (world.server.account_sid(), world.server.auth_token());
    let send = async |method| {
        let request = client.request(method, &url).basic_auth(sid, Some(token));
        request.timeout(EVENT_TIMEOUT).send().await.unwrap()
    };
    let began = Instant::now();
    let head = send(reqwest::Method::HEAD).await;
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    assert_eq!(head.text().await.unwrap(), "");
    assert!(began.elapsed() < EVENT_TIMEOUT);
    let preflight = send(reqwest::Method::OPTIONS).await;
    let allowed = preflight.headers().get_all("access-control-allow-headers");
    assert!(allowed.iter().any(|name| name == "Last-Event-ID"), "{preflight:?}");
    let post = send(reqwest::Method::POST).await;
    assert_eq!(
        (post.status().as_u16(), &post.headers()["allow"]),
        (405, &"GET, HEAD, OPTIONS".parse().unwrap())
    );
}

/// A change arrives within milliseconds, not only when a stream reads without a notice.
#[tokio::test]
async fn answers_reach_their_streams_within_a_second() {
    let world = World::sqlite();
    let service = world.service().await;
    let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
    let mut delays = Vec::new();
    for _ in 0..20 {
        let challenge = world.challenge(&enrollment, &[]).await;
        let mut events = open(&world.backend(), &challenge_path(&challenge)).await;
        next(&mut events).await;
        let began = Instant::now();
        answer(&phone, &enrollment, &challenge, Answer::Approved).await;
        assert_eq!(named(&mut events).await.0, "challenge.approved");
        delays.push(began.elapsed());
    }
    delays.sort_unstable();
    assert!(delays[10] < std::time::Duration::from_secs(1), "{delays:?}");
}
