//! `GET /openapi.json`: what this server serves, for people and for tools.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::base::PublicUrl;

/// The document as it is kept. Its tests hold it against the routes, the official documents and the
/// running server.
const DOCUMENT: &str = include_str!("../../../openapi/countersign.json");

/// Where the document says that the server is. Relative, so that the file is true of every server.
const HERE: &str = r#""servers": [{ "url": "/" }]"#;

/// Answers the document with the address of this server in it, so that a copy still knows where from.
pub(crate) async fn document(request: HttpRequest, public: Data<PublicUrl>) -> HttpResponse {
    // An origin holds nothing that JSON would have to escape.
    let servers = format!(r#""servers": [{{ "url": "{}" }}]"#, public.for_request(&request));
    let document = DOCUMENT.replacen(HERE, &servers, 1);
    HttpResponse::Ok().content_type("application/json").body(document)
}
