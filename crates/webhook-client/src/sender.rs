//! What is sent, and in what order things happen: sign, take a connection or make one, ask, read.

use std::fmt;
use std::time::Duration;

use domain::accounts::AuthToken;
use domain::{CallbackUrl, Timestamp};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use ipnet::IpNet;
use url::form_urlencoded;

use crate::connection::Connection;
use crate::dial::Dialer;
use crate::error::Error;
use crate::guard::Guard;
use crate::limits::Limits;
use crate::outcome::{Attempt, Failure, Outcome};
use crate::pool::Pool;
use crate::response::Response;
use crate::signature::sign;
use crate::tls;

/// What an operator may settle. The defaults are Twilio's (docs/protocol/webhooks.md, section 3).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Networks that may be called though they are not public; see [`Guard`].
    pub allow: Vec<IpNet>,
    /// Certificate authorities, in PEM, that are trusted besides the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// For resolving the name and connecting, unless a URL has `ct`.
    pub connect_timeout: Duration,
    /// For an answer, and between the parts of one, unless a URL has `rt`.
    pub read_timeout: Duration,
    /// For one attempt in all, unless a URL has `tt`.
    pub total_timeout: Duration,
    /// What receivers see as `User-Agent`.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            extra_ca: None,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(15),
            total_timeout: Duration::from_secs(15),
            user_agent: "TwilioProxy/1.1".into(),
        }
    }
}

/// What is to be sent.
pub struct Request<'a> {
    /// Where to.
    pub url: &'a CallbackUrl,
    /// The event, as it was frozen.
    pub parameters: &'a [(String, String)],
    /// What signs it: the account's.
    pub auth_token: &'a AuthToken,
    /// What a receiver tells repetitions by: the same on every attempt at one delivery.
    pub idempotency_token: &'a str,
}

/// Sends webhooks. One for the whole server, since it keeps connections for a while.
pub struct Sender {
    settings: Settings,
    user_agent: HeaderValue,
    dialer: Dialer,
    pool: Pool,
}

impl Sender {
    /// A sender with these settings. Reads the system's certificates.
    ///
    /// # Errors
    ///
    /// If the settings can't be used, or if nothing is to be trusted.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let user_agent = HeaderValue::from_str(&settings.user_agent).map_err(|_| Error::UserAgent)?;
        let tls = tls::connector(settings.extra_ca.as_deref())?;
        let dialer = Dialer::new(Guard::new(settings.allow.clone()), tls);
        Ok(Self { settings, user_agent, dialer, pool: Pool::new() })
    }

    /// Makes one attempt, which begins `now`. It ends within the total timeout, whatever the receiver
    /// does.
    pub async fn send(&self, request: &Request<'_>, now: Timestamp) -> Attempt {
        let limits = Limits::new(&self.settings, request.url.overrides());
        let answer = self.deliver(request, &limits, now).await;
        let duration = limits.elapsed();
        match answer {
            Ok(response) => Attempt {
                outcome: Outcome::of(response.status),
                response: Some(response),
                cause: None,
                duration,
            },
            Err(Failure { outcome, cause }) => Attempt { outcome, response: None, cause, duration },
        }
    }

    async fn deliver(
        &self,
        request: &Request<'_>,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Response, Failure> {
        let url = request.url.url();
        let post = self.post(request)?;
        if let Some(connection) = self.pool.take(&url.origin()) {
            match self.ask(connection, request, post.clone(), limits, now).await {
                // An old connection may have ended unnoticed, and that says nothing about the receiver.
                // Should it have had the request after all, it knows the next by its idempotency token.
                Err(Failure { outcome: Outcome::Disconnected, .. }) => {}
                answer => return answer,
            }
        }
        let connection = self.dialer.dial(url, limits).await?;
        self.ask(connection, request, post, limits, now).await
    }

    async fn ask(
        &self,
        mut connection: Connection,
        request: &Request<'_>,
        post: hyper::Request<Full<Bytes>>,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Response, Failure> {
        let answer = limits.read(connection.send(post)).await?.map_err(|error| {
            let outcome = if error.is_parse() { Outcome::Garbled } else { Outcome::Disconnected };
            Failure::because(outcome, &error)
        })?;
        let response = Response::read(answer, limits, now).await;
        // Else it is dropped, and closed: nobody waits for what the receiver has still to say.
        if !response.truncated && connection.settles().await {
            self.pool.put(request.url.url().origin(), connection);
        }
        Ok(response)
    }

    /// The request as docs/protocol/webhooks.md, sections 3 and 4 want it.
    fn post(&self, request: &Request<'_>) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(request.parameters).finish();
        hyper::Request::post(request.url.request_target())
            .header(HOST, request.url.host_header())
            .header(USER_AGENT, &self.user_agent)
            .header(ACCEPT, "*/*")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("X-Twilio-Signature", sign(request.auth_token, request.url.signed(), request.parameters))
            .header("I-Twilio-Idempotency-Token", request.idempotency_token)
            .body(Full::from(form))
            .map_err(|error| Failure::because(Outcome::Unsendable, &error))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("settings", &self.settings).finish_non_exhaustive()
    }
}
