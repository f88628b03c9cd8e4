//! The interface between the middleware and a face of the server.

use std::time::Duration;

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};
use domain::Problem;

use crate::context::RequestContext;
use crate::load_shedding::BodyMemory;
use crate::request::ReceivedRequest;
use crate::route::{Route, RouteMatch};

/// A face of the server: a route table with handlers, error bodies and response headers of its own. The middleware does
/// the rest for every face, from the request ID to the log record.
///
/// The middleware answers `OPTIONS` itself, with 204 and the headers of the face.
pub trait Face: Send + Sync + 'static {
    /// What the face's routes have in addition to their method, path and limits, such as the handler.
    type Endpoint: Copy + 'static;

    /// The result of authenticating the sender of a large body. The handler receives it.
    type Authentication: 'static;

    /// Changes a request before its route is looked up. Does nothing by default.
    fn rewrite(&self, _request: &mut ServiceRequest) {}

    /// Looks up a request by its decoded path and its method.
    fn find(&self, path: &str, method: &Method) -> RouteMatch<Self::Endpoint>;

    /// Authenticates the sender of a body of more than 4 KiB, before the rest of the body is read. Called only if the
    /// route accepts such a body.
    fn authenticate(
        &self,
        http: &HttpRequest,
        context: RequestContext,
    ) -> impl Future<Output = BodySender<Self::Authentication>>;

    /// Handles a request of a route, and returns the response, also in case of an error.
    fn call(
        &self,
        route: &'static Route<Self::Endpoint>,
        request: ReceivedRequest<Self::Authentication>,
    ) -> impl Future<Output = HttpResponse>;

    /// Returns the maximum time for the handler of a route, or `None` for the default of 30 seconds.
    fn timeout(&self, _route: &Route<Self::Endpoint>) -> Option<Duration> {
        None
    }

    /// Returns the response that reports a problem.
    fn problem_response(&self, problem: &Problem) -> HttpResponse;

    /// Returns the response for a path without a route. By default, it reports error code 20404.
    fn not_found(&self, _path: &str) -> HttpResponse {
        self.problem_response(&Problem::not_found())
    }

    /// Adds the face's headers to a response. Called for every response, also for one that refuses its request.
    fn add_headers(&self, http: &HttpRequest, context: RequestContext, response: &mut HttpResponse);
}

/// The sender of a large request body.
#[derive(Debug)]
pub struct BodySender<A> {
    /// The memory that the body may occupy. With `None` the body is read and discarded, and the handler receives error
    /// code 20003 instead.
    pub memory: Option<BodyMemory>,
    /// The result of authenticating the sender.
    pub authentication: A,
}
