//! The route table: every method and path, its handler, and the callers that it accepts.
//!
//! The callers that a route accepts are a type parameter. The route takes only a handler whose [`AuthorizedRequest`]
//! has the same caller type ([`authorized`]). A handler with any other kind of request compiles only if its route is
//! declared with `Anyone`.
//!
//! [`AuthorizedRequest`]: crate::request::AuthorizedRequest

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::{Method, header};
use app::{Backend, BackendOrDevice, BackendOrEnrollee};
use domain::Code;

use crate::callers::Callers;
use crate::request::authorized;
use crate::route::{Route, RouteMatch, Router};
use crate::{
    access_tokens, alerts, audit, challenges, credentials, entities, error, factors, health, notifications,
    openapi, services, unsupported, webhooks,
};

macro_rules! routes {
    ($($path:literal { $($method:ident $handler:path, $callers:ident;)+ })+) => {
        /// Every route of the API. The routes of a path are next to each other.
        pub const ROUTES: &[Route] = &[$($(
            Route {
                method: stringify!($method),
                path: $path,
                callers: Callers::$callers,
                handler: routes!(@handler $callers $handler),
            },
        )+)+];
    };
    (@handler Anyone $handler:path) => { |request| Box::pin($handler(request)) };
    (@handler $callers:ident $handler:path) => {
        |request| Box::pin(request.authorize_and_call(authorized::<$callers, _, _, _>($handler)))
    };
}

routes! {
    "/healthz" {
        GET health::alive, Anyone;
    }
    "/readyz" {
        GET health::ready, Anyone;
    }
    "/openapi.json" {
        GET openapi::document, Anyone;
    }
    "/v2/Services" {
        POST services::create, Backend;
        GET services::list, Backend;
    }
    "/v2/Services/{ServiceSid}" {
        GET services::fetch, Backend;
        POST services::update, Backend;
        DELETE services::delete, Backend;
    }
    "/v2/Services/{ServiceSid}/AccessTokens" {
        POST access_tokens::create, Backend;
    }
    "/v2/Services/{ServiceSid}/AccessTokens/{Sid}" {
        GET access_tokens::fetch, Backend;
    }
    "/v2/Services/{ServiceSid}/Entities" {
        POST entities::create, Backend;
        GET entities::list, Backend;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}" {
        GET entities::fetch, Backend;
        DELETE entities::delete, Backend;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors" {
        POST factors::create, BackendOrEnrollee;
        GET factors::list, Backend;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}" {
        GET factors::fetch, BackendOrDevice;
        POST factors::update, BackendOrDevice;
        DELETE factors::delete, BackendOrDevice;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges" {
        POST challenges::create, Backend;
        GET challenges::list, BackendOrDevice;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}" {
        GET challenges::fetch, BackendOrDevice;
        POST challenges::update, BackendOrDevice;
    }
    "/v2/Services/{ServiceSid}/Entities/{Identity}/Challenges/{ChallengeSid}/Notifications" {
        POST notifications::create, Backend;
    }
    "/v2/Services/{ServiceSid}/Webhooks" {
        POST webhooks::create, Backend;
        GET webhooks::list, Backend;
    }
    "/v2/Services/{ServiceSid}/Webhooks/{Sid}" {
        GET webhooks::fetch, Backend;
        POST webhooks::update, Backend;
        DELETE webhooks::delete, Backend;
    }
    "/v1/Credentials" {
        POST credentials::create, Backend;
        GET credentials::list, Backend;
    }
    "/v1/Credentials/{Sid}" {
        GET credentials::fetch, Backend;
        POST credentials::update, Backend;
        DELETE credentials::delete, Backend;
    }
    "/v1/Alerts" {
        GET alerts::list, Backend;
    }
    "/v1/Alerts/{Sid}" {
        GET alerts::fetch, Backend;
    }
    "/v1/Events" {
        GET audit::list, Backend;
    }
    "/v1/Events/{Sid}" {
        GET audit::fetch, Backend;
    }
}

static ROUTER: LazyLock<Router> = LazyLock::new(|| Router::new(ROUTES));

/// Looks up a request by its decoded path and its method.
pub(crate) fn find(path: &str, method: &Method) -> RouteMatch {
    ROUTER.find(path, method)
}

/// Returns a 405 response for a path whose routes accept only the methods of `routes`. The `Allow` header lists these
/// methods plus `OPTIONS`, and `HEAD` if `GET` is allowed.
pub(crate) fn method_not_allowed(routes: &[Route]) -> HttpResponse {
    let mut response = error::body(&Code::MethodNotAllowed.into(), None);
    let mut methods: Vec<_> = routes.iter().map(|route| route.method).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    if let Ok(value) = methods.join(", ").parse() {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// Returns a 404 response for a path without a route, or a 501 response for an endpoint of the official API that this
/// server does not support.
pub(crate) fn not_found(path: &str) -> HttpResponse {
    match unsupported::problem_with(path) {
        Some(problem) => error::body(&problem, None),
        None => error::body(&Code::NotFound.into(), Some(path)),
    }
}
