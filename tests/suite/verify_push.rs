//! The two sequences of Verify Push, enrollment and verification, as a backend and a phone perform them, with
//! their variants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use app::SystemClock;
use device::{Answer, Enrollment, Error, ListRequest, NewFactor, Phone, Platform, SigningKey, Status, Style};
use domain::{Clock, Timestamp};
use harness::{Auth, Http, Reply, wait_until};
use serde_json::{Value, json};

use crate::world::{World, assert_error, created, entity, on_every_database, signed_in};

const STYLES: [Style; 2] = [Style::Android, Style::Ios];

/// Returns a challenge as the backend fetches it.
async fn seen(world: &World, enrollment: &Enrollment, sid: &str) -> Value {
    let reply = world.backend().get(&challenge_path(enrollment, sid), &[]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn challenge_path(enrollment: &Enrollment, sid: &str) -> String {
    format!("{}/Challenges/{sid}", entity(&enrollment.service_sid, &enrollment.identity))
}

fn factor_path(enrollment: &Enrollment) -> String {
    format!("{}/Factors/{}", entity(&enrollment.service_sid, &enrollment.identity), enrollment.factor_sid)
}

fn sid(challenge: &Value) -> &str {
    challenge["sid"].as_str().unwrap()
}

/// Returns the SIDs of the phone's pending challenges.
async fn pending(phone: &Phone, enrollment: &Enrollment) -> Vec<String> {
    let list = phone.list_pending(enrollment).await.unwrap();
    list.challenges.into_iter().map(|challenge| challenge.sid).collect()
}

/// Returns the SIDs of the entity's challenges with this status, as the backend lists them.
async fn listed(world: &World, enrollment: &Enrollment, status: &str) -> Vec<String> {
    let path = format!("{}/Challenges", entity(&enrollment.service_sid, &enrollment.identity));
    let list = world.backend().get(&path, &[("Status", status)]).await.json();
    list["challenges"].as_array().unwrap().iter().map(|challenge| sid(challenge).to_owned()).collect()
}

/// Returns the phone's credentials, with a new device token.
fn as_device(style: Style, enrollment: &Enrollment) -> Auth {
    signed_in(device::signing::sign_device_token(style, enrollment, SystemClock.now()))
}

/// Checks that the phone was refused with this status and code.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Error>, status: u16, code: i64) {
    match outcome {
        Err(Error::Api { status: s, code: c, .. }) => assert_eq!((s, c), (status, code)),
        other => panic!("{other:?} instead of a refusal"),
    }
}

on_every_database! {
    async fn phone_can_enroll_and_approve_a_challenge(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        for (style, identity) in STYLES.into_iter().zip(["user-0001", "user-0002"]) {
            let phone = world.phone(style);
            let new = world.new_factor(&service, identity).await;
            assert_error(&backend.get(&entity(&service, identity), &[]).await, 404, 20404);

            let mut enrollment = phone.create_factor(&new).await.unwrap();
            let factor = backend.get(&factor_path(&enrollment), &[]).await.json();
            assert_eq!(factor["status"], "unverified");
            assert_eq!(factor["config"]["sdk_version"], style.sdk_version());
            assert_eq!(factor["config"]["app_id"], "com.example.app");
            assert_eq!(backend.get(&entity(&service, identity), &[]).await.status, 200, "created with it");
            let form = [("FactorSid", enrollment.factor_sid.as_str()), ("Details.Message", "Too early")];
            let list = format!("{}/Challenges", entity(&service, identity));
            assert_error(&backend.post(&list, &form).await, 403, 60318);

            phone.verify_factor(&mut enrollment).await.unwrap();
            let factor = backend.get(&factor_path(&enrollment), &[]).await.json();
            assert_eq!(factor["status"], "verified");
            phone.verify_factor(&mut enrollment).await.unwrap();
            assert_eq!(backend.get(&factor_path(&enrollment), &[]).await.json(), factor, "the factor must be unchanged");

            let question = [
                ("Details.Message", "Pay 7 € to “Owls / Söhne”?\nReally?"),
                ("FactorSid", enrollment.factor_sid.as_str()),
                ("Details.Fields", r#"{"label":"IBAN","value":"DE00 0000/1"}"#),
                ("Details.Fields", r#"{"label":"Größe","value":"a\"b\\c 🦉"}"#),
                ("HiddenDetails", r#"{"txn":"https://owl.test/7?a=b&c=d"}"#),
            ];
            let challenge = created(&backend.post(&list, &question).await);
            let waiting = phone.list_pending(&enrollment).await.unwrap().challenges;
            assert_eq!(waiting.len(), 1);
            assert_eq!((waiting[0].sid.as_str(), waiting[0].status), (sid(&challenge), Status::Pending));
            assert_eq!(waiting[0].message, "Pay 7 € to “Owls / Söhne”?\nReally?");
            let fields = [("IBAN", "DE00 0000/1"), ("Größe", "a\"b\\c 🦉")];
            assert_eq!(waiting[0].fields, fields.map(|(label, value)| (label.to_owned(), value.to_owned())));
            let hidden = BTreeMap::from([("txn".to_owned(), "https://owl.test/7?a=b&c=d".to_owned())]);
            assert_eq!(waiting[0].hidden_details, Some(hidden));

            let answered = phone.answer(&enrollment, sid(&challenge), Answer::Approved).await.unwrap();
            assert_eq!(answered.status, Status::Approved);
            assert!(pending(&phone, &enrollment).await.is_empty());
            let approved = seen(&world, &enrollment, sid(&challenge)).await;
            assert_eq!(approved["status"], "approved");
            assert_eq!(approved["responded_reason"], "none");
            assert!(approved["date_responded"].is_string());
            for key in ["details", "hidden_details", "expiration_date", "date_created"] {
                assert_eq!(approved[key], challenge[key], "{key}");
            }
            assert_eq!(listed(&world, &enrollment, "approved").await, [sid(&challenge)]);
        }
    }
}

on_every_database! {
    async fn phone_can_deny_a_challenge(world: World) {
        let service = world.service().await;
        for (style, identity) in STYLES.into_iter().zip(["user-0001", "user-0002"]) {
            let (phone, enrollment) = world.enrolled(style, &service, identity).await;
            let challenge = world.challenge(&enrollment, &[]).await;
            let answered = phone.answer(&enrollment, sid(&challenge), Answer::Denied).await.unwrap();
            assert_eq!(answered.status, Status::Denied);
            let denied = seen(&world, &enrollment, sid(&challenge)).await;
            assert_eq!((&denied["status"], &denied["responded_reason"]), (&json!("denied"), &json!("none")));
            assert!(denied["date_responded"].is_string());
            assert_eq!(listed(&world, &enrollment, "denied").await, [sid(&challenge)]);
            assert!(listed(&world, &enrollment, "approved").await.is_empty());
        }
    }
}

on_every_database! {
    async fn answered_challenge_cannot_be_answered_again(world: World) {
        let service = world.service().await;
        for (first, then) in [(Answer::Approved, Answer::Denied), (Answer::Denied, Answer::Approved)] {
            let identity = format!("user-{}-{}", first.as_str(), then.as_str());
            let (phone, enrollment) = world.enrolled(Style::Android, &service, &identity).await;
            let challenge = world.challenge(&enrollment, &[]).await;
            let fetched = phone.get_challenge(&enrollment, sid(&challenge)).await.unwrap();
            phone.send_answer(&enrollment, &fetched, first).await.unwrap();
            let after = seen(&world, &enrollment, sid(&challenge)).await;
            assert_eq!(after["status"], first.as_str());
            assert_refused(phone.send_answer(&enrollment, &fetched, then).await, 403, 60322);
            assert_eq!(seen(&world, &enrollment, sid(&challenge)).await, after);
            assert!(matches!(
                phone.answer(&enrollment, sid(&challenge), then).await,
                Err(Error::NotPending(_))
            ));
        }
    }
}

on_every_database! {
    async fn unanswered_challenge_expires(world: World) {
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Ios, &service, "user-0001").await;
        let until = SystemClock.now().plus_seconds(20).to_string();
        let challenge = world.challenge(&enrollment, &[("ExpirationDate", &until)]).await;
        assert_eq!(challenge["expiration_date"], until);
        let lasting = world.challenge(&enrollment, &[]).await;
        let fetched = phone.get_challenge(&enrollment, sid(&challenge)).await.unwrap();
        assert_eq!(fetched.status, Status::Pending);

        let expired = wait_until("the challenge expires", Duration::from_secs(90), async || {
            let challenge = seen(&world, &enrollment, sid(&challenge)).await;
            (challenge["status"] == "expired").then_some(challenge)
        })
        .await;
        assert!(SystemClock.now().to_string() >= until, "the challenge expired too early");
        assert_eq!(expired["date_responded"], Value::Null);
        assert_eq!(expired["expiration_date"], challenge["expiration_date"]);
        assert_eq!(pending(&phone, &enrollment).await, [sid(&lasting)]);
        assert_eq!(listed(&world, &enrollment, "pending").await, [sid(&lasting)]);
        assert_eq!(listed(&world, &enrollment, "expired").await, [sid(&challenge)]);

        assert_refused(phone.send_answer(&enrollment, &fetched, Answer::Approved).await, 403, 60323);
        assert_eq!(seen(&world, &enrollment, sid(&challenge)).await["status"], "expired");
        let shown = phone.get_challenge(&enrollment, sid(&challenge)).await.unwrap();
        assert_eq!(shown.status, Status::Expired);
        phone.answer(&enrollment, sid(&lasting), Answer::Approved).await.unwrap();
    }
}

on_every_database! {
    async fn pending_challenges_are_answered_independently(world: World) {
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        let mut made = Vec::new();
        for _ in 0..3 {
            made.push(sid(&world.challenge(&enrollment, &[]).await).to_owned());
        }
        let newest_first: Vec<_> = made.iter().rev().cloned().collect();
        assert_eq!(pending(&phone, &enrollment).await, newest_first);

        phone.answer(&enrollment, &made[1], Answer::Approved).await.unwrap();
        assert_eq!(pending(&phone, &enrollment).await, [made[2].clone(), made[0].clone()]);
        phone.answer(&enrollment, &made[0], Answer::Denied).await.unwrap();
        assert_eq!(pending(&phone, &enrollment).await, [made[2].clone()]);
        for (sid, status) in made.iter().zip(["denied", "approved", "pending"]) {
            assert_eq!(seen(&world, &enrollment, sid).await["status"], status);
        }
    }
}

on_every_database! {
    async fn phones_of_one_entity_are_challenged_independently(world: World) {
        let service = world.service().await;
        let (android, first) = world.enrolled(Style::Android, &service, "user-0001").await;
        let (ios, second) = world.enrolled(Style::Ios, &service, "user-0001").await;
        let (one, other) = (world.challenge(&first, &[]).await, world.challenge(&second, &[]).await);
        assert_eq!(pending(&android, &first).await, [sid(&one)]);
        assert_eq!(pending(&ios, &second).await, [sid(&other)]);
        assert_refused(android.get_challenge(&first, sid(&other)).await, 404, 20404);
        assert_refused(ios.get_challenge(&second, sid(&one)).await, 404, 20404);
        ios.answer(&second, sid(&other), Answer::Approved).await.unwrap();
        assert_eq!(seen(&world, &first, sid(&one)).await["status"], "pending");
        assert_eq!(listed(&world, &first, "pending").await, [sid(&one)]);
    }
}

on_every_database! {
    async fn factor_and_challenge_metadata_is_returned_unchanged(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        for (style, identity) in STYLES.into_iter().zip(["user-0001", "user-0002"]) {
            let pairs = [("os", "Android / iOS"), ("quote", "\"\\\n"), ("ü", "🦉"), ("empty", "")];
            let metadata: BTreeMap<_, _> =
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let new = NewFactor {
                metadata: Some(metadata.clone()),
                ..world.new_factor(&service, identity).await
            };
            let phone = world.phone(style);
            let enrollment = phone.enroll(&new).await.unwrap();
            let factor = backend.get(&factor_path(&enrollment), &[]).await.json();
            assert_eq!(factor["metadata"], json!(metadata));

            let challenge = world.challenge(&enrollment, &[]).await;
            let path = challenge_path(&enrollment, sid(&challenge));
            let device = Http::new(world.server.url()).auth(as_device(style, &enrollment));
            let noted = device.post(&path, &[("Metadata", r#"{"seen":"at home"}"#)]).await;
            assert_eq!((noted.status, &noted.json()["metadata"]), (200, &json!({ "seen": "at home" })));
            assert_eq!(noted.json()["status"], "pending");
            phone.answer(&enrollment, sid(&challenge), Answer::Approved).await.unwrap();
            let answered = seen(&world, &enrollment, sid(&challenge)).await;
            assert_eq!(answered["metadata"], json!({ "seen": "at home" }), "the answer must not change the metadata");
        }
    }
}

on_every_database! {
    async fn challenges_contain_their_creation_date_only_if_the_service_includes_it(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let include = async |wanted: &str| {
            let form = [("Push.IncludeDate", wanted)];
            assert_eq!(backend.post(&format!("/v2/Services/{service}"), &form).await.status, 200);
        };
        for (style, identity) in STYLES.into_iter().zip(["user-0001", "user-0002"]) {
            let (phone, enrollment) = world.enrolled(style, &service, identity).await;
            include("true").await;
            let dated = world.challenge(&enrollment, &[]).await;
            assert_eq!(dated["details"]["date"], dated["date_created"]);
            include("false").await;
            let undated = world.challenge(&enrollment, &[]).await;
            assert!(undated["details"].get("date").is_none(), "left out, because the Android SDK cannot read a null");

            for (challenge, has_date) in [(&dated, true), (&undated, false)] {
                let shown = phone.get_challenge(&enrollment, sid(challenge)).await.unwrap();
                assert_eq!(shown.date.is_some(), has_date);
                // The date is among the signed values, even after the service has turned it off.
                phone.answer(&enrollment, sid(challenge), Answer::Approved).await.unwrap();
                assert_eq!(seen(&world, &enrollment, sid(challenge)).await["details"], challenge["details"]);
            }
        }
    }
}

on_every_database! {
    async fn phone_can_update_its_name_and_push_token(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        for (style, platform) in [(Style::Android, Platform::Fcm), (Style::Ios, Platform::Apn)] {
            let identity = format!("user-{style}");
            let (phone, mut enrollment) = world.enrolled(style, &service, &identity).await;
            let before = backend.get(&factor_path(&enrollment), &[]).await.json();
            assert_eq!(before["config"]["notification_platform"], "none");
            for (name, notification, shown) in [
                ("Phone", Some("token one"), (platform.as_str(), json!("token one"))),
                ("Jo's phone & co = 100%", Some("t/2+=:&"), (platform.as_str(), json!("t/2+=:&"))),
                ("Jöś 🦉", Some(""), ("none", Value::Null)),
                ("Jo", None, ("none", Value::Null)),
            ] {
                enrollment.friendly_name = name.to_owned();
                let notification = notification.map(|token| (platform, token.to_owned()));
                phone.update_factor(&mut enrollment, notification).await.unwrap();
                let after = backend.get(&factor_path(&enrollment), &[]).await.json();
                // The iOS SDK does not encode an ampersand, and so loses the rest of the name.
                let arrived = if style == Style::Ios { name.split('&').next().unwrap() } else { name };
                let mut expected = before.clone();
                expected["friendly_name"] = arrived.into();
                expected["date_updated"] = after["date_updated"].clone();
                expected["config"]["notification_platform"] = shown.0.into();
                expected["config"]["notification_token"] = shown.1;
                if style == Style::Android || !name.contains('&') {
                    assert_eq!(after, expected, "{name}");
                } else {
                    assert_eq!(after["friendly_name"], arrived);
                }
            }
            let challenge = world.challenge(&enrollment, &[]).await;
            phone.answer(&enrollment, sid(&challenge), Answer::Approved).await.unwrap();
        }
    }
}

on_every_database! {
    async fn deleted_factor_cannot_sign_in_and_its_challenges_expire(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        for (style, by_phone) in [(Style::Android, true), (Style::Ios, true), (Style::Android, false)] {
            let identity = format!("user-{style}-{by_phone}");
            let (phone, enrollment) = world.enrolled(style, &service, &identity).await;
            let (other, staying) = world.enrolled(style, &service, &identity).await;
            let approved = world.challenge(&enrollment, &[]).await;
            phone.answer(&enrollment, sid(&approved), Answer::Approved).await.unwrap();
            let approved = seen(&world, &enrollment, sid(&approved)).await;
            let open = world.challenge(&enrollment, &[]).await;
            let fetched = phone.get_challenge(&enrollment, sid(&open)).await.unwrap();
            let payload = device::signing::sign_answer(style, &enrollment, &fetched, Answer::Approved).unwrap();
            let others = world.challenge(&staying, &[]).await;

            if by_phone {
                phone.delete_factor(&enrollment).await.unwrap();
            } else {
                assert_eq!(backend.delete(&factor_path(&enrollment), &[]).await.status, 204);
            }
            assert_error(&backend.get(&factor_path(&enrollment), &[]).await, 404, 20404);

            // Every request of the phone is refused as unauthenticated.
            let device = Http::new(world.server.url()).auth(as_device(style, &enrollment));
            let path = challenge_path(&enrollment, sid(&open));
            for reply in [
                device.get(&factor_path(&enrollment), &[]).await,
                device.get(&path, &[]).await,
                device.get(&format!("{}/Challenges", entity(&service, &identity)), &[]).await,
                device.post(&path, &[("AuthPayload", &payload)]).await,
                device.post(&factor_path(&enrollment), &[("FriendlyName", "Back")]).await,
            ] {
                assert_error(&reply, 401, 20003);
            }
            phone.delete_factor(&enrollment).await.unwrap();

            // The pending challenge has expired, and every answer to it comes too late, from the phone and from the
            // backend.
            let expired = seen(&world, &enrollment, sid(&open)).await;
            assert_eq!(expired["status"], "expired");
            assert_eq!(expired["date_responded"], Value::Null);
            for key in ["details", "expiration_date", "factor_sid", "date_created"] {
                assert_eq!(expired[key], open[key], "{key}");
            }
            assert_error(&backend.post(&path, &[("AuthPayload", &payload)]).await, 403, 60323);
            assert_eq!(seen(&world, &enrollment, sid(&open)).await, expired);
            assert_eq!(listed(&world, &enrollment, "expired").await, [sid(&open)]);
            assert_eq!(listed(&world, &enrollment, "pending").await, [sid(&others)]);

            // Answered challenges keep their answer, and other phones can still be challenged.
            assert_eq!(seen(&world, &enrollment, sid(&approved)).await, approved);
            other.answer(&staying, sid(&others), Answer::Denied).await.unwrap();
            let form = [("FactorSid", enrollment.factor_sid.as_str()), ("Details.Message", "Still there?")];
            let list = format!("{}/Challenges", entity(&service, &identity));
            assert_error(&backend.post(&list, &form).await, 404, 20404);
        }
    }
}

on_every_database! {
    async fn deleting_an_entity_deletes_its_factors_and_challenges(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        let (neighbour, staying) = world.enrolled(Style::Ios, &service, "user-0002").await;
        let challenge = world.challenge(&enrollment, &[]).await;
        let others = world.challenge(&staying, &[]).await;
        let path = entity(&service, "user-0001");
        let before = backend.get(&path, &[]).await.json();

        assert_eq!(backend.delete(&path, &[]).await.status, 204);
        let gone = [
            path.clone(),
            format!("{path}/Factors"),
            format!("{path}/Challenges"),
            factor_path(&enrollment),
            challenge_path(&enrollment, sid(&challenge)),
        ];
        for path in &gone {
            assert_error(&backend.get(path, &[]).await, 404, 20404);
        }
        assert_refused(phone.list_pending(&enrollment).await, 401, 20003);

        // A new entity of the same identity is another one.
        let list = format!("/v2/Services/{service}/Entities");
        let again = created(&backend.post(&list, &[("Identity", "user-0001")]).await);
        assert_ne!(again["sid"], before["sid"]);
        let empty = backend.get(&format!("{path}/Challenges"), &[]).await.json();
        assert_eq!(empty["challenges"], json!([]));
        for path in &gone[3..] {
            assert_error(&backend.get(path, &[]).await, 404, 20404);
        }
        assert_refused(phone.list_pending(&enrollment).await, 401, 20003);
        neighbour.answer(&staying, sid(&others), Answer::Approved).await.unwrap();
    }
}

on_every_database! {
    async fn deleting_a_service_deletes_everything_below_it(world: World) {
        let backend = world.backend();
        let (service, other) = (world.service().await, world.service().await);
        let (phone, enrollment) = world.enrolled(Style::Android, &service, "user-0001").await;
        let (neighbour, staying) = world.enrolled(Style::Ios, &other, "user-0001").await;
        let challenge = world.challenge(&enrollment, &[]).await;
        let others = world.challenge(&staying, &[]).await;
        let tokens = format!("/v2/Services/{service}/AccessTokens");
        let form = [("Identity", "user-0001"), ("FactorType", "push")];
        let token = created(&backend.post(&tokens, &form).await);
        let unspent = world.new_factor(&service, "user-0009").await;

        assert_eq!(backend.delete(&format!("/v2/Services/{service}"), &[]).await.status, 204);
        let path = entity(&service, "user-0001");
        for path in [
            format!("/v2/Services/{service}"),
            format!("/v2/Services/{service}/Entities"),
            format!("{tokens}/{}", sid(&token)),
            path.clone(),
            format!("{path}/Factors"),
            format!("{path}/Challenges"),
            factor_path(&enrollment),
            challenge_path(&enrollment, sid(&challenge)),
        ] {
            assert_error(&backend.get(&path, &[]).await, 404, 20404);
        }
        for path in [tokens, format!("/v2/Services/{service}/Entities")] {
            assert_error(&backend.post(&path, &form).await, 404, 20404);
        }
        assert_refused(phone.list_pending(&enrollment).await, 401, 20003);
        assert_refused(phone.create_factor(&unspent).await, 401, 20003);
        neighbour.answer(&staying, sid(&others), Answer::Approved).await.unwrap();
        let services = backend.get("/v2/Services", &[]).await.json();
        assert_eq!(services["services"].as_array().unwrap().len(), 1);
    }
}

/// Sends the request with which a phone enrolls with this key, and returns the reply.
async fn enroll(world: &World, new: &NewFactor, key: &SigningKey, name: &str) -> Reply {
    let public_key = key.public_key_base64();
    let form = [
        ("FriendlyName", name),
        ("FactorType", "push"),
        ("Binding.PublicKey", &public_key),
        ("Binding.Alg", "ES256"),
        ("Config.AppId", "com.example.app"),
        ("Config.NotificationPlatform", "none"),
    ];
    let client = Http::new(world.server.url()).auth(signed_in(new.access_token.expose()));
    client.post(&format!("{}/Factors", entity(&new.service_sid, &new.identity)), &form).await
}

on_every_database! {
    async fn access_token_enrolls_one_phone_that_may_retry_until_verified(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let new = world.new_factor(&service, "user-0001").await;
        let (key, other_key) = (SigningKey::generate(), SigningKey::generate());
        let made = enroll(&world, &new, &key, "Phone").await;
        let body = created(&made);

        // The phone lost the response: it repeats the request and gets the same factor.
        for name in ["Phone", "Phone", "Another name"] {
            assert_eq!(created(&enroll(&world, &new, &key, name).await), body);
        }
        assert_error(&enroll(&world, &new, &other_key, "Phone").await, 401, 20003);
        let factors = backend.get(&format!("{}/Factors", entity(&service, "user-0001")), &[]).await.json();
        assert_eq!(factors["factors"].as_array().unwrap().len(), 1);

        // The repeated enrollment is verified, which makes the token useless.
        let phone = world.phone(Style::Android);
        let mut enrollment = phone.create_factor_with(&new, key.clone()).await.unwrap();
        assert_eq!(enrollment.factor_sid, body["sid"].as_str().unwrap());
        phone.verify_factor(&mut enrollment).await.unwrap();
        let before = world.everything().await;
        for key in [&key, &other_key] {
            assert_error(&enroll(&world, &new, key, "Phone").await, 401, 20003);
        }

        // The token stays spent when its factor, or the whole entity, is deleted.
        assert_eq!(world.everything().await, before);
        assert_eq!(backend.delete(&factor_path(&enrollment), &[]).await.status, 204);
        let before = world.everything().await;
        for key in [&key, &other_key] {
            assert_error(&enroll(&world, &new, key, "Phone").await, 401, 20003);
        }
        assert_eq!(world.everything().await, before);
        assert_eq!(backend.delete(&entity(&service, "user-0001"), &[]).await.status, 204);
        let before = world.everything().await;
        assert_error(&enroll(&world, &new, &key, "Phone").await, 401, 20003);
        assert_eq!(world.everything().await, before, "no entity was created");
    }
}

on_every_database! {
    async fn access_token_can_be_fetched_until_spent(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let form = [("Identity", "user-0001"), ("FactorType", "push"), ("FactorFriendlyName", "Jo's phone")];
        let made = created(&backend.post(&format!("/v2/Services/{service}/AccessTokens"), &form).await);
        let path = format!("/v2/Services/{service}/AccessTokens/{}", sid(&made));
        for _ in 0..2 {
            let fetched = backend.get(&path, &[]).await;
            assert_eq!((fetched.status, fetched.json()), (200, made.clone()), "the very same, text included");
        }
        let new = NewFactor {
            access_token: domain::Secret::new(made["token"].as_str().unwrap().to_owned()),
            ..world.new_factor(&service, "user-0001").await
        };
        // A refused request does not spend the access token.
        assert_error(&enroll(&world, &new, &SigningKey::generate(), &"x".repeat(65)).await, 400, 60306);
        assert_eq!(backend.get(&path, &[]).await.json(), made);
        world.phone(Style::Ios).enroll(&new).await.unwrap();
        assert_error(&backend.get(&path, &[]).await, 404, 20404);
    }
}

/// This test takes a minute, the minimum lifetime of an access token.
#[tokio::test]
async fn expired_access_token_is_refused() {
    let world = World::ephemeral();
    let backend = world.backend();
    let service = world.service().await;
    let form = [("Identity", "user-0001"), ("FactorType", "push"), ("Ttl", "60")];
    let made = created(&backend.post(&format!("/v2/Services/{service}/AccessTokens"), &form).await);
    let new = NewFactor {
        access_token: domain::Secret::new(made["token"].as_str().unwrap().to_owned()),
        ..world.new_factor(&service, "user-0001").await
    };
    let path = format!("/v2/Services/{service}/AccessTokens/{}", sid(&made));
    let gone = wait_until("the token expires", Duration::from_secs(90), async || {
        let reply = backend.get(&path, &[]).await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_error(&gone, 404, 20404);
    assert_error(&enroll(&world, &new, &SigningKey::generate(), "Phone").await, 401, 20003);
    assert_error(&backend.get(&entity(&service, "user-0001"), &[]).await, 404, 20404);
}

/// A clock that deviates from the system time by this many seconds.
struct WrongBy(i64);

impl Clock for WrongBy {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_seconds(self.0)
    }
}

on_every_database! {
    async fn phone_with_a_wrong_clock_adopts_the_server_time(world: World) {
        let service = world.service().await;
        for style in STYLES {
            for minutes in [-20, 20, 60 * 24 * 400] {
                let statuses = Arc::new(Mutex::new(Vec::new()));
                let seen = Arc::clone(&statuses);
                let phone = Phone::new(style, world.server.url(), Arc::new(WrongBy(minutes * 60)))
                    .unwrap()
                    .with_observer(Arc::new(move |exchange| {
                        seen.lock().unwrap().push(exchange.response.status);
                    }));
                let new = world.new_factor(&service, &format!("user-{style}-{minutes}")).await;
                let enrollment = phone.enroll(&new).await.unwrap();
                let off = phone.clock_offset() + minutes * 60;
                assert!((-10..=10).contains(&off), "still wrong by {off} seconds");
                let challenge = world.challenge(&enrollment, &[]).await;
                assert_eq!(pending(&phone, &enrollment).await, [sid(&challenge)]);
                phone.answer(&enrollment, sid(&challenge), Answer::Approved).await.unwrap();
                let statuses = statuses.lock().unwrap().clone();
                assert_eq!(statuses, [201, 401, 200, 200, 200, 200, 200], "the server sent its time once, with the first token");
            }
        }
    }
}

#[tokio::test]
async fn small_clock_difference_between_phone_and_server_is_tolerated() {
    let world = World::ephemeral();
    let service = world.service().await;
    for seconds in [-50, 50] {
        let clock = Arc::new(WrongBy(seconds));
        let phone = Phone::new(Style::Android, world.server.url(), clock).unwrap();
        phone.enroll(&world.new_factor(&service, "user-0001").await).await.unwrap();
        assert_eq!(phone.clock_offset(), 0, "{seconds} seconds needed a second try");
    }
}

#[tokio::test]
async fn phone_can_page_through_its_challenges() {
    let world = World::ephemeral();
    let service = world.service().await;
    for style in STYLES {
        let (phone, enrollment) = world.enrolled(style, &service, &format!("user-{style}")).await;
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(sid(&world.challenge(&enrollment, &[]).await).to_owned());
        }
        let mut request =
            ListRequest { status: Some(Status::Pending), page_size: 2, ..ListRequest::default() };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let list = phone.list_challenges(&enrollment, &request).await.unwrap();
            assert_eq!(list.page_size, 2);
            assert_eq!(list.previous_page_token.is_some(), pages > 0);
            found.extend(list.challenges.into_iter().map(|challenge| challenge.sid));
            pages += 1;
            match list.next_page_token {
                Some(token) => request.page_token = Some(token),
                None => break,
            }
        }
        assert_eq!((pages, found), (3, made));
    }
}
