//! Information about a request that the middleware determines before the handler runs.

use std::net::IpAddr;

use domain::RequestSid;

/// The ID and client address that identify a request in the log and in the audit log.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext {
    /// The request ID. A face names it in a header of each response.
    pub id: RequestSid,
    /// The client's IP address; `None` if the connection was closed before the address could be read.
    pub client_ip: Option<IpAddr>,
}
