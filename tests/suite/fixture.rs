//! One resource of every kind, for tests that walk over all routes.

use std::time::Duration;

use device::{Passkey, Platform, SigningKey};
use domain::FactorType;
use harness::stand_in::pki::Key;
use harness::wait_until;
use serde_json::{Value, json};

use crate::totp::TotpFixture;
use crate::world::{Device, World, created};

const ALERTS: &str = "/v1/Alerts";
const CREDENTIALS: &str = "/v1/Credentials";
const EVENTS: &str = "/v1/Events";
const KEYS: &str = "/v1/Keys";

/// One resource of every kind that a path can name.
pub(crate) struct Fixture {
    pub(crate) account: String,
    pub(crate) service: String,
    pub(crate) device: Device,
    pub(crate) challenge: Value,
    pub(crate) token: Value,
    pub(crate) webhook: Value,
    pub(crate) credential: Value,
    pub(crate) api_key: Value,
    /// The alert for the failed push of the challenge: the service has no push credential.
    pub(crate) alert: Value,
    /// The event for the creation of the service.
    pub(crate) event: Value,
    pub(crate) passkeys: PasskeyFixture,
    totp: Sids,
}

/// The SIDs of a verified factor and of a pending challenge to it.
#[derive(Clone)]
struct Sids {
    factor: String,
    challenge: String,
}

impl Sids {
    fn new(factor: &str, challenge: &Value) -> Self {
        Self { factor: factor.to_owned(), challenge: challenge["sid"].as_str().unwrap().to_owned() }
    }
}

/// A passkey that can be verified, and a challenge that can be approved.
pub(crate) struct PasskeyFixture {
    /// The body that verifies an unverified passkey.
    registration: Value,
    sids: Sids,
    /// The body that approves the challenge.
    assertion: Value,
}

/// The origin of the page that uses the fixture's passkeys.
const ORIGIN: &str = "https://example.com";

/// Returns the body that creates a passkey.
fn new_passkey(friendly_name: &str) -> Value {
    let relying_party = json!({ "id": "example.com", "name": "Owl Bank" });
    let config = json!({
        "relying_party": relying_party,
        "authenticator_attachment": "any",
        "discoverable_credentials": "preferred",
        "user_verification": "required",
    });
    json!({ "friendly_name": friendly_name, "identity": IDENTITY, "config": config })
}

impl PasskeyFixture {
    async fn create(world: &World, service: &str) -> Self {
        let base = format!("/v2/Services/{service}/Passkeys");
        let post = async |route: &str, body: &Value| {
            let reply = world.backend().post_json(&format!("{base}/{route}"), body).await;
            assert!(reply.status < 300, "{reply:?}");
            reply.json()
        };
        let unverified = post("Factors", &new_passkey("Unverified")).await;
        let (_, registration) = Passkey::register(&unverified["options"], ORIGIN).unwrap();
        let made = post("Factors", &new_passkey("Verified")).await;
        let (mut passkey, verification) = Passkey::register(&made["options"], ORIGIN).unwrap();
        post("VerifyFactor", &verification).await;
        let challenge = post("Challenges", &json!({ "factor_sid": made["sid"] })).await;
        let assertion = passkey.sign_in(&challenge["options"], ORIGIN).unwrap();
        Self { registration, sids: Sids::new(made["sid"].as_str().unwrap(), &challenge), assertion }
    }
}

/// A disabled webhook.
const WEBHOOK: [(&str, &str); 4] = [
    ("FriendlyName", "Backend"),
    ("WebhookUrl", "https://backend.example.com/push"),
    ("EventTypes", "challenge.approved"),
    ("Status", "disabled"),
];

/// The identity of the fixture's entity.
pub(crate) const IDENTITY: &str = "user-0001";

impl Fixture {
    pub(crate) async fn create(world: &World) -> Self {
        let service = world.service().await;
        let address = Some((Platform::Fcm, "registration-token".to_owned()));
        let device = world.device_at(&service, IDENTITY, address).await;
        let challenge = world.challenge(&device.enrollment, &[]).await;
        let post = async |path: &str, form: &[(&str, &str)]| created(&world.backend().post(path, form).await);
        let form = [("Identity", IDENTITY), ("FactorType", "push"), ("Ttl", "300")];
        let token = post(&format!("/v2/Services/{service}/AccessTokens"), &form).await;
        let webhook = post(&format!("/v2/Services/{service}/Webhooks"), &WEBHOOK).await;
        let (key, name) = (Key::p256().pkcs8(), ("FriendlyName", "Push"));
        let form = [("Type", "apn"), ("PrivateKey", &key), ("KeyId", "ABC123DEFG"), ("TeamId", "TEAM123456")];
        let credential = post(CREDENTIALS, &[&form[..], &[name]].concat()).await;
        let account = world.server.account_sid().to_owned();
        let api_key = post(KEYS, &[("AccountSid", account.as_str())]).await;
        let alert = wait_until("the push has failed", Duration::from_secs(60), async || {
            let alerts = world.backend().get(ALERTS, &[]).await.json();
            let mut alerts = alerts["alerts"].as_array().unwrap().iter();
            alerts.find(|alert| alert["resource_sid"] == challenge["sid"]).cloned()
        });
        let made = [("ResourceSid", service.as_str())];
        let event = world.backend().get(EVENTS, &made).await.json()["events"][0].clone();
        let passkeys = PasskeyFixture::create(world, &service).await;
        let factor = TotpFixture::verified(world, &service, IDENTITY, &[]).await;
        let totp = Sids::new(&factor.sid, &created(&factor.challenge(world, &[]).await));
        let alert = alert.await;
        Self {
            account,
            alert,
            api_key,
            event,
            token,
            service,
            device,
            webhook,
            credential,
            challenge,
            passkeys,
            totp,
        }
    }

    fn sids(&self, factor_type: FactorType) -> Sids {
        match factor_type {
            FactorType::Push => Sids::new(&self.device.enrollment.factor_sid, &self.challenge),
            FactorType::Totp => self.totp.clone(),
            FactorType::Passkeys => self.passkeys.sids.clone(),
        }
    }

    /// Returns the path of the route `pattern`, with the fixture's SIDs and identity in place of its
    /// placeholders. Factors and challenges are of push.
    pub(crate) fn path(&self, pattern: &str) -> String {
        self.path_of(FactorType::Push, pattern)
    }

    /// Returns the path of the route `pattern` as [`path`](Self::path) does, with a factor or a challenge of this type.
    pub(crate) fn path_of(&self, factor_type: FactorType, pattern: &str) -> String {
        let sids = self.sids(factor_type);
        let sid = match pattern {
            _ if pattern.contains("/AccessTokens/") => self.token["sid"].as_str().unwrap(),
            _ if pattern.contains("/Factors/") => &sids.factor,
            _ if pattern.contains("/Challenges/") => &sids.challenge,
            _ if pattern.contains("/Webhooks/") => self.webhook["sid"].as_str().unwrap(),
            _ if pattern.contains("/Credentials/") => self.credential["sid"].as_str().unwrap(),
            _ if pattern.contains("/Keys/") => self.api_key["sid"].as_str().unwrap(),
            _ if pattern.contains("/Alerts/") => self.alert["sid"].as_str().unwrap(),
            _ if pattern.contains("/Events/") => self.event["sid"].as_str().unwrap(),
            _ if !pattern.contains("/{Sid}") && !pattern.contains("{ChallengeSid}") => "",
            _ => panic!("{pattern} is new: name a SID for it here"),
        };
        let path = pattern.replace("{ServiceSid}", &self.service).replace("{Identity}", IDENTITY);
        let path = path.replace("{AccountSid}", &self.account);
        let path = path.replace("{Sid}", sid).replace("{ChallengeSid}", sid);
        // The only list with a required parameter.
        if pattern == KEYS { format!("{path}?AccountSid={}", self.account) } else { path }
    }

    /// Returns the JSON body with which a POST to this route succeeds, or `None` if the route takes a form.
    pub(crate) fn json(&self, pattern: &str) -> Option<Value> {
        Some(match pattern.strip_prefix("/v2/Services/{ServiceSid}/Passkeys/")? {
            "Factors" => new_passkey("New"),
            "VerifyFactor" => self.passkeys.registration.clone(),
            "Challenges" => json!({ "factor_sid": self.passkeys.sids.factor }),
            "ApproveChallenge" => self.passkeys.assertion.clone(),
            _ => panic!("{pattern} is new: add the body with which it succeeds"),
        })
    }

    /// Returns a complete form for a factor or a challenge of this type, whether or not the route serves the type.
    pub(crate) fn form_of(&self, factor_type: FactorType, pattern: &str) -> Vec<(&'static str, String)> {
        let text = |text: &str| text.to_owned();
        match pattern.rsplit('/').next() {
            Some("Factors") if factor_type != FactorType::Push => {
                vec![("FriendlyName", text("New")), ("FactorType", text(factor_type.as_str()))]
            }
            Some("Challenges") => {
                vec![("FactorSid", self.sids(factor_type).factor), ("Details.Message", text("New?"))]
            }
            _ => self.form(pattern),
        }
    }

    /// Returns a form with which a POST to this route succeeds.
    pub(crate) fn form(&self, pattern: &str) -> Vec<(&'static str, String)> {
        let resource = pattern.strip_prefix("/v2/Services").unwrap_or(pattern);
        let form: &[(&str, &str)] = match resource {
            "" => &[("FriendlyName", "New")],
            "/{ServiceSid}" => &[("TtsName", "new")],
            "/{ServiceSid}/AccessTokens" => &[("Identity", "user-new1"), ("FactorType", "push")],
            "/{ServiceSid}/Entities" => &[("Identity", "user-new1")],
            "/{ServiceSid}/Entities/{Identity}/Factors" => {
                let public_key = SigningKey::generate().public_key_base64();
                return vec![
                    ("FriendlyName", "New".to_owned()),
                    ("FactorType", "push".to_owned()),
                    ("Binding.Alg", "ES256".to_owned()),
                    ("Binding.PublicKey", public_key),
                    ("Config.AppId", "com.example.app".to_owned()),
                    ("Config.NotificationPlatform", "none".to_owned()),
                ];
            }
            "/{ServiceSid}/Entities/{Identity}/Factors/{Sid}" => &[("FriendlyName", "New")],
            "/{ServiceSid}/Entities/{Identity}/Challenges" => return self.form_of(FactorType::Push, pattern),
            "/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}" => &[("Metadata", r#"{"new":"yes"}"#)],
            "/{ServiceSid}/Entities/{Identity}/Challenges/{ChallengeSid}/Notifications" => &[("Ttl", "150")],
            "/{ServiceSid}/Webhooks" => &WEBHOOK,
            "/{ServiceSid}/Webhooks/{Sid}" => &[("FriendlyName", "New")],
            "/v1/Credentials" => {
                return vec![
                    ("Type", "apn".to_owned()),
                    ("PrivateKey", Key::p256().pkcs8()),
                    ("KeyId", "ABC123DEFG".to_owned()),
                    ("TeamId", "TEAM123456".to_owned()),
                ];
            }
            "/v1/Credentials/{Sid}" => &[("FriendlyName", "New")],
            KEYS => return vec![("AccountSid", self.account.clone())],
            _ if resource.contains("/Keys") => &[("FriendlyName", "New")],
            _ => panic!("{pattern} is new: add the form with which it succeeds"),
        };
        form.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    /// Returns all resources that the account can list, and the fixture's access token.
    pub(crate) async fn state(&self, world: &World) -> Value {
        let token =
            format!("/v2/Services/{}/AccessTokens/{}", self.service, self.token["sid"].as_str().unwrap());
        let token = world.backend().get(&token, &[]).await;
        json!({ "all": world.everything().await, "token": [token.status, token.json()] })
    }
}
