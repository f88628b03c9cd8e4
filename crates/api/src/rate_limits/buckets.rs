//! Handlers for `/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets` (docs/protocol/verifications.md).

use actix_web::HttpResponse;
use app::Backend;
use domain::{Order, RateLimit, RateLimitBucket};
use serde_json::{Value, json};

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;
use crate::verification_parameters::{required, set};

pub(crate) async fn create(request: AuthorizedRequest<RateLimit, Backend>) -> Result<HttpResponse, Error> {
    let (max, interval) = (required(&request.form, "Max")?, required(&request.form, "Interval")?);
    let bucket = request.app.create_bucket(&request.origin, &request.resource, max, interval).await?;
    Ok(HttpResponse::Created().json(view(&bucket, &request.public_url)))
}

pub(crate) async fn fetch(
    request: AuthorizedRequest<RateLimitBucket, Backend>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<RateLimit, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let page = request.app.buckets(&request.resource, listing.page).await?;
    Ok(listing.body("buckets", &page, |bucket| view(bucket, &request.public_url)))
}

pub(crate) async fn update(
    request: AuthorizedRequest<RateLimitBucket, Backend>,
) -> Result<HttpResponse, Error> {
    let form = request.form;
    let change = move |bucket: &mut RateLimitBucket| {
        set(&form, "Max", &mut bucket.max)?;
        set(&form, "Interval", &mut bucket.interval)
    };
    let bucket = request.app.update_bucket(&request.origin, &request.resource, change).await?;
    Ok(HttpResponse::Ok().json(view(&bucket, &request.public_url)))
}

pub(crate) async fn delete(
    request: AuthorizedRequest<RateLimitBucket, Backend>,
) -> Result<HttpResponse, Error> {
    request.app.delete_bucket(&request.origin, request.resource).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn view(bucket: &RateLimitBucket, public_url: &str) -> Value {
    let (service_sid, rate_limit_sid) = (bucket.service_sid, bucket.rate_limit_sid);
    let parent = format!("{public_url}/v2/Services/{service_sid}/RateLimits/{rate_limit_sid}");
    json!({
        "sid": bucket.sid,
        "rate_limit_sid": rate_limit_sid,
        "service_sid": service_sid,
        "account_sid": bucket.account_sid,
        "max": bucket.max.get(),
        "interval": bucket.interval,
        "date_created": bucket.created_at,
        "date_updated": bucket.updated_at,
        "url": format!("{parent}/Buckets/{}", bucket.sid),
    })
}
