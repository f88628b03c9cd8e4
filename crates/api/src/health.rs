//! Whether the process lives, and whether it should be sent requests.

use actix_web::HttpResponse;
use actix_web::web::Data;
use app::App;
use serde_json::json;

use crate::error::Error;

/// `GET /healthz`: the process answers. Says nothing of the database, so that an orchestrator does not
/// kill servers because of it.
pub(crate) async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

/// `GET /readyz`: the database answers and has every migration that this program knows. While the server drains, 503 comes from the envelope.
pub(crate) async fn ready(app: Data<App>) -> Result<HttpResponse, Error> {
    app.ready().await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}
