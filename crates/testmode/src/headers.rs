//! The headers of responses of test mode.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use web::RequestContext;

/// Adds the headers of every response of test mode. There are no CORS headers, so no page can read the responses.
pub(crate) fn add_headers(headers: &mut HeaderMap, context: RequestContext) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&context.id.to_string()) {
        headers.insert(HeaderName::from_static("twilio-request-id"), id);
    }
}
