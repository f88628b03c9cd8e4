//! A request as the middleware passes it to a face.

use actix_web::HttpRequest;
use actix_web::http::header;

use crate::body::Body;
use crate::context::RequestContext;

/// A request whose body has been received. `A` is the face's type for the result of authenticating the sender.
pub struct ReceivedRequest<A> {
    /// The request's head.
    pub http: HttpRequest,
    /// The path pattern of the route that serves the request.
    pub pattern: &'static str,
    /// The request ID and the client's address.
    pub context: RequestContext,
    /// The body, or the problem to report once the caller has been authenticated.
    pub body: Body,
    /// The result of authenticating the sender; `None` unless that was necessary to receive a large body.
    pub authentication: Option<A>,
}

/// Returns whether the header `Content-Type` names this type. A body without that header has every type.
pub fn has_content_type(request: &HttpRequest, expected: &str) -> bool {
    match request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str()) {
        None => true,
        Some(Ok(text)) => {
            let essence = text.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case(expected)
        }
        Some(Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn parameters_and_case_of_the_content_type_are_ignored() {
        let expected = "application/json";
        for (sent, is_accepted) in [
            ("application/json", true),
            ("Application/JSON ; charset=utf-8", true),
            ("application/jsonp", false),
            ("text/plain", false),
            ("", false),
            ("\u{e9}", false),
        ] {
            let request =
                TestRequest::default().insert_header((header::CONTENT_TYPE, sent)).to_http_request();
            assert_eq!(has_content_type(&request, expected), is_accepted, "{sent:?}");
        }
        assert!(has_content_type(&TestRequest::default().to_http_request(), expected));
    }
}
