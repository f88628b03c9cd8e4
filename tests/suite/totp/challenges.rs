//! TOTP challenges: with and without a code, retries, and what ends them.

use app::SystemClock;
use domain::Clock as _;
use harness::wait_until;
use serde_json::json;

use super::{TotpFixture, assert_status, ok};
use crate::world::{WAIT_TIMEOUT, World, assert_error, created, on_every_database};

on_every_database! {
    async fn totp_challenge_is_returned_with_every_documented_key(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
        let made = created(&factor.challenge(&world, &[("AuthPayload", &factor.code(0))]).await);
        let (sid, date) = (made["sid"].as_str().unwrap(), made["date_created"].as_str().unwrap());
        assert!(sid.starts_with("YC02"), "{made}");
        let url = format!("{}{}/{sid}", world.server.url(), factor.challenges);
        let expected = json!({
            "sid": sid,
            "account_sid": world.server.account_sid(),
            "service_sid": service,
            "entity_sid": factor.created["entity_sid"],
            "identity": "user-0001",
            "factor_sid": factor.sid,
            "date_created": date,
            "date_updated": date,
            "date_responded": date,
            "expiration_date": made["expiration_date"],
            "status": "approved",
            "responded_reason": "none",
            "details": { "message": "", "fields": [] },
            "hidden_details": null,
            "metadata": null,
            "factor_type": "totp",
            "url": url,
            "links": { "notifications": format!("{url}/Notifications") },
        });
        assert_eq!(made, expected);
        let path = format!("{}/{sid}", factor.challenges);
        assert_eq!(ok(&world.backend().get(&path, &[]).await), expected);
        assert_eq!(ok(&world.backend().get(&factor.challenges, &[]).await)["challenges"], json!([expected]));

        let form = [
            ("Details.Message", "Sign in?"),
            ("Details.Fields", r#"{"label":"IP","value":"192.0.2.1"}"#),
            ("HiddenDetails", r#"{"session":"7"}"#),
            ("AuthPayload", &*factor.wrong_code()),
        ];
        let detailed = created(&factor.challenge(&world, &form).await);
        let details = json!({ "message": "Sign in?", "fields": [{ "label": "IP", "value": "192.0.2.1" }] });
        assert_eq!((&detailed["details"], &detailed["hidden_details"]), (&details, &json!({ "session": "7" })));
        assert_eq!((&detailed["status"], &detailed["date_responded"]), (&json!("pending"), &json!(null)));
        let listed = ok(&world.backend().get(&factor.challenges, &[("Status", "approved")]).await);
        assert_eq!(listed["challenges"], json!([expected]));
    }
}

on_every_database! {
    async fn totp_challenge_accepts_a_right_code_within_five_wrong_ones(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
        let pending = created(&factor.challenge(&world, &[]).await);
        assert_eq!(pending["status"], "pending");
        for malformed in ["12", "123456789", "12345a", "a.b.c", " 123456"] {
            assert_error(&factor.answer(&world, &pending, &[("AuthPayload", malformed)]).await, 400, 60306);
        }
        for wrong in factor.wrong_codes(4) {
            assert_status(&factor.answer(&world, &pending, &[("AuthPayload", &wrong)]).await, 200, "pending");
        }
        let code = factor.code(0);
        let approved = factor.answer(&world, &pending, &[("AuthPayload", &code)]).await;
        assert_status(&approved, 200, "approved");
        assert_eq!(approved.json()["date_responded"], approved.json()["date_updated"]);
        for payload in [&*code, &*factor.wrong_code(), &*factor.code(1)] {
            let refused = factor.answer(&world, &pending, &[("AuthPayload", payload)]).await;
            assert_error(&refused, 403, 60322);
        }

        // The first code can come with the challenge; it counts among the five.
        let wrong = factor.wrong_codes(6);
        let locked = factor.challenge(&world, &[("AuthPayload", &wrong[0])]).await;
        assert_status(&locked, 201, "pending");
        let locked = locked.json();
        for wrong in &wrong[1..5] {
            assert_status(&factor.answer(&world, &locked, &[("AuthPayload", wrong)]).await, 200, "pending");
        }
        for code in [&*wrong[5], &*factor.code(1)] {
            let refused = factor.answer(&world, &locked, &[("AuthPayload", code)]).await;
            assert_error(&refused, 429, 60308);
            assert_eq!(refused.header("retry-after"), None, "waiting does not help");
        }
        // The refused code was not used up.
        assert_status(&factor.challenge(&world, &[("AuthPayload", &factor.code(1))]).await, 201, "approved");
    }
}

on_every_database! {
    async fn code_is_accepted_once_across_verification_and_challenges(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::create(&world, &service, "user-0001", &[("Config.Skew", "2")]).await;
        let (first, second, third) = (factor.code(0), factor.code(1), factor.code(2));
        assert_status(&factor.update(&world, &[("AuthPayload", &first)]).await, 200, "verified");
        assert_status(&factor.challenge(&world, &[("AuthPayload", &first)]).await, 201, "pending");
        let approved = factor.challenge(&world, &[("AuthPayload", &third)]).await;
        assert_status(&approved, 201, "approved");
        // An earlier code is used up as well.
        let pending = factor.challenge(&world, &[("AuthPayload", &second)]).await;
        assert_status(&pending, 201, "pending");
        let replay = factor.answer(&world, &pending.json(), &[("AuthPayload", &third)]).await;
        assert_status(&replay, 200, "pending");
        // The code of another factor is right for that factor only.
        let other = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
        let code = other.code(0);
        assert_status(&factor.answer(&world, &pending.json(), &[("AuthPayload", &code)]).await, 200, "pending");
        assert_status(&other.challenge(&world, &[("AuthPayload", &code)]).await, 201, "approved");
    }
}

on_every_database! {
    async fn metadata_can_be_set_with_and_without_a_code(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
        let pending = created(&factor.challenge(&world, &[]).await);
        assert_error(&factor.answer(&world, &pending, &[]).await, 400, 20001);
        let set = async |form: &[(&str, &str)]| {
            let body = ok(&factor.answer(&world, &pending, form).await);
            (body["status"].as_str().unwrap().to_owned(), body["metadata"].clone())
        };
        let of = |status: &str, number: &str| (status.to_owned(), json!({ "n": number }));
        assert_eq!(set(&[("Metadata", r#"{"n":"1"}"#)]).await, of("pending", "1"));
        let wrong = factor.wrong_code();
        assert_eq!(set(&[("Metadata", r#"{"n":"2"}"#), ("AuthPayload", &wrong)]).await, of("pending", "2"));
        let code = factor.code(0);
        assert_eq!(set(&[("Metadata", r#"{"n":"3"}"#), ("AuthPayload", &code)]).await, of("approved", "3"));
        assert_eq!(set(&[("Metadata", r#"{"n":"4"}"#)]).await, of("approved", "4"));
        assert_error(&factor.answer(&world, &pending, &[("Metadata", "[]")]).await, 400, 60306);
    }
}

on_every_database! {
    async fn expired_challenge_and_challenge_of_a_deleted_factor_accept_no_code(world: World) {
        let service = world.service().await;
        let factor = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
        let soon = SystemClock.now().plus_seconds(12).to_string();
        let expiring = created(&factor.challenge(&world, &[("ExpirationDate", &soon)]).await);
        let pending = created(&factor.challenge(&world, &[]).await);
        let path = format!("{}/{}", factor.challenges, expiring["sid"].as_str().unwrap());
        wait_until("the challenge has expired", WAIT_TIMEOUT, async || {
            (world.backend().get(&path, &[]).await.json()["status"] == "expired").then_some(())
        })
        .await;
        assert_error(&factor.answer(&world, &expiring, &[("AuthPayload", &factor.code(0))]).await, 403, 60323);

        assert_eq!(world.backend().delete(&factor.path, &[]).await.status, 204);
        assert_error(&factor.answer(&world, &pending, &[("AuthPayload", &factor.code(0))]).await, 403, 60323);
        assert_error(&factor.challenge(&world, &[("AuthPayload", &factor.code(0))]).await, 404, 20404);
        let listed = ok(&world.backend().get(&factor.challenges, &[("Status", "expired")]).await);
        assert_eq!(listed["challenges"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn totp_challenge_parameters_are_checked() {
    let world = World::ephemeral();
    let service = world.service().await;
    let factor = TotpFixture::create(&world, &service, "user-0001", &[]).await;
    assert_error(&factor.challenge(&world, &[("AuthPayload", &factor.code(0))]).await, 403, 60318);
    let factor = TotpFixture::verified(&world, &service, "user-0001", &[]).await;
    let backend = world.backend();
    assert_error(&backend.post(&factor.challenges, &[("AuthPayload", "123456")]).await, 400, 20001);
    let unknown = format!("YF02{}", "0".repeat(30));
    assert_error(&backend.post(&factor.challenges, &[("FactorSid", &unknown)]).await, 404, 20404);
    let elsewhere = TotpFixture::verified(&world, &service, "user-0002", &[]).await;
    assert_error(&backend.post(&factor.challenges, &[("FactorSid", &elsewhere.sid)]).await, 404, 20404);
    let (past, late) = ("2026-01-01T00:00:00Z", SystemClock.now().plus_seconds(3700).to_string());
    let (message, map) = ("x".repeat(257), format!(r#"{{"a":"{}"}}"#, "x".repeat(1020)));
    for (name, bad) in [
        ("AuthPayload", "12"),
        ("AuthPayload", "123456789"),
        ("AuthPayload", "12345x"),
        ("ExpirationDate", past),
        ("ExpirationDate", &*late),
        ("ExpirationDate", "soon"),
        ("Details.Message", &*message),
        ("Details.Fields", "{}"),
        ("HiddenDetails", &*map),
    ] {
        assert_error(&factor.challenge(&world, &[(name, bad)]).await, 400, 60306);
    }
    assert_eq!(ok(&backend.get(&factor.challenges, &[]).await)["challenges"], json!([]));
    let made = created(&factor.challenge(&world, &[("AuthPayload", "")]).await);
    assert_eq!(made["status"], "pending", "an empty parameter is absent");
    // Nothing is pushed, whether the challenge is pending or answered.
    let notify = async |challenge: &serde_json::Value| {
        let path = format!("{}/{}/Notifications", factor.challenges, challenge["sid"].as_str().unwrap());
        world.backend().post(&path, &[]).await
    };
    assert_error(&notify(&made).await, 400, 60307);
    ok(&factor.answer(&world, &made, &[("AuthPayload", &factor.code(0))]).await);
    assert_error(&notify(&made).await, 400, 60307);
}
