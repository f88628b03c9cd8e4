//! The route table: every method and path, its handler, and the callers that it accepts.
//!
//! The callers that a route accepts are a type parameter. The route takes only a handler whose [`AuthorizedRequest`]
//! has the same caller type ([`authorized`]). A handler with any other kind of request compiles only if its route is
//! declared with `Anyone`.
//!
//! [`AuthorizedRequest`]: crate::request::AuthorizedRequest

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::Method;
use app::{AccountOwner, Backend, BackendOrDevice, BackendOrEnrollee};
use domain::Code;
use web::{BodyLimit, MAX_BODY_BYTES, Route, RouteMatch, Router};

use crate::callers::Callers;
use crate::endpoint::Endpoint;
use crate::request::authorized;
use crate::{
    access_tokens, accounts, alerts, api_keys, attempts, audit, challenges, credentials, delivery_reports,
    entities, error, factors, forms, health, messaging_configurations, notifications, openapi, passkeys,
    rate_limits, safe_list, services, spoken_codes, streams, templates, verifications, webhooks,
};

macro_rules! routes {
    ($($path:literal { $($method:ident $handler:path, $callers:ident;)+ })+) => {
        /// Every route of the API. The routes of a path are next to each other.
        pub const ROUTES: &[Route<Endpoint>] = &[$($(
            Route {
                method: stringify!($method),
                path: $path,
                body: body_limit(stringify!($method), Callers::$callers),
                endpoint: Endpoint {
                    callers: Callers::$callers,
                    handler: routes!(@handler $callers $handler),
                },
            },
        )+)+];
    };
    (@handler Anyone $handler:path) => { |request| Box::pin($handler(request)) };
    (@handler $callers:ident $handler:path) => {
        |request| Box::pin(request.authorize_and_call(authorized::<$callers, _, _, _, _>($handler)))
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
    "/countersign/v1/DeliveryReports/{Token}" {
        GET delivery_reports::receive, Anyone;
        POST delivery_reports::receive, Anyone;
    }
    "/countersign/v1/SpokenCodes/{Token}" {
        POST spoken_codes::instructions, Anyone;
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
    "/countersign/v1/Services/{ServiceSid}/AccessTokens/{Sid}/QrCode" {
        GET access_tokens::qr_code, Backend;
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
    "/v2/Services/{ServiceSid}/Passkeys/Factors" {
        POST passkeys::create_factor, Backend;
    }
    "/v2/Services/{ServiceSid}/Passkeys/VerifyFactor" {
        POST passkeys::verify_factor, Backend;
    }
    "/v2/Services/{ServiceSid}/Passkeys/Challenges" {
        POST passkeys::create_challenge, Backend;
    }
    "/v2/Services/{ServiceSid}/Passkeys/ApproveChallenge" {
        POST passkeys::approve_challenge, Backend;
    }
    "/v2/Services/{ServiceSid}/Verifications" {
        POST verifications::create, Backend;
    }
    "/v2/Services/{ServiceSid}/Verifications/{Sid}" {
        GET verifications::fetch, Backend;
        POST verifications::update, Backend;
    }
    "/v2/Services/{ServiceSid}/VerificationCheck" {
        POST verifications::check, Backend;
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
    "/v2/Services/{ServiceSid}/RateLimits" {
        POST rate_limits::create, Backend;
        GET rate_limits::list, Backend;
    }
    "/v2/Services/{ServiceSid}/RateLimits/{Sid}" {
        GET rate_limits::fetch, Backend;
        POST rate_limits::update, Backend;
        DELETE rate_limits::delete, Backend;
    }
    "/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets" {
        POST rate_limits::buckets::create, Backend;
        GET rate_limits::buckets::list, Backend;
    }
    "/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets/{Sid}" {
        GET rate_limits::buckets::fetch, Backend;
        POST rate_limits::buckets::update, Backend;
        DELETE rate_limits::buckets::delete, Backend;
    }
    "/v2/Services/{ServiceSid}/MessagingConfigurations" {
        POST messaging_configurations::create, Backend;
        GET messaging_configurations::list, Backend;
    }
    "/v2/Services/{ServiceSid}/MessagingConfigurations/{Country}" {
        GET messaging_configurations::fetch, Backend;
        POST messaging_configurations::update, Backend;
        DELETE messaging_configurations::delete, Backend;
    }
    "/v2/SafeList/Numbers" {
        POST safe_list::create, Backend;
    }
    "/v2/SafeList/Numbers/{PhoneNumber}" {
        GET safe_list::fetch, Backend;
        DELETE safe_list::delete, Backend;
    }
    "/v2/Forms/{FormType}" {
        GET forms::fetch, Backend;
    }
    "/v2/Templates" {
        GET templates::list, Backend;
    }
    "/v2/Attempts" {
        GET attempts::list, Backend;
    }
    "/v2/Attempts/Summary" {
        GET attempts::summary, Backend;
    }
    "/v2/Attempts/{Sid}" {
        GET attempts::fetch, Backend;
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
    "/v1/Keys" {
        POST api_keys::iam::create, AccountOwner;
        GET api_keys::iam::list, Backend;
    }
    "/v1/Keys/{Sid}" {
        GET api_keys::iam::fetch, Backend;
        POST api_keys::iam::update, AccountOwner;
        DELETE api_keys::delete, AccountOwner;
    }
    "/2010-04-01/Accounts/{AccountSid}" {
        GET accounts::fetch, Backend;
    }
    "/2010-04-01/Accounts/{AccountSid}/Keys" {
        POST api_keys::v2010::create, AccountOwner;
        GET api_keys::v2010::list, Backend;
    }
    "/2010-04-01/Accounts/{AccountSid}/Keys/{Sid}" {
        GET api_keys::v2010::fetch, Backend;
        POST api_keys::v2010::update, AccountOwner;
        DELETE api_keys::delete, AccountOwner;
    }
    "/countersign/v1/Services/{ServiceSid}/Events" {
        GET streams::service, Backend;
    }
    "/countersign/v1/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}/Events" {
        GET streams::factor, BackendOrDevice;
    }
    "/countersign/v1/Services/{ServiceSid}/Entities/{Identity}/Challenges/{Sid}/Events" {
        GET streams::challenge, BackendOrDevice;
    }
}

/// Returns which bodies of a route's requests are kept. Only a `POST` to a route that requires credentials may send a
/// large one, because only such a request has parameters in its body.
const fn body_limit(method: &str, callers: Callers) -> BodyLimit {
    match (method.as_bytes(), callers) {
        (_, Callers::Anyone) => BodyLimit::Small,
        (b"POST", _) => BodyLimit::UpTo(MAX_BODY_BYTES),
        _ => BodyLimit::Small,
    }
}

static ROUTER: LazyLock<Router<Endpoint>> = LazyLock::new(|| Router::new(ROUTES));

/// Looks up a request by its decoded path and its method.
pub(crate) fn find(path: &str, method: &Method) -> RouteMatch<Endpoint> {
    ROUTER.find(path, method)
}

/// Returns a 404 response for a path without a route.
pub(crate) fn not_found(path: &str) -> HttpResponse {
    error::body(&Code::NotFound.into(), Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_a_route_matches_only_this_route() {
        for route in ROUTES {
            let method = Method::from_bytes(route.method.as_bytes()).unwrap();
            let path = route.path.replace(['{', '}'], "");
            let RouteMatch::Found(found) = find(&path, &method) else { panic!("{path}") };
            assert_eq!((found.method, found.path), (route.method, route.path));
            for other in [format!("{path}/"), format!("/{path}"), format!("{path}/x/y/z"), format!("x{path}")]
            {
                assert!(matches!(find(&other, &method), RouteMatch::UnknownPath), "{other}");
            }
        }
    }

    #[test]
    fn empty_segments_and_other_case_match_no_route() {
        for path in
            ["", "/", "/v2", "/v2/Services/", "/v2/Services//Entities", "/v2/services", "/v2/Services/VA1/X"]
        {
            assert!(matches!(find(path, &Method::GET), RouteMatch::UnknownPath), "{path}");
        }
    }

    #[test]
    fn only_authorized_post_requests_may_have_large_bodies() {
        for route in ROUTES {
            let may_be_large = route.body != BodyLimit::Small;
            let is_authorized_post = route.method == "POST" && route.endpoint.callers != Callers::Anyone;
            assert_eq!(may_be_large, is_authorized_post, "{} {}", route.method, route.path);
        }
    }
}
