//! One authorized request, as a handler gets it.
//!
//! The only extractor. It works in this order and stops at the first fault:
//!
//! 1. The credentials hold (401, or 429 from an address with too many failures).
//! 2. The caller's account has not made too many requests (429).
//! 3. The route table admits this kind of caller (403).
//! 4. What the path names is within the caller's reach (404, or 403 for an access token that was made for something
//!    else; `reach.rs`).
//! 5. The body arrived and is a form, and its encoding and that of the query hold (4xx).
//!
//! So a caller who may not use what the path names is refused in the same way whatever it sent.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::web::{self, Bytes};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};
use app::{App, Caller, Credentials, Origin};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Code, Problem, RequestSid, Secret};
use futures_util::future::LocalBoxFuture;

use crate::base::PublicUrl;
use crate::error::{self, Error};
use crate::form::Form;
use crate::incoming::Body;
use crate::limits::{Begun, Limits};
use crate::reach::{Lookup, Resource};
use crate::{Admits, ROUTES, address};

/// An authorized request: the caller, what the path names, what was sent, and what it takes to answer.
pub(crate) struct Call<R> {
    /// The use cases.
    pub(crate) app: Arc<App>,
    /// Who calls.
    pub(crate) caller: Caller,
    /// Who calls and from where, for the audit log.
    pub(crate) origin: Origin,
    /// What the path names.
    pub(crate) resource: R,
    /// The parameters of the body.
    pub(crate) form: Form,
    /// The parameters of the address.
    pub(crate) query: Form,
    /// The public address of the API's version 2, without a slash at its end.
    pub(crate) base: String,
    request: HttpRequest,
    /// Counts the request among those of its account.
    _begun: Option<Begun>,
}

impl<R> Call<R> {
    /// The path of the request itself, for the address of the page that it asks for.
    pub(crate) fn address(&self) -> String {
        format!("{}{}", self.root(), self.request.path())
    }

    /// The public address without a version, for what is not in version 2.
    pub(crate) fn root(&self) -> String {
        self.base.trim_end_matches("/v2").to_owned()
    }
}

impl<R: Resource + 'static> FromRequest for Call<R> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let shared = request.app_data::<web::Data<App>>().zip(request.app_data::<web::Data<Limits>>());
            let (app, limits) = shared.ok_or(Code::Internal)?;
            let (app, limits) = (Arc::clone(app), Arc::clone(limits));
            let caller = authenticate(&app, &request, &limits).await?;
            let begun = limits.begin(&caller, app.now())?;
            admit(&request, &caller)?;
            let resource = R::find(&Lookup::new(&app, &caller, request.match_info())).await?;
            let body = request.extensions_mut().remove::<Body>().unwrap_or(Ok(Bytes::new()))?;
            let form = match *request.method() {
                Method::POST => parameters(&request, &body)?,
                _ => Form::default(),
            };
            let query = Form::parse_query(request.query_string())?;
            let public =
                request.app_data::<web::Data<PublicUrl>>().map(|public| public.for_request(&request));
            let base = format!("{}/v2", public.unwrap_or_default());
            let request_sid = request.extensions().get::<RequestSid>().copied();
            let origin = Origin::request(&caller, address::noted(&request), request_sid);
            Ok(Self { app, caller, origin, resource, form, query, base, request, _begun: begun })
        })
    }
}

/// The outcome of checking the credentials of a request before its body was read.
struct Checked(Result<Caller, Error>);

/// Marks a request whose credentials permit nothing but the repeated creation of one factor.
struct MayOnlyRepeat;

/// Checks the credentials of a request before its body is read, and keeps the outcome for the handler. Returns the
/// caller, or `None` if the credentials are refused or cannot be checked.
pub(crate) async fn authenticate_early(request: &HttpRequest) -> Option<Caller> {
    let shared = request.app_data::<web::Data<App>>().zip(request.app_data::<web::Data<Limits>>());
    let (app, limits) = shared?;
    let outcome = authenticate(app, request, limits).await;
    let caller = outcome.as_ref().ok().cloned();
    request.extensions_mut().insert(Checked(outcome));
    caller
}

/// The problem as the caller gets it. A spent access token is good for one repetition; where that does not succeed, the
/// token is as bad as any other (docs/protocol/decisions.md, No. 8), and the caller learns nothing about parameters.
pub(crate) fn as_told(request: &HttpRequest, problem: Problem) -> Problem {
    let passes = |code| error::status(code).is_server_error() || code == Code::TooManyRequests;
    if request.extensions().contains::<MayOnlyRepeat>() && !passes(problem.code()) {
        return Code::Authenticate.into();
    }
    problem
}

/// Who calls. The envelope counts credentials that do not hold.
async fn authenticate(app: &App, request: &HttpRequest, limits: &Limits) -> Result<Caller, Error> {
    let checked = request.extensions_mut().remove::<Checked>();
    if let Some(Checked(outcome)) = checked {
        return outcome;
    }
    let credentials = credentials(request).ok_or(Code::Authenticate)?;
    limits.may_try(address::noted(request), app.now())?;
    let caller = app.authenticate(&credentials).await?;
    if caller.may_only_repeat() {
        request.extensions_mut().insert(MayOnlyRepeat);
    }
    Ok(caller)
}

/// Whether the route table lets such a caller come here.
fn admit(request: &HttpRequest, caller: &Caller) -> Result<(), Problem> {
    let pattern = request.match_pattern().unwrap_or_default();
    let method = if request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
    let route = ROUTES.iter().find(|route| route.path == pattern && route.method == method);
    match (route.map(|route| route.admits), caller) {
        (Some(_), Caller::Account(_) | Caller::ApiKey { .. })
        | (Some(Admits::BackendOrEnrollee), Caller::Enrollee(_))
        | (Some(Admits::BackendOrDevice), Caller::Device(_)) => Ok(()),
        _ => Err(Code::Forbidden.into()),
    }
}

/// `Authorization: Basic`, undone. The scheme's name has no case (RFC 7617).
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

/// The parameters of the body, which `envelope.rs` has read.
fn parameters(request: &HttpRequest, body: &Bytes) -> Result<Form, Problem> {
    let is_form = match request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str()) {
        None => true,
        Some(Ok(text)) => {
            let essence = text.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        }
        Some(Err(_)) => false,
    };
    if !body.is_empty() && !is_form {
        return Err(Code::UnsupportedMediaType.into());
    }
    Form::parse(body)
}
