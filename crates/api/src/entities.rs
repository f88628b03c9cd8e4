//! Handlers for `/v2/Services/{ServiceSid}/Entities` (docs/protocol/resources.md, section 2).

use actix_web::HttpResponse;
use app::Backend;
use domain::{Entity, EntityPath, Order, Service};
use serde_json::{Value, json};

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

pub(crate) async fn create(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let service = &request.resource;
    let path = EntityPath {
        account_sid: service.account_sid,
        service_sid: service.sid,
        identity: request.form.required("Identity")?,
    };
    let entity = request.app.create_entity(&request.origin, request.caller, path).await?;
    Ok(HttpResponse::Created().json(view(&entity, &request.public_url)))
}

pub(crate) async fn fetch(request: AuthorizedRequest<Entity, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let page = request.app.entities(request.caller, request.resource.sid, listing.page).await?;
    Ok(listing.body("entities", &page, |entity| view(entity, &request.public_url)))
}

pub(crate) async fn delete(request: AuthorizedRequest<Entity, Backend>) -> Result<HttpResponse, Error> {
    request.app.delete_entity(&request.origin, request.caller, request.resource.path()).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn view(entity: &Entity, public_url: &str) -> Value {
    let url = format!("{public_url}/v2/Services/{}/Entities/{}", entity.service_sid, entity.identity);
    json!({
        "sid": entity.sid,
        "identity": entity.identity,
        "account_sid": entity.account_sid,
        "service_sid": entity.service_sid,
        "date_created": entity.created_at,
        "date_updated": entity.updated_at,
        "url": url,
        "links": {
            "factors": format!("{url}/Factors"),
            "new_factors": format!("{url}/Factors"),
            "challenges": format!("{url}/Challenges"),
        },
    })
}
