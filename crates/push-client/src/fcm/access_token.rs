//! OAuth access tokens, which Google issues in exchange for a JWT signed by a service account (RFC 7523
//! section 2.1; developers.google.com, "Using OAuth 2.0 for Server to Server Applications").

use std::sync::atomic::{AtomicU64, Ordering};

use domain::{Clock, Timestamp};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::endpoints::Endpoints;
use crate::credential::ServiceAccount;
use crate::outcome::{FailureKind, Outcome};
use crate::transport::{self, Response, excerpt};
use crate::{debugger_codes, jwt};

/// The OAuth scope that permits sending pushes.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// How long before its expiry an access token is replaced, in seconds.
const RENEWAL_MARGIN_SECONDS: i64 = 5 * 60;

/// Minimum age at which a rejected access token is replaced, in seconds. If FCM rejects a token younger
/// than this, it would reject a replacement as well.
const MIN_RENEWAL_AGE_SECONDS: i64 = 60;

/// Maximum lifetime, in seconds, of a signed token request and of the access token issued for it.
const MAX_LIFETIME_SECONDS: i64 = 3600;

/// The current access token of one service account, and what is needed to request a new one.
pub(super) struct AccessTokens {
    account: ServiceAccount,
    http: reqwest::Client,
    /// The URL from which access tokens are requested.
    url: String,
    /// The `aud` claim of the token request.
    audience: String,
    /// The current token and the last failure. Locked during a token request, so that concurrent callers wait
    /// for its result.
    state: Mutex<State>,
    /// Number of token requests that have finished, with success or failure.
    finished_requests: AtomicU64,
}

#[derive(Default)]
struct State {
    token: Option<AccessToken>,
    /// The outcome of the last token request if it failed, otherwise `None`.
    failure: Option<Outcome>,
}

struct AccessToken {
    /// Value of the `authorization` header: `Bearer` and the token.
    header: HeaderValue,
    issued_at: Timestamp,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

impl AccessTokens {
    pub(super) fn new(http: reqwest::Client, endpoints: &Endpoints, account: ServiceAccount) -> Self {
        let url = endpoints.token_url().to_owned();
        let audience = endpoints.audience(&account).to_owned();
        let finished_requests = AtomicU64::new(0);
        Self { account, http, url, audience, state: Mutex::default(), finished_requests }
    }

    /// Returns the `authorization` header with the current access token. Requests a new token first if the
    /// current one is due for renewal.
    ///
    /// # Errors
    /// Returns the outcome of the push if no valid access token is available.
    pub(super) async fn current(&self, clock: &dyn Clock) -> Result<HeaderValue, Outcome> {
        self.token(clock, |token, now| (token.issued_at..token.renew_at).contains(&now)).await
    }

    /// Returns an `authorization` header to use instead of `rejected`, which FCM did not accept. Returns
    /// `rejected` itself if that token was issued less than a minute ago.
    ///
    /// # Errors
    /// Returns the outcome of the push if no valid access token is available.
    pub(super) async fn replace(
        &self,
        rejected: &HeaderValue,
        clock: &dyn Clock,
    ) -> Result<HeaderValue, Outcome> {
        let is_new = |token: &AccessToken, now| {
            (token.issued_at..token.issued_at.plus_seconds(MIN_RENEWAL_AGE_SECONDS)).contains(&now)
        };
        self.token(clock, |token, now| token.header != rejected || is_new(token, now)).await
    }

    /// Returns the `authorization` header with the current token if `is_acceptable` returns `true` for it.
    /// Otherwise requests a new token first.
    async fn token(
        &self,
        clock: &dyn Clock,
        is_acceptable: impl Fn(&AccessToken, Timestamp) -> bool,
    ) -> Result<HeaderValue, Outcome> {
        let finished_before = self.finished_requests.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        let now = clock.now();
        if let Some(token) = state.token.as_ref().filter(|token| is_acceptable(token, now)) {
            return Ok(token.header.clone());
        }
        // If another token request failed while this call waited for the lock, reuse its result. Otherwise
        // all waiting calls would repeat the failing request one after another.
        if self.finished_requests.load(Ordering::Acquire) == finished_before {
            let result = self.request_token(now).await;
            self.finished_requests.fetch_add(1, Ordering::Release);
            match result {
                Ok(token) => *state = State { token: Some(token), failure: None },
                Err(failure) => state.failure = Some(failure),
            }
        }
        match (&state.token, &state.failure) {
            // The token is new, or its renewal failed but the token has not expired yet.
            (Some(token), _) if now < token.expires_at => Ok(token.header.clone()),
            (_, Some(failure)) => Err(failure.clone()),
            (_, None) => Err(unavailable("no access token is available")),
        }
    }

    async fn request_token(&self, now: Timestamp) -> Result<AccessToken, Outcome> {
        let assertion = self.assertion(now).ok_or_else(|| {
            FailureKind::Retry.outcome(
                debugger_codes::INTERNAL,
                "could not sign the request for an access token",
                None,
            )
        })?;
        let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        let request = self
            .http
            .post(&self.url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("grant_type={grant}&assertion={assertion}"));
        let response = transport::send(request).await.map_err(|error| unavailable(&error.reason))?;
        if response.status != 200 {
            return Err(classify_error(&response, now));
        }
        parse_token(&response, now).ok_or_else(|| {
            FailureKind::Retry.outcome(
                debugger_codes::FCM_UNKNOWN,
                "the response of the token endpoint has no access token",
                None,
            )
        })
    }

    /// Returns the signed JWT that Google exchanges for an access token, or `None` if signing fails.
    fn assertion(&self, now: Timestamp) -> Option<String> {
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(key_id) = self.account.key_id() {
            header["kid"] = key_id.into();
        }
        let claims = json!({
            "iss": self.account.client_email(),
            "scope": SCOPE,
            "aud": self.audience,
            "iat": now.seconds(),
            "exp": now.seconds().saturating_add(MAX_LIFETIME_SECONDS),
        });
        jwt::sign(&header, &claims, |message| self.account.sign(message)).ok()
    }
}

/// Returns the outcome of a push for which the token endpoint was unreachable.
fn unavailable(reason: &str) -> Outcome {
    FailureKind::Retry.outcome(debugger_codes::FCM_UNREACHABLE, reason, None)
}

/// Parses the access token in a successful response (RFC 6749 section 5.1). Returns `None` if there is none.
/// The lifetime is limited to one hour, which is also the default.
fn parse_token(response: &Response, now: Timestamp) -> Option<AccessToken> {
    let body = response.json();
    let token = body.get("access_token").and_then(Value::as_str)?;
    let lifetime = body
        .get("expires_in")
        .and_then(Value::as_i64)
        .unwrap_or(MAX_LIFETIME_SECONDS)
        .clamp(0, MAX_LIFETIME_SECONDS);
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(AccessToken {
        header,
        issued_at: now,
        renew_at: now.plus_seconds(lifetime - RENEWAL_MARGIN_SECONDS.min(lifetime / 2)),
        expires_at: now.plus_seconds(lifetime),
    })
}

/// Returns the outcome of a push for which the token endpoint responded with an error (RFC 6749 section 5.2).
/// Status 408, 429, and 5xx are temporary. All other errors mean that Google rejected the service account,
/// which an operator must fix.
fn classify_error(response: &Response, now: Timestamp) -> Outcome {
    let body = response.json();
    let field = |name| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let text = format!("{} {} {}", response.status, field("error"), field("error_description"));
    let reason = excerpt(text.trim_end());
    match response.status {
        408 | 429 | 500.. => {
            FailureKind::Retry.outcome(debugger_codes::FCM_UNREACHABLE, reason, response.retry_after(now))
        }
        _ => FailureKind::Refused.outcome(debugger_codes::FCM_CREDENTIAL, reason, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    use reqwest::header::HeaderMap;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn response(status: u16, body: &str) -> Response {
        Response { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn access_token_is_renewed_five_minutes_before_expiry_or_after_half_its_lifetime() {
        for (lifetime, renewal, expiry) in [
            (r#","expires_in":3600"#, 3300, 3600),
            (r#","expires_in":3599"#, 3299, 3599),
            (r#","expires_in":601"#, 301, 601),
            (r#","expires_in":600"#, 300, 600),
            (r#","expires_in":100"#, 50, 100),
            (r#","expires_in":0"#, 0, 0),
            (r#","expires_in":-1"#, 0, 0),
            (r#","expires_in":7200"#, 3300, 3600),
            ("", 3300, 3600),
        ] {
            let token =
                parse_token(&response(200, &format!(r#"{{"access_token":"t"{lifetime}}}"#)), NOW).unwrap();
            let after = |instant| NOW.until(instant);
            assert_eq!(after(token.renew_at), Duration::from_secs(renewal), "{lifetime}");
            assert_eq!(after(token.expires_at), Duration::from_secs(expiry), "{lifetime}");
            assert_eq!((token.issued_at, token.header.to_str().unwrap()), (NOW, "Bearer t"));
        }
        for bad in ["{}", r#"{"access_token":7}"#, r#"{"access_token":"a\nb"}"#, ""] {
            assert!(parse_token(&response(200, bad), NOW).is_none(), "{bad}");
        }
    }

    #[test]
    fn token_request_error_is_temporary_or_permanent_depending_on_its_status() {
        for (status, is_temporary) in [
            (400, false),
            (401, false),
            (407, false),
            (408, true),
            (409, false),
            (429, true),
            (499, false),
            (500, true),
        ] {
            let outcome =
                classify_error(&response(status, r#"{"error":"no","error_description":"why"}"#), NOW);
            let reason = format!("{status} no why");
            let expected = match is_temporary {
                true => FailureKind::Retry.outcome(debugger_codes::FCM_UNREACHABLE, reason, None),
                false => FailureKind::Refused.outcome(debugger_codes::FCM_CREDENTIAL, reason, None),
            };
            assert_eq!(outcome, expected);
        }
    }
}
