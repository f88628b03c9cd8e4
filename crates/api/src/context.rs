//! Information about a request that the middleware determines before the handler runs.

use std::net::IpAddr;

use actix_web::{HttpMessage as _, HttpRequest};
use domain::RequestSid;

/// The ID and client address that identify a request in the log and in the audit log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestContext {
    /// The request ID, which the response also carries in its `Twilio-Request-Id` header; `None` if the middleware did
    /// not run.
    pub(crate) id: Option<RequestSid>,
    /// The client's IP address; `None` if the connection was closed before the address could be read.
    pub(crate) client_ip: Option<IpAddr>,
}

impl RequestContext {
    /// Returns the context that the middleware attached to `request`, or an empty context if there is none.
    pub(crate) fn of(request: &HttpRequest) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }
}
