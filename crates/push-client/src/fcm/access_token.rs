//! Access tokens: what Google gives a service account that signs for one (RFC 7523 section 2.1;
//! developers.google.com, "Using OAuth 2.0 for Server to Server Applications").

use std::sync::atomic::{AtomicU64, Ordering};

use domain::{Clock, Timestamp};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::Destination;
use crate::credential::ServiceAccount;
use crate::outcome::{Outcome, Verdict};
use crate::transport::{Reply, excerpt, exchange};
use crate::{codes, jwt};

/// What the token is to be good for.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// Seconds before its end at which a token is replaced.
const RENEW_BEFORE: i64 = 5 * 60;

/// Seconds within which a token is not replaced, whatever Google says of it: if one that was just made is
/// no good, another will not be better.
const KEEP_FOR: i64 = 60;

/// Seconds that Google lets a statement live, and a token with it.
const LIFETIME: i64 = 3600;

/// The access tokens of one credential, one at a time.
pub(super) struct AccessTokens {
    account: ServiceAccount,
    http: reqwest::Client,
    /// Where they are asked for, and the `aud` of the request.
    address: String,
    audience: String,
    /// Held by the one who asks for a token, so that the others wait for what comes of it.
    state: Mutex<State>,
    /// How often Google was asked, to the end.
    asked: AtomicU64,
}

#[derive(Default)]
struct State {
    token: Option<AccessToken>,
    /// What came of asking, if the last time no token came.
    failure: Option<Outcome>,
}

struct AccessToken {
    header: HeaderValue,
    made_at: Timestamp,
    renew_at: Timestamp,
    ends_at: Timestamp,
}

impl AccessTokens {
    pub(super) fn new(http: reqwest::Client, destination: &Destination, account: ServiceAccount) -> Self {
        let address = destination.token_address.clone();
        let audience = destination.audience(&account).to_owned();
        Self { account, http, address, audience, state: Mutex::default(), asked: AtomicU64::new(0) }
    }

    /// The value of `authorization` now.
    pub(super) async fn current(&self, clock: &dyn Clock) -> Result<HeaderValue, Outcome> {
        self.token(clock, |token, now| (token.made_at..token.renew_at).contains(&now)).await
    }

    /// Replaces `refused`, which FCM did not accept, by a newly requested access token.
    pub(super) async fn instead_of(
        &self,
        refused: &HeaderValue,
        clock: &dyn Clock,
    ) -> Result<HeaderValue, Outcome> {
        let is_new =
            |token: &AccessToken, now| (token.made_at..token.made_at.plus_seconds(KEEP_FOR)).contains(&now);
        self.token(clock, |token, now| token.header != refused || is_new(token, now)).await
    }

    async fn token(
        &self,
        clock: &dyn Clock,
        will_do: impl Fn(&AccessToken, Timestamp) -> bool,
    ) -> Result<HeaderValue, Outcome> {
        let asked_before = self.asked.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        let now = clock.now();
        if let Some(token) = state.token.as_ref().filter(|token| will_do(token, now)) {
            return Ok(token.header.clone());
        }
        // Those who waited while somebody asked in vain do not ask again one after the other.
        if self.asked.load(Ordering::Acquire) == asked_before {
            let answer = self.ask(now).await;
            self.asked.fetch_add(1, Ordering::Release);
            match answer {
                Ok(token) => *state = State { token: Some(token), failure: None },
                Err(failure) => state.failure = Some(failure),
            }
        }
        match (&state.token, &state.failure) {
            // New, or it is only time for another and not yet the end of this one.
            (Some(token), _) if now < token.ends_at => Ok(token.header.clone()),
            (_, Some(failure)) => Err(failure.clone()),
            (_, None) => Err(unavailable("there is no access token")),
        }
    }

    async fn ask(&self, now: Timestamp) -> Result<AccessToken, Outcome> {
        let assertion = self.assertion(now).ok_or_else(|| {
            Verdict::Retry.outcome(codes::INTERNAL, "the service account's key does not sign", None)
        })?;
        let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        let request = self
            .http
            .post(&self.address)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("grant_type={grant}&assertion={assertion}"));
        let reply = exchange(request).await.map_err(|failure| unavailable(&failure.reason))?;
        if reply.status != 200 {
            return Err(refusal(&reply, now));
        }
        read(&reply, now).ok_or_else(|| {
            Verdict::Retry.outcome(codes::FCM_UNKNOWN, "the token endpoint answered without a token", None)
        })
    }

    /// The statement for which Google gives a token.
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
            "exp": now.seconds().saturating_add(LIFETIME),
        });
        jwt::signed(&header, &claims, |message| self.account.sign(message)).ok()
    }
}

fn unavailable(reason: &str) -> Outcome {
    Verdict::Retry.outcome(codes::FCM_UNREACHABLE, reason, None)
}

/// The token in an answer (RFC 6749 section 5.1).
fn read(reply: &Reply, now: Timestamp) -> Option<AccessToken> {
    let body = reply.json();
    let token = body.get("access_token").and_then(Value::as_str)?;
    let lifetime = body.get("expires_in").and_then(Value::as_i64).unwrap_or(LIFETIME).clamp(0, LIFETIME);
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(AccessToken {
        header,
        made_at: now,
        renew_at: now.plus_seconds(lifetime - RENEW_BEFORE.min(lifetime / 2)),
        ends_at: now.plus_seconds(lifetime),
    })
}

/// What it means that there is none (RFC 6749 section 5.2): a statement that Google does not believe is
/// for people to mend, all else passes.
fn refusal(reply: &Reply, now: Timestamp) -> Outcome {
    let body = reply.json();
    let word = |name| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let words = format!("{} {} {}", reply.status, word("error"), word("error_description"));
    let reason = excerpt(words.trim_end());
    match reply.status {
        408 | 429 | 500.. => Verdict::Retry.outcome(codes::FCM_UNREACHABLE, reason, reply.retry_after(now)),
        _ => Verdict::Refused.outcome(codes::FCM_CREDENTIAL, reason, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    use reqwest::header::HeaderMap;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_token_is_renewed_five_minutes_before_its_end_or_after_half_of_a_short_life() {
        for (lifetime, renew, end) in [
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
            let token = read(&reply(200, &format!(r#"{{"access_token":"t"{lifetime}}}"#)), NOW).unwrap();
            let after = |instant| NOW.until(instant);
            assert_eq!(after(token.renew_at), Duration::from_secs(renew), "{lifetime}");
            assert_eq!(after(token.ends_at), Duration::from_secs(end), "{lifetime}");
            assert_eq!((token.made_at, token.header.to_str().unwrap()), (NOW, "Bearer t"));
        }
        for bad in ["{}", r#"{"access_token":7}"#, r#"{"access_token":"a\nb"}"#, ""] {
            assert!(read(&reply(200, bad), NOW).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_is_retried_or_final_by_its_status() {
        for (status, passes) in [
            (400, false),
            (401, false),
            (407, false),
            (408, true),
            (409, false),
            (429, true),
            (499, false),
            (500, true),
        ] {
            let outcome = refusal(&reply(status, r#"{"error":"no","error_description":"why"}"#), NOW);
            let words = format!("{status} no why");
            let expected = match passes {
                true => Verdict::Retry.outcome(codes::FCM_UNREACHABLE, words, None),
                false => Verdict::Refused.outcome(codes::FCM_CREDENTIAL, words, None),
            };
            assert_eq!(outcome, expected);
        }
    }
}
