//! The clock, and what depends on it.

use std::time::Duration;

use actix_web::HttpResponse;
use domain::{Parameter as _, Timestamp};
use serde::Deserialize;
use serde_json::{Map, json};

use crate::clock::Step;
use crate::duration::Span;
use crate::error::Error;
use crate::request::ControlRequest;

/// Maximum time for which a change of the clock waits for running attempts of deliveries.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The kinds of data that housekeeping removes, and their names in responses.
const HOUSEKEEPING_NAMES: [(&str, &str); 9] = [
    ("challenges", "challenges"),
    ("unverified_factors", "factors"),
    ("verifications", "verifications"),
    ("access_tokens", "access_tokens"),
    ("factor_creations", "factor_creations"),
    ("deliveries", "deliveries"),
    ("alerts", "alerts"),
    ("enrollment_keys", "enrollment_keys"),
    ("audit_lines", "events"),
];

/// The body of a request that moves the clock: exactly one of the members.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepRequest {
    advance: Option<Span>,
    to: Option<String>,
    freeze: Option<bool>,
    resume: Option<bool>,
}

impl StepRequest {
    /// Returns the step that the body describes.
    ///
    /// # Errors
    /// Returns error code 60306 if the body does not have exactly one member, or if its value is invalid.
    fn step(self) -> Result<Step, Error> {
        match (self.advance, self.to, self.freeze, self.resume) {
            (Some(span), None, None, None) => Ok(Step::Advance(span)),
            (None, Some(text), None, None) => {
                let instant = Timestamp::from_parameter(&text);
                instant.map(Step::To).map_err(|expected| Error::invalid(format_args!("to {expected}")))
            }
            (None, None, Some(true), None) => Ok(Step::Freeze),
            (None, None, None, Some(true)) => Ok(Step::Resume),
            _ => Err(Error::invalid(
                "the body must have exactly one of advance, to, \"freeze\": true and \"resume\": true",
            )),
        }
    }
}

/// `GET /clock`: returns the time.
pub(crate) async fn fetch(request: ControlRequest) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(request.state.clock.describe()))
}

/// `POST /clock`: moves the clock, and lets everything that is due then happen.
pub(crate) async fn set(request: ControlRequest) -> Result<HttpResponse, Error> {
    let step = request.json::<StepRequest>()?.step()?;
    // The duration of an attempt, and the lease of its delivery, must not contain a jump.
    request.state.captures.wait_until_idle(IDLE_TIMEOUT).await;
    request.state.clock.travel(step)?;
    request.app.wake_delivery_worker();
    request.app.refresh_streams();
    Ok(HttpResponse::Ok().json(request.state.clock.describe()))
}

/// `POST /housekeeping`: removes expired data now.
pub(crate) async fn run_housekeeping(request: ControlRequest) -> Result<HttpResponse, Error> {
    let mut removed = request.app.run_housekeeping().await;
    let removed =
        removed.as_mut().ok_or_else(|| Error::Fault("housekeeping failed; see the log".to_owned()))?;
    let mut counts = Map::new();
    for (kind, name) in HOUSEKEEPING_NAMES {
        counts.insert(name.to_owned(), json!(removed.remove(kind).unwrap_or_default()));
    }
    Ok(HttpResponse::Ok().json(counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_must_have_exactly_one_member() {
        for (json, is_valid) in [
            (r#"{"advance":"PT5M"}"#, true),
            (r#"{"advance":300}"#, true),
            (r#"{"freeze":true}"#, true),
            (r#"{"resume":true}"#, true),
            (r#"{"to":"2027-01-01T00:00:00Z"}"#, true),
            ("{}", false),
            (r#"{"freeze":false}"#, false),
            (r#"{"freeze":true,"advance":1}"#, false),
            (r#"{"to":"tomorrow"}"#, false),
            (r#"{"advance":-1}"#, false),
            (r#"{"back":1}"#, false),
        ] {
            let parsed = serde_json::from_str::<StepRequest>(json);
            assert_eq!(parsed.is_ok_and(|request| request.step().is_ok()), is_valid, "{json}");
        }
    }
}
