//! Passkeys: registration and sign-in with a software authenticator, and every refusal of both.

mod bodies;
mod registration;
mod resources;
mod settings;
mod sign_in;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use device::Passkey;
use harness::Reply;
use serde_json::{Value, json};

use crate::world::{World, created};

/// The origin of the page that uses the passkeys.
pub(crate) const ORIGIN: &str = "https://example.com";

/// The identity of the user.
pub(crate) const IDENTITY: &str = "user-0001";

/// The settings of a service with the relying party `example.com`.
const SETTINGS: [(&str, &str); 7] = [
    ("FriendlyName", "Owl Bank"),
    ("Passkeys.RelyingParty.Id", "example.com"),
    ("Passkeys.RelyingParty.Name", "Owl Bank"),
    ("Passkeys.RelyingParty.Origins", "https://example.com,https://login.example.com"),
    ("Passkeys.AuthenticatorAttachment", "platform"),
    ("Passkeys.DiscoverableCredentials", "required"),
    ("Passkeys.UserVerification", "required"),
];

/// A service that is a relying party.
pub(crate) struct RelyingParty<'w> {
    world: &'w World,
    pub(crate) service: String,
}

impl<'w> RelyingParty<'w> {
    /// Creates a service with the relying party `example.com`.
    pub(crate) async fn create(world: &'w World) -> Self {
        Self::with_settings(world, &SETTINGS).await
    }

    /// Creates a service with these settings.
    async fn with_settings(world: &'w World, settings: &[(&str, &str)]) -> Self {
        let service = created(&world.backend().post("/v2/Services", settings).await);
        Self { world, service: text(&service["sid"]) }
    }

    /// Returns the same service after a restart of the server.
    pub(crate) fn again(world: &'w World, service: &str) -> Self {
        Self { world, service: service.to_owned() }
    }

    /// Returns the path of a route of passkeys.
    fn path(&self, route: &str) -> String {
        format!("/v2/Services/{}/Passkeys/{route}", self.service)
    }

    async fn post(&self, route: &str, body: &Value) -> Reply {
        self.world.backend().post_json(&self.path(route), body).await
    }

    /// Returns the path of an entity of the service.
    pub(crate) fn entity(&self, identity: &str) -> String {
        crate::world::entity(&self.service, identity)
    }

    /// Creates an unverified passkey and returns it.
    pub(crate) async fn new_passkey(&self, identity: &str) -> Value {
        let body = json!({ "friendly_name": "Anna's laptop", "identity": identity });
        created(&self.post("Factors", &body).await)
    }

    /// Returns a verified passkey, and its factor.
    pub(crate) async fn passkey(&self, identity: &str) -> (Passkey, Value) {
        let made = self.new_passkey(identity).await;
        let (passkey, credential) = Passkey::register(&made["options"], ORIGIN).unwrap();
        let verified = self.verify(&credential).await;
        assert_eq!(verified.status, 200, "{verified:?}");
        (passkey, verified.json())
    }

    pub(crate) async fn verify(&self, credential: &Value) -> Reply {
        self.post("VerifyFactor", credential).await
    }

    /// Creates a challenge and returns it.
    pub(crate) async fn challenge(&self, body: &Value) -> Value {
        created(&self.post("Challenges", body).await)
    }

    pub(crate) async fn approve(&self, credential: &Value) -> Reply {
        self.post("ApproveChallenge", credential).await
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}

fn encode(bytes: impl AsRef<[u8]>) -> Value {
    URL_SAFE_NO_PAD.encode(bytes).into()
}

fn decode(value: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

/// Replaces a member of the client data of a credential.
fn set_client_data(credential: &mut Value, name: &str, value: Value) {
    let place = &mut credential["response"]["clientDataJSON"];
    let mut client_data: Value = serde_json::from_slice(&decode(place)).unwrap();
    client_data[name] = value;
    *place = encode(client_data.to_string());
}

/// Returns the challenge in the client data of a credential.
fn challenge_bytes(credential: &Value) -> Vec<u8> {
    let client_data = decode(&credential["response"]["clientDataJSON"]);
    decode(&serde_json::from_slice::<Value>(&client_data).unwrap()["challenge"])
}

/// Changes the bytes of a member of the response of a credential.
fn edit_bytes(credential: &mut Value, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let place = &mut credential["response"][name];
    let mut bytes = decode(place);
    edit(&mut bytes);
    *place = encode(bytes);
}

/// Changes the flags in the authenticator data, the byte after the hash of the relying party.
fn edit_flags(data: &mut [u8], set: u8, clear: u8) {
    data[32] = data[32] & !clear | set;
}

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;
const ATTESTED_CREDENTIAL: u8 = 0x40;
