//! Phones: neither access tokens nor device tokens reach TOTP factors and challenges.

use harness::Http;
use serde_json::{Value, json};

use super::TotpFixture;
use crate::fixture::{Fixture, IDENTITY};
use crate::matrix::{Backends, client, unauthenticated_callers};
use crate::world::{World, assert_error, created, entity, on_every_database, signed_in};

/// The requests about a TOTP factor and a TOTP challenge of the fixture's entity.
struct Requests {
    /// Paths of the factor, of the challenge, and of the challenge's notifications.
    factor: String,
    challenge: String,
    notifications: String,
    /// Paths of the collections.
    factors: String,
    challenges: String,
    sid: String,
}

impl Requests {
    fn new(factor: &TotpFixture, challenge: &Value) -> Self {
        let path = format!("{}/{}", factor.challenges, challenge["sid"].as_str().unwrap());
        Self {
            factor: factor.path.clone(),
            notifications: format!("{path}/Notifications"),
            challenge: path,
            factors: factor.path.rsplit_once('/').unwrap().0.to_owned(),
            challenges: factor.challenges.clone(),
            sid: factor.sid.clone(),
        }
    }

    /// Sends every request with `client`. Expects `created` for a new factor, `one` for requests about one resource,
    /// and `backend` for the others.
    async fn assert_refused(&self, client: &Http, created: (u16, i64), one: (u16, i64), backend: (u16, i64)) {
        let new = [("FactorType", "totp"), ("FriendlyName", "New")];
        let code = [("AuthPayload", "123456")];
        let challenge = [("FactorSid", self.sid.as_str()), ("AuthPayload", "123456")];
        for (reply, (status, code)) in [
            (client.post(&self.factors, &new).await, created),
            (client.get(&self.factors, &[]).await, backend),
            (client.get(&self.factor, &[]).await, one),
            (client.post(&self.factor, &code).await, one),
            (client.delete(&self.factor, &[]).await, one),
            (client.post(&self.challenges, &challenge).await, backend),
            (client.get(&self.challenge, &[]).await, one),
            (client.post(&self.challenge, &code).await, one),
            (client.post(&self.challenge, &[("Metadata", "{}")]).await, one),
            (client.post(&self.notifications, &[]).await, backend),
        ] {
            assert_error(&reply, status, code);
        }
    }
}

on_every_database! {
    async fn phones_and_strangers_reach_no_totp_factor_or_challenge(world: World) {
        let backends = Backends::create(&world);
        let fixture = Fixture::create(&world).await;
        let factor = TotpFixture::verified(&world, &fixture.service, IDENTITY, &[]).await;
        let challenge = created(&factor.challenge(&world, &[]).await);
        let requests = Requests::new(&factor, &challenge);
        let strangers = unauthenticated_callers(&world, &fixture, &backends).await;
        let before = fixture.state(&world).await;

        for (name, auth) in strangers {
            eprintln!("{name}");
            requests.assert_refused(&client(&world, &auth), (401, 20003), (401, 20003), (401, 20003)).await;
        }
        let enrollee = client(&world, &signed_in(fixture.token["token"].as_str().unwrap()));
        requests.assert_refused(&enrollee, (403, 60313), (403, 20403), (403, 20403)).await;
        assert_error(&enrollee.get(&requests.challenges, &[]).await, 403, 20403);
        let device = client(&world, &fixture.device.auth());
        requests.assert_refused(&device, (403, 20403), (404, 20404), (403, 20403)).await;
        // A device lists its own challenges only.
        let listed = device.get(&requests.challenges, &[]).await;
        assert_eq!((listed.status, &listed.json()["challenges"]), (200, &json!([fixture.challenge])));
        let filter = [("FactorSid", factor.sid.as_str())];
        assert_error(&device.get(&requests.challenges, &filter).await, 404, 20404);
        // Another account sees nothing.
        let (sid, token) = &backends.other();
        let other = client(&world, &harness::Auth::Basic(sid.clone(), token.clone()));
        requests.assert_refused(&other, (404, 20404), (404, 20404), (404, 20404)).await;

        assert_eq!(fixture.state(&world).await, before);
        // An access token is for push factors only.
        let form = [("Identity", IDENTITY), ("FactorType", "totp")];
        let path = format!("/v2/Services/{}/AccessTokens", fixture.service);
        assert_error(&world.backend().post(&path, &form).await, 400, 60369);
        // An API key may do everything that the account may do.
        let key = client(&world, &harness::Auth::Basic(backends.key.0.clone(), backends.key.1.clone()));
        let approved = key.post(&requests.challenge, &[("AuthPayload", &factor.code(0))]).await;
        assert_eq!(approved.json()["status"], "approved", "{approved:?}");
        assert_eq!(key.delete(&requests.factor, &[]).await.status, 204);
        assert_eq!(key.get(&entity(&fixture.service, IDENTITY), &[]).await.status, 200);
    }
}
