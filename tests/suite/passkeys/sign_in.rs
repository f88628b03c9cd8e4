//! Sign-in: what challenges show, and the refusals of `ApproveChallenge` in the order of its checks.

use device::Passkey;
use serde_json::{Value, json};

use super::{
    BACKED_UP, BACKUP_ELIGIBLE, IDENTITY, ORIGIN, RelyingParty, SETTINGS, USER_PRESENT, USER_VERIFIED,
    challenge_bytes, decode, edit_bytes, edit_flags, encode, set_client_data, text,
};
use crate::audit::sql;
use crate::races::{Request, send_at_once, split_outcomes};
use crate::world::{World, assert_error, created, on_every_database};

/// Returns what a challenge shows in any state.
fn challenge(party: &RelyingParty<'_>, made: &Value, route: &str) -> Value {
    json!({
        "sid": made["sid"],
        "account_sid": party.world.server.account_sid(),
        "service_sid": party.service,
        "entity_sid": "",
        "identity": "",
        "factor_sid": "",
        "factor_type": "passkeys",
        "status": "pending",
        "date_created": made["date_created"],
        "date_updated": made["date_updated"],
        "date_responded": null,
        "details": null,
        "expiration_date": null,
        "hidden_details": null,
        "links": null,
        "metadata": null,
        "responded_reason": "none",
        "url": format!("{}{}", party.world.server.url(), party.path(route)),
        "options": made["options"],
    })
}

on_every_database! {
    async fn passkey_signs_in_to_each_kind_of_challenge(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, factor) = party.passkey(IDENTITY).await;
        party.passkey("user-0002").await;
        let known = json!([{ "type": "public-key", "id": passkey.credential_id(), "transports": ["internal"] }]);
        for (body, allowed, names) in [
            (json!({}), json!([]), &[][..]),
            (json!({ "identity": null, "factor_sid": "" }), json!([]), &[]),
            (json!({ "identity": IDENTITY }), known.clone(), &["entity_sid", "identity"]),
            (json!({ "factor_sid": factor["sid"] }), known.clone(), &["entity_sid", "identity", "factor_sid"]),
            (
                json!({ "identity": IDENTITY, "factorSid": factor["sid"] }),
                known,
                &["entity_sid", "identity", "factor_sid"],
            ),
        ] {
            let made = party.challenge(&body).await;
            let sid = text(&made["sid"]);
            assert!(sid.starts_with("YC04"), "{made}");
            let mut expected = challenge(&party, &made, "Challenges");
            let value = |name: &str| if name == "factor_sid" { &factor["sid"] } else { &factor[name] };
            names.iter().for_each(|name| expected[*name] = value(name).clone());
            assert_eq!(made, expected, "{body}");
            let challenge_text = &made["options"]["publicKey"]["challenge"];
            assert_eq!((decode(challenge_text).len(), &decode(challenge_text)[..34]), (50, sid.as_bytes()));
            assert_eq!(
                made["options"],
                json!({ "publicKey": {
                    "challenge": challenge_text,
                    "timeout": 300_000,
                    "rpId": "example.com",
                    "allowCredentials": allowed,
                    "userVerification": "required",
                } })
            );

            let approved = party.approve(&passkey.sign_in(&made["options"], ORIGIN).unwrap()).await;
            let shown = approved.json();
            let mut expected = challenge(&party, &made, "ApproveChallenge");
            ["entity_sid", "identity"].iter().for_each(|name| expected[*name] = factor[*name].clone());
            expected["factor_sid"] = factor["sid"].clone();
            expected["status"] = json!("approved");
            expected["date_updated"] = shown["date_updated"].clone();
            expected["date_responded"] = shown["date_updated"].clone();
            assert_eq!((approved.status, &shown), (200, &expected), "{body}");

            // The list of the entity has it from now on.
            let path = format!("{}/Challenges/{sid}", party.entity(IDENTITY));
            expected.as_object_mut().unwrap().remove("options");
            expected["url"] = json!(format!("{}{path}", world.server.url()));
            assert_eq!(world.backend().get(&path, &[]).await.json(), expected);
        }
        let path = format!("{}/Factors/{}", party.entity(IDENTITY), text(&factor["sid"]));
        let used = world.backend().get(&path, &[]).await.json();
        let metadata = json!({
            "aaguid": "00000000-0000-0000-0000-000000000000",
            "date_last_approved": used["metadata"]["date_last_approved"],
        });
        assert_eq!(used["metadata"], metadata);
        assert!(text(&used["metadata"]["date_last_approved"]).ends_with('Z'), "{used}");
        assert_eq!(used["date_updated"], factor["date_updated"], "a sign-in does not change the factor");
        let path = format!("{}/Challenges", party.entity(IDENTITY));
        assert_eq!(world.backend().get(&path, &[]).await.json()["challenges"].as_array().unwrap().len(), 5);
    }
}

on_every_database! {
    async fn challenge_names_only_passkeys_that_can_answer_it(world: World) {
        let party = RelyingParty::create(&world).await;
        let (first, verified) = party.passkey(IDENTITY).await;
        let (second, _) = party.passkey(IDENTITY).await;
        let unverified = party.new_passkey(IDENTITY).await;
        let device = world.device(&party.service, "user-0003").await;
        let allowed = party.challenge(&json!({ "identity": IDENTITY })).await;
        let allowed: Vec<_> = allowed["options"]["publicKey"]["allowCredentials"].as_array().unwrap().clone();
        let ids: Vec<_> = allowed.iter().map(|allowed| text(&allowed["id"])).collect();
        assert_eq!(ids, [first.credential_id(), second.credential_id()]);

        let other = RelyingParty::create(&world).await;
        let unknown = format!("YF04{}", "0".repeat(30));
        for (party, body, status, code) in [
            (&party, json!({ "identity": "user-0002" }), 404, 60392),
            (&party, json!({ "identity": "short" }), 404, 60392),
            (&party, json!({ "identity": 7 }), 404, 60392),
            (&party, json!({ "identity": "user-0003" }), 404, 60390),
            (&party, json!({ "factor_sid": "YF04" }), 400, 60362),
            (&party, json!({ "factor_sid": ["YF04"] }), 400, 60362),
            (&party, json!({ "factor_sid": unknown }), 404, 60390),
            (&party, json!({ "factor_sid": device.enrollment.factor_sid }), 404, 60390),
            (&party, json!({ "factor_sid": unverified["sid"] }), 403, 60318),
            (&party, json!({ "factor_sid": verified["sid"], "identity": "user-0003" }), 404, 60390),
            (&other, json!({ "factor_sid": verified["sid"] }), 404, 60390),
        ] {
            let reply = party.post("Challenges", &body).await;
            assert_eq!(reply.status, status, "{body}: {reply:?}");
            assert_error(&reply, status, code);
        }
    }
}

on_every_database! {
    async fn challenge_has_the_relying_party_of_the_service_or_of_the_newest_passkey(world: World) {
        let party = RelyingParty::with_settings(&world, &[("FriendlyName", "Owl Bank")]).await;
        assert_error(&party.post("Challenges", &json!({})).await, 400, 60371);
        let register = async |id: &str, user_verification: &str| {
            let body = json!({
                "friendly_name": "Laptop",
                "identity": IDENTITY,
                "config": {
                    "relying_party": { "id": id, "name": "Owl Bank" },
                    "authenticator_attachment": "any",
                    "discoverable_credentials": "preferred",
                    "user_verification": user_verification,
                },
            });
            let made = created(&party.post("Factors", &body).await);
            let origin = format!("https://{id}");
            let (passkey, credential) = Passkey::register(&made["options"], &origin).unwrap();
            assert_eq!(party.verify(&credential).await.status, 200);
            passkey
        };
        let mut first = register("owl.example", "required").await;
        register("bat.example", "preferred").await;
        register("bat.example", "discouraged").await;
        let asked = async |body: Value| party.challenge(&body).await["options"]["publicKey"].clone();
        let newest = asked(json!({ "identity": IDENTITY })).await;
        assert_eq!((&newest["rpId"], &newest["userVerification"]), (&json!("bat.example"), &json!("preferred")));
        assert_eq!(newest["allowCredentials"].as_array().unwrap().len(), 2);

        let path = format!("/v2/Services/{}", party.service);
        let settings = [("Passkeys.RelyingParty.Id", "owl.example"), ("Passkeys.UserVerification", "discouraged")];
        assert_eq!(world.backend().post(&path, &settings).await.status, 200);
        let own = asked(json!({ "identity": IDENTITY })).await;
        assert_eq!((&own["rpId"], &own["userVerification"]), (&json!("owl.example"), &json!("required")));
        let any = asked(json!({})).await;
        assert_eq!((&any["rpId"], &any["userVerification"]), (&json!("owl.example"), &json!("discouraged")));
        // The passkey requires what the challenge does not.
        first.set_user_verification(false);
        let reply = party.approve(&first.sign_in(&any, "https://owl.example").unwrap()).await;
        assert_error(&reply, 400, 60379);
        first.set_user_verification(true);
        assert_eq!(party.approve(&first.sign_in(&any, "https://owl.example").unwrap()).await.status, 200);
    }
}

/// A change to the body of `ApproveChallenge`, and the status and code with which the result is refused.
type Row = (&'static str, fn(&mut Value), u16, i64);

const REFUSALS: &[Row] = &[
    ("no response", |it| it["response"] = Value::Null, 400, 60378),
    ("no signature", |it| it["response"]["signature"] = Value::Null, 400, 60378),
    ("no authenticator data", |it| it["response"]["authenticatorData"] = Value::Null, 400, 60378),
    ("no ID", |it| (it["id"], it["rawId"]) = (Value::Null, Value::Null), 400, 60375),
    ("another rawId", |it| it["rawId"] = json!("AAAA"), 400, 60376),
    ("another attachment", |it| it["authenticatorAttachment"] = json!("usb"), 400, 60377),
    ("client data is not JSON", |it| it["response"]["clientDataJSON"] = encode("["), 400, 60380),
    ("another ceremony", |it| set_client_data(it, "type", json!("webauthn.create")), 400, 60380),
    (
        "challenge of no challenge",
        |it| set_client_data(it, "challenge", encode(format!("YC04{}", "0".repeat(46)))),
        404,
        60391,
    ),
    (
        "challenge of a passkey",
        |it| set_client_data(it, "challenge", encode(format!("YF04{}", "0".repeat(46)))),
        404,
        60391,
    ),
    (
        "another challenge with the SID",
        |it| {
            let mut bytes = challenge_bytes(it);
            bytes[49] ^= 1;
            set_client_data(it, "challenge", encode(bytes));
        },
        400,
        60380,
    ),
    ("another origin", |it| set_client_data(it, "origin", json!("https://bad.example.com")), 400, 60380),
    ("a frame", |it| set_client_data(it, "crossOrigin", json!(true)), 400, 60380),
    ("another top origin", |it| set_client_data(it, "topOrigin", json!("https://example.org")), 400, 60380),
    ("unknown credential", |it| (it["id"], it["rawId"]) = (json!("AAAA"), json!("AAAA")), 404, 60390),
    ("no user handle", |it| it["response"]["userHandle"] = Value::Null, 400, 60378),
    ("empty user handle", |it| it["response"]["userHandle"] = json!(""), 400, 60378),
    ("another user handle", |it| it["response"]["userHandle"] = encode("YE"), 400, 60378),
    ("short authenticator data", |it| edit_data(it, |data| data.truncate(36)), 400, 60379),
    ("another relying party", |it| edit_data(it, |data| data[0] ^= 1), 400, 60382),
    ("no user presence", |it| edit_data(it, |data| edit_flags(data, 0, USER_PRESENT)), 400, 60379),
    ("no user verification", |it| edit_data(it, |data| edit_flags(data, 0, USER_VERIFIED)), 400, 60379),
    ("backed up, but not eligible", |it| edit_data(it, |data| edit_flags(data, BACKED_UP, 0)), 400, 60379),
    ("eligible for backup now", |it| edit_data(it, |data| edit_flags(data, BACKUP_ELIGIBLE, 0)), 400, 60379),
    ("bytes after the counter", |it| edit_data(it, |data| data.push(0)), 400, 60379),
    ("signature is not base64url", |it| it["response"]["signature"] = json!("+"), 400, 60381),
    ("signature of other data", |it| edit_data(it, |data| data[36] ^= 4), 400, 60381),
    (
        "altered signature",
        |it| edit_bytes(it, "signature", |signature| *signature.last_mut().unwrap() ^= 1),
        400,
        60381,
    ),
    ("additional client data", |it| set_client_data(it, "more", json!(1)), 400, 60381),
];

fn edit_data(credential: &mut Value, edit: impl FnOnce(&mut Vec<u8>)) {
    edit_bytes(credential, "authenticatorData", edit);
}

on_every_database! {
    async fn sign_in_is_refused_at_the_first_failed_check(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, _) = party.passkey(IDENTITY).await;
        let made = party.challenge(&json!({})).await;
        let credential = passkey.sign_in(&made["options"], ORIGIN).unwrap();
        let before = world.everything().await;
        for (what, change, status, code) in REFUSALS {
            let mut changed = credential.clone();
            change(&mut changed);
            let reply = party.approve(&changed).await;
            assert_eq!(reply.status, *status, "{what}: {reply:?}");
            assert_error(&reply, *status, *code);
        }
        assert_eq!(world.everything().await, before);
        assert_eq!(alerts(&world).await, [] as [Value; 0]);
        assert_eq!(party.approve(&credential).await.status, 200);
        assert_error(&party.approve(&credential).await, 403, 60322);
        assert_eq!(alerts(&world).await, [] as [Value; 0], "a repeated answer is not a sign of a copied passkey");
    }
}

on_every_database! {
    async fn passkey_that_the_challenge_does_not_permit_is_refused(world: World) {
        let (party, other) = (RelyingParty::create(&world).await, RelyingParty::create(&world).await);
        let (mut first, first_factor) = party.passkey(IDENTITY).await;
        let (mut sibling, _) = party.passkey(IDENTITY).await;
        let (mut stranger, _) = party.passkey("user-0002").await;
        let (mut of_other_service, _) = other.passkey(IDENTITY).await;
        let sign_in = |passkey: &mut Passkey, made: &Value| {
            let mut options = made["options"].clone();
            options["publicKey"]["allowCredentials"] = json!([]);
            passkey.sign_in(&options, ORIGIN).unwrap()
        };
        let asked = party.challenge(&json!({ "factor_sid": first_factor["sid"] })).await;
        for passkey in [&mut sibling, &mut stranger, &mut of_other_service] {
            assert_error(&party.approve(&sign_in(passkey, &asked)).await, 404, 60390);
        }
        let asked_entity = party.challenge(&json!({ "identity": IDENTITY })).await;
        for passkey in [&mut stranger, &mut of_other_service] {
            assert_error(&party.approve(&sign_in(passkey, &asked_entity)).await, 404, 60390);
        }
        let anyone = party.challenge(&json!({})).await;
        assert_error(&party.approve(&sign_in(&mut of_other_service, &anyone)).await, 404, 60390);
        // The challenge of another service is not found, although its passkey is.
        assert_error(&other.approve(&sign_in(&mut first, &anyone)).await, 404, 60391);
        let foreign = other.challenge(&json!({})).await;
        assert_error(&party.approve(&sign_in(&mut first, &foreign)).await, 404, 60391);

        for (passkey, made) in [(&mut first, &asked), (&mut sibling, &asked_entity), (&mut stranger, &anyone)] {
            let reply = party.approve(&sign_in(passkey, made)).await;
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    }
}

on_every_database! {
    async fn passkey_of_another_relying_party_is_refused(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, _) = party.passkey(IDENTITY).await;
        let path = format!("/v2/Services/{}", party.service);
        let settings = [("Passkeys.RelyingParty.Id", "example.org"), ("Passkeys.RelyingParty.Origins", "")];
        assert_eq!(world.backend().post(&path, &settings).await.status, 200);
        party.post("Factors", &json!({ "friendly_name": "New", "identity": IDENTITY })).await;
        assert_error(&party.post("Challenges", &json!({ "identity": IDENTITY })).await, 404, 60390);
        let made = party.new_passkey(IDENTITY).await;
        let (_, credential) = Passkey::register(&made["options"], "https://example.org").unwrap();
        assert_eq!(party.verify(&credential).await.status, 200);
        let asked = party.challenge(&json!({ "identity": IDENTITY })).await;
        let mut options = asked["options"].clone();
        options["publicKey"]["rpId"] = json!("example.com");
        options["publicKey"]["allowCredentials"] = json!([]);
        let credential = passkey.sign_in(&options, "https://example.org").unwrap();
        assert_error(&party.approve(&credential).await, 400, 60382);
    }
}

/// Returns the account's alerts.
async fn alerts(world: &World) -> Vec<Value> {
    world.backend().get("/v1/Alerts", &[]).await.json()["alerts"].as_array().unwrap().clone()
}

on_every_database! {
    async fn signature_counter_that_does_not_grow_is_refused_with_an_alert(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, factor) = party.passkey(IDENTITY).await;
        let asked = async |party: &RelyingParty<'_>| party.challenge(&json!({ "identity": IDENTITY })).await;
        passkey.set_sign_count(6);
        let made = asked(&party).await;
        assert_eq!(party.approve(&passkey.sign_in(&made["options"], ORIGIN).unwrap()).await.status, 200);

        let made = asked(&party).await;
        for count in [6, 0] {
            passkey.set_sign_count(count);
            let reply = party.approve(&passkey.sign_in(&made["options"], ORIGIN).unwrap()).await;
            assert_error(&reply, 400, 60379);
        }
        let raised = alerts(&world).await;
        assert_eq!(raised.len(), 2);
        for alert in raised {
            let found = ["service_sid", "resource_sid", "error_code", "log_level"].map(|name| alert[name].clone());
            assert_eq!(json!(found), json!([party.service, factor["sid"], "60379", "warning"]), "{alert}");
        }
        let query = [("EventType", "factor.counter")];
        let events = world.backend().get("/v1/Events", &query).await.json();
        let events = events["events"].as_array().unwrap();
        assert_eq!(events.len(), 2);
        assert!(events.iter().all(|event| event["resource_sid"] == factor["sid"]), "{events:?}");
        assert_eq!(events[0]["event_data"]["challenge_sid"], made["sid"], "{events:?}");

        passkey.set_sign_count(7);
        let approved = party.approve(&passkey.sign_in(&made["options"], ORIGIN).unwrap()).await;
        assert_eq!(approved.status, 200, "the challenge is still pending: {approved:?}");
    }
}

on_every_database! {
    async fn challenge_expires_after_five_minutes(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, _) = party.passkey(IDENTITY).await;
        let made = party.challenge(&json!({ "identity": IDENTITY })).await;
        let credential = passkey.sign_in(&made["options"], ORIGIN).unwrap();
        sql(&world, "UPDATE challenges SET expires_at = created_at, created_at = created_at - 300000000");
        assert_error(&party.approve(&credential).await, 403, 60323);
        let path = format!("{}/Challenges/{}", party.entity(IDENTITY), text(&made["sid"]));
        assert_eq!(world.backend().get(&path, &[]).await.json()["status"], "expired");
    }
}

on_every_database! {
    async fn exactly_one_of_many_concurrent_sign_ins_is_accepted(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, _) = party.passkey(IDENTITY).await;
        let path = party.path("ApproveChallenge");
        for _ in 0..3 {
            let made = party.challenge(&json!({})).await;
            let same = passkey.sign_in(&made["options"], ORIGIN).unwrap();
            let requests = (0..10).map(|_| Request::with_json(&world.server, &path, &same)).collect();
            let (approved, refused) = split_outcomes(&send_at_once(requests).await);
            assert_eq!(approved.len(), 1);
            assert_eq!(refused, vec![(403, 60322); 9]);
        }
        assert_eq!(alerts(&world).await, [] as [Value; 0]);
    }
}

on_every_database! {
    async fn counter_of_concurrent_sign_ins_with_one_passkey_only_grows(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, _) = party.passkey(IDENTITY).await;
        let path = party.path("ApproveChallenge");
        let mut requests = Vec::new();
        for _ in 0..8 {
            let made = party.challenge(&json!({})).await;
            // A copied passkey: each signature has the same counter.
            passkey.set_sign_count(4);
            let credential = passkey.sign_in(&made["options"], ORIGIN).unwrap();
            requests.push(Request::with_json(&world.server, &path, &credential));
        }
        let (approved, refused) = split_outcomes(&send_at_once(requests).await);
        assert_eq!(approved.len(), 1);
        assert_eq!(refused, vec![(400, 60379); 7]);
        assert_eq!(alerts(&world).await.len(), 7);
    }
}

#[tokio::test]
async fn members_of_a_sign_in_may_be_in_snake_case_or_absent() {
    let world = World::ephemeral();
    let party = RelyingParty::create(&world).await;
    let (mut passkey, _) = party.passkey(IDENTITY).await;
    let changes: [fn(&mut Value); 3] = [
        |it| {
            let response = &it["response"];
            *it = json!({
                "raw_id": it["rawId"],
                "authenticator_attachment": null,
                "response": {
                    "client_data_json": response["clientDataJSON"],
                    "authenticator_data": response["authenticatorData"],
                    "signature": response["signature"],
                    "user_handle": response["userHandle"],
                },
            });
        },
        |it| *it = json!({ "id": it["id"], "response": it["response"] }),
        |it| it["response"]["userHandle"] = Value::Null,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let made = party.challenge(&json!({ "identity": IDENTITY })).await;
        let mut credential = passkey.sign_in(&made["options"], ORIGIN).unwrap();
        change(&mut credential);
        let reply = party.approve(&credential).await;
        assert_eq!(reply.status, 200, "{number}: {reply:?}");
    }
}

#[tokio::test]
async fn page_of_a_subdomain_signs_in_only_if_its_origin_is_listed() {
    let world = World::ephemeral();
    let party = RelyingParty::create(&world).await;
    assert!(SETTINGS[3].1.contains("https://login.example.com"));
    let (mut passkey, _) = party.passkey(IDENTITY).await;
    for (origin, status) in [("https://login.example.com", 200), ("https://example.com:8443", 400)] {
        let made = party.challenge(&json!({})).await;
        let reply = party.approve(&passkey.sign_in(&made["options"], origin).unwrap()).await;
        assert_eq!(reply.status, status, "{origin}: {reply:?}");
    }
}
