//! One resource of every kind, for tests that walk over all routes.

use std::time::Duration;

use device::{Platform, SigningKey};
use harness::stand_in::pki::Key;
use harness::wait_until;
use serde_json::{Value, json};

use crate::world::{Device, World, created};

const ALERTS: &str = "/v1/Alerts";
const CREDENTIALS: &str = "/v1/Credentials";
const EVENTS: &str = "/v1/Events";

/// One resource of every kind that a path can name.
pub(crate) struct Fixture {
    pub(crate) service: String,
    pub(crate) device: Device,
    pub(crate) challenge: Value,
    pub(crate) token: Value,
    pub(crate) webhook: Value,
    pub(crate) credential: Value,
    /// The alert for the failed push of the challenge: the service has no push credential.
    pub(crate) alert: Value,
    /// The event for the creation of the service.
    pub(crate) event: Value,
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
        let alert = wait_until("the push has failed", Duration::from_secs(60), async || {
            let alerts = world.backend().get(ALERTS, &[]).await.json();
            let mut alerts = alerts["alerts"].as_array().unwrap().iter();
            alerts.find(|alert| alert["resource_sid"] == challenge["sid"]).cloned()
        });
        let made = [("ResourceSid", service.as_str())];
        let event = world.backend().get(EVENTS, &made).await.json()["events"][0].clone();
        Self { alert: alert.await, event, token, service, device, webhook, credential, challenge }
    }

    /// Returns the path of the route `pattern`, with the fixture's SIDs and identity in place of its
    /// placeholders.
    pub(crate) fn path(&self, pattern: &str) -> String {
        let sid = match pattern {
            _ if pattern.contains("/AccessTokens/") => self.token["sid"].as_str().unwrap(),
            _ if pattern.contains("/Factors/") => &self.device.enrollment.factor_sid,
            _ if pattern.contains("/Challenges/") => self.challenge["sid"].as_str().unwrap(),
            _ if pattern.contains("/Webhooks/") => self.webhook["sid"].as_str().unwrap(),
            _ if pattern.contains("/Credentials/") => self.credential["sid"].as_str().unwrap(),
            _ if pattern.contains("/Alerts/") => self.alert["sid"].as_str().unwrap(),
            _ if pattern.contains("/Events/") => self.event["sid"].as_str().unwrap(),
            _ if !pattern.contains("/{Sid}") && !pattern.contains("{ChallengeSid}") => "",
            _ => panic!("{pattern} is new: name a SID for it here"),
        };
        let path = pattern.replace("{ServiceSid}", &self.service).replace("{Identity}", IDENTITY);
        path.replace("{Sid}", sid).replace("{ChallengeSid}", sid)
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
            "/{ServiceSid}/Entities/{Identity}/Challenges" => {
                let factor = self.device.enrollment.factor_sid.clone();
                return vec![("FactorSid", factor), ("Details.Message", "New?".to_owned())];
            }
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
