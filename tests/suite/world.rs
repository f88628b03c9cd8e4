//! A server for one test, with the backend and the phones that call it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use app::SystemClock;
use device::{Enrollment, NewFactor, Phone, Platform, SigningKey, Style};
use domain::{Clock as _, Parameter as _, Secret, Timestamp};
use harness::{Auth, Database, Http, Reply, Server, Storage};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest wait for something that takes at most a few seconds on an undisturbed machine.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The binary under test: `COUNTERSIGN_TEST_BINARY` if set, otherwise the binary that Cargo has built.
pub(crate) const BINARY: Binary = Binary;

/// The path of the binary under test, usable as a path and as the name of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binary;

impl AsRef<Path> for Binary {
    fn as_ref(&self) -> &Path {
        static PATH: LazyLock<PathBuf> =
            LazyLock::new(|| harness::binary_under_test(env!("CARGO_BIN_EXE_countersign")));
        &PATH
    }
}

impl AsRef<OsStr> for Binary {
    fn as_ref(&self) -> &OsStr {
        let path: &Path = self.as_ref();
        path.as_os_str()
    }
}

/// A server on its own database, with all resources that must live as long as the server.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) storage: Storage,
    /// The phones by style and server, because creating one takes longer than all its requests.
    phones: Mutex<Vec<(Style, String, Arc<Phone>)>>,
    // Declared after the server, so that the server stops before its data are removed.
    _folder: TempDir,
    /// The database, if it is PostgreSQL.
    pub(crate) database: Option<Database>,
}

/// A gateway for text messages that cannot be reached, so that verifications can be created and nothing is sent. No
/// program listens at the port for discarded data.
const GATEWAY: &[&str] = &["--sms-url", "http://127.0.0.1:9/"];

impl World {
    /// Starts a server that keeps everything in memory.
    pub(crate) fn ephemeral() -> Self {
        Self::on(Storage::Ephemeral, &[], tempfile::tempdir().unwrap(), None)
    }

    /// Starts a server on a SQLite file.
    pub(crate) fn sqlite() -> Self {
        Self::sqlite_with(&[])
    }

    /// Starts a server on a SQLite file, with these arguments after `serve`.
    pub(crate) fn sqlite_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::Sqlite(folder.path().join("data"));
        Self::on(storage, arguments, folder, None)
    }

    /// Starts a server on PostgreSQL, with these arguments after `serve`. Returns `None` and prints a notice if
    /// there is no PostgreSQL.
    pub(crate) fn postgres_with(test: &str, arguments: &[&str]) -> Option<Self> {
        let database = harness::postgres_or_skip(test)?;
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::Postgres { url: database.url.clone(), data_dir: folder.path().join("data") };
        Some(Self::on(storage, arguments, folder, Some(database)))
    }

    /// Starts a server on PostgreSQL through PgBouncer in transaction mode, with these arguments after `serve`.
    /// Returns `None` and prints a notice if one of them is missing.
    pub(crate) fn pooled_with(test: &str, arguments: &[&str]) -> Option<Self> {
        let database = harness::postgres_or_skip(test)?;
        let url = database.pooled_url_or_skip(test)?;
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::Postgres { url, data_dir: folder.path().join("data") };
        Some(Self::on(storage, arguments, folder, Some(database)))
    }

    /// Starts a server that keeps everything in memory, with these arguments after `serve`.
    pub(crate) fn ephemeral_with(arguments: &[&str]) -> Self {
        Self::on(Storage::Ephemeral, arguments, tempfile::tempdir().unwrap(), None)
    }

    fn on(storage: Storage, arguments: &[&str], folder: TempDir, database: Option<Database>) -> Self {
        let arguments = [GATEWAY, arguments].concat();
        let server = Server::start(BINARY, storage.clone(), &arguments);
        Self { server, storage, phones: Mutex::default(), _folder: folder, database }
    }

    /// Starts another server on the same database, with these arguments after `serve`.
    pub(crate) fn another_server(&self, arguments: &[&str]) -> Server {
        Server::start(BINARY, self.storage.clone(), arguments)
    }

    /// Runs `countersign` with these arguments on this world's database, beside the server, and returns its
    /// output.
    ///
    /// # Panics
    ///
    /// If the command fails, or if the server is ephemeral.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `countersign` with these arguments, checks that it fails, and returns its error output.
    pub(crate) fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.storage.command(BINARY, arguments).output().unwrap()
    }

    /// Returns everything that the account can list, to compare the state before and after.
    pub(crate) async fn everything(&self) -> Value {
        let backend = self.backend();
        let list = async |path: &str, key: &str| {
            let reply = backend.get(path, &[("PageSize", "1000")]).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            reply.json()[key].as_array().unwrap().clone()
        };
        let mut everything = Vec::new();
        for service in list("/v2/Services", "services").await {
            let path = format!("/v2/Services/{}/Entities", service["sid"].as_str().unwrap());
            let mut entities = Vec::new();
            for entity in list(&path, "entities").await {
                let path = format!("{path}/{}", entity["identity"].as_str().unwrap());
                let factors = list(&format!("{path}/Factors"), "factors").await;
                let challenges = list(&format!("{path}/Challenges"), "challenges").await;
                entities.push(json!({ "entity": entity, "factors": factors, "challenges": challenges }));
            }
            let path = format!("/v2/Services/{}/Webhooks", service["sid"].as_str().unwrap());
            let webhooks = list(&path, "webhooks").await;
            let path = format!("/v2/Services/{}/RateLimits", service["sid"].as_str().unwrap());
            let mut limits = Vec::new();
            for limit in list(&path, "rate_limits").await {
                let path = format!("{path}/{}/Buckets", limit["sid"].as_str().unwrap());
                limits.push(json!({ "rate_limit": limit, "buckets": list(&path, "buckets").await }));
            }
            let path = format!("/v2/Services/{}/MessagingConfigurations", service["sid"].as_str().unwrap());
            let configurations = list(&path, "messaging_configurations").await;
            everything.push(json!({
                "service": service,
                "entities": entities,
                "webhooks": webhooks,
                "rate_limits": limits,
                "messaging_configurations": configurations,
            }));
        }
        let credentials = list("/v1/Credentials", "credentials").await;
        everything.extend(credentials.into_iter().map(|credential| json!({ "credential": credential })));
        let templates = list("/v2/Templates", "templates").await;
        everything.extend(templates.into_iter().map(|template| json!({ "template": template })));
        let path = format!("/2010-04-01/Accounts/{}", self.server.account_sid());
        let keys = list(&format!("{path}/Keys"), "keys").await;
        everything.extend(keys.into_iter().map(|key| json!({ "api_key": key })));
        everything.into()
    }

    /// Returns a client with the account's auth token.
    pub(crate) fn backend(&self) -> Http {
        self.server.http()
    }

    /// Creates a service and returns its SID.
    pub(crate) async fn service(&self) -> String {
        let reply = self.backend().post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await;
        created(&reply)["sid"].as_str().unwrap().to_owned()
    }

    /// Creates an access token for a push factor of this identity and returns its text.
    pub(crate) async fn access_token(&self, service: &str, identity: &str) -> String {
        // The longest lifetime, because the machine may be slow.
        let form = [("Identity", identity), ("FactorType", "push"), ("Ttl", "300")];
        let reply = self.backend().post(&format!("/v2/Services/{service}/AccessTokens"), &form).await;
        created(&reply)["token"].as_str().unwrap().to_owned()
    }

    /// Returns a phone that calls this server.
    pub(crate) fn phone(&self, style: Style) -> Arc<Phone> {
        let (mut phones, url) = (self.phones.lock().unwrap(), self.server.url());
        if let Some((.., phone)) = phones.iter().find(|(s, u, _)| *s == style && u == url) {
            return Arc::clone(phone);
        }
        let phone = Arc::new(Phone::new(style, url, Arc::new(SystemClock)).unwrap());
        phones.push((style, url.to_owned(), Arc::clone(&phone)));
        phone
    }

    /// Returns the parameters with which a phone enrolls for this identity.
    pub(crate) async fn new_factor(&self, service: &str, identity: &str) -> NewFactor {
        NewFactor {
            service_sid: service.to_owned(),
            identity: identity.to_owned(),
            access_token: Secret::new(self.access_token(service, identity).await),
            friendly_name: "Test phone".to_owned(),
            notification: None,
            metadata: None,
            app_id: "com.example.app".to_owned(),
        }
    }

    /// Returns a phone with a verified factor for this identity.
    pub(crate) async fn enrolled(
        &self,
        style: Style,
        service: &str,
        identity: &str,
    ) -> (Arc<Phone>, Enrollment) {
        let phone = self.phone(style);
        let enrollment = phone.enroll(&self.new_factor(service, identity).await).await.unwrap();
        (phone, enrollment)
    }

    /// Returns a phone with a verified factor for this identity and a key that the test knows.
    pub(crate) async fn device(&self, service: &str, identity: &str) -> Device {
        self.device_at(service, identity, None).await
    }

    /// Returns a phone as [`device`](Self::device) does, with this platform and push token.
    pub(crate) async fn device_at(
        &self,
        service: &str,
        identity: &str,
        notification: Option<(Platform, String)>,
    ) -> Device {
        let (phone, key) = (self.phone(Style::Android), SigningKey::generate());
        let new = NewFactor { notification, ..self.new_factor(service, identity).await };
        let mut enrollment = phone.create_factor_with(&new, key.clone()).await.unwrap();
        phone.verify_factor(&mut enrollment).await.unwrap();
        Device { phone, enrollment, key }
    }

    /// Creates a challenge for the enrolled phone and returns it.
    pub(crate) async fn challenge(&self, enrollment: &Enrollment, more: &[(&str, &str)]) -> Value {
        let mut form =
            vec![("FactorSid", enrollment.factor_sid.as_str()), ("Details.Message", "Sign in to Owl Bank?")];
        form.extend_from_slice(more);
        let path = format!("{}/Challenges", entity(&enrollment.service_sid, &enrollment.identity));
        created(&self.backend().post(&path, &form).await)
    }
}

/// A phone whose private key the test knows, so that the test can sign requests that no real phone sends.
pub(crate) struct Device {
    pub(crate) phone: Arc<Phone>,
    pub(crate) enrollment: Enrollment,
    pub(crate) key: SigningKey,
}

impl Device {
    /// Returns the phone's credentials with a newly signed device token.
    pub(crate) fn auth(&self) -> Auth {
        signed_in(device::signing::sign_device_token(Style::Android, &self.enrollment, SystemClock.now()))
    }

    /// Returns the path of the phone's factor.
    pub(crate) fn path(&self) -> String {
        let enrollment = &self.enrollment;
        let entity = entity(&enrollment.service_sid, &enrollment.identity);
        format!("{entity}/Factors/{}", enrollment.factor_sid)
    }

    /// Returns the path of the challenges of the phone's entity.
    pub(crate) fn challenges(&self) -> String {
        format!("{}/Challenges", entity(&self.enrollment.service_sid, &self.enrollment.identity))
    }
}

/// Returns the credentials of a phone: an access token or a device token.
pub(crate) fn signed_in(token: impl Into<String>) -> Auth {
    Auth::Basic("token".to_owned(), token.into())
}

/// Returns the path of an entity.
pub(crate) fn entity(service: &str, identity: &str) -> String {
    format!("/v2/Services/{service}/Entities/{identity}")
}

/// Returns the body of a reply, which must have status 201.
pub(crate) fn created(reply: &Reply) -> Value {
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()
}

/// Returns the time of a date in a body.
pub(crate) fn instant(date: &Value) -> Timestamp {
    Timestamp::from_parameter(date.as_str().unwrap()).unwrap()
}

/// Checks that a reply is an error with this status and code, in the format that clients expect.
#[track_caller]
pub(crate) fn assert_error(reply: &Reply, status: u16, code: i64) {
    let body = reply.json();
    assert_eq!((reply.status, body["code"].as_i64()), (status, Some(code)), "{reply:?}");
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["more_info"], format!("https://www.twilio.com/docs/errors/{code}"), "{body}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(reply.header("date").is_some() && reply.header("twilio-request-id").is_some(), "{reply:?}");
}

/// Runs one test on both databases, as `name::sqlite` and `name::postgres`. With `serving ARGUMENTS;` in front,
/// the server gets these arguments.
macro_rules! on_every_database {
    ($(#[$meta:meta])* async fn $name:ident($world:ident: $type:ty) $body:block) => {
        crate::world::on_every_database! { serving &[]; $(#[$meta])* async fn $name($world: $type) $body }
    };
    (serving $arguments:expr; $(#[$meta:meta])* async fn $name:ident($world:ident: $type:ty) $body:block) => {
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "a test may not need all that its file imports")]
            use super::*;

            async fn body($world: $type) $body

            #[tokio::test]
            async fn sqlite() {
                body(crate::world::World::sqlite_with($arguments)).await;
            }

            #[tokio::test]
            async fn postgres() {
                let test = concat!(stringify!($name), "::postgres");
                if let Some(world) = crate::world::World::postgres_with(test, $arguments) {
                    body(world).await;
                }
            }
        }
    };
}
pub(crate) use on_every_database;
