//! A stand-in for APNs that follows Apple's "Sending notification requests to APNs" to the letter.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use domain::Clock;
use serde_json::{Value, json};

use super::accepted::Accepted;
use super::jws::Unverified;
use super::pki::{Authority, Key, Pushing};
use super::server::{Answer, Reply, Request, Server};

/// An accepted push.
#[derive(Clone, Debug)]
pub struct Push {
    /// The device token in the path.
    pub device: String,
    /// `apns-topic`
    pub topic: String,
    /// `apns-expiration`
    pub expiration: i64,
    /// `apns-id`
    pub id: String,
    /// The body.
    pub payload: Value,
}

/// A stand-in for Apple's push servers.
pub struct Apple {
    server: Server,
    known: Arc<Known>,
}

struct Known {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The public key of each team id and key id.
    keys: HashMap<(String, String), Vec<u8>>,
    /// The topic of each known certificate.
    certificates: HashMap<Vec<u8>, String>,
    /// The team and key to which the first provider token has bound a connection.
    connections: HashMap<usize, Tie>,
    next: VecDeque<Reply>,
    /// Device tokens of removed apps.
    gone: HashSet<String>,
    kept: Accepted<Push>,
    tokens: Vec<String>,
    requests: usize,
}

struct Tie {
    team: String,
    key_id: String,
    token: String,
    since: i64,
}

impl Apple {
    /// Starts on a free port with a certificate of `authority`, and accepts that authority's client
    /// certificates.
    pub async fn start(authority: &Authority, clock: Arc<dyn Clock>) -> Self {
        Self::start_with(authority.server(authority, rustls::ALL_VERSIONS), 1000, clock).await
    }

    /// Starts with this TLS configuration. Accepts at most `streams` concurrent requests on each connection:
    /// Apple allows one until it has received a valid provider token, then about a thousand.
    pub async fn start_with(tls: rustls::ServerConfig, streams: u32, clock: Arc<dyn Clock>) -> Self {
        let known = Arc::new(Known { clock, state: Mutex::default() });
        let server = Server::start(tls, streams, {
            let known = known.clone();
            move |request| known.answer(request)
        });
        Self { server: server.await, known }
    }

    /// Registers a provider token key under this team id and key id.
    pub fn register_key(&self, team: &str, key_id: &str, key: &Key) {
        self.state(|state| state.keys.insert((team.to_owned(), key_id.to_owned()), key.public()));
    }

    /// Registers a push certificate for `topic`, the only topic to which it may send.
    pub fn register_certificate(&self, certificate: &Pushing, topic: &str) {
        self.state(|state| state.certificates.insert(certificate.der().to_vec(), topic.to_owned()));
    }

    /// Sets the reply to the next request. Several replies form a queue.
    pub fn next(&self, reply: Reply) {
        self.state(|state| state.next.push_back(reply));
    }

    /// Refuses the next request with this status and reason.
    pub fn refuse_next(&self, status: u16, reason: &str) {
        self.next(Reply::Answer(refusal(status, reason)));
    }

    /// Refuses further pushes to this device token with 410, as if the app had been removed.
    pub fn unregister(&self, device: &str) {
        self.state(|state| state.gone.insert(device.to_owned()));
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

    /// Returns the distinct valid provider tokens received.
    pub fn tokens(&self) -> Vec<String> {
        self.state(|state| state.tokens.clone())
    }

    /// Returns the number of requests, accepted or not.
    pub fn requests(&self) -> usize {
        self.state(|state| state.requests)
    }

    /// Returns the underlying server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.known.state.lock().unwrap())
    }
}

fn refusal(status: u16, reason: &str) -> Answer {
    Answer::new(status, json!({ "reason": reason }).to_string())
}

type Refusal = (u16, &'static str);

impl Known {
    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.state.lock().unwrap();
        state.requests += 1;
        if let Some(reply) = state.next.pop_front() {
            return reply;
        }
        match self.judge(request, &mut state) {
            Ok(push) => {
                let answer = Answer::new(200, "").header("apns-id", &push.id);
                state.kept.add(push);
                Reply::Answer(answer)
            }
            Err((status, reason)) => Reply::Answer(refusal(status, reason)),
        }
    }

    fn judge(&self, request: &Request, state: &mut State) -> Result<Push, Refusal> {
        let demand = |holds: bool, status, reason| if holds { Ok(()) } else { Err((status, reason)) };
        demand(request.method == "POST", 405, "MethodNotAllowed")?;
        let device = request.uri.path().strip_prefix("/3/device/").ok_or((404, "BadPath"))?;
        demand(request.uri.scheme_str() == Some("https") && request.uri.query().is_none(), 404, "BadPath")?;
        demand(!device.is_empty(), 400, "MissingDeviceToken")?;
        demand(device.bytes().all(|byte| byte.is_ascii_hexdigit()), 400, "BadDeviceToken")?;

        let topic = request.header("apns-topic").ok_or((400, "MissingTopic"))?;
        match (&request.client_certificate, request.header("authorization")) {
            (Some(certificate), None) => {
                let good_for = state.certificates.get(certificate).ok_or((403, "BadCertificate"))?;
                demand(good_for == topic, 400, "TopicDisallowed")?;
            }
            (None, Some(authorization)) => {
                let token = authorization.strip_prefix("bearer ").ok_or((403, "InvalidProviderToken"))?;
                self.judge_token(token, request.connection, state)?;
            }
            (Some(_), Some(_)) => return Err((403, "Forbidden")),
            (None, None) => return Err((403, "MissingProviderToken")),
        }

        demand(request.header("apns-push-type") == Some("alert"), 400, "InvalidPushType")?;
        demand(request.header("apns-priority") == Some("10"), 400, "BadPriority")?;
        let expiration = request.header("apns-expiration").and_then(|text| text.parse::<i64>().ok());
        let expiration = expiration.ok_or((400, "BadExpirationDate"))?;
        demand(expiration == 0 || expiration > self.clock.now().seconds(), 400, "BadExpirationDate")?;
        let id = request.header("apns-id").ok_or((400, "BadMessageId"))?;
        demand(id.len() == 36 && id.split('-').map(str::len).eq([8, 4, 4, 4, 12]), 400, "BadMessageId")?;
        demand(!request.body.is_empty(), 400, "PayloadEmpty")?;
        demand(request.body.len() <= 4096, 413, "PayloadTooLarge")?;
        demand(!state.gone.contains(device), 410, "Unregistered")?;
        Ok(Push {
            device: device.to_owned(),
            topic: topic.to_owned(),
            expiration,
            id: id.to_owned(),
            payload: serde_json::from_slice(&request.body).map_err(|_| (400, "PayloadEmpty"))?,
        })
    }

    /// Checks a provider token: it is valid for an hour, is renewed at most once in 20 minutes, and binds the
    /// connection to its team and key.
    fn judge_token(&self, token: &str, connection: usize, state: &mut State) -> Result<(), Refusal> {
        const INVALID: Refusal = (403, "InvalidProviderToken");
        let jws = Unverified::parse(token).ok_or(INVALID)?;
        let (Some(team), Some(key_id)) = (jws.claims["iss"].as_str(), jws.header["kid"].as_str()) else {
            return Err(INVALID);
        };
        let key = state.keys.get(&(team.to_owned(), key_id.to_owned())).ok_or(INVALID)?;
        let made_at = jws.claims["iat"].as_i64().ok_or(INVALID)?;
        if !jws.is_es256(key) || jws.claims != json!({"iss": team, "iat": made_at}) {
            return Err(INVALID);
        }
        let now = self.clock.now().seconds();
        if now - made_at > 3600 {
            return Err((403, "ExpiredProviderToken"));
        }
        if made_at - now > 60 {
            return Err(INVALID);
        }
        let tie = state.connections.entry(connection).or_insert_with(|| Tie {
            team: team.to_owned(),
            key_id: key_id.to_owned(),
            token: token.to_owned(),
            since: now,
        });
        if (&*tie.team, &*tie.key_id) != (team, key_id) {
            return Err((403, "UnrelatedKeyIdInToken"));
        }
        if tie.token != token {
            if now - tie.since < 20 * 60 {
                return Err((429, "TooManyProviderTokenUpdates"));
            }
            (tie.token, tie.since) = (token.to_owned(), now);
        }
        if !state.tokens.iter().any(|seen| seen == token) {
            state.tokens.push(token.to_owned());
        }
        Ok(())
    }
}
