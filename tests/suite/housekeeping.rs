//! Housekeeping of factors and challenges of every type.

use device::{Passkey, Style};
use harness::wait_until;
use serde_json::{Value, json};

use crate::deletion::sql;
use crate::passkeys::{IDENTITY, ORIGIN, RelyingParty};
use crate::totp::TotpFixture;
use crate::world::{WAIT_TIMEOUT, World, assert_error, created, on_every_database};

/// Returns the SIDs that the account can list at this path.
async fn listed(world: &World, path: &str, key: &str) -> Vec<String> {
    let reply = world.backend().get(path, &[("PageSize", "100")]).await;
    let items = reply.json()[key].as_array().unwrap_or_else(|| panic!("{reply:?}")).clone();
    items.iter().map(|item| text(&item["sid"])).collect()
}

/// Returns the number of rows of a table.
fn count(world: &World, table: &str) -> String {
    sql(world, &format!("SELECT count(*) FROM {table}")).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

on_every_database! {
    async fn unverified_factors_and_expired_challenges_of_every_type_are_removed(world: World) {
        const HOUR: i64 = 3_600_000_000;
        let mut world = world;
        if sql(&world, "SELECT 1").is_none() {
            return;
        }
        let party = RelyingParty::create(&world).await;
        let service = party.service.clone();
        let entity = party.entity(IDENTITY);
        let (factors, challenges) = (format!("{entity}/Factors"), format!("{entity}/Challenges"));

        // Verified factors of each type, and challenges in each state.
        let device = world.device(&service, IDENTITY).await;
        world.challenge(&device.enrollment, &[]).await;
        let totp = TotpFixture::verified(&world, &service, IDENTITY, &[]).await;
        created(&totp.challenge(&world, &[]).await);
        created(&totp.challenge(&world, &[("AuthPayload", &totp.code(0))]).await);
        let (mut passkey, factor) = party.passkey(IDENTITY).await;
        party.challenge(&json!({ "factor_sid": factor["sid"] })).await;
        party.challenge(&json!({ "identity": IDENTITY })).await;
        let old = party.challenge(&json!({})).await;
        let answered = party.challenge(&json!({})).await;
        let approved = party.approve(&passkey.sign_in(&answered["options"], ORIGIN).unwrap()).await;
        assert_eq!(approved.status, 200, "{approved:?}");
        let kept = listed(&world, &factors, "factors").await;
        assert_eq!((kept.len(), listed(&world, &challenges, "challenges").await.len()), (3, 6));

        // Unverified factors of each type.
        let new = world.new_factor(&service, IDENTITY).await;
        world.phone(Style::Android).create_factor(&new).await.unwrap();
        let stale_totp = TotpFixture::create(&world, &service, IDENTITY, &[]).await;
        let stale_passkey = party.new_passkey(IDENTITY).await;
        let all = listed(&world, &factors, "factors").await;
        let stale: Vec<_> = all.into_iter().filter(|sid| !kept.contains(sid)).collect();
        assert_eq!(stale.len(), 3);

        // All factors become 25 hours older, and all challenges 31 days.
        sql(&world, &format!("UPDATE factors SET created_at = created_at - {}", 25 * HOUR)).unwrap();
        let age = 31 * 24 * HOUR;
        let shift = format!("UPDATE challenges SET created_at = created_at - {age}, expires_at = expires_at - {age}");
        sql(&world, &shift).unwrap();
        let young_totp = TotpFixture::create(&world, &service, IDENTITY, &[]).await;
        let young_passkey = party.new_passkey(IDENTITY).await;
        let young = party.challenge(&json!({})).await;

        // A clean stop, so that the next server runs housekeeping at once.
        assert!(world.server.terminate().success());
        world.server.restart();
        wait_until("housekeeping has removed the challenges", WAIT_TIMEOUT, async || {
            (count(&world, "challenges") == "1").then_some(())
        })
        .await;
        let left = [kept.clone(), vec![young_totp.sid.clone(), text(&young_passkey["sid"])]].concat();
        assert_eq!(listed(&world, &factors, "factors").await, left);
        assert_eq!(listed(&world, &challenges, "challenges").await, [""; 0]);
        for (table, rows) in
            [("push_factors", "1"), ("totp_factors", "2"), ("passkey_factors", "2"), ("passkey_challenges", "1")]
        {
            assert_eq!(count(&world, table), rows, "{table}");
        }

        // What is gone can no longer be used, and the rest can.
        let party = RelyingParty::again(&world, &service);
        let code = stale_totp.code(0);
        assert_error(&stale_totp.update(&world, &[("AuthPayload", &code)]).await, 404, 20404);
        let (_, registration) = Passkey::register(&stale_passkey["options"], ORIGIN).unwrap();
        assert_error(&party.verify(&registration).await, 404, 60390);
        assert_error(&party.approve(&passkey.sign_in(&old["options"], ORIGIN).unwrap()).await, 404, 60391);
        let code = young_totp.code(0);
        assert_eq!(young_totp.update(&world, &[("AuthPayload", &code)]).await.json()["status"], "verified");
        let (_, registration) = Passkey::register(&young_passkey["options"], ORIGIN).unwrap();
        assert_eq!(party.verify(&registration).await.status, 200);
        assert_eq!(party.approve(&passkey.sign_in(&young["options"], ORIGIN).unwrap()).await.status, 200);
        let signed_in = created(&totp.challenge(&world, &[("AuthPayload", &totp.code(1))]).await);
        assert_eq!(signed_in["status"], "approved");

        for sid in &stale {
            let events = world.backend().get("/v1/Events", &[("ResourceSid", sid)]).await.json()["events"].clone();
            assert_eq!(events[0]["event_type"], "factor.deleted", "{sid}: {events}");
        }
    }
}
