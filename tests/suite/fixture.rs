//! One resource of every kind, for tests that walk over all routes.

use std::time::Duration;

use app::SystemClock;
use device::{Passkey, Platform, SigningKey};
use domain::{Clock as _, FactorType};
use harness::stand_in::pki::Key;
use harness::{Storage, wait_until};
use serde_json::{Value, json};

use crate::attempts::AttemptRow;
use crate::totp::TotpFixture;
use crate::world::{Device, World, created};

const ALERTS: &str = "/v1/Alerts";
const CREDENTIALS: &str = "/v1/Credentials";
const SAFE_NUMBERS: &str = "/v2/SafeList/Numbers";
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
    pub(crate) rate_limit: Value,
    pub(crate) bucket: Value,
    pub(crate) credential: Value,
    pub(crate) api_key: Value,
    /// The alert for the failed push of the challenge: the service has no push credential.
    pub(crate) alert: Value,
    /// The event for the creation of the service.
    pub(crate) event: Value,
    /// The SID of an attempt to send a code. It exists unless the server keeps everything in memory.
    pub(crate) attempt: String,
    pub(crate) passkeys: PasskeyFixture,
    /// A pending verification of [`NUMBER`] with the code [`CODE`].
    pub(crate) verification: Value,
    /// A pending verification of [`OTHER_NUMBER`] with the same code, which a check approves.
    checked_verification: Value,
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

/// The form of the fixture's messaging configuration.
const MESSAGING_CONFIGURATION: [(&str, &str); 2] =
    [("Country", COUNTRY), ("MessagingServiceSid", "MG0123456789abcdef0123456789abcdef")];

/// The country of the fixture's messaging configuration.
const COUNTRY: &str = "AT";

/// A disabled webhook.
const WEBHOOK: [(&str, &str); 4] = [
    ("FriendlyName", "Backend"),
    ("WebhookUrl", "https://backend.example.com/push"),
    ("EventTypes", "challenge.approved"),
    ("Status", "disabled"),
];

/// The identity of the fixture's entity.
pub(crate) const IDENTITY: &str = "user-0001";

/// The phone number of the fixture's verification.
const NUMBER: &str = "+4366412345678";

/// The phone number of the fixture's verification that a check approves.
const OTHER_NUMBER: &str = "+4366412345677";

/// The code of the fixture's verifications.
const CODE: &str = "123456";

/// Returns a phone number of a country that no other fixture has, because an account has only one safe list.
fn phone_number(country: &str, service: &str) -> String {
    let digits = u64::from_str_radix(&service[service.len() - 10..], 16).unwrap() % 10_000_000_000;
    format!("{country}{digits:010}")
}

impl Fixture {
    pub(crate) async fn create(world: &World) -> Self {
        let service = world.service().await;
        let address = Some((Platform::Fcm, "registration-token".to_owned()));
        let device = world.device_at(&service, IDENTITY, address).await;
        // Some tests make thousands of requests, which take minutes.
        let until = SystemClock.now().plus_seconds(3000).to_string();
        let long = [("ExpirationDate", until.as_str())];
        let challenge = world.challenge(&device.enrollment, &long).await;
        let post = async |path: &str, form: &[(&str, &str)]| created(&world.backend().post(path, form).await);
        let form = [("Identity", IDENTITY), ("FactorType", "push"), ("Ttl", "300")];
        let token = post(&format!("/v2/Services/{service}/AccessTokens"), &form).await;
        let webhook = post(&format!("/v2/Services/{service}/Webhooks"), &WEBHOOK).await;
        let limits = format!("/v2/Services/{service}/RateLimits");
        let form = [("UniqueName", "end_user_ip"), ("Description", "Address of the user")];
        let rate_limit = post(&limits, &form).await;
        let buckets = format!("{limits}/{}/Buckets", rate_limit["sid"].as_str().unwrap());
        let bucket = post(&buckets, &[("Max", "4"), ("Interval", "60")]).await;
        post(&format!("/v2/Services/{service}/MessagingConfigurations"), &MESSAGING_CONFIGURATION).await;
        post(SAFE_NUMBERS, &[("PhoneNumber", &phone_number("+43", &service))]).await;
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
        let totp = Sids::new(&factor.sid, &created(&factor.challenge(world, &long).await));
        let path = format!("/v2/Services/{service}");
        assert_eq!(world.backend().post(&path, &[("CustomCodeEnabled", "true")]).await.status, 200);
        let form = [("To", NUMBER), ("Channel", "sms"), ("CustomCode", CODE)];
        let verification = post(&format!("{path}/Verifications"), &form).await;
        let form = [("To", OTHER_NUMBER), ("Channel", "sms"), ("CustomCode", CODE)];
        let checked_verification = post(&format!("{path}/Verifications"), &form).await;
        let alert = alert.await;
        // Several fixtures of a server must not have the same attempt.
        let number = u32::from_str_radix(&service[service.len() - 8..], 16).unwrap();
        let attempt = AttemptRow::new(number, &service);
        if !matches!(world.storage, Storage::Ephemeral) {
            attempt.insert(world);
        }
        Self {
            account,
            alert,
            api_key,
            event,
            attempt: attempt.sid(),
            token,
            service,
            device,
            webhook,
            rate_limit,
            bucket,
            credential,
            challenge,
            passkeys,
            verification,
            checked_verification,
            totp,
        }
    }

    /// Returns the fixture's phone number on the safe list.
    fn safe_number(&self) -> String {
        phone_number("+43", &self.service)
    }

    /// Returns a phone number that a test can add to the safe list.
    fn new_number(&self) -> String {
        phone_number("+49", &self.service)
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
            _ if pattern.contains("/Verifications/") => self.verification["sid"].as_str().unwrap(),
            _ if pattern.contains("/Webhooks/") => self.webhook["sid"].as_str().unwrap(),
            _ if pattern.contains("/Buckets/") => self.bucket["sid"].as_str().unwrap(),
            _ if pattern.contains("/RateLimits/") => self.rate_limit["sid"].as_str().unwrap(),
            _ if pattern.contains("/Credentials/") => self.credential["sid"].as_str().unwrap(),
            _ if pattern.contains("/Keys/") => self.api_key["sid"].as_str().unwrap(),
            _ if pattern.contains("/Alerts/") => self.alert["sid"].as_str().unwrap(),
            _ if pattern.contains("/Events/") => self.event["sid"].as_str().unwrap(),
            _ if pattern.contains("/Attempts/") => &self.attempt,
            _ if !pattern.contains("/{Sid}") && !pattern.contains("{ChallengeSid}") => "",
            _ => panic!("{pattern} is new: name a SID for it here"),
        };
        let path = pattern.replace("{ServiceSid}", &self.service).replace("{Identity}", IDENTITY);
        let path = path.replace("{AccountSid}", &self.account).replace("{FormType}", "form-push");
        let path = path.replace("{RateLimitSid}", self.rate_limit["sid"].as_str().unwrap());
        let path = path.replace("{Country}", COUNTRY).replace("{PhoneNumber}", &self.safe_number());
        let path = path.replace("{Token}", &"A".repeat(64));
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
            "/{ServiceSid}/Verifications" => &[("To", "+4366412345679"), ("Channel", "sms")],
            "/{ServiceSid}/Verifications/{Sid}" => &[("Status", "canceled")],
            "/{ServiceSid}/VerificationCheck" => &[("To", OTHER_NUMBER), ("Code", CODE)],
            "/{ServiceSid}/Webhooks" => &WEBHOOK,
            "/{ServiceSid}/Webhooks/{Sid}" => &[("FriendlyName", "New")],
            "/{ServiceSid}/RateLimits" => &[("UniqueName", "new")],
            "/{ServiceSid}/RateLimits/{Sid}" => &[("Description", "New")],
            "/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets" => &[("Max", "9"), ("Interval", "3600")],
            "/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets/{Sid}" => &[("Max", "9")],
            "/{ServiceSid}/MessagingConfigurations" => &[("Country", "DE"), MESSAGING_CONFIGURATION[1]],
            "/{ServiceSid}/MessagingConfigurations/{Country}" => {
                &[("MessagingServiceSid", "MGfedcba9876543210fedcba9876543210")]
            }
            SAFE_NUMBERS => return vec![("PhoneNumber", self.new_number())],
            "/v1/Credentials" => {
                return vec![
                    ("Type", "apn".to_owned()),
                    ("PrivateKey", Key::p256().pkcs8()),
                    ("KeyId", "ABC123DEFG".to_owned()),
                    ("TeamId", "TEAM123456".to_owned()),
                ];
            }
            "/v1/Credentials/{Sid}" => &[("FriendlyName", "New")],
            "/countersign/v1/DeliveryReports/{Token}" => &[("status", "delivered")],
            "/countersign/v1/SpokenCodes/{Token}" => &[("Digits", "5")],
            KEYS => return vec![("AccountSid", self.account.clone())],
            _ if resource.contains("/Keys") => &[("FriendlyName", "New")],
            _ => panic!("{pattern} is new: add the form with which it succeeds"),
        };
        form.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    /// Returns all resources that the account can list, the fixture's access token and its verifications, all messages
    /// of its service, and whether its phone numbers are on the safe list.
    pub(crate) async fn state(&self, world: &World) -> Value {
        let token =
            format!("/v2/Services/{}/AccessTokens/{}", self.service, self.token["sid"].as_str().unwrap());
        let token = world.backend().get(&token, &[]).await;
        let service = format!("/v2/Services/{}", self.service);
        let mut verifications = Vec::new();
        for verification in [&self.verification, &self.checked_verification] {
            let path = format!("{service}/Verifications/{}", verification["sid"].as_str().unwrap());
            let reply = world.backend().get(&path, &[]).await;
            verifications.push((reply.status, reply.json()));
        }
        let attempts = world.backend().get("/v2/Attempts", &[("VerifyServiceSid", &self.service)]).await;
        let attempts: Vec<_> = match attempts.json()["attempts"].as_array() {
            Some(attempts) => attempts.iter().map(|attempt| attempt["sid"].clone()).collect(),
            None => Vec::new(),
        };
        let mut safe_numbers = Vec::new();
        for number in [self.safe_number(), self.new_number()] {
            let reply = world.backend().get(&format!("{SAFE_NUMBERS}/{number}"), &[]).await;
            safe_numbers.push(reply.status);
        }
        json!({
            "all": world.everything().await,
            "token": [token.status, token.json()],
            "verifications": verifications,
            "attempts": attempts,
            "safe_numbers": safe_numbers,
        })
    }
}
