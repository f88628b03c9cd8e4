//! TOTP factors and challenges: codes of authenticator apps.
//!
//! The server takes the time from the machine's clock. The tests therefore compute codes of the current time step and
//! of its neighbors, which the server accepts too ([`TotpFixture::code`]).

mod challenges;
mod factors;
mod flow;
mod limits;
mod phones;
mod races;

use app::SystemClock;
use device::AuthenticatorApp;
use domain::Clock as _;
use harness::Reply;
use serde_json::Value;

use crate::world::{World, created, entity};

/// The secret of RFC 6238, appendix B, for SHA-1.
const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// A TOTP factor, and the authenticator app that has its secret.
pub(crate) struct TotpFixture {
    pub(crate) sid: String,
    /// Path of the factor.
    pub(crate) path: String,
    /// Path of the challenges of the factor's entity.
    pub(crate) challenges: String,
    /// The response to the creation of the factor.
    created: Value,
    app: AuthenticatorApp,
}

impl TotpFixture {
    /// Creates an unverified factor, with these parameters in addition.
    pub(crate) async fn create(world: &World, service: &str, identity: &str, more: &[(&str, &str)]) -> Self {
        let created = created(&create(world, service, identity, more).await);
        let sid = created["sid"].as_str().unwrap().to_owned();
        let entity = entity(service, identity);
        Self {
            path: format!("{entity}/Factors/{sid}"),
            challenges: format!("{entity}/Challenges"),
            app: AuthenticatorApp::from_uri(created["binding"]["uri"].as_str().unwrap()).unwrap(),
            sid,
            created,
        }
    }

    /// Creates a factor and verifies it with the code of the previous time step, so that the codes of the current step
    /// and of the next two can be used. Two neighbors are accepted unless `more` has another `Config.Skew`.
    pub(crate) async fn verified(
        world: &World,
        service: &str,
        identity: &str,
        more: &[(&str, &str)],
    ) -> Self {
        let factor = Self::create(world, service, identity, &[&[("Config.Skew", "2")], more].concat()).await;
        let reply = factor.update(world, &[("AuthPayload", &factor.code(-1))]).await;
        assert_eq!((reply.status, &reply.json()["status"]), (200, &"verified".into()), "{reply:?}");
        factor
    }

    /// Returns the code that the app shows so many time steps after the current one.
    ///
    /// A code is used only once and no earlier one after it, so a test uses codes in ascending order.
    pub(crate) fn code(&self, steps: i64) -> String {
        let time_step = self.created["config"]["time_step"].as_i64().unwrap();
        self.app.code(SystemClock.now().plus_seconds(steps * time_step))
    }

    /// Returns so many codes that are wrong now and for the next minutes.
    pub(crate) fn wrong_codes(&self, number: usize) -> Vec<String> {
        let near: Vec<_> = (-5..=10).map(|steps| self.code(steps)).collect();
        let length = near[0].len();
        let codes = (0..).map(|number| format!("{number:0length$}")).filter(|code| !near.contains(code));
        codes.take(number).collect()
    }

    /// Returns the secret in base32.
    pub(crate) fn secret(&self) -> String {
        self.created["binding"]["secret"].as_str().unwrap().to_owned()
    }

    pub(crate) fn wrong_code(&self) -> String {
        self.wrong_codes(1).remove(0)
    }

    /// Updates the factor.
    pub(crate) async fn update(&self, world: &World, form: &[(&str, &str)]) -> Reply {
        world.backend().post(&self.path, form).await
    }

    /// Creates a challenge to the factor, with these parameters in addition.
    pub(crate) async fn challenge(&self, world: &World, more: &[(&str, &str)]) -> Reply {
        let form = [&[("FactorSid", self.sid.as_str())], more].concat();
        world.backend().post(&self.challenges, &form).await
    }

    /// Updates one of the factor's challenges.
    pub(crate) async fn answer(&self, world: &World, challenge: &Value, form: &[(&str, &str)]) -> Reply {
        let path = format!("{}/{}", self.challenges, challenge["sid"].as_str().unwrap());
        world.backend().post(&path, form).await
    }

    async fn stored(&self, world: &World) -> Value {
        ok(&world.backend().get(&self.path, &[]).await)
    }
}

/// Sends a request for a TOTP factor. `more` adds parameters or replaces them.
async fn create(world: &World, service: &str, identity: &str, more: &[(&str, &str)]) -> Reply {
    let plain = [("FactorType", "totp"), ("FriendlyName", "Ada's phone")];
    let plain = plain.into_iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    let form: Vec<_> = plain.chain(more.iter().copied()).collect();
    world.backend().post(&format!("{}/Factors", entity(service, identity)), &form).await
}

/// Returns the body of a reply, which must have status 200.
fn ok(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// Checks that a reply has this HTTP status and shows this status of the resource.
#[track_caller]
fn assert_status(reply: &Reply, status: u16, shown: &str) {
    assert_eq!((reply.status, reply.json()["status"].as_str()), (status, Some(shown)), "{reply:?}");
}
