//! The log contains no personal data and no secrets, and the database no plaintext secrets.
//!
//! The tests use every kind of personal and secret value. Each is a unique word that no encoding changes, so
//! that it is found however it is repeated.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use app::SystemClock;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::TotpKey;
use device::{Answer, AuthenticatorApp, Enrollment, Exchange, NewFactor, Phone, Platform, Style};
use domain::{Clock as _, Secret};
use harness::stand_in::pki::Key;
use harness::stand_in::{Authority, Google};
use harness::{Auth, Collector, Database, Http, Receiver, Server, Storage, wait_until};
use serde_json::{Value, json};

use crate::operation::logs;
use crate::world::{BINARY, assert_error, created, entity};

/// The values that must not appear in logs or storage, each with a description.
#[derive(Clone, Default)]
struct Secrets(Arc<Mutex<Vec<(String, String)>>>);

impl Secrets {
    /// Creates and records a secret word described as `what`, with enough digits not to occur elsewhere by
    /// accident.
    fn word(&self, what: &str) -> String {
        let number = self.0.lock().unwrap().len();
        let word = format!("{what}x7Q4z{number:03}");
        self.keep(what, &word);
        word
    }

    fn keep(&self, what: &str, secret: &str) {
        assert!(secret.len() >= 8, "{what} is too short to be searched for: {secret}");
        self.0.lock().unwrap().push((what.to_owned(), secret.to_owned()));
    }

    /// Records credentials, both as they are and as a header carries them.
    fn auth(&self, what: &str, user: &str, password: &str) -> Auth {
        self.keep(what, password);
        self.keep(what, &STANDARD.encode(format!("{user}:{password}")));
        Auth::Basic(user.to_owned(), password.to_owned())
    }

    #[track_caller]
    fn assert_absent_from(&self, log: &str) {
        let known = self.0.lock().unwrap();
        let found: Vec<_> = known
            .iter()
            .filter_map(|(what, secret)| {
                let line = log.lines().find(|line| line.contains(secret.as_str()))?;
                Some(format!("{what}: {line}"))
            })
            .collect();
        assert!(found.is_empty(), "{} of {} were found:\n{}", found.len(), known.len(), found.join("\n"));
    }

    fn of(&self, what: &str) -> Vec<String> {
        let known = self.0.lock().unwrap();
        known.iter().filter(|(name, _)| name == what).map(|(_, secret)| secret.clone()).collect()
    }
}

/// A server with stand-ins for everything that it calls, and the secrets that it was given.
struct SecrecyFixture {
    server: Server,
    storage: Storage,
    secrets: Secrets,
    /// Accepts pushes.
    google: Google,
    /// Accepts spans.
    collector: Collector,
    /// The first accepts webhooks, the second refuses them.
    receivers: [Receiver; 2],
    data_dir: std::path::PathBuf,
    database: Option<Database>,
    _folder: tempfile::TempDir,
}

impl SecrecyFixture {
    async fn sqlite(log: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        Self::start(Storage::Sqlite(data_dir.clone()), log, data_dir, None, folder).await
    }

    async fn postgres(test: &str, log: &[&str]) -> Option<Self> {
        let database = harness::postgres_or_skip(test)?;
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let storage = Storage::Postgres { url: database.url.clone(), data_dir: data_dir.clone() };
        Some(Self::start(storage, log, data_dir, Some(database), folder).await)
    }

    async fn start(
        storage: Storage,
        log: &[&str],
        data_dir: std::path::PathBuf,
        database: Option<Database>,
        folder: tempfile::TempDir,
    ) -> Self {
        let secrets = Secrets::default();
        let authority = Authority::new();
        let google = Google::start(&authority, Arc::new(SystemClock)).await;
        let refusal = secrets.word("refusal");
        let refusal = harness::Answer::of("404 Not Found", &format!("X-Why: {refusal}\r\n"), &refusal);
        let receivers = [Receiver::start([harness::Answer::ok()]), Receiver::start([refusal])];
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, authority.pem()).unwrap();
        let (fcm, ca) = (google.server().url(), ca.to_str().unwrap());
        let collector = Collector::start();
        let key = secrets.word("collectorkey");
        let headers = format!("x-key={key}");
        let traces = ["--otlp-endpoint", &collector.url(), "--otlp-headers", &headers];
        let outside =
            ["--push-fcm-endpoint", &fcm, "--push-ca", ca, "--webhook-allow-network", "127.0.0.0/8"];
        let server = Server::start(BINARY, storage.clone(), &[log, &outside, &traces].concat());
        secrets.auth("auth token", server.account_sid(), server.auth_token());
        let master_key = fs::read_to_string(data_dir.join("master.key")).unwrap();
        secrets.keep("master key", master_key.trim());
        Self { server, storage, secrets, google, collector, receivers, data_dir, database, _folder: folder }
    }

    /// Runs `countersign` beside the server, and returns its output.
    fn command(&self, arguments: &[&str]) -> String {
        let output = self.storage.command(BINARY, arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns a phone whose tokens, payloads and signatures are all recorded as secrets.
    fn phone(&self, style: Style) -> Phone {
        let secrets = self.secrets.clone();
        let observer = move |exchange: &Exchange| {
            let header = exchange.request.authorization.expose().strip_prefix("Basic ").unwrap();
            let token = String::from_utf8(STANDARD.decode(header).unwrap()).unwrap();
            secrets.keep("device's header", header);
            secrets.keep("device's token", token.strip_prefix("token:").unwrap());
            secrets.keep("signature of a device's token", token.rsplit('.').next().unwrap());
            let body = exchange.request.body.as_deref().unwrap_or_default();
            if let Some(payload) = body.strip_prefix("AuthPayload=") {
                // Percent-encoding splits the payload into pieces; searching for the longest is enough.
                let longest = payload.split('%').max_by_key(|piece| piece.len()).unwrap();
                secrets.keep("AuthPayload", longest);
                secrets.keep("signature of an AuthPayload", payload.rsplit('.').next().unwrap());
            }
        };
        let phone = Phone::new(style, self.server.url(), Arc::new(SystemClock)).unwrap();
        phone.with_observer(Arc::new(observer))
    }

    /// Uses every feature with secret values, and returns the service and the last enrollment.
    async fn use_everything(&self) -> (String, Enrollment) {
        let (backend, secrets) = (self.server.http(), &self.secrets);
        let name = secrets.word("service");
        let service = created(&backend.post("/v2/Services", &[("FriendlyName", &name)]).await);
        let service = service["sid"].as_str().unwrap().to_owned();
        let services = format!("/v2/Services/{service}");
        let name = secrets.word("service");
        assert_eq!(backend.post(&services, &[("FriendlyName", &name)]).await.status, 200);
        assert_eq!(backend.get("/v2/Services", &[]).await.status, 200);
        self.create_credential_and_webhooks(&services).await;

        let identity = secrets.word("identity");
        let form = [("Identity", identity.as_str())];
        created(&backend.post(&format!("{services}/Entities"), &form).await);
        assert_eq!(backend.get(&format!("{services}/Entities"), &[]).await.status, 200);

        let mut enrollment = None;
        for style in [Style::Android, Style::Ios] {
            let name = secrets.word("factor");
            let form = [
                ("Identity", identity.as_str()),
                ("FactorType", "push"),
                ("FactorFriendlyName", &name),
                ("Ttl", "300"),
            ];
            let token = created(&backend.post(&format!("{services}/AccessTokens"), &form).await);
            let access_token = token["token"].as_str().unwrap();
            secrets.auth("access token", "token", access_token);
            let path = format!("{services}/AccessTokens/{}", token["sid"].as_str().unwrap());
            assert_eq!(backend.get(&path, &[]).await.json()["token"], access_token);

            let phone = self.phone(style);
            let push_token = format!("{}{}", secrets.word("pushtoken"), "0".repeat(32));
            let metadata = [(secrets.word("metadata"), secrets.word("metadata"))];
            let new = NewFactor {
                service_sid: service.clone(),
                identity: identity.clone(),
                access_token: Secret::new(access_token.to_owned()),
                friendly_name: name,
                notification: Some((Platform::Fcm, push_token)),
                metadata: Some(metadata.into()),
                app_id: "com.example.app".to_owned(),
            };
            let mut enrolled = phone.enroll(&new).await.unwrap();
            assert!(phone.create_factor(&new).await.is_err(), "the access token is spent");
            enrolled.friendly_name = secrets.word("factor");
            let push_token = format!("{}{}", secrets.word("pushtoken"), "0".repeat(32));
            phone.update_factor(&mut enrolled, Some((Platform::Fcm, push_token))).await.unwrap();

            for (answer, other) in [(Answer::Approved, Answer::Denied), (Answer::Denied, Answer::Approved)] {
                let sid = self.challenge(&enrolled).await;
                assert_eq!(phone.list_pending(&enrolled).await.unwrap().challenges.len(), 1);
                let shown = phone.get_challenge(&enrolled, &sid).await.unwrap();
                phone.answer(&enrolled, &sid, answer).await.unwrap();
                assert!(phone.send_answer(&enrolled, &shown, other).await.is_err(), "it is answered already");
                let metadata = format!("{{\"note\":\"{}\"}}", secrets.word("metadata"));
                let path = format!("{}/Challenges/{sid}", entity(&service, &identity));
                assert_eq!(backend.post(&path, &[("Metadata", &metadata)]).await.status, 200);
            }
            enrollment = Some(enrolled);
        }
        assert_eq!(backend.get(&format!("{}/Factors", entity(&service, &identity)), &[]).await.status, 200);
        self.use_passkey(&service, &identity).await;
        self.use_totp(&service, &identity).await;
        self.use_codes(&services).await;

        // An API key, and a rotated auth token of another account.
        let key = self.command(&["api-key", "create", self.server.account_sid(), "--name", &name]);
        let value = |line: usize, printed: &str| {
            printed.lines().nth(line).unwrap().split_whitespace().last().unwrap().to_owned()
        };
        let key = secrets.auth("API key's secret", &value(0, &key), &value(1, &key));
        assert_eq!(Http::new(self.server.url()).auth(key).get(&services, &[]).await.status, 200);
        self.use_api_key().await;
        let name = secrets.word("account");
        let account = self.command(&["account", "create", "--name", &name]);
        secrets.keep("auth token", &value(3, &account));
        let rotated = self.command(&["account", "rotate-token", &value(0, &account)]);
        secrets.keep("auth token", &value(0, &rotated));
        (service, enrollment.unwrap())
    }

    /// Creates, uses, renames and deletes an API key over HTTP.
    async fn use_api_key(&self) {
        let (backend, secrets, account) = (self.server.http(), &self.secrets, self.server.account_sid());
        for path in ["/v1/Keys".to_owned(), format!("/2010-04-01/Accounts/{account}/Keys.json")] {
            let name = secrets.word("apikey");
            let form = [("AccountSid", account), ("FriendlyName", &name)];
            let key = created(&backend.post(&path, &form).await);
            let (sid, secret) = (key["sid"].as_str().unwrap(), key["secret"].as_str().unwrap());
            let auth = secrets.auth("API key's secret", sid, secret);
            let client = Http::new(self.server.url()).auth(auth);
            assert_eq!(client.get(&format!("/2010-04-01/Accounts/{account}.json"), &[]).await.status, 200);
            assert_eq!(client.get(&path, &[("AccountSid", account)]).await.status, 200);
            let path = format!("/v1/Keys/{sid}");
            let name = secrets.word("apikey");
            assert_eq!(backend.post(&path, &[("FriendlyName", &name)]).await.status, 200);
            assert_error(&client.delete(&path, &[]).await, 403, 20403);
            assert_eq!(backend.delete(&path, &[]).await.status, 204);
            assert_error(&client.get("/v2/Services", &[]).await, 401, 20003);
        }
    }

    /// Registers a passkey and signs in with it, at first with a wrong response.
    async fn use_passkey(&self, service: &str, identity: &str) {
        let (backend, secrets) = (self.server.http(), &self.secrets);
        let domain = format!("{}.example", secrets.word("domain").to_lowercase());
        secrets.keep("domain", &domain);
        let origin = format!("https://{domain}");
        let config = json!({
            "relying_party": { "id": domain, "name": secrets.word("party") },
            "authenticator_attachment": "any",
            "discoverable_credentials": "preferred",
            "user_verification": "required",
        });
        let new = json!({ "friendly_name": secrets.word("factor"), "identity": identity, "config": config });
        let path = |route: &str| format!("/v2/Services/{service}/Passkeys/{route}");
        let keep_response = |credential: &Value| {
            for name in
                ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]
            {
                if let Some(value) = credential["response"][name].as_str() {
                    secrets.keep("passkey response", value);
                }
            }
        };
        let challenge_of = |made: &Value| {
            secrets.keep("passkey challenge", made["options"]["publicKey"]["challenge"].as_str().unwrap());
        };
        let made = created(&backend.post_json(&path("Factors"), &new).await);
        challenge_of(&made);
        let (mut passkey, credential) = device::Passkey::register(&made["options"], &origin).unwrap();
        keep_response(&credential);
        secrets.keep("credential ID", &passkey.credential_id());
        assert_eq!(backend.post_json(&path("VerifyFactor"), &credential).await.status, 200);
        assert_eq!(backend.post_json(&path("VerifyFactor"), &credential).await.status, 400);
        let made = created(&backend.post_json(&path("Challenges"), &json!({ "identity": identity })).await);
        challenge_of(&made);
        let wrong = passkey.sign_in(&made["options"], "https://elsewhere.example").unwrap();
        keep_response(&wrong);
        assert_eq!(backend.post_json(&path("ApproveChallenge"), &wrong).await.status, 400);
        let credential = passkey.sign_in(&made["options"], &origin).unwrap();
        keep_response(&credential);
        assert_eq!(backend.post_json(&path("ApproveChallenge"), &credential).await.status, 200);
    }

    /// Signs in with TOTP factors, one with a generated secret and one with an imported secret.
    async fn use_totp(&self, service: &str, identity: &str) {
        let (backend, secrets) = (self.server.http(), &self.secrets);
        let path = format!("{}/Factors", entity(service, identity));
        let imported = TotpKey::from_bytes(secrets.word("totpsecret").as_bytes()).unwrap().to_base32();
        let imported = imported.expose();
        for more in [&[][..], &[("Binding.Secret", imported.as_str())][..]] {
            let (name, metadata) = (secrets.word("factor"), secrets.word("metadata"));
            let metadata = format!("{{\"note\":\"{metadata}\"}}");
            let form = [
                ("FactorType", "totp"),
                ("FriendlyName", &name),
                ("Metadata", &metadata),
                ("Config.Skew", "2"),
            ];
            let made = created(&backend.post(&path, &[&form[..], more].concat()).await);
            let text = |name: &str| made["binding"][name].as_str().unwrap().to_owned();
            secrets.keep("TOTP secret", &text("secret"));
            secrets.keep("TOTP secret", &text("uri"));
            let key = TotpKey::parse(&text("secret")).unwrap();
            secrets.keep("TOTP secret in hexadecimal", &hex::encode(key.as_bytes()));
            let app = AuthenticatorApp::from_uri(&text("uri")).unwrap();
            let code = |steps: i64| app.code(SystemClock.now().plus_seconds(30 * steps));
            let sid = made["sid"].as_str().unwrap();
            let factor = format!("{path}/{sid}");
            assert_error(&backend.post(&factor, &[("AuthPayload", &secrets.word("code"))]).await, 400, 60306);
            assert_eq!(backend.post(&factor, &[("AuthPayload", &code(0))]).await.status, 200);
            let challenges = format!("{}/Challenges", entity(service, identity));
            let (details, code) = (secrets.word("details"), code(1));
            let form = [("FactorSid", sid), ("Details.Message", &details), ("AuthPayload", &code)];
            assert_eq!(created(&backend.post(&challenges, &form).await)["status"], "approved");
            assert_eq!(created(&backend.post(&challenges, &form).await)["status"], "pending");
        }
        let form = [("FactorType", "totp"), ("FriendlyName", "Copy"), ("Binding.Secret", imported)];
        assert_error(&backend.post(&path, &form).await, 409, 60317);
        let wrong = format!("{} {}", secrets.word("totpsecret"), secrets.word("totpsecret"));
        let form = [("FactorType", "totp"), ("FriendlyName", "Bad"), ("Binding.Secret", &wrong)];
        assert_error(&backend.post(&path, &form).await, 400, 60314);
    }

    /// Sends and checks one-time codes of the backend's choice. The gateway accepts the messages, and the receiver of the
    /// events refuses them.
    async fn use_codes(&self, service: &str) {
        let (backend, secrets) = (self.server.http(), &self.secrets);
        let [gateway, events] = [0, 1].map(|number| {
            self.receivers[number].at(&format!("/{}?{}", secrets.word("hook"), secrets.word("hook")))
        });
        let name = secrets.word("outlet");
        self.command(&[
            "outlet",
            "create",
            "--kind",
            "http",
            "--name",
            &name,
            "--channel",
            "sms",
            "--url",
            &gateway,
        ]);
        self.command(&["account", "set", self.server.account_sid(), "--verification-events-url", &events]);
        let form = [("CustomCodeEnabled", "true"), ("VerifyEventSubscriptionEnabled", "true")];
        assert_eq!(backend.post(service, &form).await.status, 200);
        for number in ["+436641938471", "+436641938472"] {
            secrets.keep("recipient", number);
            secrets.keep("recipient without the plus sign", &number[1..]);
            let code = format!("x7Q4z{}", &number[10..]);
            secrets.keep("one-time code", &code);
            let tags = json!({ secrets.word("tag"): secrets.word("tag") }).to_string();
            let name = secrets.word("name");
            let form = [
                ("To", number),
                ("Channel", "sms"),
                ("CustomCode", &code),
                ("Tags", &tags),
                ("CustomFriendlyName", &name),
            ];
            created(&backend.post(&format!("{service}/Verifications"), &form).await);
            let check = format!("{service}/VerificationCheck");
            let wrong = secrets.word("wrong")[..9].to_owned();
            for (code, is_valid) in [(&wrong, false), (&code, true)] {
                let checked = created(&backend.post(&check, &[("To", number), ("Code", code)]).await);
                assert_eq!(checked["valid"], is_valid);
            }
        }
    }

    /// Creates a push credential and webhooks, whose URLs are secrets too.
    async fn create_credential_and_webhooks(&self, service: &str) {
        let (backend, secrets) = (self.server.http(), &self.secrets);
        let key = Key::rsa();
        let file = self.google.service_account("owl-bank", &key);
        for line in key.pkcs8().lines().filter(|line| !line.starts_with("-----")) {
            secrets.keep("push credential", line);
        }
        let made = created(&backend.post("/v1/Credentials", &[("Type", "fcm"), ("Secret", &file)]).await);
        let form = [("Push.FcmCredentialSid", made["sid"].as_str().unwrap())];
        assert_eq!(backend.post(service, &form).await.status, 200);
        for receiver in &self.receivers {
            let url = receiver.at(&format!("/{}?{}", secrets.word("hook"), secrets.word("hook")));
            let name = secrets.word("webhook");
            let form = [("FriendlyName", name.as_str()), ("WebhookUrl", &url), ("EventTypes", "*")];
            created(&backend.post(&format!("{service}/Webhooks"), &form).await);
        }
    }

    /// Waits until pushes and webhooks have been delivered, refused and skipped, and records their signatures.
    async fn wait_for_deliveries(&self) {
        let log = || self.server.log();
        wait_until(
            "deliveries of every kind have been attempted",
            std::time::Duration::from_secs(60),
            async || {
                let log = log();
                let has = |kind: &str, what: &str| {
                    log.lines().any(|line| {
                        line.contains(what)
                            && line.contains("app::deliver")
                            && line.contains(&format!("\"{kind}\""))
                    })
                };
                let is_done = has("webhook", "delivery succeeded")
                    && has("webhook", "delivery failed, given up")
                    && has("push", "delivery succeeded")
                    && has("verification_event", "delivery failed, given up");
                is_done.then_some(())
            },
        )
        .await;
        assert!(self.google.taken() > 0);
        for token in self.google.tokens() {
            self.secrets.keep("access token of Google", &token);
        }
        // Messages to the gateway have no signature.
        let is_signed =
            |call: &harness::Call| call.headers.iter().any(|(name, _)| name == "X-Twilio-Signature");
        for call in self.receivers.iter().flat_map(Receiver::calls).filter(is_signed) {
            self.secrets.keep("signature of a webhook", call.header("X-Twilio-Signature"));
        }
    }

    /// Creates a challenge with every parameter and returns its SID.
    async fn challenge(&self, enrollment: &Enrollment) -> String {
        let secrets = &self.secrets;
        let object = |what: &str| format!("{{\"{}\":\"{}\"}}", secrets.word(what), secrets.word(what));
        let field = format!(
            "{{\"label\":\"{}\",\"value\":\"{}\"}}",
            secrets.word("details"),
            secrets.word("details")
        );
        let (message, hidden) = (secrets.word("details"), object("hidden"));
        let form = [
            ("FactorSid", enrollment.factor_sid.as_str()),
            ("Details.Message", &message),
            ("Details.Fields", &field),
            ("HiddenDetails", &hidden),
        ];
        let path = format!("{}/Challenges", entity(&enrollment.service_sid, &enrollment.identity));
        let made = created(&self.server.http().post(&path, &form).await);
        made["sid"].as_str().unwrap().to_owned()
    }

    /// Sends requests of every kind that fails, then deletes the factor and the entity.
    async fn send_failing_requests(&self, service: &str, enrollment: &Enrollment) {
        self.send_wrong_credentials(service).await;
        self.request_unknown_resources(service, enrollment).await;
        self.send_invalid_parameters(service, enrollment).await;
        self.send_invalid_answers(enrollment).await;
        self.send_invalid_bodies().await;
        self.send_malformed_http();

        let phone = self.phone(Style::Android);
        phone.delete_factor(enrollment).await.unwrap();
        assert!(phone.list_pending(enrollment).await.is_err(), "a deleted factor can still sign in");
        let path = entity(service, &enrollment.identity);
        assert_eq!(self.server.http().delete(&path, &[]).await.status, 204);
    }

    async fn send_wrong_credentials(&self, service: &str) {
        let services = format!("/v2/Services/{service}");
        let word = |what: &str| self.secrets.word(what);
        let unauthenticated = Http::new(self.server.url());
        for (user, password) in [
            (self.server.account_sid().to_owned(), word("wrongtoken")),
            (format!("AC{}", "0".repeat(32)), word("wrongtoken")),
            (format!("SK{}", "0".repeat(32)), word("wrongsecret")),
            (word("wronguser"), word("wrongpassword")),
            ("token".to_owned(), word("wrongtoken")),
            ("token".to_owned(), format!("{}.{}.{}", word("head"), word("claims"), word("signature"))),
        ] {
            let auth = self.secrets.auth("wrong credentials", &user, &password);
            assert_error(&unauthenticated.clone().auth(auth).get(&services, &[]).await, 401, 20003);
        }
        for header in
            [word("nonsense"), format!("Bearer {}", word("bearer")), format!("Basic {}", word("basic"))]
        {
            let client = unauthenticated.clone().auth(Auth::Raw(header));
            assert_error(&client.get(&services, &[]).await, 401, 20003);
        }
    }

    async fn request_unknown_resources(&self, service: &str, enrollment: &Enrollment) {
        let backend = self.server.http();
        let word = |what: &str| self.secrets.word(what);
        let identity = enrollment.identity.as_str();
        for path in [
            entity(service, &word("missing")),
            format!("{}/Challenges/{}", entity(service, identity), word("missing")),
            format!("{}/Factors/YF03{}", entity(service, &word("missing")), "0".repeat(30)),
            format!("{}/Nothing", entity(service, identity)),
            format!("/v2/{}", word("missing")),
            format!("/{}/", word("missing")),
            format!("/v2/Services/{service}/Webhooks/{}", word("missing")),
        ] {
            assert!(backend.get(&path, &[]).await.status >= 400, "{path}");
            assert!(backend.post(&path, &[("Identity", &word("unheard"))]).await.status >= 400, "{path}");
            assert!(backend.delete(&path, &[("Identity", &word("unheard"))]).await.status >= 400, "{path}");
        }
    }

    async fn send_invalid_parameters(&self, service: &str, enrollment: &Enrollment) {
        let backend = self.server.http();
        let word = |what: &str| self.secrets.word(what);
        let long = |what: &str| format!("{}{}", word(what), "y".repeat(5000));
        let services = format!("/v2/Services/{service}");
        let identity = enrollment.identity.as_str();
        let factors = format!("{}/Factors", entity(service, identity));
        let challenges = format!("{}/Challenges", entity(service, identity));
        let sid = enrollment.factor_sid.as_str();
        for (path, form) in [
            ("/v2/Services".to_owned(), vec![("FriendlyName", long("bad"))]),
            (services.clone(), vec![("FriendlyName", format!("{}\u{7}", word("bad")))]),
            (services.clone(), vec![("CodeLength", word("bad"))]),
            (format!("{services}/Entities"), vec![("Identity", format!("{} {}", word("bad"), word("bad")))]),
            (format!("{services}/Entities"), vec![("Identity", identity.to_owned())]),
            (
                format!("{services}/AccessTokens"),
                vec![("Identity", word("bad")), ("FactorType", word("bad"))],
            ),
            (format!("{services}/AccessTokens"), vec![("Identity", word("bad")), ("Ttl", word("bad"))]),
            (
                factors.clone(),
                vec![
                    ("FriendlyName", word("bad")),
                    ("FactorType", "push".to_owned()),
                    ("Binding.PublicKey", word("bad")),
                    ("Config.AppId", word("bad")),
                    ("Config.NotificationPlatform", "fcm".to_owned()),
                    ("Config.NotificationToken", word("bad")),
                    ("Metadata", word("bad")),
                ],
            ),
            (format!("{factors}/{sid}"), vec![("AuthPayload", word("bad"))]),
            (format!("{factors}/{sid}"), vec![("Config.NotificationToken", long("bad"))]),
            (challenges.clone(), vec![("FactorSid", sid.to_owned()), ("Details.Message", long("bad"))]),
            (
                challenges.clone(),
                vec![
                    ("FactorSid", sid.to_owned()),
                    ("Details.Message", word("bad")),
                    ("Details.Fields", format!("{{\"label\":\"{}\"", word("bad"))),
                    ("HiddenDetails", format!("[\"{}\"]", word("bad"))),
                    ("ExpirationDate", word("bad")),
                ],
            ),
            (challenges.clone(), vec![("FactorSid", sid.to_owned()), ("HiddenDetails", word("bad"))]),
        ] {
            let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let reply = backend.post(&path, &form).await;
            assert!((400..500).contains(&reply.status), "{path}: {reply:?}");
        }
        for (name, value) in [("PageToken", word("bad")), ("PageSize", word("bad")), ("Status", word("bad"))]
        {
            let reply = backend.get(&challenges, &[(name, &value)]).await;
            assert!((400..500).contains(&reply.status), "{reply:?}");
        }
    }

    async fn send_invalid_answers(&self, enrollment: &Enrollment) {
        let word = |what: &str| self.secrets.word(what);
        let challenges = format!("{}/Challenges", entity(&enrollment.service_sid, &enrollment.identity));
        let pending = self.challenge(enrollment).await;
        for payload in [word("bad"), format!("{}.{}.{}", word("bad"), word("bad"), word("bad"))] {
            let path = format!("{challenges}/{pending}");
            let reply = self.server.http().post(&path, &[("AuthPayload", &payload)]).await;
            assert!((400..500).contains(&reply.status), "{reply:?}");
        }
        // Signed by the right key, for another challenge.
        let phone = self.phone(Style::Android);
        let mut other = phone.get_challenge(enrollment, &pending).await.unwrap();
        other.sid = self.challenge(enrollment).await;
        assert!(phone.send_answer(enrollment, &other, Answer::Approved).await.is_err());
    }

    async fn send_invalid_bodies(&self) {
        let word = |what: &str| self.secrets.word(what);
        let body = |word: String| format!("{{\"FriendlyName\":\"{word}\"}}");
        for (content_type, body) in [
            ("application/json".to_owned(), body(word("bad"))),
            (format!("text/{}", word("bad")), body(word("bad"))),
            (
                "application/x-www-form-urlencoded".to_owned(),
                format!("{}=%FF%00%zz&{}", word("bad"), word("bad")),
            ),
            ("application/x-www-form-urlencoded".to_owned(), word("bad").repeat(10_000)),
        ] {
            let reply = self.server.http().raw_body("/v2/Services", &content_type, body).await;
            assert!((400..500).contains(&reply.status), "{reply:?}");
        }
    }

    fn send_malformed_http(&self) {
        let word = |what: &str| self.secrets.word(what);
        for text in [
            format!("GET /{} HTTP/9.9\r\n\r\n", word("raw")),
            format!("{} / HTTP/1.1\r\nHost: owl\r\n\r\n", word("raw")),
            format!("GET /{}\u{1} HTTP/1.1\r\nHost: {}\r\n\r\n", word("raw"), word("raw")),
            format!("GET / HTTP/1.1\r\nHost: owl\r\n{}\r\n\r\n", word("raw")),
            format!("GET / HTTP/1.1\r\nHost: owl\r\nX-Owl: \u{1}{}\r\n\r\n", word("raw")),
            format!("POST /{} HTTP/1.1\r\nHost: owl\r\nContent-Length: -1\r\n\r\n", word("raw")),
            format!("GET /{} HTTP/1.1\r\nHost: owl\r\nX-Owl: {}\r\n\r\n", word("raw"), "o".repeat(200_000)),
            word("raw").repeat(1000),
        ] {
            let mut stream = TcpStream::connect(self.server.url().strip_prefix("http://").unwrap()).unwrap();
            // The server may close the connection before it has read everything.
            let _ = stream.write_all(text.as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }

    async fn assert_reports_no_secret(mut self, is_json: bool) {
        let (service, enrollment) = self.use_everything().await;
        self.wait_for_deliveries().await;
        self.send_failing_requests(&service, &enrollment).await;
        assert!(self.server.terminate().success());
        let log = self.server.log();
        let (requests, tells_everything) = if is_json {
            let lines = logs::objects(&log);
            let of = |target: &str, level: &str| {
                let is_it = |line: &&serde_json::Value| {
                    line["target"].as_str().unwrap().starts_with(target) && line["level"] == level
                };
                lines.iter().filter(is_it).count()
            };
            assert!(of("app::deliver", "DEBUG") > 0);
            (
                of("web::middleware", "INFO"),
                of("actix_http", "TRACE") > 0 && of("store::statement", "TRACE") > 0,
            )
        } else {
            let requests =
                log.lines().filter(|line| line.contains("web::middleware: request finished ")).count();
            (
                requests,
                ["TRACE actix_http", "TRACE store::statement"].iter().all(|expected| log.contains(expected)),
            )
        };
        assert!(requests > 100 && tells_everything, "the log lacks expected lines:\n{log}");
        self.secrets.assert_absent_from(&log);
        let spans = self.collector.spans();
        assert!(spans.iter().filter(|span| span.kind == "server").count() > 100, "{spans:?}");
        assert!(spans.iter().any(|span| span.name == "deliver webhook"), "{spans:?}");
        self.secrets.assert_absent_from(&self.collector.text());
        let audit = self.command(&["audit", "export"]) + &self.command(&["audit", "list", "--limit", "1000"]);
        assert!(audit.contains("challenge.approved") && audit.contains("api-key.created"), "{audit}");
        self.secrets.assert_absent_from(&audit);
    }
}

/// The most detailed log, including all libraries.
const TRACE_LOG: [&str; 2] = ["--log", "trace"];

/// The default log level.
const INFO_LOG: [&str; 2] = ["--log", "info"];

#[tokio::test]
async fn trace_log_contains_no_secret() {
    SecrecyFixture::sqlite(&TRACE_LOG).await.assert_reports_no_secret(false).await;
}

#[tokio::test]
async fn json_trace_log_on_postgres_contains_no_secret() {
    let test = "secrecy::json_trace_log_on_postgres_contains_no_secret";
    let arguments = [&TRACE_LOG[..], &["--log-format", "json"]].concat();
    if let Some(fixture) = SecrecyFixture::postgres(test, &arguments).await {
        fixture.assert_reports_no_secret(true).await;
    }
}

#[tokio::test]
async fn sqlite_file_contains_no_plaintext_secret() {
    let mut fixture = SecrecyFixture::sqlite(&INFO_LOG).await;
    let (service, _) = fixture.use_everything().await;
    // The files as they are on disk, including the write-ahead log.
    fixture.server.kill9();
    let mut files = Vec::new();
    for name in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
        files.extend(fs::read(fixture.data_dir.join(name)).unwrap_or_default());
    }
    let found = |secret: &[u8]| files.windows(secret.len()).any(|window| window == secret);
    assert!(found(service.as_bytes()), "the data are stored elsewhere");
    fixture.each_stored_secret(|what, secret| assert!(!found(secret), "{what} is stored in plaintext"));
}

#[tokio::test]
async fn postgres_contains_no_plaintext_secret() {
    let test = "secrecy::postgres_contains_no_plaintext_secret";
    let Some(fixture) = SecrecyFixture::postgres(test, &INFO_LOG).await else { return };
    let (service, _) = fixture.use_everything().await;
    let database = fixture.database.as_ref().unwrap();
    let tables = database.psql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'");
    let rows: Vec<_> =
        tables.lines().map(|table| database.psql(&format!("SELECT * FROM \"{table}\""))).collect();
    let rows = rows.join("\n");
    assert!(rows.contains(&service), "the data are stored elsewhere");
    fixture.each_stored_secret(|what, secret| {
        // Binary columns are printed in hexadecimal.
        let hexadecimal = hex::encode(secret);
        let in_the_open = str::from_utf8(secret).is_ok_and(|secret| rows.contains(secret));
        assert!(!in_the_open && !rows.contains(&hexadecimal), "{what} is stored in plaintext");
    });
}

impl SecrecyFixture {
    /// Passes each secret that the database must not hold in plaintext to `check`, in every encoding in which
    /// it could appear.
    fn each_stored_secret(&self, check: impl Fn(&str, &[u8])) {
        let secrets = &self.secrets;
        for what in [
            "auth token",
            "access token",
            "API key's secret",
            "master key",
            "push credential",
            "passkey challenge",
            "one-time code",
            "totpsecret",
            "TOTP secret",
            "TOTP secret in hexadecimal",
        ] {
            let known = secrets.of(what);
            assert!(!known.is_empty(), "{what}");
            for secret in known {
                check(what, secret.as_bytes());
                // The master key is base64 of bytes, an auth token is hexadecimal.
                if let Ok(bytes) = STANDARD.decode(&secret) {
                    check(what, &bytes);
                }
                let halves = (0..secret.len() / 2).map(|index| secret.get(2 * index..2 * index + 2));
                let bytes: Option<Vec<u8>> = halves.map(|half| u8::from_str_radix(half?, 16).ok()).collect();
                if let Some(bytes) = bytes {
                    check(what, &bytes);
                }
            }
        }
    }
}
