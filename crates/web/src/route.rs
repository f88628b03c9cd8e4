//! An entry of a face's route table, and the router that looks requests up in that table.
//!
//! The router is our own because actix-web's matches one regular expression per path, and reports the pattern that
//! matched only by a second search (docs/decisions/0015-routing.md).

use actix_web::http::Method;

/// The path recorded in logs and metrics for a request that matches no route.
const UNKNOWN_PATH: &str = "-";

/// A route of a face: a method, a path, and what serves them. `E` is the type of the face's endpoints.
///
/// `GET /healthz` and `GET /readyz` are health checks: they are served under overload, and appear in no trace.
#[derive(Clone, Copy, Debug)]
pub struct Route<E> {
    /// The HTTP method. A `GET` route also serves `HEAD`.
    pub method: &'static str,
    /// The path pattern, with parameter names in braces, such as `/v2/Services/{ServiceSid}`. Logs and metrics show it
    /// instead of the request's path.
    pub path: &'static str,
    /// Which bodies of the route's requests are kept.
    pub body: BodyLimit,
    /// What the face needs to serve the route, such as its handler.
    pub endpoint: E,
}

impl<E> Route<E> {
    fn serves(&self, method: &Method) -> bool {
        self.method == method.as_str() || self.method == "GET" && *method == Method::HEAD
    }
}

/// Which bodies of a route's requests are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLimit {
    /// Only small bodies, of up to 4 KiB. A larger one, of up to [`MAX_BODY_BYTES`], is read and discarded.
    ///
    /// [`MAX_BODY_BYTES`]: crate::MAX_BODY_BYTES
    Small,
    /// Bodies of up to this number of bytes. One of more than 4 KiB is kept only if [`Face::authenticate`] permits it.
    ///
    /// [`Face::authenticate`]: crate::Face::authenticate
    UpTo(usize),
}

/// The result of looking up a request in a route table.
#[derive(Clone, Copy, Debug)]
pub enum RouteMatch<E: 'static> {
    /// A route serves the request.
    Found(&'static Route<E>),
    /// These routes have the request's path, but none of them has its method.
    OtherMethods(&'static [Route<E>]),
    /// No route has the request's path.
    UnknownPath,
}

impl<E: Copy> RouteMatch<E> {
    /// Returns the path pattern of the matching routes, or `-` if no route has the request's path. Logs and metrics use
    /// the pattern because the request's own path contains identities.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Found(route) | Self::OtherMethods([route, ..]) => route.path,
            Self::OtherMethods([]) | Self::UnknownPath => UNKNOWN_PATH,
        }
    }

    /// Returns which bodies are kept.
    pub(crate) fn body(self) -> BodyLimit {
        match self {
            Self::Found(route) => route.body,
            Self::OtherMethods(_) | Self::UnknownPath => BodyLimit::Small,
        }
    }
}

/// A route table that is prepared for lookups. Each path pattern leads to all routes that have it.
pub struct Router<E: 'static>(matchit::Router<&'static [Route<E>]>);

impl<E> Router<E> {
    /// Creates a router for `routes`, in which the routes of a path must be next to each other.
    ///
    /// # Panics
    /// Panics if two path patterns of the table conflict.
    #[expect(
        clippy::expect_used,
        reason = "the table is a constant, and every test of the server builds this router"
    )]
    pub fn new(routes: &'static [Route<E>]) -> Self {
        let mut router = matchit::Router::new();
        for routes in routes.chunk_by(|route, next| route.path == next.path) {
            router.insert(routes[0].path, routes).expect("path patterns do not conflict");
        }
        Self(router)
    }

    /// Looks up a request by its decoded path and its method.
    pub fn find(&self, path: &str, method: &Method) -> RouteMatch<E> {
        let Ok(matched) = self.0.at(path) else { return RouteMatch::UnknownPath };
        let routes: &'static [Route<E>] = matched.value;
        match routes.iter().find(|route| route.serves(method)) {
            Some(route) => RouteMatch::Found(route),
            None => RouteMatch::OtherMethods(routes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn route(method: &'static str, path: &'static str) -> Route<()> {
        Route { method, path, body: BodyLimit::Small, endpoint: () }
    }

    const ROUTES: &[Route<()>] = &[
        route("POST", "/pets"),
        route("GET", "/pets"),
        route("GET", "/pets/{Name}"),
        route("GET", "/pets/new"),
    ];

    #[test]
    fn head_is_served_by_the_route_for_get() {
        let RouteMatch::Found(route) = Router::new(ROUTES).find("/pets", &Method::HEAD) else { panic!() };
        assert_eq!(route.method, "GET");
    }

    #[test]
    fn unsupported_method_of_a_path_is_distinguished_from_an_unknown_path() {
        let router = Router::new(ROUTES);
        let RouteMatch::OtherMethods(routes) = router.find("/pets", &Method::DELETE) else { panic!() };
        assert!(routes.iter().map(|route| route.method).eq(["POST", "GET"]));
        for path in ["", "/", "/pet", "/pets/", "/pets//", "/Pets", "/pets/a/b"] {
            assert!(matches!(router.find(path, &Method::GET), RouteMatch::UnknownPath), "{path}");
        }
    }

    #[test]
    fn fixed_path_precedes_a_pattern() {
        let path = |path| Router::new(ROUTES).find(path, &Method::GET).path();
        assert_eq!([path("/pets/new"), path("/pets/news")], ["/pets/new", "/pets/{Name}"]);
    }
}
