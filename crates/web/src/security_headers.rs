//! The headers with which a browser restricts what a page and other sites can do with it.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The headers of every page and of its files, in addition to their content security policy.
static SECURITY_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // Browsers that do not know `frame-ancestors` obey this header.
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    // With `no-referrer`, Chromium sends `Origin: null` with the page's own forms.
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (header::CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin")),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
];

/// Adds the security headers of a page or of one of its files. The `policy` is the value of `Content-Security-Policy`.
pub fn add_security_headers(headers: &mut HeaderMap, policy: &'static str) {
    for (name, value) in &SECURITY_HEADERS {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_its_policy_and_the_other_security_headers() {
        let mut headers = HeaderMap::new();
        add_security_headers(&mut headers, "default-src 'none'");
        for (name, value) in [
            ("content-security-policy", "default-src 'none'"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(headers.get(name).unwrap(), value, "{name}");
        }
    }
}
