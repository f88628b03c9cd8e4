//! Test mode: what keeps it out of production, and what it offers to the tests of a backend.

mod captures;
mod chaos;
mod clock;
mod devices;
mod starting;

use harness::{Http, Reply};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

/// A server in test mode, with clients for its control endpoints.
struct TestServer {
    world: World,
    /// A client without credentials, which the control endpoints need not.
    http: Http,
}

impl TestServer {
    fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with further arguments.
    fn with(arguments: &[&str]) -> Self {
        let mut all = vec!["--test-mode", "local"];
        all.extend_from_slice(arguments);
        let world = World::ephemeral_with(&all);
        let http = Http::new(world.server.url());
        Self { world, http }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let reply = self.http.send_json(method, &format!("/_countersign/v1{path}"), body.as_ref()).await;
        assert_eq!(reply.header("countersign-test-mode"), Some("on"), "{reply:?}");
        reply
    }

    async fn get(&self, path: &str) -> Value {
        let reply = self.send(Method::GET, path, None).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn delete(&self, path: &str) {
        let reply = self.send(Method::DELETE, path, None).await;
        assert_eq!(reply.status, 204, "{path}: {reply:?}");
    }

    /// Creates a virtual device of the server's own account, with further members of the request.
    async fn device(&self, service: &str, identity: &str, more: Value) -> Value {
        let mut new = json!({
            "account_sid": self.world.server.account_sid(),
            "service_sid": service,
            "identity": identity,
        });
        for (name, value) in more.as_object().unwrap() {
            new[name] = value.clone();
        }
        let reply = self.post("/devices", new).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()
    }

    /// Creates a challenge for a virtual device, and returns its SID.
    async fn challenge(&self, device: &Value, more: &[(&str, &str)]) -> String {
        let mut form =
            vec![("FactorSid", text(&device["factor_sid"])), ("Details.Message", "Sign in to Owl Bank?")];
        form.extend_from_slice(more);
        let reply = self.world.backend().post(&challenges(device), &form).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        text(&reply.json()["sid"]).to_owned()
    }

    /// Returns the status of a challenge as the backend sees it.
    async fn status(&self, device: &Value, challenge: &str) -> String {
        let reply = self.world.backend().get(&format!("{}/{challenge}", challenges(device)), &[]).await;
        text(&reply.json()["status"]).to_owned()
    }

    /// Returns the steps of a device.
    async fn steps(&self, device: &Value) -> Vec<Value> {
        self.get(&format!("/devices/{}/log", text(&device["id"]))).await.as_array().unwrap().clone()
    }
}

/// Returns the path of the challenges of a device's entity.
fn challenges(device: &Value) -> String {
    let (service, identity) = (text(&device["service_sid"]), text(&device["identity"]));
    format!("/v2/Services/{service}/Entities/{identity}/Challenges")
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
