//! The endpoint for delivery reports, which outlets call. Their requests have no credentials: the token in the path
//! permits reports about one message.

use actix_web::HttpResponse;
use actix_web::http::Method;
use domain::verifications::{DeliveryProgress, DeliveryReport};
use domain::{Code, Expected, Problem};
use web::{Form, PathParameters};

use crate::error::Error;
use crate::request::{ReceivedRequest, RequestBody as _};

/// Names of the parameter with the status of the message, at Twilio and at gateways.
const STATUS_NAMES: [&str; 4] = ["MessageStatus", "CallStatus", "message_status", "status"];

/// Names of the parameter with the error code.
const ERROR_NAMES: [&str; 2] = ["ErrorCode", "error_code"];

/// The body of the response. Jasmin repeats a report until it gets exactly this text; other gateways only look at the
/// status.
const ACKNOWLEDGMENT: &str = "ACK/Jasmin";

/// `GET` and `POST /countersign/v1/DeliveryReports/{Token}`: records what became of a message. The parameters may be in
/// the query or in a form.
pub(crate) async fn receive(request: ReceivedRequest) -> Result<HttpResponse, Error> {
    let ReceivedRequest { state, http, pattern, body, .. } = request;
    let parameters = PathParameters { pattern, path: http.match_info().as_str() };
    let attempt = state.app.reported_attempt(parameters.get("Token").unwrap_or_default())?;
    let form = Form::parse_body(&http, body.map_err(too_large)?)?;
    let query = Form::parse_query(http.query_string())?;
    let report = parse_report(&form, &query)?;
    // A route for GET also serves HEAD, which must not change anything.
    if *http.method() != Method::HEAD {
        state.app.record_delivery_report(attempt, report).await?;
    }
    Ok(HttpResponse::Ok().content_type("text/plain").body(ACKNOWLEDGMENT))
}

/// Returns the problem of a body that was discarded because it is not small. Large bodies are kept only for
/// authenticated callers, which this endpoint does not have.
fn too_large(problem: Problem) -> Problem {
    match problem.code() {
        Code::Unauthenticated => Code::PayloadTooLarge.into(),
        _ => problem,
    }
}

fn parse_report(form: &Form, query: &Form) -> Result<DeliveryReport, Problem> {
    let find = |names: &'static [&'static str]| {
        let places = names.iter().flat_map(|name| [(form, *name), (query, *name)]);
        let mut found = places.filter_map(|(place, name)| match place.text(name) {
            Ok(text) => text.filter(|text| !text.is_empty()).map(|text| Ok((name, text))),
            Err(problem) => Some(Err(problem)),
        });
        found.next().transpose()
    };
    let (name, status) = find(&STATUS_NAMES)?.ok_or_else(|| Problem::missing("status"))?;
    let expected = || Expected::new("must be a status such as delivered, undelivered or DELIVRD");
    let progress =
        DeliveryProgress::from_report(status).ok_or_else(|| Problem::invalid(name, &expected()))?;
    // `000` and 0 mean no error. Codes that are not numbers are ignored.
    let error_code = find(&ERROR_NAMES)?.and_then(|(_, code)| code.parse().ok()).filter(|code| *code != 0);
    Ok(DeliveryReport { progress, error_code })
}
