//! Handlers for `/2010-04-01/Accounts/{AccountSid}/Keys`.

use actix_web::HttpResponse;
use app::{AccountOwner, Backend};
use domain::{AccountSid, ApiKey, Order};

use super::{view, view_with_secret};
use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

pub(crate) async fn create(
    request: AuthorizedRequest<AccountSid, AccountOwner>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Created().json(view_with_secret(&super::create(&request).await?)))
}

pub(crate) async fn fetch(request: AuthorizedRequest<ApiKey, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource)))
}

pub(crate) async fn list(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let page = request.app.api_keys(request.resource, listing.page).await?;
    Ok(listing.v2010_body("keys", &page, view))
}

pub(crate) async fn update(request: AuthorizedRequest<ApiKey, AccountOwner>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&super::update(request).await?)))
}
