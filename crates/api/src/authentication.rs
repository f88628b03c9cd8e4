//! Authenticates requests by their `Authorization` header.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header;
use app::{Caller, Credentials};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Code, Secret};
use telemetry::metrics::{AuthFailureLabels, CredentialKind, METRICS};

use crate::error::Error;
use crate::state::ApiState;

/// Authenticates the caller of a request.
///
/// # Errors
/// Returns error code 20003 if the credentials are missing or invalid, or 20429 if too many attempts from the client's
/// address have failed. Also returns an error if the database fails.
pub(crate) async fn authenticate(
    state: &ApiState,
    request: &HttpRequest,
    client_ip: Option<IpAddr>,
) -> Result<Caller, Error> {
    let credentials = credentials(request).ok_or(Code::Unauthenticated)?;
    state.settings.rate_limiter.require_attempt(client_ip, state.app.now())?;
    Ok(state.app.authenticate(&credentials).await?)
}

/// Returns the error to report to a caller with a spent access token: usually `error` itself. Such a token permits only
/// repeating the creation of its factor. If the repetition fails for a permanent reason, the token is reported as
/// invalid (docs/protocol/decisions.md, No. 8), so that the caller learns nothing about the parameters.
pub(crate) fn conceal_from_spent_token(error: Error) -> Error {
    let code = error.problem().code();
    let is_temporary = web::status(code).is_server_error() || code == Code::TooManyRequests;
    if is_temporary { error } else { Code::Unauthenticated.into() }
}

/// Counts a failed authentication in the metrics and toward the limit of the client's address.
pub(crate) fn record_failure(state: &ApiState, request: &HttpRequest, client_ip: Option<IpAddr>) {
    let caller = credentials(request).map_or(CredentialKind::None, |credentials| credentials.claimant());
    METRICS.authentication_failures.get_or_create(&AuthFailureLabels { caller }).inc();
    // Many HTTP clients send their first request without credentials. Such a request is not an attempt to guess
    // credentials.
    if caller != CredentialKind::None {
        state.settings.rate_limiter.record_failed_attempt(client_ip, state.app.now());
    }
}

/// Decodes the credentials in an `Authorization: Basic` header. Returns `None` if they are missing or malformed. The
/// scheme name is not case-sensitive (RFC 7617, section 2).
pub(crate) fn credentials(request: &HttpRequest) -> Option<Credentials> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: Secret::new(password.to_owned()) })
}
