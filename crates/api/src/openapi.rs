//! `GET /openapi.json`: the OpenAPI document of this server.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::state::ApiState;

/// The document. Tests compare it with the routes, the official documents and a running server.
const DOCUMENT: &str = include_str!("../../../openapi/countersign.json");

/// The server entry of the document. It is relative, so that the file is correct for every server.
const RELATIVE_SERVER: &str = r#""servers": [{ "url": "/" }]"#;

/// Returns the document with the public URL of this server, so that a saved copy names the server too.
pub(crate) async fn document(request: HttpRequest, state: Data<ApiState>) -> HttpResponse {
    // An origin has no character that needs escaping in JSON.
    let public_url = state.settings.public_url.for_request(&request);
    let servers = format!(r#""servers": [{{ "url": "{public_url}" }}]"#);
    let document = DOCUMENT.replacen(RELATIVE_SERVER, &servers, 1);
    HttpResponse::Ok().content_type("application/json").body(document)
}
