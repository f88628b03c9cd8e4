//! The browser phone at `/phone/`: a page that acts as a phone (docs/browser-phone.md).
//!
//! This crate serves static files. The page itself calls the API like any other phone, so nothing here can reach a use
//! case. The files are in `assets/`; what is in the repository is what runs in the browser.

mod assets;

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use domain::Problem;
use web::{BodySender, Face, ReceivedRequest, RequestContext, RouteMatch, Router};

use crate::assets::ROUTES;
pub use crate::assets::{Asset, Endpoint};

/// The path below which the phone is served.
pub const PREFIX: &str = "/phone";

/// The content security policy of the page. It permits the page's own files and requests to its own origin, and nothing
/// else. Text cannot become markup or script, except through the one policy that the page names for its service worker.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     manifest-src 'self'; worker-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; \
     require-trusted-types-for 'script'; trusted-types countersign-phone";

/// Features of the browser that the page does not need.
const PERMISSIONS: HeaderValue =
    HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()");

/// The browser phone, for [`web::Application::mount`] with [`PREFIX`].
pub struct WebPhone {
    router: Router<Endpoint>,
}

impl WebPhone {
    /// Creates the browser phone.
    pub fn new() -> Self {
        Self { router: Router::new(ROUTES) }
    }
}

impl Default for WebPhone {
    fn default() -> Self {
        Self::new()
    }
}

impl Face for WebPhone {
    type Endpoint = Endpoint;
    type Authentication = ();

    fn find(&self, path: &str, method: &Method) -> RouteMatch<Endpoint> {
        self.router.find(path, method)
    }

    async fn authenticate(&self, _: &HttpRequest, _: RequestContext) -> BodySender<()> {
        // No route accepts a body.
        BodySender { memory: None, authentication: () }
    }

    async fn call(&self, route: &'static web::Route<Endpoint>, request: ReceivedRequest<()>) -> HttpResponse {
        match route.endpoint {
            // Relative, because a proxy may serve the server below a path of its own.
            Endpoint::Redirect => {
                HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "phone/")).finish()
            }
            Endpoint::File(asset) => file_response(asset, &request.http),
        }
    }

    fn problem_response(&self, problem: &Problem) -> HttpResponse {
        let mut response = HttpResponse::build(web::status(problem.code()));
        if let Some(seconds) = problem.retry_after() {
            response.insert_header((header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        let message = format!("{}\n", problem.message());
        response.content_type("text/plain; charset=utf-8").body(message)
    }

    fn add_headers(&self, _: &HttpRequest, _: RequestContext, response: &mut HttpResponse) {
        let headers = response.headers_mut();
        web::add_security_headers(headers, POLICY);
        headers.insert(HeaderName::from_static("permissions-policy"), PERMISSIONS);
        // Browsers keep the files but ask each time, so that a corrected page is used at once.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
}

/// Returns a file, or 304 if the browser has its current version.
fn file_response(asset: &'static Asset, request: &HttpRequest) -> HttpResponse {
    let tag = asset.entity_tag();
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    // A proxy that compresses responses makes the tag a weak one, `W/"…"`.
    let is_known = known.is_some_and(|known| known.contains(&tag));
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = HttpResponse::build(status);
    response.insert_header((header::ETAG, tag));
    if is_known {
        return response.finish();
    }
    response.content_type(asset.content_type).body(asset.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_permits_nothing_unsafe() {
        assert!(!POLICY.contains("unsafe") && !POLICY.contains('*') && !POLICY.contains("http"));
        assert!(POLICY.starts_with("default-src 'none';"));
    }
}
