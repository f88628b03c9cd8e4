//! `/v2/Services/{ServiceSid}/Entities` (docs/protocol/resources.md, section 2).

use actix_web::HttpResponse;
use domain::{Entity, Order, Service};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Error;
use crate::list::Listing;

pub(crate) async fn create(call: Call<Service>) -> Result<HttpResponse, Error> {
    let path = call.caller.path(call.resource.sid, call.form.required("Identity")?)?;
    let entity = call.app.create_entity(&call.origin, path).await?;
    Ok(HttpResponse::Created().json(view(&entity, &call.base)))
}

pub(crate) async fn fetch(call: Call<Entity>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&call.resource, &call.base)))
}

pub(crate) async fn list(call: Call<Service>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&call, Order::Ascending, &[])?;
    let service = &call.resource;
    let page = call.app.entities(service.account_sid, service.sid, listing.page).await?;
    Ok(listing.body("entities", &page, |entity| view(entity, &call.base)))
}

pub(crate) async fn delete(call: Call<Entity>) -> Result<HttpResponse, Error> {
    call.app.delete_entity(&call.origin, call.resource.path()).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn view(entity: &Entity, base: &str) -> Value {
    let url = format!("{base}/Services/{}/Entities/{}", entity.service_sid, entity.identity);
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
