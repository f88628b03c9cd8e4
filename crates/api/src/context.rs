//! Information about a request that the middleware determines before the handler runs.

use std::net::IpAddr;

use domain::RequestSid;

/// The ID and client address that identify a request in the log and in the audit log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestContext {
    /// The request ID, which the response also carries in its `Twilio-Request-Id` header.
    pub(crate) id: RequestSid,
    /// The client's IP address; `None` if the connection was closed before the address could be read.
    pub(crate) client_ip: Option<IpAddr>,
}
