//! The requests and responses of a phone, as they are passed to an observer.

use std::fmt;

use crate::wire::WireRequest;

/// A callback that is called with each exchange of a phone, in order, once the response has arrived. The
/// demo uses one to print exchanges, and tests use one to count them.
pub type Observer = dyn Fn(&Exchange) + Send + Sync;

/// A request by the phone, and the server's response.
#[derive(Clone)]
pub struct Exchange {
    /// The request that the phone sent.
    pub request: WireRequest,
    /// Full URL of the request, including the server's base URL.
    pub url: String,
    /// The response that the server returned.
    pub response: Response,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL contains the identity of the user, so it is omitted.
        f.debug_struct("Exchange")
            .field("request", &self.request)
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}

/// A response, as received from the server.
#[derive(Clone)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// The response headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The response body; empty if there is none.
    pub body: String,
}

impl Response {
    /// Returns all values of the header `name`, which must be in lower case.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body contains personal data, so it is omitted; the status is enough for a log.
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}
