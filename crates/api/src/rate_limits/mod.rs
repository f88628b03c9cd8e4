//! Handlers for `/v2/Services/{ServiceSid}/RateLimits` (docs/protocol/verifications.md).

pub(crate) mod buckets;

use actix_web::HttpResponse;
use app::Backend;
use domain::text::UniqueName;
use domain::{Code, Order, Problem, RateLimit, Service};
use serde_json::{Value, json};

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;
use crate::verification_parameters::{optional, set_or_clear};

pub(crate) async fn create(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    const UNIQUE_NAME: &str = "UniqueName";
    let unique_name = request.form.optional_or::<UniqueName>(UNIQUE_NAME, |expected| {
        Problem::with_advice(Code::InvalidUniqueName, format_args!("{UNIQUE_NAME} {expected}"))
    })?;
    let unique_name = unique_name.ok_or_else(|| Problem::missing(UNIQUE_NAME))?;
    let description = optional(&request.form, "Description")?;
    let Service { account_sid, sid, .. } = request.resource;
    let limit =
        request.app.create_rate_limit(&request.origin, account_sid, sid, unique_name, description).await?;
    Ok(HttpResponse::Created().json(view(&limit, &request.public_url)))
}

pub(crate) async fn fetch(request: AuthorizedRequest<RateLimit, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let service = &request.resource;
    let page = request.app.rate_limits(service.account_sid, service.sid, listing.page).await?;
    Ok(listing.body("rate_limits", &page, |limit| view(limit, &request.public_url)))
}

pub(crate) async fn update(request: AuthorizedRequest<RateLimit, Backend>) -> Result<HttpResponse, Error> {
    let RateLimit { account_sid, service_sid, sid, .. } = request.resource;
    let form = request.form;
    let change = move |limit: &mut RateLimit| set_or_clear(&form, "Description", &mut limit.description);
    let limit = request.app.update_rate_limit(&request.origin, account_sid, service_sid, sid, change).await?;
    Ok(HttpResponse::Ok().json(view(&limit, &request.public_url)))
}

pub(crate) async fn delete(request: AuthorizedRequest<RateLimit, Backend>) -> Result<HttpResponse, Error> {
    let RateLimit { account_sid, service_sid, sid, .. } = request.resource;
    request.app.delete_rate_limit(&request.origin, account_sid, service_sid, sid).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn view(limit: &RateLimit, public_url: &str) -> Value {
    let url = format!("{public_url}/v2/Services/{}/RateLimits/{}", limit.service_sid, limit.sid);
    json!({
        "sid": limit.sid,
        "service_sid": limit.service_sid,
        "account_sid": limit.account_sid,
        "unique_name": limit.unique_name,
        "description": limit.description,
        "date_created": limit.created_at,
        "date_updated": limit.updated_at,
        "url": url,
        "links": { "buckets": format!("{url}/Buckets") },
    })
}
