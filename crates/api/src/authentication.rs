//! Authenticates requests by their `Authorization` header.

use actix_web::http::header;
use actix_web::{HttpMessage as _, HttpRequest};
use app::{Caller, Credentials};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Code, Problem, Secret};
use telemetry::metrics::{AuthFailureLabels, CredentialKind, METRICS};

use crate::context::RequestContext;
use crate::error::{self, Error};
use crate::state::ApiState;

/// The result of authenticating the caller early, that is, before the body was read. It is stored in the request until
/// the handler's extractor takes it.
struct EarlyResult(Result<Caller, Error>);

/// Marks a request whose credentials permit only repeating the creation of one factor.
struct MayOnlyRepeat;

/// Authenticates the caller of a request. Returns the result of [`authenticate_early`] if that has run.
///
/// # Errors
/// Returns error code 20003 if the credentials are missing or invalid, or 20429 if too many attempts from the client's
/// address have failed. Also returns an error if the database fails.
pub(crate) async fn authenticate(state: &ApiState, request: &HttpRequest) -> Result<Caller, Error> {
    let early = request.extensions_mut().remove::<EarlyResult>();
    if let Some(EarlyResult(result)) = early {
        return result;
    }
    let credentials = credentials(request).ok_or(Code::Unauthenticated)?;
    let client_ip = RequestContext::of(request).client_ip;
    state.settings.rate_limiter.require_attempt(client_ip, state.app.now())?;
    let caller = state.app.authenticate(&credentials).await?;
    if caller.may_only_repeat() {
        request.extensions_mut().insert(MayOnlyRepeat);
    }
    Ok(caller)
}

/// Authenticates the caller before the body is read, and stores the result for [`authenticate`]. Returns the caller, or
/// `None` if the credentials are refused or could not be checked.
pub(crate) async fn authenticate_early(state: &ApiState, request: &HttpRequest) -> Option<Caller> {
    let result = authenticate(state, request).await;
    let caller = result.as_ref().ok().cloned();
    request.extensions_mut().insert(EarlyResult(result));
    caller
}

/// Returns the problem to report to the caller: usually `problem` itself. The exception is a spent access token, which
/// permits only repeating the creation of its factor. If such a repetition fails for a permanent reason, the token is
/// reported as invalid (docs/protocol/decisions.md, No. 8), so that the caller learns nothing about the parameters.
pub(crate) fn conceal_from_spent_token(request: &HttpRequest, problem: Problem) -> Problem {
    let is_temporary =
        error::status(problem.code()).is_server_error() || problem.code() == Code::TooManyRequests;
    if request.extensions().contains::<MayOnlyRepeat>() && !is_temporary {
        return Code::Unauthenticated.into();
    }
    problem
}

/// Counts a failed authentication in the metrics and toward the limit of the client's address.
pub(crate) fn record_failure(state: &ApiState, request: &HttpRequest) {
    let caller = credentials(request).map_or(CredentialKind::None, |credentials| credentials.claimant());
    METRICS.authentication_failures.get_or_create(&AuthFailureLabels { caller }).inc();
    // Many HTTP clients send their first request without credentials. Such a request is not an attempt to guess
    // credentials.
    if caller != CredentialKind::None {
        let client_ip = RequestContext::of(request).client_ip;
        state.settings.rate_limiter.record_failed_attempt(client_ip, state.app.now());
    }
}

/// Decodes the credentials in an `Authorization: Basic` header. Returns `None` if they are missing or malformed. The
/// scheme name is not case-sensitive (RFC 7617, section 2).
fn credentials(request: &HttpRequest) -> Option<Credentials> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: Secret::new(password.to_owned()) })
}
