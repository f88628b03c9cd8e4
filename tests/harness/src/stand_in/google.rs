//! A stand-in for Google's token endpoint and the FCM API that follows their documentation to the letter.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use domain::Clock;
use serde_json::{Map, Value, json};

use super::accepted::Accepted;
use super::jws::Unverified;
use super::pki::{Authority, Key};
use super::server::{Answer, Reply, Request, Server};

const GRANT_PREFIX: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";

/// An accepted push.
#[derive(Clone, Debug)]
pub struct Push {
    /// The project in the path.
    pub project: String,
    /// The `message` of the body.
    pub message: Value,
    /// The time of arrival.
    pub at: Instant,
}

/// A stand-in for Google's two servers.
pub struct Google {
    server: Server,
    known: Arc<Known>,
}

struct Known {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The URL of the token endpoint, which is the `aud` claim of an assertion.
    token_uri: String,
    accounts: HashMap<String, Account>,
    /// The project and the expiry of each access token.
    tokens: HashMap<String, (String, i64)>,
    given_out: usize,
    next_token: VecDeque<Reply>,
    next_send: VecDeque<Reply>,
    token_requests: usize,
    send_requests: usize,
    /// Registration tokens of removed apps.
    gone: HashSet<String>,
    kept: Accepted<Push>,
}

struct Account {
    project: String,
    key_id: String,
    key: Vec<u8>,
}

impl Google {
    /// Starts on a free port with a certificate of `authority`.
    pub async fn start(authority: &Authority, clock: Arc<dyn Clock>) -> Self {
        let known = Arc::new(Known { clock, state: Mutex::default() });
        let server = Server::start(authority.server(authority, rustls::ALL_VERSIONS), 100, {
            let known = known.clone();
            move |request| known.answer(request)
        })
        .await;
        known.state.lock().unwrap().token_uri = format!("{}/token", server.url());
        Self { server, known }
    }

    /// Creates a service account and returns its JSON file.
    pub fn service_account(&self, project: &str, key: &Key) -> String {
        let email = format!("push@{project}.iam.gserviceaccount.com");
        let (project, key_id) = (project.to_owned(), "0123456789abcdef".to_owned());
        let file = json!({
            "type": "service_account",
            "project_id": project,
            "private_key_id": key_id,
            "private_key": key.pkcs8(),
            "client_email": email,
            "client_id": "123456789012345678901",
            "auth_uri": format!("{}/auth", self.server.url()),
            "token_uri": format!("{}/token", self.server.url()),
            "universe_domain": "googleapis.com",
        });
        self.state(|state| state.accounts.insert(email, Account { project, key_id, key: key.public() }));
        file.to_string()
    }

    /// Sets the reply to the next request for an access token.
    pub fn next_token(&self, reply: Reply) {
        self.state(|state| state.next_token.push_back(reply));
    }

    /// Sets the reply to the next push.
    pub fn next_send(&self, reply: Reply) {
        self.state(|state| state.next_send.push_back(reply));
    }

    /// Returns the issued access tokens.
    pub fn tokens(&self) -> Vec<String> {
        self.state(|state| state.tokens.keys().cloned().collect())
    }

    /// Revokes all access tokens.
    pub fn revoke_tokens(&self) {
        self.state(|state| state.tokens.clear());
    }

    /// Refuses further pushes to this registration token with 404, as if the app had been removed.
    pub fn unregister(&self, token: &str) {
        self.state(|state| state.gone.insert(token.to_owned()));
    }

    /// Returns the accepted pushes.
    pub fn pushes(&self) -> Vec<Push> {
        self.state(|state| state.kept.all())
    }

    /// Returns the number of accepted pushes.
    pub fn taken(&self) -> usize {
        self.state(|state| state.kept.count())
    }

    /// Stops keeping pushes and only counts them, for tests that send very many.
    pub fn only_count(&self) {
        self.state(|state| state.kept.only_count());
    }

    /// Returns the number of requests for an access token.
    pub fn token_requests(&self) -> usize {
        self.state(|state| state.token_requests)
    }

    /// Returns the number of push requests, accepted or not.
    pub fn send_requests(&self) -> usize {
        self.state(|state| state.send_requests)
    }

    /// Returns the underlying server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.known.state.lock().unwrap())
    }
}

/// Returns an error as Google's APIs write it, with FCM's own code if there is one.
pub fn error(http: u16, status: &str, code: Option<&str>, message: &str) -> Answer {
    let details = code.map(
        |code| json!({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}),
    );
    let details: Vec<Value> = details.into_iter().collect();
    let error = json!({"code": http, "message": message, "status": status, "details": details});
    Answer::new(http, json!({ "error": error }).to_string())
}

impl Known {
    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.state.lock().unwrap();
        let is_token = request.uri.path() == "/token";
        let next = if is_token {
            state.token_requests += 1;
            state.next_token.pop_front()
        } else {
            state.send_requests += 1;
            state.next_send.pop_front()
        };
        next.unwrap_or_else(|| {
            Reply::Answer(if is_token {
                self.token(request, &mut state)
            } else {
                self.send(request, &mut state)
            })
        })
    }

    /// Checks a JWT bearer assertion (RFC 7523) and issues an access token for at most an hour.
    fn token(&self, request: &Request, state: &mut State) -> Answer {
        let invalid = |description: &str| {
            Answer::new(400, json!({"error": "invalid_grant", "error_description": description}).to_string())
        };
        if request.method != "POST"
            || request.header("content-type") != Some("application/x-www-form-urlencoded")
        {
            return invalid("not a form");
        }
        let body = str::from_utf8(&request.body).unwrap_or_default();
        let Some(jws) = body.strip_prefix(GRANT_PREFIX).and_then(Unverified::parse) else {
            return invalid("no assertion");
        };
        let claims = &jws.claims;
        let Some(account) = claims["iss"].as_str().and_then(|email| state.accounts.get(email)) else {
            return invalid("account not found");
        };
        if jws.header["kid"] != account.key_id.as_str() || !jws.is_rs256(&account.key) {
            return invalid("Invalid JWT Signature.");
        }
        let now = self.clock.now().seconds();
        let (Some(from), Some(to)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else {
            return invalid("no time");
        };
        if (from - now).abs() > 300 || to <= now || to - from > 3600 {
            return invalid("Token must be short-lived");
        }
        if claims["scope"] != "https://www.googleapis.com/auth/firebase.messaging" {
            return invalid("scope");
        }
        if claims["aud"] != state.token_uri.as_str() {
            return invalid("audience");
        }
        let project = account.project.clone();
        state.given_out += 1;
        let token = format!("ya29.access-token-{:04}", state.given_out);
        state.tokens.insert(token.clone(), (project, now + 3599));
        let body = json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"});
        Answer::new(200, body.to_string()).header("content-type", "application/json")
    }

    fn send(&self, request: &Request, state: &mut State) -> Answer {
        let project = request
            .uri
            .path()
            .strip_prefix("/v1/projects/")
            .and_then(|rest| rest.strip_suffix("/messages:send"));
        let Some(project) = project.filter(|_| request.method == "POST") else {
            return Answer::new(404, "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>");
        };
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let now = self.clock.now().seconds();
        match token.and_then(|token| state.tokens.get(token)) {
            Some((_, ends)) if *ends <= now => return error(401, "UNAUTHENTICATED", None, "expired"),
            None => return error(401, "UNAUTHENTICATED", None, "no valid authentication credential"),
            Some((of, _)) if of != project => return error(403, "PERMISSION_DENIED", None, "denied"),
            Some(_) => {}
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if let Some(wrong) = failure_reason(&body) {
            return error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), wrong);
        }
        if body["message"]["token"].as_str().is_some_and(|token| state.gone.contains(token)) {
            return error(404, "NOT_FOUND", Some("UNREGISTERED"), "Requested entity was not found.");
        }
        let message = body["message"].clone();
        state.kept.add(Push { project: project.to_owned(), message, at: Instant::now() });
        let name = format!("projects/{project}/messages/{}", state.kept.count());
        Answer::new(200, json!({ "name": name }).to_string()).header("content-type", "application/json")
    }
}

fn failure_reason(body: &Value) -> Option<&'static str> {
    let keys = |value: &Value| {
        let mut keys: Vec<String> = value.as_object().unwrap_or(&Map::new()).keys().cloned().collect();
        keys.sort();
        keys
    };
    let message = &body["message"];
    let data = message["data"].as_object();
    if keys(body) != ["message"] || keys(message) != ["android", "data", "token"] {
        return Some("Invalid JSON payload received.");
    }
    if message["token"].as_str().is_none_or(str::is_empty) {
        return Some("The registration token is not a valid FCM registration token");
    }
    if data.is_none_or(|data| data.values().any(|value| !value.is_string())) {
        return Some("Invalid value at 'message.data'");
    }
    let ttl = message["android"]["ttl"].as_str().and_then(|ttl| ttl.strip_suffix('s')).map(str::parse::<u32>);
    if !matches!(ttl, Some(Ok(0..=2_419_200))) || message["android"]["priority"] != "HIGH" {
        return Some("Invalid value at 'message.android'");
    }
    None
}
