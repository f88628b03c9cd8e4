//! An entry of the route table, and the lookup of a request in that table.

use actix_web::http::Method;

use crate::callers::Callers;

/// The path recorded in logs and metrics for a request that matches no route.
const UNKNOWN_PATH: &str = "-";

/// A route of the API: a method, a path, and the callers that it accepts.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The HTTP method. A `GET` route also serves `HEAD`.
    pub method: &'static str,
    /// The path pattern, with parameter names in braces, such as `/v2/Services/{ServiceSid}`.
    pub path: &'static str,
    /// The callers that the route accepts.
    pub callers: Callers,
}

/// The result of looking up a request in the route table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteMatch {
    /// The path pattern of the matching route, or `-` if no route matches. Logs and metrics use the pattern because the
    /// request's own path contains identities.
    pub(crate) path: &'static str,
    /// Whether the request is a `POST` to a route that requires credentials. Only such requests may send form
    /// parameters.
    pub(crate) accepts_form: bool,
}

impl RouteMatch {
    /// Looks up a request by its method and `pattern`, the path pattern that matched it (`None` if none did).
    pub(crate) fn find(routes: &'static [Route], pattern: Option<&str>, method: &Method) -> Self {
        let mut found = Self { path: UNKNOWN_PATH, accepts_form: false };
        for route in routes.iter().filter(|route| Some(route.path) == pattern) {
            found.path = route.path;
            found.accepts_form |=
                route.method == "POST" && *method == Method::POST && route.callers != Callers::Anyone;
        }
        found
    }
}
