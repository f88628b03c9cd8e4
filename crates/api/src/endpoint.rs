//! The callers and the handler of a route of the API.

use actix_web::HttpResponse;
use futures_util::future::LocalBoxFuture;

use crate::callers::Callers;
use crate::error::Error;
use crate::request::ReceivedRequest;

/// Handles a request, including its authorization unless the route accepts [`Callers::Anyone`].
pub(crate) type Handler = fn(ReceivedRequest) -> LocalBoxFuture<'static, Result<HttpResponse, Error>>;

/// The handler of a route, and the callers that the route accepts.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The callers that the route accepts.
    pub callers: Callers,
    pub(crate) handler: Handler,
}
