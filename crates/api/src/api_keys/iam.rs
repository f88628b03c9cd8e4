//! Handlers for `/v1/Keys`, in the format of Twilio IAM. Its requests name the account in a parameter.

use actix_web::HttpResponse;
use app::{AccountOwner, Backend};
use domain::accounts::{KeyType, Policy};
use domain::{AccountSid, ApiKey, Order, Problem};
use serde_json::{Value, json};

use super::{view, view_with_secret};
use crate::callers::CallerClass as _;
use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

/// The permissions of every API key. Twilio's keys also have `signing`, for access tokens that backends sign
/// themselves.
const FLAGS: [&str; 1] = ["rest_api"];

pub(crate) async fn create(
    request: AuthorizedRequest<AccountSid, AccountOwner>,
) -> Result<HttpResponse, Error> {
    request.caller.require_account(request.form.required("AccountSid")?)?;
    request.form.optional::<KeyType>("KeyType")?;
    request.form.optional::<Policy>("Policy")?;
    let created = super::create(&request).await?;
    Ok(HttpResponse::Created().json(with_policy(view_with_secret(&created))))
}

pub(crate) async fn fetch(request: AuthorizedRequest<ApiKey, Backend>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(with_policy(view(&request.resource))))
}

pub(crate) async fn list(request: AuthorizedRequest<AccountSid, Backend>) -> Result<HttpResponse, Error> {
    const ACCOUNT_SID: &str = "AccountSid";
    let named = request.query.optional(ACCOUNT_SID)?;
    request.caller.require_account(named.ok_or_else(|| Problem::missing_in_query(ACCOUNT_SID))?)?;
    let listing = Listing::of(&request, Order::Ascending, &[ACCOUNT_SID])?;
    let page = request.app.api_keys(request.resource, listing.page).await?;
    Ok(listing.body("keys", &page, with_flags))
}

pub(crate) async fn update(request: AuthorizedRequest<ApiKey, AccountOwner>) -> Result<HttpResponse, Error> {
    request.form.optional::<Policy>("Policy")?;
    Ok(HttpResponse::Ok().json(with_policy(view(&super::update(request).await?))))
}

/// Adds the policy to the view of an API key: null, because only restricted keys have one.
fn with_policy(mut view: Value) -> Value {
    view["policy"] = Value::Null;
    view
}

/// Returns the view of an API key in a list.
fn with_flags(key: &ApiKey) -> Value {
    let mut view = view(key);
    view["flags"] = json!(FLAGS);
    view
}
