//! The headers of responses, which allow pages of any origin to use the API (CORS).

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use domain::RequestSid;

/// The headers that every response has in addition to its ID (docs/protocol/authentication.md, section 4).
static STANDARD_HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(
            "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, \
             If-Unmodified-Since, Idempotency-Key",
        ),
    ),
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS")),
    (
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "Date, ETag, Retry-After, Twilio-Reached-Rate-Limit, Twilio-Request-Id, Twilio-Verify-Signature-Fields",
        ),
    ),
    (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")),
    // Responses must not be cached: they contain tokens and personal data, and change from one request to the next.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The beginning of all paths that extend Twilio's APIs.
const EXTENSIONS: &str = "/countersign/";

static REQUEST_ID: HeaderName = HeaderName::from_static("twilio-request-id");

/// Adds the headers that every response has. The `id` is that of the request.
pub(crate) fn add_standard_headers(headers: &mut HeaderMap, id: RequestSid) {
    for (name, value) in &STANDARD_HEADERS {
        headers.insert(name.clone(), value.clone());
    }
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID.clone(), id);
    }
}

/// Adds the headers that only the response to a preflight request for `path` needs. Browsers reuse it for ten minutes;
/// without `Access-Control-Max-Age` for five seconds (Fetch Standard, section 4.9).
pub(crate) fn add_preflight_headers(headers: &mut HeaderMap, path: &str) {
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // Clients of streams send this header, which Twilio does not have.
    if path.starts_with(EXTENSIONS) {
        headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Last-Event-ID"));
    }
}
