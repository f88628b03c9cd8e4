//! What the middleware knows of a request before its handler runs.

use std::net::IpAddr;

use actix_web::{HttpMessage as _, HttpRequest};
use domain::RequestSid;

/// The identity of a request in logs and in the audit log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestContext {
    /// The request id, as the response carries it.
    pub(crate) id: Option<RequestSid>,
    /// The address of the client; `None` if the connection was closed before it could be read.
    pub(crate) client_ip: Option<IpAddr>,
}

impl RequestContext {
    /// Returns the context that the middleware attached to `request`.
    pub(crate) fn of(request: &HttpRequest) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }
}
