//! `/v2/Services/{ServiceSid}/Entities` (protocol 02 section 2).

use actix_web::HttpResponse;
use domain::{Entity, Order};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Error;
use crate::list::Listing;

pub(crate) async fn create(call: Call) -> Result<HttpResponse, Error> {
    let path = call.caller.path(call.sid("ServiceSid")?, call.form.required("Identity")?)?;
    let entity = call.app.create_entity(&call.origin, path).await?;
    Ok(HttpResponse::Created().json(view(&entity, &call.base)))
}

pub(crate) async fn fetch(call: Call) -> Result<HttpResponse, Error> {
    let entity = call.app.entity(call.path()?).await?;
    Ok(HttpResponse::Ok().json(view(&entity, &call.base)))
}

pub(crate) async fn list(call: Call) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&call, Order::Ascending, &[])?;
    let page = call.app.entities(call.account_sid(), call.sid("ServiceSid")?, listing.page).await?;
    Ok(listing.body("entities", &page, |entity| view(entity, &call.base)))
}

pub(crate) async fn delete(call: Call) -> Result<HttpResponse, Error> {
    call.app.delete_entity(&call.origin, call.path()?).await?;
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
