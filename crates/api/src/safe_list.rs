//! Handlers for `/v2/SafeList/Numbers` (docs/protocol/verifications.md).

use actix_web::HttpResponse;
use app::Backend;
use domain::{AccountSid, SafeNumber};
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::AuthorizedRequest;

pub(crate) async fn create(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let number = request.form.required("PhoneNumber")?;
    let number = request.app.create_safe_number(&request.origin, request.resource, number).await?;
    Ok(HttpResponse::Created().json(view(&number, &request.public_url)))
}

pub(crate) async fn fetch(request: AuthorizedRequest<SafeNumber, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn delete(request: AuthorizedRequest<SafeNumber, Backend>) -> Result<HttpResponse, Error> {
    request.app.delete_safe_number(&request.origin, request.resource).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn view(number: &SafeNumber, public_url: &str) -> Value {
    json!({
        "sid": number.sid,
        "phone_number": number.phone_number,
        "url": format!("{public_url}/v2/SafeList/Numbers/{}", number.phone_number),
    })
}
