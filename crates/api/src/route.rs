//! One line of the route table, and how a request is matched with it.

use actix_web::http::Method;

use crate::callers::Callers;

/// The path in logs and metrics for a request that no route matches.
const UNKNOWN_PATH: &str = "-";

/// A route of the API.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The HTTP method. `GET` includes `HEAD`.
    pub method: &'static str,
    /// The path, with the names of its parameters in braces.
    pub path: &'static str,
    /// The callers that the route accepts.
    pub callers: Callers,
}

/// The result of looking up a request in the route table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteMatch {
    /// The path of the matching routes, or `-`. Logs and metrics carry it in place of the request's own path, which
    /// contains identities.
    pub(crate) path: &'static str,
    /// Whether the request is a `POST` to a route that needs credentials.
    pub(crate) accepts_form: bool,
}

impl RouteMatch {
    /// Looks up a request by the path pattern that matched it, if any, and its method.
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
