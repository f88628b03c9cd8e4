//! Rules by which virtual devices enroll by themselves.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::json;

use crate::auto_rules::AutoRule;
use crate::enrollment::NewDevice;
use crate::error::Error;
use crate::request::ControlRequest;

/// `POST /rules`: lets a new device spend each access token for a matching identity.
pub(crate) async fn create(request: ControlRequest) -> Result<HttpResponse, Error> {
    let rule: AutoRule = request.json()?;
    // A mistake in the device would otherwise show only when a token is created.
    NewDevice::from_template(&rule.device, None)?;
    let id = request.state.fleet.rules.add(rule);
    Ok(HttpResponse::build(StatusCode::CREATED).json(json!({ "id": id.to_string() })))
}

/// `DELETE /rules/{id}`: removes a rule.
pub(crate) async fn delete(request: ControlRequest) -> Result<HttpResponse, Error> {
    let id = request.path_parameter("Id");
    match id.parse().is_ok_and(|id| request.state.fleet.rules.remove(id)) {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(Error::missing(format_args!("there is no rule {id}"))),
    }
}
