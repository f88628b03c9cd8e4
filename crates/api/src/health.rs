//! The liveness and readiness endpoints.

use actix_web::HttpResponse;
use serde_json::json;

use crate::error::Error;
use crate::request::ReceivedRequest;

/// `GET /healthz`: returns 200 while the process runs. It does not check the database, so that an orchestrator does not
/// restart servers while the database is down.
pub(crate) async fn alive(_: ReceivedRequest) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(json!({ "status": "alive" })))
}

/// `GET /readyz`: returns 200 if the database is reachable and has all migrations of this server version, and 503
/// otherwise. During shutdown, the middleware returns 503 instead.
pub(crate) async fn ready(request: ReceivedRequest) -> Result<HttpResponse, Error> {
    request.state.app.check_ready().await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}
