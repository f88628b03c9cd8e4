//! An entry of the route table, and the router that looks requests up in that table.
//!
//! The router is our own because actix-web's matches one regular expression per path, and reports the pattern that
//! matched only by a second search (docs/decisions/0015-routing.md).

use actix_web::HttpResponse;
use actix_web::http::Method;
use futures_util::future::LocalBoxFuture;

use crate::callers::Callers;
use crate::error::Error;
use crate::request::ReceivedRequest;

/// The path recorded in logs and metrics for a request that matches no route.
const UNKNOWN_PATH: &str = "-";

/// Handles a request, including its authorization unless the route accepts [`Callers::Anyone`].
pub(crate) type Handler = fn(ReceivedRequest) -> LocalBoxFuture<'static, Result<HttpResponse, Error>>;

/// A route of the API: a method, a path, and the callers that it accepts.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The HTTP method. A `GET` route also serves `HEAD`.
    pub method: &'static str,
    /// The path pattern, with parameter names in braces, such as `/v2/Services/{ServiceSid}`.
    pub path: &'static str,
    /// The callers that the route accepts.
    pub callers: Callers,
    pub(crate) handler: Handler,
}

impl Route {
    fn serves(&self, method: &Method) -> bool {
        self.method == method.as_str() || self.method == "GET" && *method == Method::HEAD
    }
}

/// The result of looking up a request in the route table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RouteMatch {
    /// A route serves the request.
    Found(&'static Route),
    /// These routes have the request's path, but none of them has its method.
    OtherMethods(&'static [Route]),
    /// No route has the request's path.
    UnknownPath,
}

impl RouteMatch {
    /// Returns the path pattern of the matching routes, or `-` if no route has the request's path. Logs and metrics use
    /// the pattern because the request's own path contains identities.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Found(route) | Self::OtherMethods([route, ..]) => route.path,
            Self::OtherMethods([]) | Self::UnknownPath => UNKNOWN_PATH,
        }
    }

    /// Returns whether the request is a `POST` to a route that requires credentials. Only such requests may send form
    /// parameters.
    pub(crate) fn accepts_form(self) -> bool {
        matches!(self, Self::Found(route) if route.method == "POST" && route.callers != Callers::Anyone)
    }
}

/// A route table that is prepared for lookups. Each path pattern leads to all routes that have it.
pub(crate) struct Router(matchit::Router<&'static [Route]>);

impl Router {
    /// Creates a router for `routes`, in which the routes of a path must be next to each other.
    #[expect(
        clippy::expect_used,
        reason = "the table is a constant, and every test of the server builds this router"
    )]
    pub(crate) fn new(routes: &'static [Route]) -> Self {
        let mut router = matchit::Router::new();
        for routes in routes.chunk_by(|route, next| route.path == next.path) {
            router.insert(routes[0].path, routes).expect("path patterns do not conflict");
        }
        Self(router)
    }

    /// Looks up a request by its decoded path and its method.
    pub(crate) fn find(&self, path: &str, method: &Method) -> RouteMatch {
        let Ok(matched) = self.0.at(path) else { return RouteMatch::UnknownPath };
        let routes: &'static [Route] = matched.value;
        match routes.iter().find(|route| route.serves(method)) {
            Some(route) => RouteMatch::Found(route),
            None => RouteMatch::OtherMethods(routes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::ROUTES;

    #[test]
    fn path_of_a_route_matches_only_this_route() {
        let router = Router::new(ROUTES);
        for route in ROUTES {
            let method = Method::from_bytes(route.method.as_bytes()).unwrap();
            let path = route.path.replace(['{', '}'], "");
            let RouteMatch::Found(found) = router.find(&path, &method) else { panic!("{path}") };
            assert_eq!((found.method, found.path), (route.method, route.path));
            for other in [format!("{path}/"), format!("/{path}"), format!("{path}/x/y/z"), format!("x{path}")]
            {
                assert!(matches!(router.find(&other, &method), RouteMatch::UnknownPath), "{other}");
            }
        }
    }

    #[test]
    fn head_is_served_by_the_route_for_get() {
        let RouteMatch::Found(route) = Router::new(ROUTES).find("/v2/Services", &Method::HEAD) else {
            panic!()
        };
        assert_eq!(route.method, "GET");
    }

    #[test]
    fn unsupported_method_of_a_path_is_distinguished_from_an_unknown_path() {
        let router = Router::new(ROUTES);
        let RouteMatch::OtherMethods(routes) = router.find("/v2/Services", &Method::DELETE) else { panic!() };
        assert!(routes.iter().map(|route| route.method).eq(["POST", "GET"]));
        for path in
            ["", "/", "/v2", "/v2/Services/", "/v2/Services//Entities", "/v2/services", "/v2/Services/VA1/X"]
        {
            assert!(matches!(router.find(path, &Method::GET), RouteMatch::UnknownPath), "{path}");
        }
    }
}
