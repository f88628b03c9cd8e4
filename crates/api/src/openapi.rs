//! `GET /openapi.json`: the OpenAPI document of this server.

use actix_web::HttpResponse;

use crate::error::Error;
use crate::request::ReceivedRequest;

/// The OpenAPI document. Tests compare it with the routes, the official documents and a running server.
const DOCUMENT: &str = include_str!("../../../openapi/countersign.json");

/// The `servers` member of the document as stored. Its URL is relative, so that the file is correct for every server.
const RELATIVE_SERVER: &str = r#""servers": [{ "url": "/" }]"#;

/// Returns the OpenAPI document with this server's public URL, so that a saved copy still identifies the server.
pub(crate) async fn document(request: ReceivedRequest) -> Result<HttpResponse, Error> {
    // An origin contains no character that must be escaped in JSON.
    let public_url = request.state.settings.public_url.for_request(&request.http);
    let servers = format!(r#""servers": [{{ "url": "{public_url}" }}]"#);
    let document = DOCUMENT.replacen(RELATIVE_SERVER, &servers, 1);
    Ok(HttpResponse::Ok().content_type("application/json").body(document))
}
