//! The stage: a server of the test's own, the backend that calls it, and phones.

use std::sync::Arc;

use app::SystemClock;
use device::{Enrolment, NewFactor, Phone, Style};
use domain::Secret;
use harness::{Database, Http, Reply, Server, Storage};
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// One server on a database of its own, and what has to live as long.
pub(crate) struct World {
    pub(crate) server: Server,
    // After the server, so that it is gone before its data.
    _folder: TempDir,
    _database: Option<Database>,
}

impl World {
    /// A server that keeps everything in memory.
    pub(crate) fn ephemeral() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { server: Server::start(BINARY, Storage::Ephemeral, &[]), _folder: folder, _database: None }
    }

    /// A server on a SQLite file.
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::Sqlite(folder.path().join("data"));
        Self { server: Server::start(BINARY, storage, &[]), _folder: folder, _database: None }
    }

    /// A server on PostgreSQL; `None`, said aloud, where there is no PostgreSQL.
    pub(crate) fn postgres(test: &str) -> Option<Self> {
        let database = harness::postgres_or_skip(test)?;
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::Postgres { url: database.url.clone(), data_dir: folder.path().join("data") };
        Some(Self { server: Server::start(BINARY, storage, &[]), _folder: folder, _database: Some(database) })
    }

    /// The backend, signed in with the account's auth token.
    pub(crate) fn backend(&self) -> Http {
        self.server.http()
    }

    /// Makes a service and returns its SID.
    pub(crate) async fn service(&self) -> String {
        let reply = self.backend().post("/v2/Services", &[("FriendlyName", "Owl Bank")]).await;
        created(&reply)["sid"].as_str().unwrap().to_owned()
    }

    /// Makes an access token for a push factor of this identity and returns its text.
    pub(crate) async fn access_token(&self, service: &str, identity: &str) -> String {
        let form = [("Identity", identity), ("FactorType", "push")];
        let reply = self.backend().post(&format!("/v2/Services/{service}/AccessTokens"), &form).await;
        created(&reply)["token"].as_str().unwrap().to_owned()
    }

    /// A phone that talks to this server.
    pub(crate) fn phone(&self, style: Style) -> Phone {
        Phone::new(style, self.server.url(), Arc::new(SystemClock)).unwrap()
    }

    /// What a phone asks for when it enrols for this identity.
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

    /// A phone that is enrolled and verified for this identity.
    pub(crate) async fn enrolled(&self, style: Style, service: &str, identity: &str) -> (Phone, Enrolment) {
        let phone = self.phone(style);
        let enrolment = phone.enroll(&self.new_factor(service, identity).await).await.unwrap();
        (phone, enrolment)
    }

    /// Asks the enrolled phone, and returns the challenge.
    pub(crate) async fn challenge(&self, enrolment: &Enrolment, more: &[(&str, &str)]) -> Value {
        let mut form =
            vec![("FactorSid", enrolment.factor_sid.as_str()), ("Details.Message", "Sign in to Owl Bank?")];
        form.extend_from_slice(more);
        let path = format!("{}/Challenges", entity(&enrolment.service_sid, &enrolment.identity));
        created(&self.backend().post(&path, &form).await)
    }
}

/// The path of an entity.
pub(crate) fn entity(service: &str, identity: &str) -> String {
    format!("/v2/Services/{service}/Entities/{identity}")
}

/// The body of a reply that must be a 201.
pub(crate) fn created(reply: &Reply) -> Value {
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()
}

/// Checks that a reply is an error of this status and code, in the form that every client expects.
#[track_caller]
pub(crate) fn assert_error(reply: &Reply, status: u16, code: i64) {
    let body = reply.json();
    assert_eq!((reply.status, body["code"].as_i64()), (status, Some(code)), "{reply:?}");
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["more_info"], format!("https://www.twilio.com/docs/errors/{code}"), "{body}");
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(reply.header("date").is_some() && reply.header("twilio-request-id").is_some(), "{reply:?}");
}

/// Writes a test once and runs it on both databases, as `name::sqlite` and `name::postgres`.
macro_rules! on_every_database {
    ($(#[$meta:meta])* async fn $name:ident($world:ident: $type:ty) $body:block) => {
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "a test may not need all that its file imports")]
            use super::*;

            async fn body($world: $type) $body

            #[tokio::test]
            async fn sqlite() {
                body(crate::world::World::sqlite()).await;
            }

            #[tokio::test]
            async fn postgres() {
                if let Some(world) = crate::world::World::postgres(concat!(stringify!($name), "::postgres")) {
                    body(world).await;
                }
            }
        }
    };
}
pub(crate) use on_every_database;
