//! Simulated failures of push providers, of webhook receivers and of the API.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use app::{PushFailure, PushVerdict, WebhookFailure, WebhookVerdict};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value, json};
use web::Interceptor;

use crate::duration::Span;
use crate::error::respond;

/// Latency of `slow`, unless the request sets another.
const SLOW: Duration = Duration::from_secs(2);

/// Beginnings of the paths on which no failure is simulated, so that a test can always end the failures.
const EXEMPT_PATHS: [&str; 3] = ["/_countersign/", "/healthz", "/readyz"];

/// The failures that a test server simulates. By default there are none.
#[derive(Clone, Default)]
pub(crate) struct Chaos(std::sync::Arc<Mutex<Plan>>);

/// The failures to simulate.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    push: Option<Fault<PushForm>>,
    webhook: Option<Fault<WebhookForm>>,
    webhooks: Option<Sending>,
    api: Option<Fault<ApiForm>>,
}

/// Whether webhooks are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Sending {
    Send,
    CaptureOnly,
}

/// A failure, and which requests it affects.
struct Fault<F> {
    form: F,
    frequency: Frequency,
    latency: Option<Duration>,
    /// The failure as it was requested.
    json: Map<String, Value>,
}

/// The members that every failure has.
#[derive(Deserialize)]
struct Frame {
    next: Option<u64>,
    share: Option<f64>,
    seed: Option<i64>,
    latency: Option<Span>,
}

/// The members of a failure of pushes.
#[derive(Clone, Copy, Deserialize)]
struct PushForm {
    #[serde(rename = "as")]
    effect: PushEffect,
}

/// The members of a failure of webhooks.
#[derive(Clone, Copy, Deserialize)]
struct WebhookForm {
    #[serde(rename = "as")]
    effect: WebhookEffect,
}

/// The members of a failure of the API.
#[derive(Clone, Deserialize)]
struct ApiForm {
    #[serde(rename = "match", default)]
    matched: Matched,
    status: u16,
    retry_after: Option<u32>,
}

/// Names of the members of a kind of failure, beside those that every failure has.
trait Form: DeserializeOwned {
    const MEMBERS: &'static [&'static str];

    /// Returns the reason why the members are invalid, or `None` if they are valid.
    fn invalidity(&self) -> Option<&'static str> {
        None
    }
}

impl Form for PushForm {
    const MEMBERS: &'static [&'static str] = &["as"];
}

impl Form for WebhookForm {
    const MEMBERS: &'static [&'static str] = &["as"];
}

impl Form for ApiForm {
    const MEMBERS: &'static [&'static str] = &["match", "status", "retry_after"];

    fn invalidity(&self) -> Option<&'static str> {
        (!(400..=599).contains(&self.status)).then_some("status must be from 400 to 599")
    }
}

/// What happens to a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PushEffect {
    Unavailable,
    Gone,
    Refused,
    Slow,
}

/// What happens to a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WebhookEffect {
    Timeout,
    Connection,
    #[serde(rename = "500")]
    Failed,
    #[serde(rename = "429")]
    Busy,
    Slow,
}

/// Which requests to the API a failure affects.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matched {
    method: Option<Method>,
    path: Option<String>,
}

/// A method of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    Get,
    Post,
    Delete,
}

impl Matched {
    fn includes(&self, method: &str, path: &str) -> bool {
        let expected = self.method.map(|method| match method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        });
        expected.is_none_or(|expected| expected == method)
            && self.path.as_ref().is_none_or(|pattern| matches_pattern(pattern, path))
    }
}

/// Returns whether a path has the form of a pattern, in which `*` stands for any characters, slashes included.
fn matches_pattern(pattern: &str, path: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(mut path) = path.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return path.ends_with(part);
        }
        match path.split_once(part) {
            Some((_, after)) => path = after,
            None => return false,
        }
    }
    true
}

/// How often a failure occurs.
#[derive(Debug)]
enum Frequency {
    /// This number of times.
    Next(u64),
    /// With this probability. The first state determines at which requests.
    Share { share: f64, state: u64 },
}

impl Frequency {
    /// Returns whether the failure affects the next request.
    fn affects_next(&mut self) -> bool {
        match self {
            Self::Next(0) => false,
            Self::Next(left) => {
                *left -= 1;
                true
            }
            Self::Share { share, state } => next_random(state) < *share,
        }
    }
}

/// Returns the next number of a sequence from 0 to 1 that depends only on the first state (SplitMix64).
fn next_random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // The upper 53 bits are exactly the precision of the type.
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

impl<'de, F: Form> Deserialize<'de> for Fault<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Map::deserialize(deserializer)?;
        let is_known = |name: &String| {
            ["next", "share", "seed", "latency"].contains(&name.as_str())
                || F::MEMBERS.contains(&name.as_str())
        };
        if let Some(unknown) = json.keys().find(|name| !is_known(name)) {
            return Err(de::Error::custom(format_args!("unknown field `{unknown}`")));
        }
        let value = Value::Object(json.clone());
        let Frame { next, share, seed, latency } = Frame::deserialize(&value).map_err(de::Error::custom)?;
        let form: F = serde_json::from_value(value).map_err(de::Error::custom)?;
        if let Some(reason) = form.invalidity() {
            return Err(de::Error::custom(reason));
        }
        let frequency = match (next, share) {
            (Some(next), None) if next > 0 => Frequency::Next(next),
            (None, Some(share)) if share > 0.0 && share <= 1.0 => {
                Frequency::Share { share, state: seed.unwrap_or_default().cast_unsigned() }
            }
            _ => {
                return Err(de::Error::custom(
                    "set either next, at least 1, or share, above 0 and at most 1",
                ));
            }
        };
        Ok(Self { form, frequency, latency: latency.map(|span| span.0), json })
    }
}

impl<F> Fault<F> {
    fn describe(&self) -> Value {
        let mut json = self.json.clone();
        if let Frequency::Next(left) = self.frequency {
            json.insert("next".into(), json!(left));
        }
        Value::Object(json)
    }
}

/// Returns the failure if it affects the next request, with its latency. Forgets it if this was the last time.
fn strike<F: Clone>(fault: &mut Option<Fault<F>>) -> Option<(F, Option<Duration>)> {
    let found = fault.as_mut()?;
    if !found.frequency.affects_next() {
        return None;
    }
    let struck = (found.form.clone(), found.latency);
    if matches!(found.frequency, Frequency::Next(0)) {
        *fault = None;
    }
    Some(struck)
}

impl Chaos {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the failures to simulate.
    pub(crate) fn set(&self, plan: Plan) {
        *self.lock() = plan;
    }

    /// Returns the failures that are still to come, in the form in which they were requested.
    pub(crate) fn describe(&self) -> Value {
        let plan = self.lock();
        let mut json = Map::new();
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(name.to_owned(), value);
            }
        };
        add("push", plan.push.as_ref().map(Fault::describe));
        add("webhook", plan.webhook.as_ref().map(Fault::describe));
        let sending = plan.webhooks.map(|sending| match sending {
            Sending::Send => "send",
            Sending::CaptureOnly => "capture-only",
        });
        add("webhooks", sending.map(Value::from));
        add("api", plan.api.as_ref().map(Fault::describe));
        Value::Object(json)
    }

    /// Decides about a push. Returns what happens to it, and after which time.
    pub(crate) fn push(&self) -> (PushVerdict, Duration) {
        let Some((form, latency)) = strike(&mut self.lock().push) else {
            return (PushVerdict::Delivered, Duration::ZERO);
        };
        let verdict = match form.effect {
            PushEffect::Unavailable => PushVerdict::Failed(PushFailure::Unavailable),
            PushEffect::Gone => PushVerdict::Failed(PushFailure::Gone),
            PushEffect::Refused => PushVerdict::Failed(PushFailure::Refused),
            PushEffect::Slow => return (PushVerdict::Delivered, latency.unwrap_or(SLOW)),
        };
        (verdict, latency.unwrap_or_default())
    }

    /// Decides about an attempt to send a webhook. Returns what happens, and after which time.
    pub(crate) fn webhook(&self) -> (WebhookVerdict, Duration) {
        let mut plan = self.lock();
        if plan.webhooks == Some(Sending::CaptureOnly) {
            return (WebhookVerdict::Keep, Duration::ZERO);
        }
        let Some((form, latency)) = strike(&mut plan.webhook) else {
            return (WebhookVerdict::Send, Duration::ZERO);
        };
        let failure = match form.effect {
            WebhookEffect::Timeout => WebhookFailure::Timeout,
            WebhookEffect::Connection => WebhookFailure::Connection,
            WebhookEffect::Failed => WebhookFailure::Status(500),
            WebhookEffect::Busy => WebhookFailure::Status(429),
            WebhookEffect::Slow => return (WebhookVerdict::Send, latency.unwrap_or(SLOW)),
        };
        (WebhookVerdict::Fail(failure), latency.unwrap_or_default())
    }
}

impl Interceptor for Chaos {
    fn intercept<'i>(&'i self, http: &'i HttpRequest) -> LocalBoxFuture<'i, Option<HttpResponse>> {
        Box::pin(async {
            let path = http.path();
            let struck = {
                let mut plan = self.lock();
                let is_matched = plan
                    .api
                    .as_ref()
                    .is_some_and(|fault| fault.form.matched.includes(http.method().as_str(), path));
                let is_exempt = EXEMPT_PATHS.iter().any(|exempt| path.starts_with(exempt));
                if is_matched && !is_exempt { strike(&mut plan.api) } else { None }
            };
            let (form, latency) = struck?;
            if let Some(latency) = latency {
                tokio::time::sleep(latency).await;
            }
            let code = 20_000 + i64::from(form.status);
            let mut response = respond(form.status, code, "Simulated by test mode");
            if let Some(seconds) = form.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Some(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Plan, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn star_in_a_path_stands_for_any_characters() {
        for (pattern, path, expected) in [
            ("/v2/*/Challenges", "/v2/Services/VA1/Entities/a/Challenges", true),
            ("/v2/*/Challenges", "/v2/Services/VA1/Entities/a/Challenges/YC1", false),
            ("/v2/*/Challenges*", "/v2/Services/VA1/Entities/a/Challenges/YC1", true),
            ("/v2/Services", "/v2/Services", true),
            ("/v2/Services", "/v2/Services/VA1", false),
            ("*", "/anything", true),
            ("/a*b*c", "/axbyc", true),
            ("/a*b*c", "/acb", false),
        ] {
            assert_eq!(matches_pattern(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn failure_occurs_exactly_the_requested_number_of_times() {
        let chaos = Chaos::default();
        chaos.set(plan(r#"{"push":{"next":2,"as":"unavailable"}}"#).unwrap());
        let failed = PushVerdict::Failed(PushFailure::Unavailable);
        assert_eq!(chaos.push().0, failed);
        assert_eq!(chaos.describe(), json!({ "push": { "next": 1, "as": "unavailable" } }));
        assert_eq!([chaos.push().0, chaos.push().0], [failed, PushVerdict::Delivered]);
        assert_eq!(chaos.describe(), json!({}));
    }

    #[test]
    fn share_is_the_same_for_the_same_seed() {
        let outcomes = |seed: i64| {
            let chaos = Chaos::default();
            chaos.set(
                plan(&format!(r#"{{"webhook":{{"share":0.2,"seed":{seed},"as":"timeout"}}}}"#)).unwrap(),
            );
            (0..1000).map(|_| chaos.webhook().0 != WebhookVerdict::Send).collect::<Vec<_>>()
        };
        assert_eq!(outcomes(7), outcomes(7));
        assert_ne!(outcomes(7), outcomes(8));
        let failures = outcomes(7).into_iter().filter(|failed| *failed).count();
        assert!((150..250).contains(&failures), "{failures}");
    }

    #[test]
    fn invalid_failure_is_refused() {
        for json in [
            r#"{"push":{"as":"gone"}}"#,
            r#"{"push":{"next":1}}"#,
            r#"{"push":{"next":0,"as":"gone"}}"#,
            r#"{"push":{"next":1,"share":0.5,"as":"gone"}}"#,
            r#"{"push":{"share":1.5,"as":"gone"}}"#,
            r#"{"push":{"next":1,"as":"timeout"}}"#,
            r#"{"push":{"next":1,"as":"gone","status":500}}"#,
            r#"{"api":{"next":1,"status":200}}"#,
            r#"{"api":{"next":1,"status":503,"match":{"method":"PUT"}}}"#,
            r#"{"webhooks":"never"}"#,
            r#"{"pushes":{}}"#,
        ] {
            assert!(plan(json).is_err(), "{json}");
        }
    }
}
