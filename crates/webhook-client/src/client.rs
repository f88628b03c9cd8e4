//! The steps of a delivery attempt: sign the request, reuse or open a connection, send the request, and read
//! the response.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use domain::accounts::AuthToken;
use domain::{CallbackUrl, Timestamp};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use url::form_urlencoded;

use crate::attempt::Attempt;
use crate::connection::Connection;
use crate::connector::Connector;
use crate::error::Error;
use crate::guard::Guard;
use crate::outcome::{Failure, Outcome};
use crate::pool::ConnectionPool;
use crate::response::Response;
use crate::settings::Settings;
use crate::signature::sign;
use crate::timeouts::Deadlines;
use crate::tls;

/// A webhook request to send.
pub struct Request<'a> {
    /// The receiver's URL, including the connection overrides in its fragment, if any.
    pub url: &'a CallbackUrl,
    /// The content, as stored when the event occurred.
    pub content: Content<'a>,
    /// The account's auth token, with which the request is signed.
    pub auth_token: &'a AuthToken,
    /// Identifies the delivery, so that receivers can detect repetitions. The token is the same on every
    /// attempt.
    pub idempotency_token: &'a str,
}

/// The content of a webhook request.
#[derive(Clone, Copy)]
pub enum Content<'a> {
    /// Form parameters, which are signed together with the URL.
    Form(&'a [(String, String)]),
    /// A JSON body. Its hash is added to the URL that is requested and signed.
    Json(&'a str),
}

impl<'a> Request<'a> {
    /// Returns the URL that is requested and signed.
    pub fn effective_url(&self) -> Cow<'a, CallbackUrl> {
        match self.content {
            Content::Form(_) => Cow::Borrowed(self.url),
            Content::Json(body) => {
                let hash = hex::encode(digest(&SHA256, body.as_bytes()));
                Cow::Owned(self.url.with_body_hash(&hash))
            }
        }
    }
}

/// A client that sends webhooks. Each server should use a single client, so that all its requests can reuse
/// the idle connections.
pub struct WebhookClient {
    settings: Settings,
    user_agent: HeaderValue,
    connector: Connector,
    pool: ConnectionPool,
}

impl WebhookClient {
    /// Creates a client and loads the system's certificate authorities.
    ///
    /// # Errors
    /// Returns an error if the user agent or the additional certificate authorities in `settings` are
    /// invalid.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let user_agent = HeaderValue::from_str(&settings.user_agent).map_err(|_| Error::UserAgent)?;
        let tls = tls::tls_connector(settings.extra_ca.as_deref())?;
        let connector = Connector::new(Guard::new(settings.allow.clone()), tls);
        Ok(Self { settings, user_agent, connector, pool: ConnectionPool::new() })
    }

    /// Makes one attempt to deliver the webhook and returns its result. `now` is the current time; a
    /// `Retry-After` date is converted to a delay relative to it. The attempt ends within the total timeout.
    pub async fn send(&self, request: &Request<'_>, now: Timestamp) -> Attempt {
        let deadlines = Deadlines::new(&self.settings, request.url.overrides());
        let result = self.deliver(request, &deadlines, now).await;
        let duration = deadlines.elapsed();
        match result {
            Ok(response) => Attempt {
                outcome: Outcome::from_status(response.status),
                response: Some(response),
                cause: None,
                duration,
            },
            Err(Failure { outcome, cause }) => Attempt { outcome, response: None, cause, duration },
        }
    }

    /// Returns the names and values of the headers of a request, spelled as they are sent. Returns no headers if the
    /// request cannot be sent.
    pub fn headers(&self, request: &Request<'_>) -> Vec<(String, String)> {
        let Ok(post) = self.build_post(request) else { return Vec::new() };
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        post.headers().iter().map(|(name, value)| (title_case(name.as_str()), text(value))).collect()
    }

    /// Sends the request on an idle connection if there is one, otherwise on a new one. Returns the response.
    async fn deliver(
        &self,
        request: &Request<'_>,
        deadlines: &Deadlines,
        now: Timestamp,
    ) -> Result<Response, Failure> {
        let url = request.url.url();
        let post = self.build_post(request)?;
        if let Some(connection) = self.pool.take(&url.origin()) {
            match self.exchange(connection, request, post.clone(), deadlines, now).await {
                // The receiver may have closed the idle connection unnoticed, so try a new one. If the
                // receiver did process the request, it recognizes the repetition by the idempotency token.
                Err(Failure { outcome: Outcome::Disconnected, .. }) => {}
                result => return result,
            }
        }
        let connection = self.connector.connect(url, deadlines).await?;
        self.exchange(connection, request, post, deadlines, now).await
    }

    /// Sends `post` on `connection` and returns the response. Returns the connection to the pool if it can be
    /// reused.
    async fn exchange(
        &self,
        mut connection: Connection,
        request: &Request<'_>,
        post: hyper::Request<Full<Bytes>>,
        deadlines: &Deadlines,
        now: Timestamp,
    ) -> Result<Response, Failure> {
        let response = deadlines.read(connection.send(post)).await?.map_err(|error| {
            let outcome = if error.is_parse() { Outcome::InvalidResponse } else { Outcome::Disconnected };
            Failure::because(outcome, &error)
        })?;
        let response = Response::read(response, deadlines, now).await;
        // A connection with unread data is not reused; dropping it closes it.
        if !response.truncated && connection.is_reusable().await {
            self.pool.put(request.url.url().origin(), connection);
        }
        Ok(response)
    }

    /// Returns the signed HTTP request for a webhook (docs/protocol/webhooks.md, sections 3 and 4).
    fn build_post(&self, request: &Request<'_>) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let url = request.effective_url();
        let (parameters, body, content_type) = match request.content {
            Content::Form(parameters) => {
                let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
                (parameters, form, "application/x-www-form-urlencoded")
            }
            Content::Json(body) => (Default::default(), body.to_owned(), "application/json"),
        };
        let mut builder = hyper::Request::post(url.request_target());
        for (name, value) in &self.settings.extra_headers {
            builder = builder.header(*name, *value);
        }
        builder
            .header(HOST, url.host_header())
            .header(USER_AGENT, &self.user_agent)
            .header(ACCEPT, "*/*")
            .header(CONTENT_TYPE, content_type)
            .header("X-Twilio-Signature", sign(request.auth_token, url.signed(), parameters))
            .header("I-Twilio-Idempotency-Token", request.idempotency_token)
            .body(Full::from(body))
            .map_err(|error| Failure::because(Outcome::InvalidRequest, &error))
    }
}

/// Returns the name of a header with an upper-case letter at the start of each word.
fn title_case(name: &str) -> String {
    let word = |word: &str| match word.split_at_checked(1) {
        Some((initial, rest)) => initial.to_ascii_uppercase() + rest,
        None => word.to_owned(),
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

impl fmt::Debug for WebhookClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}
