//! Watching what the phone says and hears.

use std::fmt;

use crate::wire::WireRequest;

/// Who watches a phone, such as a demonstration that prints or a test that counts. Called once for
/// every answer that arrives, in order.
pub type Observer = dyn Fn(&Exchange) + Send + Sync;

/// One request and its answer.
#[derive(Clone)]
pub struct Exchange {
    /// What was sent.
    pub request: WireRequest,
    /// Where to.
    pub url: String,
    /// What came back.
    pub response: Response,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL names the user.
        f.debug_struct("Exchange")
            .field("request", &self.request)
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}

/// An answer, as it came.
#[derive(Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; empty when there is none.
    pub body: String,
}

impl Response {
    /// The values of the header of that name, given in lower case.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bodies name people; the status is enough for a log.
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}
