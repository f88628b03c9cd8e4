//! The errors of the endpoints of test mode, in the form of the API's errors.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use domain::{Code, Problem};
use serde_json::json;

/// Why a request to test mode failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A problem with the request.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The `Host` header names a host that is not known to be this server.
    #[error(
        "{0:?} is not a name of this test server; use its IP address, or start it with --test-mode-host and the name"
    )]
    WrongHost(String),
    /// A page of a site that is not known has sent the request.
    #[error(
        "pages of {0:?} may not use a test server, whose credentials are public; if it is your own page, start the \
         server with --test-mode-host and the page's host name"
    )]
    ForeignOrigin(String),
    /// The request contradicts the state of the server.
    #[error("{message}")]
    Conflict {
        /// Error code, as the API has it for the same reason.
        code: u32,
        /// The reason.
        message: String,
    },
    /// The API refused a request of a virtual device.
    #[error("{message}")]
    Refused {
        /// HTTP status of the API's response.
        status: u16,
        /// Error code of the API's response.
        code: i64,
        /// Message of the API's response.
        message: String,
    },
    /// The server failed.
    #[error("{0}")]
    Fault(String),
}

impl From<app::Error> for Error {
    fn from(error: app::Error) -> Self {
        match error {
            app::Error::Problem(problem) => Self::Problem(problem),
            app::Error::Fault(fault) => Self::Fault(domain::error_report(&fault)),
        }
    }
}

impl From<::device::Error> for Error {
    fn from(error: ::device::Error) -> Self {
        match error {
            ::device::Error::Api { status, code, message } => Self::Refused { status, code, message },
            other => Self::Fault(format!("the virtual device failed: {}", domain::error_report(&other))),
        }
    }
}

impl Error {
    /// Creates the error for an invalid body or query.
    pub(crate) fn invalid(reason: impl std::fmt::Display) -> Self {
        Problem::with_advice(Code::InvalidRequest, reason).into()
    }

    /// Creates the error for something that does not exist.
    pub(crate) fn missing(what: impl std::fmt::Display) -> Self {
        Problem::with_advice(Code::NotFound, what).into()
    }

    /// Returns the response that reports the error.
    pub(crate) fn to_response(&self) -> HttpResponse {
        let message = self.to_string();
        match self {
            Self::Problem(problem) => problem_response(problem),
            Self::WrongHost(_) => respond(421, 20421, &message),
            Self::ForeignOrigin(_) => respond(403, 20403, &message),
            Self::Conflict { code, .. } => respond(409, i64::from(*code), &message),
            Self::Refused { status, code, .. } => respond(*status, *code, &message),
            Self::Fault(_) => respond(500, i64::from(Code::Internal.number()), &message),
        }
    }
}

/// Returns the response that reports a problem.
pub(crate) fn problem_response(problem: &Problem) -> HttpResponse {
    let code = problem.code();
    let mut response = respond(web::status(code).as_u16(), i64::from(code.number()), problem.message());
    if let Some(seconds) = problem.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Returns the response of an error.
pub(crate) fn respond(status: u16, code: i64, message: &str) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)).json(
        json!({
            "code": code,
            "message": message,
            "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
            "status": status,
        }),
    )
}
