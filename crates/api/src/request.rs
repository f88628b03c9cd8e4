//! The authorized request that a handler receives.
//!
//! [`ReceivedRequest`] is the only source of authorized requests. It performs these checks in order and stops at the
//! first error:
//!
//! 1. The credentials are valid. If not, the response is 401, or 429 if the client's address has too many failed
//!    attempts.
//! 2. The caller's account is within its rate limits. If not, the response is 429.
//! 3. The caller belongs to the class of callers that the route accepts. If not, the response is 403.
//! 4. The resource in the path exists and the caller may see it. If not, the response is 404, or 403 for an access
//!    token of another entity (`resource.rs`).
//! 5. The body was received completely and has the format of the route ([`RequestBody`]), and both body and query are
//!    encoded correctly. If not, the response has a status of 4xx or 503.
//!
//! Therefore a caller without access gets the same error whatever body or query it sends.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use app::{App, Caller, Origin};
use domain::{Code, Problem};
use web::{Body, Form, JsonObject, PathParameters, RateLimitPermit, RequestContext, has_content_type};

use crate::authentication::{authenticate, conceal_from_spent_token};
use crate::callers::{CallerClass, requester};
use crate::error::Error;
use crate::resource::{Lookup, Resource};
use crate::state::ApiState;

/// An authorized request about a resource `R`, sent by a caller of class `C`. `B` is the format of its body.
pub struct AuthorizedRequest<R, C, B = Form> {
    /// The application's use cases.
    pub(crate) app: Arc<App>,
    /// The authorized caller.
    pub(crate) caller: C,
    /// The caller, its address and the request ID, for the audit log.
    pub(crate) origin: Origin,
    /// The resource that the path identifies.
    pub(crate) resource: R,
    /// The parameters in the request body.
    pub(crate) form: B,
    /// The parameters in the URL's query.
    pub(crate) query: Form,
    /// The server's public URL, without a trailing slash.
    pub(crate) public_url: String,
    request: HttpRequest,
    /// Counts this request toward its account's concurrent requests until dropped; `None` if accounts have no limits.
    _permit: Option<RateLimitPermit>,
}

impl<R, C, B> AuthorizedRequest<R, C, B> {
    /// Returns the public URL of this request, without its query.
    pub(crate) fn url(&self) -> String {
        format!("{}{}", self.public_url, self.request.path())
    }

    /// Returns the request as it was received.
    pub(crate) const fn http(&self) -> &HttpRequest {
        &self.request
    }
}

/// A request whose body has been received. Its caller may not have been authenticated yet.
pub struct ReceivedRequest {
    pub(crate) state: Arc<ApiState>,
    pub(crate) http: HttpRequest,
    /// The path pattern of the route that serves the request.
    pub(crate) pattern: &'static str,
    pub(crate) context: RequestContext,
    pub(crate) body: Body,
    /// The result of authenticating the caller, if that was necessary to receive the body.
    pub(crate) authentication: Option<Result<Caller, Error>>,
}

impl ReceivedRequest {
    /// Authorizes the request, and passes it to `handler`.
    ///
    /// # Errors
    /// Returns the first error of the checks that the module documentation lists, or the error of `handler`.
    pub(crate) async fn authorize_and_call<R, C, B, Fut>(
        mut self,
        handler: impl Fn(AuthorizedRequest<R, C, B>) -> Fut,
    ) -> Result<HttpResponse, Error>
    where
        R: Resource<C>,
        C: CallerClass,
        B: RequestBody,
        Fut: Future<Output = Result<HttpResponse, Error>>,
    {
        let caller = match self.authentication.take() {
            Some(result) => result?,
            None => authenticate(&self.state, &self.http, self.context.client_ip).await?,
        };
        let may_only_repeat = caller.may_only_repeat();
        let outcome = match self.authorize(caller).await {
            Ok(request) => handler(request).await,
            Err(error) => Err(error),
        };
        outcome.map_err(|error| if may_only_repeat { conceal_from_spent_token(error) } else { error })
    }

    /// Authorizes the request of an authenticated caller and parses its parameters, in the order that the module
    /// documentation describes.
    async fn authorize<R, C, B>(self, caller: Caller) -> Result<AuthorizedRequest<R, C, B>, Error>
    where
        R: Resource<C>,
        C: CallerClass,
        B: RequestBody,
    {
        let Self { state, http, pattern, context: RequestContext { id, client_ip }, body, .. } = self;
        let app = Arc::clone(&state.app);
        let permit = state.settings.rate_limiter.admit(requester(&caller), app.now())?;
        let origin = Origin::request(&caller, client_ip, Some(id));
        let caller = C::try_from(caller)?;
        let parameters = PathParameters { pattern, path: http.match_info().as_str() };
        let resource = R::find(&Lookup::new(&app, &caller, parameters)).await?;
        let form = B::parse_body(&http, body?)?;
        let query = Form::parse_query(http.query_string())?;
        let public_url = state.settings.public_url.for_request(&http);
        Ok(AuthorizedRequest {
            app,
            caller,
            origin,
            resource,
            form,
            query,
            public_url,
            request: http,
            _permit: permit,
        })
    }
}

/// The format of a request body: form parameters, or a JSON object. The handler of a route determines which one the
/// route takes.
pub trait RequestBody: Sized {
    /// Parses the body of a request.
    ///
    /// # Errors
    /// Returns error code 20415 if the body has another format, and the format's own errors.
    fn parse_body(request: &HttpRequest, body: Bytes) -> Result<Self, Problem>;
}

/// Only `POST` requests have form parameters.
impl RequestBody for Form {
    fn parse_body(request: &HttpRequest, body: Bytes) -> Result<Self, Problem> {
        if *request.method() != Method::POST {
            return Ok(Self::default());
        }
        if !body.is_empty() && !has_content_type(request, "application/x-www-form-urlencoded") {
            return Err(Code::UnsupportedMediaType.into());
        }
        Self::parse(&body)
    }
}

impl RequestBody for JsonObject {
    fn parse_body(request: &HttpRequest, body: Bytes) -> Result<Self, Problem> {
        if !body.is_empty() && !has_content_type(request, "application/json") {
            return Err(Problem::json_required());
        }
        Self::parse(&body, Code::InvalidAuthenticatorResponse)
    }
}

/// Returns `handler` unchanged, but compiles only if it takes an authorized request from callers of class `C`. The
/// route table passes every handler through this function, except on routes for `Anyone`. The compiler thereby checks
/// that every other route is authorized.
///
/// A handler for the same class of callers compiles:
///
/// ```no_run
/// # use {actix_web::HttpResponse, api::{AuthorizedRequest, Error, authorized}, domain::Entity};
/// async fn fetch(request: AuthorizedRequest<Entity, app::Backend>) -> Result<HttpResponse, Error> {
///     Ok(HttpResponse::NoContent().finish())
/// }
/// let handler = authorized::<app::Backend, _, _, _, _>(fetch);
/// ```
///
/// A handler for another class of callers does not compile. Neither does a handler that takes an unauthorized request:
///
/// ```compile_fail,E0631
/// # use {actix_web::HttpResponse, api::{AuthorizedRequest, Error, authorized}, domain::EntityRef};
/// async fn fetch(request: AuthorizedRequest<EntityRef, app::BackendOrDevice>) -> Result<HttpResponse, Error> {
///     Ok(HttpResponse::NoContent().finish())
/// }
/// let handler = authorized::<app::Backend, _, _, _, _>(fetch);
/// ```
///
/// ```compile_fail,E0631
/// # use {actix_web::HttpResponse, api::{Error, ReceivedRequest, authorized}, domain::Entity};
/// async fn fetch(request: ReceivedRequest) -> Result<HttpResponse, Error> {
///     Ok(HttpResponse::NoContent().finish())
/// }
/// let handler = authorized::<app::Backend, Entity, _, _, _>(fetch);
/// ```
///
/// A handler for a resource that its class of callers may not access ([`Resource`]) does not compile either:
///
/// ```compile_fail,E0277
/// # use {actix_web::HttpResponse, api::{AuthorizedRequest, Error, authorized}, domain::Service};
/// async fn fetch(request: AuthorizedRequest<Service, app::BackendOrDevice>) -> Result<HttpResponse, Error> {
///     Ok(HttpResponse::NoContent().finish())
/// }
/// let handler = authorized::<app::BackendOrDevice, _, _, _, _>(fetch);
/// ```
pub const fn authorized<C, R, B, F, Fut>(handler: F) -> F
where
    C: CallerClass,
    R: Resource<C>,
    B: RequestBody,
    F: Fn(AuthorizedRequest<R, C, B>) -> Fut,
    Fut: Future<Output = Result<HttpResponse, Error>>,
{
    handler
}
