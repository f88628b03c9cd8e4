//! The requests and responses of a phone, for observers.

use std::fmt;

use crate::wire::WireRequest;

/// A callback for each exchange of a phone, in order, called when the response has arrived. A demo prints the
/// exchanges, a test counts them.
pub type Observer = dyn Fn(&Exchange) + Send + Sync;

/// A request and its response.
#[derive(Clone)]
pub struct Exchange {
    /// The request.
    pub request: WireRequest,
    /// Full URL of the request.
    pub url: String,
    /// The response.
    pub response: Response,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL contains the identity of the user.
        f.debug_struct("Exchange")
            .field("request", &self.request)
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}

/// A response as it was received.
#[derive(Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; empty if there is none.
    pub body: String,
}

impl Response {
    /// Returns the values of a header. `name` is in lower case.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body contains personal data; the status is enough for a log.
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}
