//! Every change creates exactly one audit record, which names the actor and contains no personal data.

use harness::{Http, Reply};
use serde_json::{Value, json};

use super::{events, exported, text, with_api_key};
use crate::operation::value_of;
use crate::world::{Device, World, assert_error, entity, on_every_database, signed_in};

/// The type and name of an actor in an audit record.
type Actor = (&'static str, String);

/// The audit record that one change must create.
struct Expected {
    actor: Actor,
    event_type: &'static str,
    resource: String,
    /// The request that made the change, if the test has seen its reply.
    request: Option<String>,
}

/// A run of changes of every kind by every kind of actor, and the audit records that they must create.
struct Changes {
    backend: Http,
    api_key_backend: Http,
    api_key_sid: String,
    account_sid: String,
    operator: Actor,
    expected: Vec<Expected>,
}

impl Changes {
    /// Creates an API key, and expects its record after that of the account.
    fn start(world: &World) -> Self {
        let (api_key_backend, api_key_sid) = with_api_key(world);
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
        let user = if user.is_empty() { "operator".to_owned() } else { user };
        let mut changes = Self {
            backend: world.backend(),
            api_key_backend,
            api_key_sid,
            account_sid: world.server.account_sid().to_owned(),
            operator: ("operator", user),
            expected: Vec::new(),
        };
        let (operator, account, key) =
            (changes.operator.clone(), changes.account_sid.clone(), changes.api_key_sid.clone());
        changes.expect(operator.clone(), "account.created", &account, None);
        changes.expect(operator, "api-key.created", &key, None);
        changes
    }

    fn expect(&mut self, actor: Actor, event_type: &'static str, resource: &str, reply: Option<&Reply>) {
        let request = reply.map(|reply| {
            assert!(reply.status < 300, "{reply:?}");
            reply.header("twilio-request-id").unwrap().to_owned()
        });
        self.expected.push(Expected { actor, event_type, resource: resource.to_owned(), request });
    }

    fn account(&self) -> Actor {
        ("account", self.account_sid.clone())
    }

    fn api_key(&self) -> Actor {
        ("api-key", self.api_key_sid.clone())
    }

    /// Creates a service with the API key and updates it with the account; returns its SID.
    async fn change_service(&mut self) -> String {
        let reply = self.api_key_backend.post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await;
        let service = sid_of(&reply);
        self.expect(self.api_key(), "service.created", &service, Some(&reply));
        let form = [("Push.IncludeDate", "true"), ("TtsName", "Owl")];
        let reply = self.backend.post(&format!("/v2/Services/{service}"), &form).await;
        self.expect(self.account(), "service.updated", &service, Some(&reply));
        service
    }

    /// Creates an access token and a factor of a new entity, with a request for each.
    async fn create_factor(&mut self, world: &World, service: &str) {
        let form = [("Identity", "zoe-0001"), ("FactorType", "push"), ("Ttl", "300")];
        let reply = self.backend.post(&format!("/v2/Services/{service}/AccessTokens"), &form).await;
        let token = reply.json();
        let enrollee = ("enrollee", text(&token, "sid").to_owned());
        self.expect(self.account(), "access-token.created", &enrollee.1, Some(&reply));
        let key = device::SigningKey::generate();
        let form = [
            ("FriendlyName", "Zoe's phone"),
            ("FactorType", "push"),
            ("Binding.PublicKey", &key.public_key_base64()),
            ("Config.AppId", "com.example.app"),
            ("Config.NotificationPlatform", "fcm"),
            ("Config.NotificationToken", "registration-token"),
        ];
        let phone = Http::new(world.server.url()).auth(signed_in(text(&token, "token")));
        let reply = phone.post(&format!("{}/Factors", entity(service, "zoe-0001")), &form).await;
        let (factor, zoe) = (sid_of(&reply), text(&reply.json(), "entity_sid").to_owned());
        self.expect(enrollee.clone(), "entity.created", &zoe, Some(&reply));
        self.expect(enrollee, "factor.created", &factor, Some(&reply));
    }

    /// Enrolls a device that can sign in at any time, and has it update its factor.
    async fn enroll_device(&mut self, world: &World, service: &str) -> Device {
        let device = world.device(service, "ann-0001").await;
        let factor = device.enrollment.factor_sid.clone();
        let ann = self.backend.get(&entity(service, "ann-0001"), &[]).await.json();
        let list = self.backend.get("/v1/Events", &[("EventType", "access-token.created")]).await.json();
        let token = text(&list["events"][0], "resource_sid").to_owned();
        assert!(self.expected.iter().all(|expected| expected.resource != token), "{token} is not the newest");
        self.expect(self.account(), "access-token.created", &token, None);
        self.expect(("enrollee", token.clone()), "entity.created", text(&ann, "sid"), None);
        self.expect(("enrollee", token), "factor.created", &factor, None);
        self.expect(("device", factor.clone()), "factor.verified", &factor, None);
        let phone = Http::new(world.server.url()).auth(device.auth());
        let reply = phone.post(&device.path(), &[("FriendlyName", "Ann's phone")]).await;
        self.expect(("device", factor.clone()), "factor.updated", &factor, Some(&reply));
        device
    }

    /// Approves one challenge and denies another; the device updates the metadata of both.
    async fn answer_challenges(&mut self, world: &World, device: &Device) {
        let enrollment = &device.enrollment;
        let by_device = ("device", enrollment.factor_sid.clone());
        let phone = Http::new(world.server.url()).auth(device.auth());
        for (answer, event_type) in
            [(device::Answer::Approved, "challenge.approved"), (device::Answer::Denied, "challenge.denied")]
        {
            let form =
                [("FactorSid", enrollment.factor_sid.as_str()), ("Details.Message", "Sign in to Owl Bank?")];
            let reply = self.api_key_backend.post(&device.challenges(), &form).await;
            let challenge = sid_of(&reply);
            self.expect(self.api_key(), "challenge.created", &challenge, Some(&reply));
            device.phone.answer(enrollment, &challenge, answer).await.unwrap();
            self.expect(by_device.clone(), event_type, &challenge, None);
            let path = format!("{}/{challenge}", device.challenges());
            let reply = phone.post(&path, &[("Metadata", r#"{"what":"secret"}"#)]).await;
            self.expect(by_device.clone(), "challenge.updated", &challenge, Some(&reply));
        }
    }

    /// Registers a passkey of an existing entity, signs in with it, and once with a copy.
    async fn use_passkey(&mut self, service: &str) {
        const ORIGIN: &str = "https://secret.example.com";
        let party = json!({ "id": "secret.example.com", "name": "Owl Bank" });
        let config = json!({
            "relying_party": party,
            "authenticator_attachment": "any",
            "discoverable_credentials": "preferred",
            "user_verification": "required",
        });
        let new = json!({ "friendly_name": "Zoe's laptop", "identity": "zoe-0001", "config": config });
        let base = format!("/v2/Services/{service}/Passkeys");
        let made = self.api_key_backend.post_json(&format!("{base}/Factors"), &new).await;
        let factor = sid_of(&made);
        self.expect(self.api_key(), "factor.created", &factor, Some(&made));
        let (mut passkey, credential) = device::Passkey::register(&made.json()["options"], ORIGIN).unwrap();
        let reply = self.backend.post_json(&format!("{base}/VerifyFactor"), &credential).await;
        self.expect(self.account(), "factor.verified", &factor, Some(&reply));
        for is_copy in [false, true] {
            let asked = json!({ "identity": "zoe-0001" });
            let made = self.backend.post_json(&format!("{base}/Challenges"), &asked).await;
            let challenge = sid_of(&made);
            self.expect(self.account(), "challenge.created", &challenge, Some(&made));
            passkey.set_sign_count(5);
            let credential = passkey.sign_in(&made.json()["options"], ORIGIN).unwrap();
            let reply = self.backend.post_json(&format!("{base}/ApproveChallenge"), &credential).await;
            if is_copy {
                assert_error(&reply, 400, 60379);
                self.expect(self.account(), "factor.counter", &factor, None);
            } else {
                self.expect(self.account(), "challenge.approved", &challenge, Some(&reply));
            }
        }
        let path = format!("{}/Factors/{factor}", entity(service, "zoe-0001"));
        let reply = self.backend.post(&path, &[("FriendlyName", "Zoe's passkey")]).await;
        self.expect(self.account(), "factor.updated", &factor, Some(&reply));
    }

    /// Sends codes; ends one verification by a code, one as the backend, and refuses a code.
    async fn verify_numbers(&mut self, service: &str) {
        let path = format!("/v2/Services/{service}");
        let reply = self.backend.post(&path, &[("CustomCodeEnabled", "true")]).await;
        self.expect(self.account(), "service.updated", service, Some(&reply));
        let verifications = format!("{path}/Verifications");
        for number in ["+4366412345678", "+4366412345679"] {
            let form = [("To", number), ("Channel", "sms"), ("CustomCode", "secret12")];
            let reply = self.api_key_backend.post(&verifications, &form).await;
            let verification = sid_of(&reply);
            self.expect(self.api_key(), "verification.created", &verification, Some(&reply));
            let reply = self.backend.post(&verifications, &form).await;
            self.expect(self.account(), "verification.sent", &verification, Some(&reply));
            let check = format!("{path}/VerificationCheck");
            let reply = self.backend.post(&check, &[("To", number), ("Code", "secret13")]).await;
            self.expect(self.account(), "verification.refused", &verification, Some(&reply));
            if number.ends_with('8') {
                let reply = self.backend.post(&check, &[("To", number), ("Code", "secret12")]).await;
                self.expect(self.account(), "verification.approved", &verification, Some(&reply));
            } else {
                let path = format!("{verifications}/{number}");
                let reply = self.backend.post(&path, &[("Status", "canceled")]).await;
                self.expect(self.account(), "verification.canceled", &verification, Some(&reply));
            }
        }
    }

    async fn change_webhook(&mut self, service: &str) {
        let form = [
            ("FriendlyName", "Hook"),
            ("WebhookUrl", "https://backend.example.com/secret-path"),
            ("EventTypes", "*"),
            ("Status", "disabled"),
        ];
        let webhooks = format!("/v2/Services/{service}/Webhooks");
        let reply = self.backend.post(&webhooks, &form).await;
        let webhook = sid_of(&reply);
        self.expect(self.account(), "webhook.created", &webhook, Some(&reply));
        let path = format!("{webhooks}/{webhook}");
        let reply = self.backend.post(&path, &[("Version", "v1"), ("FriendlyName", "Hook")]).await;
        self.expect(self.account(), "webhook.updated", &webhook, Some(&reply));
        let reply = self.backend.delete(&path, &[]).await;
        self.expect(self.account(), "webhook.deleted", &webhook, Some(&reply));
    }

    /// Changes what governs one-time codes: a rate limit with a bucket, a messaging configuration and the safe list.
    async fn change_code_settings(&mut self, service: &str) {
        let limits = format!("/v2/Services/{service}/RateLimits");
        let reply = self.backend.post(&limits, &[("UniqueName", "secret_limit")]).await;
        let limit = sid_of(&reply);
        self.expect(self.account(), "rate-limit.created", &limit, Some(&reply));
        let limit_path = format!("{limits}/{limit}");
        let reply = self.backend.post(&limit_path, &[("Description", "secret")]).await;
        self.expect(self.account(), "rate-limit.updated", &limit, Some(&reply));
        let buckets = format!("{limit_path}/Buckets");
        let reply = self.api_key_backend.post(&buckets, &[("Max", "4"), ("Interval", "60")]).await;
        let bucket = sid_of(&reply);
        self.expect(self.api_key(), "bucket.created", &bucket, Some(&reply));
        let path = format!("{buckets}/{bucket}");
        let reply = self.backend.post(&path, &[("Max", "4"), ("Interval", "61")]).await;
        self.expect(self.account(), "bucket.updated", &bucket, Some(&reply));
        let reply = self.backend.delete(&path, &[]).await;
        self.expect(self.account(), "bucket.deleted", &bucket, Some(&reply));
        let reply = self.backend.delete(&limit_path, &[]).await;
        self.expect(self.account(), "rate-limit.deleted", &limit, Some(&reply));

        // The record is about the service, because a messaging configuration has no SID of its own.
        let [outlet, other] = ["MG0123456789abcdef0123456789abcdef", "MGfedcba9876543210fedcba9876543210"];
        let configurations = format!("/v2/Services/{service}/MessagingConfigurations");
        let form = [("Country", "AT"), ("MessagingServiceSid", outlet)];
        let reply = self.backend.post(&configurations, &form).await;
        self.expect(self.account(), "messaging-configuration.created", service, Some(&reply));
        let path = format!("{configurations}/AT");
        let reply = self.backend.post(&path, &[("MessagingServiceSid", other)]).await;
        self.expect(self.account(), "messaging-configuration.updated", service, Some(&reply));
        let reply = self.backend.delete(&path, &[]).await;
        self.expect(self.account(), "messaging-configuration.deleted", service, Some(&reply));

        let (numbers, number) = ("/v2/SafeList/Numbers", "+4366412345678");
        let reply = self.backend.post(numbers, &[("PhoneNumber", number)]).await;
        let safe = sid_of(&reply);
        self.expect(self.account(), "safe-number.created", &safe, Some(&reply));
        let reply = self.backend.delete(&format!("{numbers}/{number}"), &[]).await;
        self.expect(self.account(), "safe-number.deleted", &safe, Some(&reply));
    }

    async fn change_credential(&mut self) {
        let key = harness::stand_in::pki::Key::p256().pkcs8();
        let form =
            [("Type", "apn"), ("PrivateKey", &*key), ("KeyId", "ABC123DEFG"), ("TeamId", "TEAM123456")];
        let reply = self.backend.post("/v1/Credentials", &form).await;
        let credential = sid_of(&reply);
        self.expect(self.account(), "credential.created", &credential, Some(&reply));
        let path = format!("/v1/Credentials/{credential}");
        let reply = self.backend.post(&path, &[("FriendlyName", "Push"), ("Sandbox", "true")]).await;
        self.expect(self.account(), "credential.updated", &credential, Some(&reply));
        let reply = self.backend.delete(&path, &[]).await;
        self.expect(self.account(), "credential.deleted", &credential, Some(&reply));
    }

    /// Creates, changes, tests and deletes an outlet as the operator.
    fn change_outlet(&mut self, world: &World) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret-messages");
        let made = world.command(&[
            "outlet",
            "create",
            "--kind=capture",
            "--channel=sms",
            "--name=Owls",
            "--path",
            path.to_str().unwrap(),
        ]);
        let sid = value_of("outlet sid", &made);
        world.command(&["outlet", "update", &sid, "--rate=5"]);
        world.command(&["outlet", "test", &sid, "--to=+4366412345678"]);
        world.command(&["outlet", "delete", &sid]);
        for event_type in ["outlet.created", "outlet.updated", "outlet.tested", "outlet.deleted"] {
            self.expect(self.operator.clone(), event_type, &sid, None);
        }
    }

    /// Creates, renames and deletes API keys at both of their addresses.
    async fn change_api_keys(&mut self) {
        let account = self.account_sid.clone();
        let below_account = format!("/2010-04-01/Accounts/{account}/Keys");
        for path in ["/v1/Keys", &below_account] {
            let form = [("AccountSid", account.as_str()), ("FriendlyName", "Ann's script")];
            let reply = self.backend.post(path, &form).await;
            let key = sid_of(&reply);
            self.expect(self.account(), "api-key.created", &key, Some(&reply));
            let path = format!("{path}/{key}");
            let reply = self.backend.post(&path, &[("FriendlyName", "Zoe's script")]).await;
            self.expect(self.account(), "api-key.updated", &key, Some(&reply));
            // Nothing changes.
            assert_eq!(self.backend.post(&path, &[]).await.status, 200);
            assert_error(&self.api_key_backend.delete(&path, &[]).await, 403, 20403);
            let reply = self.backend.delete(&path, &[]).await;
            self.expect(self.account(), "api-key.revoked", &key, Some(&reply));
            assert_error(&self.backend.delete(&path, &[]).await, 404, 20404);
        }
    }

    /// Creates, changes and deletes a template as the operator.
    fn change_template(&mut self, world: &World) {
        let operator = self.operator.clone();
        let text = ["--locale", "en", "--text", "{{code}} for Ann"];
        let made = ["template", "create", "--name", "Ann's", "--channels", "sms"];
        let shown = world.command(&[&made, &text[..]].concat());
        let sid = shown.lines().next().and_then(|line| line.split_whitespace().last()).unwrap().to_owned();
        self.expect(operator.clone(), "template.created", &sid, None);
        for (command, more) in
            [("set-translation", &["--text", "{{code}} for Zoe"][..]), ("remove-translation", &[])]
        {
            world.command(&[&["template", command, &sid, "--locale", "de"], more].concat());
            self.expect(operator.clone(), "template.updated", &sid, None);
        }
        world.command(&["template", "delete", &sid]);
        self.expect(operator, "template.deleted", &sid, None);
    }

    /// Deletes the factor as the device, and the entity and the service as the account.
    async fn delete_everything(&mut self, world: &World, service: &str, device: &Device) {
        let factor = device.enrollment.factor_sid.clone();
        let ann = self.backend.get(&entity(service, "ann-0001"), &[]).await.json();
        let phone = Http::new(world.server.url()).auth(device.auth());
        let reply = phone.delete(&device.path(), &[]).await;
        self.expect(("device", factor.clone()), "factor.deleted", &factor, Some(&reply));
        let reply = self.backend.delete(&entity(service, "ann-0001"), &[]).await;
        self.expect(self.account(), "entity.deleted", text(&ann, "sid"), Some(&reply));
        let path = format!("/v2/Services/{service}");
        let reply = self.backend.post(&format!("{path}/Entities"), &[("Identity", "bob-0001")]).await;
        self.expect(self.account(), "entity.created", &sid_of(&reply), Some(&reply));
        let reply = self.backend.delete(&path, &[]).await;
        self.expect(self.account(), "service.deleted", service, Some(&reply));
    }

    /// Changes the account and revokes the API key as the operator.
    fn change_account(&mut self, world: &World) {
        let (operator, account, key) =
            (self.operator.clone(), self.account_sid.clone(), self.api_key_sid.clone());
        let urls = ["https://debugger.example.com/", "https://events.example.com/"];
        let set =
            ["account", "set", &account, "--debugger-webhook", urls[0], "--verification-events-url", urls[1]];
        world.command(&set);
        self.expect(operator.clone(), "account.updated", &account, None);
        world.command(&["api-key", "revoke", &key]);
        self.expect(operator, "api-key.revoked", &key, None);
    }

    /// Sends requests that change nothing: a read, a repeated deletion, an invalid request.
    async fn change_nothing(&self, service: &str) {
        assert_eq!(self.backend.get("/v2/Services", &[]).await.status, 200);
        let path = format!("/v2/Services/{service}");
        assert_error(&self.backend.delete(&path, &[]).await, 404, 20404);
        assert_error(&self.backend.post("/v2/Services", &[]).await, 400, 20001);
    }

    #[track_caller]
    fn assert_recorded(&self, records: &[Value]) {
        let types = |records: Vec<&str>| records.join("\n");
        let found = records.iter().map(|record| text(record, "event_type")).collect();
        assert_eq!(types(found), types(self.expected.iter().map(|record| record.event_type).collect()));
        for (number, (record, expected)) in (1..).zip(records.iter().zip(&self.expected)) {
            let found = (text(record, "actor_type"), text(record, "actor"), text(record, "resource_sid"));
            assert_eq!(found, (expected.actor.0, &*expected.actor.1, &*expected.resource), "{record}");
            let found = (record["account_sid"].as_str(), record["number"].as_u64());
            assert_eq!(found, (Some(&*self.account_sid), Some(number)));
            if expected.actor.0 == "operator" {
                assert!(record["address"].is_null() && record["request_sid"].is_null(), "{record}");
            } else {
                assert_eq!(record["address"], "127.0.0.1", "{record}");
                assert!(text(record, "request_sid").starts_with("RQ"), "{record}");
            }
            if let Some(request) = &expected.request {
                assert_eq!(record["request_sid"], *request, "{record}");
            }
        }
    }
}

fn sid_of(reply: &Reply) -> String {
    text(&reply.json(), "sid").to_owned()
}

on_every_database! {
    async fn every_change_creates_exactly_one_audit_record(world: World) {
        let mut changes = Changes::start(&world);
        let service = changes.change_service().await;
        changes.create_factor(&world, &service).await;
        let device = changes.enroll_device(&world, &service).await;
        changes.answer_challenges(&world, &device).await;
        changes.use_passkey(&service).await;
        changes.verify_numbers(&service).await;
        changes.change_webhook(&service).await;
        changes.change_code_settings(&service).await;
        changes.change_credential().await;
        changes.change_outlet(&world);
        changes.change_api_keys().await;
        changes.change_template(&world);
        changes.delete_everything(&world, &service, &device).await;
        changes.change_account(&world);
        changes.change_nothing(&service).await;

        let records = exported(&world).await;
        changes.assert_recorded(&records);
        assert_records_name_what_changed(&records);
        assert_records_hold_no_personal_data(&world);
        assert_account_lists_all_records(&changes.backend, &records).await;
        assert_operator_finds_records(&world, &changes.api_key_sid, &device.enrollment.factor_sid);
    }
}

#[track_caller]
fn assert_records_name_what_changed(records: &[Value]) {
    let data = |event_type: &str| {
        let found = records.iter().find(|record| record["event_type"] == event_type).unwrap();
        found["data"].clone()
    };
    assert_eq!(data("service.updated"), json!({ "changed": ["push.include_date", "tts_name"] }));
    assert_eq!(data("factor.updated")["changed"], json!(["friendly_name"]));
    assert_eq!(data("challenge.updated")["changed"], json!(["metadata"]));
    assert_eq!(data("webhook.updated")["changed"], json!(["version"]));
    assert_eq!(data("rate-limit.updated")["changed"], json!(["description"]));
    assert_eq!(data("bucket.updated")["changed"], json!(["interval"]));
    let configuration = json!({ "country": "AT", "changed": ["messaging_service_sid"] });
    assert_eq!(data("messaging-configuration.updated"), configuration);
    assert_eq!(data("credential.updated")["changed"], json!(["friendly_name", "sandbox"]));
    let outlet = json!({ "kind": "capture", "channels": ["sms"] });
    assert_eq!((data("outlet.created"), data("outlet.deleted")), (outlet.clone(), outlet));
    assert_eq!(data("outlet.updated")["changed"], json!(["rate"]));
    assert_eq!(data("outlet.tested")["result"], "accepted");
    assert_eq!(data("api-key.updated"), json!({ "changed": ["friendly_name"] }));
    assert_eq!(data("template.updated"), json!({ "translation_set": "de" }));
    assert_eq!(
        data("account.updated"),
        json!({ "changed": ["debugger_webhook", "verification_events_url"] })
    );
}

/// Checks that neither `audit export` nor `audit list` contains an old or new value of a changed setting.
#[track_caller]
fn assert_records_hold_no_personal_data(world: &World) {
    let all = world.command(&["audit", "export"]) + &world.command(&["audit", "list", "--limit", "1000"]);
    for personal in [
        "zoe",
        "ann-",
        "Ann",
        "Owl",
        "secret",
        "registration-token",
        "com.example",
        "debugger.example",
        "events.example",
        "6641234",
    ] {
        assert!(!all.contains(personal), "{personal}");
    }
}

/// Checks that the account lists each record as an event, but without the operator's name.
async fn assert_account_lists_all_records(backend: &Http, records: &[Value]) {
    let listed = events(backend, &[("PageSize", "1000")]).await;
    let sids =
        |records: &[Value]| records.iter().map(|record| text(record, "sid").to_owned()).collect::<Vec<_>>();
    let mut newest_first = sids(records);
    newest_first.reverse();
    assert_eq!(sids(&listed), newest_first);
    let by_operator = listed.iter().filter(|event| event["actor_type"] == "operator");
    assert!(
        by_operator.clone().count() == 12 && by_operator.clone().all(|event| event["actor_sid"].is_null())
    );
}

/// Checks that `audit list` filters by actor, resource and time.
#[track_caller]
fn assert_operator_finds_records(world: &World, api_key_sid: &str, factor_sid: &str) {
    let list = |arguments: &[&str]| {
        let listed = world.command(&[&["audit", "list"], arguments].concat());
        listed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list(&["--actor", api_key_sid]).len(), 7);
    let of_factor = list(&["--resource", factor_sid]);
    assert_eq!(of_factor.len(), 4);
    assert!(
        of_factor[0].contains("factor.deleted") && of_factor[3].contains("factor.created"),
        "{of_factor:?}"
    );
    assert_eq!(list(&["--since", "2026-01-01", "--limit", "2"]).len(), 2);
    assert_eq!(list(&["--since", "2999-01-01T00:00:00Z"]), [""; 0]);
    assert!(world.refusal(&["audit", "list", "--since", "yesterday"]).contains("ISO 8601"));
}
