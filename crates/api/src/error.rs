//! The HTTP status and the JSON body of each error (docs/protocol/errors.md, section 1).

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use domain::{Code, Problem};
use serde_json::json;
use web::status;

/// The header that names the rate limit of the service that refused a request.
const REACHED_RATE_LIMIT: &str = "Twilio-Reached-Rate-Limit";

/// The error that a request handler returns. The middleware renders it as an HTTP response.
#[derive(Debug)]
pub struct Error(pub(crate) app::Error);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Into<app::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl Error {
    /// Returns the problem to report to the caller. A server fault becomes 20500 or 20503 without details.
    pub(crate) fn problem(&self) -> Problem {
        match &self.0 {
            app::Error::Problem(problem) => problem.clone(),
            app::Error::Fault(app::Fault::Unavailable(_)) => Code::Unavailable.into(),
            app::Error::Fault(_) => Code::Internal.into(),
        }
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        status(self.problem().code())
    }

    fn error_response(&self) -> HttpResponse {
        body(&self.problem(), None)
    }
}

/// Builds the HTTP response for a problem. For a 404 with `path`, the message contains the path without its version
/// prefix (docs/protocol/errors.md, section 2).
pub(crate) fn body(problem: &Problem, path: Option<&str>) -> HttpResponse {
    let code = problem.code();
    let status = status(code);
    let message = match (code, path) {
        (Code::NotFound, Some(path)) => {
            let resource = path.strip_prefix("/v2").or_else(|| path.strip_prefix("/v1")).unwrap_or(path);
            let has_gap = resource.contains("//") || resource.len() > 1 && resource.ends_with('/');
            let advice = if has_gap { ": a SID in the path is empty" } else { "" };
            format!("The requested resource {resource} was not found{advice}")
        }
        _ => problem.message().to_owned(),
    };
    let mut response = HttpResponse::build(status);
    if code == Code::Unauthenticated {
        response.insert_header((header::WWW_AUTHENTICATE, "Basic realm=\"Twilio API\""));
    }
    if let Some(seconds) = problem.retry_after() {
        response.insert_header((header::RETRY_AFTER, HeaderValue::from(seconds)));
    }
    // Names of rate limits consist of characters that every header may contain.
    if let Some(limit) = problem.reached_limit() {
        response.insert_header((REACHED_RATE_LIMIT, limit.as_str()));
    }
    response.json(json!({
        "code": code.number(),
        "message": message,
        "more_info": code.more_info(),
        "status": status.as_u16(),
    }))
}
