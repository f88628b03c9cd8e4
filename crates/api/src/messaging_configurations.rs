//! Handlers for `/v2/Services/{ServiceSid}/MessagingConfigurations` (docs/protocol/verifications.md).

use actix_web::HttpResponse;
use app::Backend;
use domain::messaging_configurations::MessagingCountry;
use domain::{MessagingConfiguration, Order, Problem, Service};
use serde_json::{Value, json};

use crate::error::Error;
use crate::paging::Listing;
use crate::request::AuthorizedRequest;
use crate::verification_parameters::required;

const OUTLET: &str = "MessagingServiceSid";

pub(crate) async fn create(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let country: MessagingCountry = required(&request.form, "Country")?;
    let outlet = required(&request.form, OUTLET)?;
    if let MessagingCountry::Only(country) = country
        && !numbering::has_plan(country)
    {
        return Err(Problem::invalid_parameter("Country").into());
    }
    let Service { account_sid, sid, .. } = request.resource;
    let configuration = request
        .app
        .create_messaging_configuration(&request.origin, account_sid, sid, country, outlet)
        .await?;
    Ok(HttpResponse::Created().json(view(&configuration, &request.public_url)))
}

pub(crate) async fn fetch(
    request: AuthorizedRequest<MessagingConfiguration, Backend>,
) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().json(view(&request.resource, &request.public_url)))
}

pub(crate) async fn list(request: AuthorizedRequest<Service, Backend>) -> Result<HttpResponse, Error> {
    let listing = Listing::of(&request, Order::Ascending, &[])?;
    let service = &request.resource;
    let page = request.app.messaging_configurations(service.account_sid, service.sid, listing.page).await?;
    let view = |configuration: &_| view(configuration, &request.public_url);
    Ok(listing.body("messaging_configurations", &page, view))
}

pub(crate) async fn update(
    request: AuthorizedRequest<MessagingConfiguration, Backend>,
) -> Result<HttpResponse, Error> {
    let outlet = required(&request.form, OUTLET)?;
    let configuration =
        request.app.update_messaging_configuration(&request.origin, &request.resource, outlet).await?;
    Ok(HttpResponse::Ok().json(view(&configuration, &request.public_url)))
}

pub(crate) async fn delete(
    request: AuthorizedRequest<MessagingConfiguration, Backend>,
) -> Result<HttpResponse, Error> {
    request.app.delete_messaging_configuration(&request.origin, request.resource).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn view(configuration: &MessagingConfiguration, public_url: &str) -> Value {
    let (service_sid, country) = (configuration.service_sid, configuration.country.as_str());
    json!({
        "account_sid": configuration.account_sid,
        "service_sid": service_sid,
        "country": country,
        "messaging_service_sid": configuration.messaging_service_sid,
        "date_created": configuration.created_at,
        "date_updated": configuration.updated_at,
        "url": format!("{public_url}/v2/Services/{service_sid}/MessagingConfigurations/{country}"),
    })
}
