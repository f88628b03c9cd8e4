//! Handlers for `/v2/Services/{ServiceSid}/Entities/{Identity}/Factors` (docs/protocol/resources.md, section 3). The
//! file of a factor type has its parameters and its part of the view.

mod passkey;
mod push;
mod totp;

use actix_web::HttpResponse;
use app::{Backend, BackendOrDevice, BackendOrEnrollee};
use domain::factors::FactorKind;
use domain::{Entity, EntityPath, Factor, FactorType, Order};
use serde_json::{Value, json};

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;

pub(crate) async fn create(
    request: AuthorizedRequest<EntityPath, BackendOrEnrollee>,
) -> Result<HttpResponse, Error> {
    let factor_type: FactorType = request.form.required("FactorType")?;
    request.caller.require_factor_type(factor_type)?;
    match factor_type {
        FactorType::Push => push::create(request).await,
        FactorType::Totp => totp::create(request).await,
        FactorType::Passkeys => Err(factor_type.not_served().into()),
    }
}

pub(crate) async fn fetch(
    request: AuthorizedRequest<Factor, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<Entity, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let page = request.app.factors(request.caller, request.resource.path(), listing.page).await?;
    Ok(listing.body("factors", &page, |factor| view(factor, &request.public_url)))
}

/// Verifies the factor, updates its settings, or both.
pub(crate) async fn update(
    request: AuthorizedRequest<Factor, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    let factor = match &request.resource.kind {
        FactorKind::Push(_) => push::update(&request).await?.into(),
        FactorKind::Totp(_) => totp::update(&request).await?.into(),
        FactorKind::Passkey(_) => passkey::update(&request).await?,
    };
    Ok(HttpResponse::Ok().json(view(&factor, &request.public_url)))
}

pub(crate) async fn delete(
    request: AuthorizedRequest<Factor, BackendOrDevice>,
) -> Result<HttpResponse, Error> {
    let (path, sid) = (request.resource.path(), request.resource.sid);
    request.app.delete_factor(&request.origin, &request.caller, path, sid).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Returns the JSON body for a factor.
pub(crate) fn view(factor: &Factor, public_url: &str) -> Value {
    let entity = format!("{public_url}/v2/Services/{}/Entities/{}", factor.service_sid, factor.identity);
    json!({
        "sid": factor.sid,
        "account_sid": factor.account_sid,
        "service_sid": factor.service_sid,
        "entity_sid": factor.entity_sid,
        "identity": factor.identity,
        "date_created": factor.created_at,
        "date_updated": factor.updated_at,
        "friendly_name": factor.friendly_name,
        "status": factor.status.as_str(),
        "factor_type": factor.factor_type().as_str(),
        "config": config(&factor.kind),
        "metadata": metadata(factor),
        "url": format!("{entity}/Factors/{}", factor.sid),
    })
}

/// Returns the member `metadata` of a factor. That of a passkey describes its credential.
fn metadata(factor: &Factor) -> Value {
    match &factor.kind {
        FactorKind::Passkey(passkey) => passkey::metadata(passkey),
        FactorKind::Push(_) | FactorKind::Totp(_) => json!(factor.metadata),
    }
}

/// Returns the member `config` of a factor, which depends on its type.
fn config(kind: &FactorKind) -> Value {
    match kind {
        FactorKind::Push(push) => push::config(push),
        FactorKind::Totp(totp) => totp::config(totp),
        FactorKind::Passkey(passkey) => passkey::config(passkey),
    }
}
