//! Refusals that depend on stored data: duplicates, factors that cannot be challenged, and maximum counts.

use harness::Http;

use super::{CHALLENGES, ENTITIES, FACTORS, not_found, post, refused, with};
use crate::fixture::{Fixture, IDENTITY};
use crate::world::{World, created, entity, on_every_database, signed_in};

on_every_database! {
    async fn request_that_conflicts_with_stored_data_is_refused_and_changes_nothing(world: World) {
        let backend = world.backend();
        let fixture = Fixture::create(&world).await;
        let (factors, challenges) = (fixture.path(FACTORS), fixture.path(CHALLENGES));
        let own_key = fixture.device.key.public_key_base64();

        // The same public key again, sent by the backend and by a phone.
        let again = with(&fixture.form(FACTORS), &[("Binding.PublicKey", &own_key)]);
        let before = world.everything().await;
        let phone = Http::new(world.server.url())
            .auth(signed_in(fixture.token["token"].as_str().unwrap()));
        for client in [&backend, &phone] {
            let reply = post(client, &factors, &again).await;
            refused(409, 60317, "Factor already exists").assert(&reply, "the same key");
        }
        assert_eq!(world.everything().await, before);
        let token = fixture.path("/v2/Services/{ServiceSid}/AccessTokens/{Sid}");
        assert_eq!(backend.get(&token, &[]).await.json(), fixture.token, "and is not spent by that");
        // Another entity may have the same phone.
        let other = format!("{}/Factors", entity(&fixture.service, "user-0002"));
        let unverified = created(&post(&backend, &other, &again).await);

        // Factors that cannot be challenged.
        let before = world.everything().await;
        let unverified = unverified["sid"].as_str().unwrap();
        let path = format!("{}/Challenges", entity(&fixture.service, "user-0002"));
        let form = with(&fixture.form(CHALLENGES), &[("FactorSid", unverified)]);
        refused(403, 60318, "Factor is unverified").assert(&post(&backend, &path, &form).await, "unverified");
        for sid in [unverified, &format!("YF03{}", "0".repeat(30))] {
            let form = with(&fixture.form(CHALLENGES), &[("FactorSid", sid)]);
            not_found().assert(&post(&backend, &challenges, &form).await, "another's factor");
        }

        // An existing identity.
        let entities = fixture.path(ENTITIES);
        let reply = backend.post(&entities, &[("Identity", IDENTITY)]).await;
        refused(409, 60301, "Entity already exists").assert(&reply, "the same identity");
        assert_eq!(world.everything().await, before);

        // The twenty-first factor is refused for every caller, whatever the state of the others.
        for _ in 1..20 {
            created(&post(&backend, &factors, &fixture.form(FACTORS)).await);
        }
        let before = world.everything().await;
        let refusal = refused(400, 60315, "Reached max limit of 20 push Factors associated per Entity");
        for client in [&backend, &phone] {
            refusal.assert(&post(client, &factors, &fixture.form(FACTORS)).await, "the twenty-first");
        }
        assert_eq!(world.everything().await, before);
        assert_eq!(backend.delete(&fixture.device.path(), &[]).await.status, 204);
        created(&post(&phone, &factors, &fixture.form(FACTORS)).await);
    }
}
