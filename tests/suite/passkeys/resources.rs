//! Passkeys on the routes of all factors and challenges, and what happens to them beside the ceremonies.

use device::Passkey;
use harness::{Answer, Receiver};
use serde_json::{Value, json};

use super::{IDENTITY, ORIGIN, RelyingParty, text};
use crate::webhooks::{LOOPBACK_ARGUMENTS, calls, settled, webhook};
use crate::world::{World, assert_error, created, on_every_database};

on_every_database! {
    async fn passkey_is_renamed_and_deleted_like_other_factors(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, factor) = party.passkey(IDENTITY).await;
        let backend = world.backend();
        let path = format!("{}/Factors/{}", party.entity(IDENTITY), text(&factor["sid"]));
        let renamed = backend.post(&path, &[("FriendlyName", "Old laptop")]).await;
        let mut expected = factor.clone();
        expected["friendly_name"] = json!("Old laptop");
        expected["date_updated"] = renamed.json()["date_updated"].clone();
        assert_eq!((renamed.status, renamed.json()), (200, expected.clone()));
        // Parameters of other types are ignored.
        let ignored = backend.post(&path, &[("Config.SdkVersion", "1.0")]).await;
        assert_eq!((ignored.status, ignored.json()), (200, expected));
        let proof = [("AuthPayload", "MEUCIGRkXWOju0Dqc2++baMY5wSwlb1sKkM0ZSjvTfal6Y+M"), ("FriendlyName", "x")];
        assert_error(&backend.post(&path, &proof).await, 400, 60383);
        let long = "x".repeat(65);
        assert_error(&backend.post(&path, &[("FriendlyName", &long)]).await, 400, 60306);

        let pending = party.challenge(&json!({ "factor_sid": factor["sid"] })).await;
        let anyone = party.challenge(&json!({})).await;
        assert_eq!(backend.delete(&path, &[]).await.status, 204);
        assert_error(&backend.get(&path, &[]).await, 404, 20404);
        let sign_in = |passkey: &mut Passkey, made: &Value| passkey.sign_in(&made["options"], ORIGIN).unwrap();
        assert_error(&party.approve(&sign_in(&mut passkey, &pending)).await, 403, 60323);
        assert_error(&party.approve(&sign_in(&mut passkey, &anyone)).await, 404, 60390);
        assert_error(&party.post("Challenges", &json!({ "identity": IDENTITY })).await, 404, 60390);
        let made = party.new_passkey(IDENTITY).await;
        assert_eq!(made["options"]["publicKey"]["excludeCredentials"], json!([]));
    }
}

on_every_database! {
    async fn passkeys_of_a_deleted_entity_or_service_cannot_sign_in(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, _) = party.passkey(IDENTITY).await;
        let unverified = party.new_passkey(IDENTITY).await;
        let (_, registration) = Passkey::register(&unverified["options"], ORIGIN).unwrap();
        let anyone = party.challenge(&json!({})).await;
        let of_entity = party.challenge(&json!({ "identity": IDENTITY })).await;
        let backend = world.backend();
        assert_eq!(backend.delete(&party.entity(IDENTITY), &[]).await.status, 204);
        for made in [&anyone, &of_entity] {
            let reply = party.approve(&passkey.sign_in(&made["options"], ORIGIN).unwrap()).await;
            // Housekeeping may have removed the challenge of the entity already.
            let code = reply.json()["code"].as_i64().unwrap();
            assert!(reply.status == 404 && [60390, 60391].contains(&code), "{reply:?}");
        }
        assert_error(&party.verify(&registration).await, 404, 60390);
        assert_error(&party.post("Challenges", &json!({ "identity": IDENTITY })).await, 404, 60392);

        let (mut passkey, _) = party.passkey(IDENTITY).await;
        let made = party.challenge(&json!({})).await;
        assert_eq!(backend.delete(&format!("/v2/Services/{}", party.service), &[]).await.status, 204);
        assert_error(&party.approve(&passkey.sign_in(&made["options"], ORIGIN).unwrap()).await, 404, 20404);
    }
}

on_every_database! {
    async fn routes_of_other_types_refuse_passkeys(world: World) {
        let party = RelyingParty::create(&world).await;
        let (_, factor) = party.passkey(IDENTITY).await;
        let device = world.device(&party.service, IDENTITY).await;
        let made = party.challenge(&json!({ "factor_sid": factor["sid"] })).await;
        let (backend, entity) = (world.backend(), party.entity(IDENTITY));
        let sid = text(&factor["sid"]);
        let form = [("FactorType", "passkeys"), ("FriendlyName", "Laptop")];
        let refused = backend.post(&format!("{entity}/Factors"), &form).await;
        assert_error(&refused, 400, 60369);
        assert!(text(&refused.json()["message"]).contains("/Passkeys"), "{refused:?}");
        let form = [("FactorSid", sid.as_str()), ("Details.Message", "Sign in?")];
        assert_error(&backend.post(&format!("{entity}/Challenges"), &form).await, 400, 60369);
        let path = format!("{entity}/Challenges/{}", text(&made["sid"]));
        assert_error(&backend.post(&path, &[("AuthPayload", "x")]).await, 400, 60369);

        // A device sees neither the passkeys of its entity nor their challenges.
        let phone = harness::Http::new(world.server.url()).auth(device.auth());
        let factor = format!("{entity}/Factors/{sid}");
        assert_error(&phone.get(&factor, &[]).await, 404, 20404);
        assert_error(&phone.post(&factor, &[("FriendlyName", "x")]).await, 404, 20404);
        assert_error(&phone.delete(&factor, &[]).await, 404, 20404);
        assert_error(&phone.get(&path, &[]).await, 404, 20404);
        assert_eq!(phone.get(&format!("{entity}/Challenges"), &[]).await.json()["challenges"], json!([]));
        assert_eq!(backend.get(&factor, &[]).await.status, 200);
    }
}

on_every_database! {
    async fn entity_can_have_a_hundred_passkeys(world: World) {
        let party = RelyingParty::create(&world).await;
        for _ in 0..100 {
            party.new_passkey(IDENTITY).await;
        }
        let body = json!({ "friendly_name": "One more", "identity": IDENTITY });
        let refused = party.post("Factors", &body).await;
        assert_error(&refused, 400, 60315);
        let message = "Reached max limit of 100 passkeys Factors associated per Entity";
        assert_eq!(refused.json()["message"], message);
        // The other types have limits of their own.
        world.device(&party.service, IDENTITY).await;
        party.new_passkey("user-0002").await;
    }
}

on_every_database! {
    serving LOOPBACK_ARGUMENTS;
    async fn passkeys_send_no_webhooks(world: World) {
        let receiver = Receiver::start([Answer::ok()]);
        let party = RelyingParty::create(&world).await;
        webhook(&world, &party.service, &receiver.at("/"), &[]).await;
        let (mut passkey, factor) = party.passkey(IDENTITY).await;
        let made = party.challenge(&json!({})).await;
        assert_eq!(party.approve(&passkey.sign_in(&made["options"], ORIGIN).unwrap()).await.status, 200);
        let path = format!("{}/Factors/{}", party.entity(IDENTITY), text(&factor["sid"]));
        assert_eq!(world.backend().delete(&path, &[]).await.status, 204);
        let device = world.device(&party.service, IDENTITY).await;
        settled(&world, &[]).await;
        let calls = calls(&receiver, 2).await;
        assert_eq!(calls.len(), 2);
        for call in calls {
            let sid = call.form().iter().find(|(name, _)| name == "factor_sid").map(|(_, value)| value.clone());
            assert_eq!(sid.as_ref(), Some(&device.enrollment.factor_sid));
        }
    }
}

on_every_database! {
    async fn ceremonies_are_audited(world: World) {
        let party = RelyingParty::create(&world).await;
        let (mut passkey, factor) = party.passkey(IDENTITY).await;
        let made = party.challenge(&json!({})).await;
        assert_eq!(party.approve(&passkey.sign_in(&made["options"], ORIGIN).unwrap()).await.status, 200);
        let events = async |sid: &Value| {
            let query = [("ResourceSid", sid.as_str().unwrap())];
            let list = world.backend().get("/v1/Events", &query).await.json()["events"].clone();
            let events = list.as_array().unwrap();
            let types: Vec<_> = events.iter().map(|event| text(&event["event_type"])).collect();
            (types, events[0]["event_data"].clone())
        };
        let (types, data) = events(&factor["sid"]).await;
        assert_eq!(types, ["factor.verified", "factor.created"]);
        assert_eq!(data["entity_sid"], factor["entity_sid"]);
        let (types, data) = events(&made["sid"]).await;
        assert_eq!(types, ["challenge.approved", "challenge.created"]);
        assert_eq!(data["factor_sid"], factor["sid"]);
    }
}

on_every_database! {
    async fn mixed_factors_are_listed_by_creation(world: World) {
        let party = RelyingParty::create(&world).await;
        let (_, first) = party.passkey(IDENTITY).await;
        let device = world.device(&party.service, IDENTITY).await;
        let last = party.new_passkey(IDENTITY).await;
        let path = format!("{}/Factors", party.entity(IDENTITY));
        let list = async |path: &str, query: &[(&str, &str)]| world.backend().get(path, query).await.json();
        let mut sids = Vec::new();
        let mut page = list(&path, &[("PageSize", "1")]).await;
        loop {
            sids.extend(page["factors"].as_array().unwrap().iter().map(|factor| text(&factor["sid"])));
            let Some(next) = page["meta"]["next_page_url"].as_str().map(str::to_owned) else { break };
            page = list(&next, &[]).await;
        }
        assert_eq!(sids, [text(&first["sid"]), device.enrollment.factor_sid.clone(), text(&last["sid"])]);
        let body = json!({ "factor_sid": first["sid"] });
        created(&party.post("Challenges", &body).await);
    }
}
