//! Simulated failures.

use actix_web::HttpResponse;

use crate::chaos::Plan;
use crate::error::Error;
use crate::request::ControlRequest;

/// `GET /chaos`: returns the failures that are still to come.
pub(crate) async fn fetch(request: ControlRequest) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(request.state.chaos.describe()))
}

/// `PUT /chaos`: replaces the failures to simulate.
pub(crate) async fn set(request: ControlRequest) -> Result<HttpResponse, Error> {
    request.state.chaos.set(request.json()?);
    fetch(request).await
}

/// `DELETE /chaos`: ends all failures.
pub(crate) async fn clear(request: ControlRequest) -> Result<HttpResponse, Error> {
    request.state.chaos.set(Plan::default());
    Ok(HttpResponse::NoContent().finish())
}
